using System.Reflection;
using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Runtime;

namespace Kernels.Sampling;

/// <summary>A device and its arithmetic, as far as bits may depend on them: the number of threads is not here.</summary>
public sealed record ReceiptDevice
{
    /// <summary><c>cpu</c>, <c>cuda</c> or <c>emulator</c>.</summary>
    public required string Kind { get; init; }

    /// <summary>The device's name; of a CPU, its instruction set and the width of the vectors.</summary>
    public required string Name { get; init; }

    /// <summary>The architecture that kernels were compiled for.</summary>
    public string? Architecture { get; init; }

    /// <summary>The hash of the kernels' sources (<see cref="KernelSources.Sha256"/>); null if no kernels ran, and in receipts of versions that did not record it.</summary>
    public string? KernelsSha256 { get; init; }

    /// <summary>How the diffusion model multiplied and stored.</summary>
    public Precision Precision { get; init; }

    /// <summary>The same for the classifier.</summary>
    public Precision ClassifierPrecision { get; init; }

    /// <summary>Who multiplied the matrices of linear layers; null if no kernels ran, and in receipts of versions that did not record it.</summary>
    public GemmKind? Gemm { get; init; }

    /// <summary>Fusions of the device's own that were left out.</summary>
    public IReadOnlyList<string> DisabledFusions { get; init; } = [];

    /// <summary>Describes a backend.</summary>
    /// <param name="backend">The backend.</param>
    public static ReceiptDevice Of(Backend backend) => backend is not GpuBackend gpu
        ? new ReceiptDevice
        {
            Kind = "cpu",
            Name = backend is CpuBackend ? FormattableString.Invariant($"{RuntimeInformation.ProcessArchitecture}, {Simd.Bits}-bit vectors") : backend.Name,
        }
        : new ReceiptDevice
        {
            Kind = gpu.Driver.RunsMachineCode ? "cuda" : "emulator",
            Name = gpu.Driver.Name,
            Architecture = gpu.Driver.Architecture,
            KernelsSha256 = gpu.Sources.Sha256,
            Precision = gpu.Options.Precision,
            ClassifierPrecision = ClassifierOf(gpu.Options),
            Gemm = gpu.Options.Gemm,
            DisabledFusions = [.. gpu.Options.DisabledFusions.Order(StringComparer.Ordinal)],
        };

    private static Precision ClassifierOf(GpuOptions options)
    {
        foreach ((string prefix, Precision precision) in options.Overrides)
        {
            if (prefix == GuidedStep.ClassifierPrefix)
            {
                return precision;
            }
        }

        return options.Precision;
    }
}

/// <summary>The programs that made images.</summary>
public sealed record ReceiptVersions
{
    /// <summary>This one.</summary>
    public required string Kernels { get; init; }

    /// <summary>The commit that it was built from, if it was built in a repository.</summary>
    public string? Commit { get; init; }

    /// <summary>The .NET runtime.</summary>
    public required string Runtime { get; init; }

    /// <summary>The NVIDIA driver, if a GPU computed.</summary>
    public string? Driver { get; init; }

    /// <summary>The compiler of the kernels, if kernels ran.</summary>
    public string? Nvrtc { get; init; }

    /// <summary>The versions, here and now.</summary>
    /// <param name="backend">What computes.</param>
    public static ReceiptVersions Of(Backend backend)
    {
        string[] version = (typeof(ReceiptVersions).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "").Split('+');
        GpuBackend? gpu = backend as GpuBackend;
        return new ReceiptVersions
        {
            Kernels = version[0],
            Commit = version.Length > 1 ? version[1] : null,
            Runtime = RuntimeInformation.FrameworkDescription,
            Driver = gpu?.Driver.RunsMachineCode == true ? KernelModuleVersion() : null,
            Nvrtc = gpu is not null && KernelCompiler.IsAvailable(out _) ? KernelCompiler.Version.ToString() : null,
        };
    }

    // The driver API tells the version of its interface, not its own.
    private static string? KernelModuleVersion()
    {
        try
        {
            return File.ReadAllText("/sys/module/nvidia/version").Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
