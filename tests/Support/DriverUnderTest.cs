using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.Support;

/// <summary>What runs the GPU's kernels: the emulator, and what streams leave open is found (<see cref="OrderedDriver"/>), or with <c>KERNELS_TEST_DEVICE=cuda</c> a GPU. Tests of what only the emulator can see take that themselves.</summary>
internal static class DriverUnderTest
{
    private const string Variable = "KERNELS_TEST_DEVICE", Gpu = "cuda";

    // Held for good: the device's context, which every test's driver shares, would otherwise be made anew for each of thousands.
    private static CudaDriver? s_held;

    private static readonly Lazy<string?> s_missing = new(() =>
    {
        if (!KernelCompiler.IsAvailable(out string reason))
        {
            return reason;
        }

        try
        {
            if (Name == Gpu)
            {
                s_held = new CudaDriver();
            }

            return null;
        }
        catch (DeviceException e)
        {
            return e.Message;
        }
    });

    /// <summary>The device's name in the names of tests.</summary>
    public static string Name { get; } = Environment.GetEnvironmentVariable(Variable) switch
    {
        null or "" or "emulator" => "emulator",
        Gpu => Gpu,
        string other => throw new InvalidOperationException($"{Variable} is '{other}'; it may be emulator or {Gpu}"),
    };

    /// <summary>Why there is none on this machine; null if there is.</summary>
    public static string? Missing => s_missing.Value;

    /// <summary>Opens the device; where it is missing, the test is skipped, visibly.</summary>
    /// <param name="emulator">How the emulator is to work, if it is one.</param>
    public static Driver Open(EmulatorOptions? emulator = null)
    {
        Assert.SkipWhen(Missing is not null, Missing ?? "");
        return Name == Gpu ? new CudaDriver() : new OrderedDriver(new EmulatorDriver(emulator ?? new EmulatorOptions()));
    }
}
