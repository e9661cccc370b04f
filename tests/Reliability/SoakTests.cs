using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Sampling;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Reliability;

/// <summary>Runs alone: the memory and the handles are the process's.</summary>
[CollectionDefinition(nameof(SoakTests), DisableParallelization = true)]
public sealed class SoakCollection;

/// <summary>
/// Loading, sampling and disposing again and again: memory and handles stay what they were, and every image what it was. Short here; <c>KERNELS_SOAK</c> in the environment says how many cycles
/// else, and <c>docs/reliability.md</c> what came of a thousand.
/// </summary>
[Collection(nameof(SoakTests))]
public sealed class SoakTests
{
    private static readonly int s_cycles = int.TryParse(Environment.GetEnvironmentVariable("KERNELS_SOAK"), NumberStyles.None, CultureInfo.InvariantCulture, out int cycles) ? cycles : 40;
    private static readonly SampleRequest s_request = new() { Count = 1, Classes = [3], Seed = 9 };

    [Fact]
    public void Memory_and_handles_stay_flat_over_loads_and_the_image_the_same()
    {
        using CpuBackend backend = new(2);
        string? first = null;
        (long Bytes, int Handles) early = default, late = default;
        for (int cycle = 0; cycle < s_cycles; cycle++)
        {
            using (Kernels.Sampling.Sampler sampler = Load(backend))
            {
                string hash = Hash(sampler.Sample(s_request, 0, 1).Images);
                Assert.Equal(first ??= hash, hash);
            }

            // The first quarter fills pools and compiles methods.
            if (cycle == s_cycles / 4)
            {
                early = Used();
            }
        }

        late = Used();
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{s_cycles} cycles: {early.Bytes} then {late.Bytes} bytes resident, {early.Handles} then {late.Handles} handles, hash {first}"));

        // One cycle leaves behind 8 MB if it leaves its weights.
        Assert.InRange(late.Bytes - early.Bytes, long.MinValue, 40L << 20);
        Assert.InRange(late.Handles - early.Handles, int.MinValue, 2);
    }

    [Fact]
    public void A_device_holds_nothing_of_what_was_disposed()
    {
        Cuda.Require();
        FaultingDriver driver = new(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None }));
        using GpuBackend backend = new(driver);
        for (int cycle = 0; cycle < Math.Max(3, s_cycles / 20); cycle++)
        {
            using (Kernels.Sampling.Sampler sampler = Load(backend))
            {
                sampler.Prepare(1);
                Assert.True(driver.Alive is { Device: > 50, Objects: > 2 });
            }

            Assert.Equal((0, 0, 0), driver.Alive);
        }
    }

    [Fact]
    public void A_long_loop_makes_the_same_images_every_time()
    {
        using CpuBackend backend = new(2);
        using Kernels.Sampling.Sampler sampler = Load(backend);
        SampleRequest request = s_request with { Count = 3, BatchSize = 2, Classes = [1, 4, 9] };
        string[] expected = [Hash(sampler.Sample(request, 0, 2).Images), Hash(sampler.Sample(request, 2, 1).Images)];
        for (int i = 0; i < 2 * s_cycles; i++)
        {
            Assert.Equal(expected[i % 2], Hash(sampler.Sample(request, i % 2 == 0 ? 0 : 2, i % 2 == 0 ? 2 : 1).Images));
        }
    }

    private static Kernels.Sampling.Sampler Load(Backend backend) => Kernels.Sampling.Sampler.Load(
        new SamplerOptions
        {
            Diffusion = new ModelSource(Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors")) { Overrides = new ModelOverrides { TimestepRespacing = "3" } },
            Classifier = new ModelSource(Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_classifier.safetensors")),
            Settings = new Kernels.Diffusion.SamplerSettings { ClassifierScale = 2 },
        },
        backend);

    private static (long Bytes, int Handles) Used()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        using Process process = Process.GetCurrentProcess();
        return (process.WorkingSet64, OperatingSystem.IsLinux() ? Directory.GetFileSystemEntries("/proc/self/fd").Length : process.HandleCount);
    }

    private static string Hash(float[] values) => Convert.ToHexString(SHA256.HashData(MemoryMarshal.AsBytes<float>(values)))[..16];
}
