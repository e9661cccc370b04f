using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Emulation.Checking;
using Kernels.Measurement;
using Kernels.Runtime;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>The options that say where a plan runs and how it is fused.</summary>
internal sealed class DeviceOptions
{
    private readonly Option<string> _device = new("--device")
    {
        Description = "Where to compute: auto (a GPU if there is one, otherwise the CPU), cuda or cuda:N, emulator (the GPU's kernels on the CPU, checked), or cpu.",
        DefaultValueFactory = _ => "auto",
        HelpName = "auto|cuda[:N]|emulator|cpu",
    };

    private readonly Option<int?> _threads = new("--threads")
    {
        Description = "Threads of the CPU backend or of the emulator; one per core if absent. The result does not depend on it.",
    };

    private readonly Option<string?> _precision = PrecisionOption("--precision", "How a GPU multiplies and stores activations: fp32 (the default; fp16 after --use_fp16), tf32, fp16 or bf16. The CPU computes in fp32.");

    private readonly Option<string?> _classifierPrecision = PrecisionOption("--classifier-precision", "The same for the classifier, if it is to differ.");

    private readonly Option<string> _driver = new("--driver")
    {
        Description = "How the GPU is reached: cuda (the driver API) or managedcuda (the ManagedCuda packages, built on request).",
        DefaultValueFactory = _ => "cuda",
    };

    private readonly Option<bool?> _deterministic = Options.Flag("--deterministic", "Always true: the same seed gives the same bits, whatever the batch.");

    private readonly Option<string> _gemm = new("--gemm")
    {
        Description = "Who multiplies the matrices of linear layers on a GPU: own (the default), or cublas, which the machine must have, and with which an image's bits may depend on the batch.",
        DefaultValueFactory = _ => "own",
    };

    private readonly Option<string> _check = new("--check")
    {
        Description = "What the emulator looks for: all (the default) or none, which is several times faster.",
        DefaultValueFactory = _ => "all",
    };

    public Option<string?> KernelsDir { get; } = new("--kernels-dir")
    {
        Description = $"A folder of .cu files in place of the kernels built in ({KernelSources.Variable}).",
        HelpName = "folder",
    };

    public Option<string?> KernelCache { get; } = new("--kernel-cache")
    {
        Description = $"Where compiled kernels are kept ({Backends.Gpu.KernelCache.Variable}).",
        HelpName = "folder",
    };

    private readonly Option<string[]> _disableFusion = new("--disable-fusion")
    {
        Description = $"Leave a fusion out, or all: {string.Join(", ", Diffusion.Rewrites.All.Select(f => f.Name))}; on a GPU also {string.Join(", ", Backends.Gpu.GpuOptions.Fusions.Select(f => f.Name))}. Repeatable.",
        HelpName = "name",
    };

    public DeviceOptions()
    {
        _driver.AcceptOnlyFromAmong("cuda", "managedcuda");
        _check.AcceptOnlyFromAmong("all", "none");
        _gemm.AcceptOnlyFromAmong("own", "cublas");
    }

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        AddMeasuredTo(command);
        foreach (Option option in new Option[] { _precision, _classifierPrecision, _deterministic })
        {
            command.Add(option);
        }
    }

    /// <summary>Adds the options to a command that measures: it says itself at which precisions.</summary>
    public void AddMeasuredTo(Command command)
    {
        foreach (Option option in new Option[] { _device, _threads, _driver, _gemm, _check, KernelsDir, KernelCache, _disableFusion })
        {
            command.Add(option);
        }
    }

    /// <summary>Adds the options to a command that runs what a receipt says: it says how steps are fused.</summary>
    public void AddReproducingTo(Command command)
    {
        foreach (Option option in new Option[] { _device, _threads, _driver, _check, KernelsDir, KernelCache, _precision, _classifierPrecision })
        {
            command.Add(option);
        }
    }

    /// <summary>Opens the device that a receipt speaks of, or another one at the same precision.</summary>
    /// <param name="parsed">The command line, which wins.</param>
    /// <param name="device">What the receipt says.</param>
    /// <exception cref="ConfigurationException">An option has a value that does not fit the device.</exception>
    /// <exception cref="DeviceException">There is no such device.</exception>
    public Backend OpenLike(ParseResult parsed, ReceiptDevice device)
    {
        string name = parsed.GetResult(_device) is { Implicit: false } ? parsed.GetValue(_device)! : device.Kind;
        GpuOptions options = GpuOptions(parsed, (device.Precision, device.ClassifierPrecision)) with { DisabledFusions = [.. device.DisabledFusions], Gemm = device.Gemm ?? GemmKind.Own };
        return OpenDriver(parsed, counters: false, name) is Driver driver ? new GpuBackend(driver, options) : new CpuBackend(Threads(parsed));
    }

    /// <summary>Opens the backend.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="precisions">The precisions asked for by other options; these ones win.</param>
    /// <param name="localRank">Which of the processes on this machine this one is: it takes the GPU of that number where none is named.</param>
    /// <exception cref="ConfigurationException">An option has a value that does not fit the device.</exception>
    /// <exception cref="DeviceException">There is no such device.</exception>
    public Backend Open(ParseResult parsed, (Precision? Diffusion, Precision? Classifier) precisions = default, int? localRank = null)
    {
        if (parsed.GetValue(_deterministic) == false)
        {
            throw new ConfigurationException("--deterministic is always true: there is no faster way that is not");
        }

        if (OpenDriver(parsed, counters: false, localRank: localRank) is Driver driver)
        {
            return new GpuBackend(driver, GpuOptions(parsed, precisions));
        }

        if (parsed.GetValue(_gemm) == "cublas")
        {
            throw new ConfigurationException("--gemm cublas needs a GPU or the emulator");
        }

        foreach (Option<string?> option in new[] { _precision, _classifierPrecision })
        {
            if (parsed.GetValue(option) is string precision and not "fp32")
            {
                throw CpuPrecision(option.Name, precision);
            }
        }

        return new CpuBackend(Threads(parsed));
    }

    /// <summary>Opens a device that is measured at one precision. The emulator counts; what it looks for is up to <c>--check</c>.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="precision">How it multiplies and stores.</param>
    /// <exception cref="ConfigurationException">An option has a value that does not fit the device.</exception>
    /// <exception cref="DeviceException">There is no such device.</exception>
    public MeasuredDevice OpenMeasured(ParseResult parsed, Precision precision)
    {
        Driver? driver = OpenDriver(parsed, counters: true);
        if (driver is null)
        {
            return precision == Precision.Fp32
                ? new MeasuredDevice(new CpuBackend(Threads(parsed)), "cpu")
                : throw CpuPrecision("--precision", precision.ToString().ToLowerInvariant());
        }

        GpuBackend backend = new(driver, GpuOptions(parsed, (precision, precision)));
        return driver is EmulatorDriver emulator ? new MeasuredDevice(backend, "emulator", () => Counters(emulator.LastCounters)) : new MeasuredDevice(backend, "cuda");
    }

    /// <summary>Opens the emulator to count what kernels do, and to look for nothing.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="precisions">The precisions asked for by other options.</param>
    public MeasuredDevice OpenCounting(ParseResult parsed, (Precision? Diffusion, Precision? Classifier) precisions)
    {
        EmulatorDriver emulator = new(new EmulatorOptions { Checks = Checks.None, Counters = true, Workers = Threads(parsed) ?? Environment.ProcessorCount });
        return new MeasuredDevice(new GpuBackend(emulator, GpuOptions(parsed, precisions)), "emulator", () => Counters(emulator.LastCounters));
    }

    /// <summary>Names of rewrites to leave out; those of a GPU's kernels are no rewrites and are in <see cref="GpuOptions"/>.</summary>
    public string[] DisabledFusions(ParseResult parsed) => [.. (parsed.GetValue(_disableFusion) ?? []).Except(Backends.Gpu.GpuOptions.Fusions.Select(f => f.Name))];

    /// <summary>Adds the option that switches fusions off, for commands that run nothing.</summary>
    public void AddFusionTo(Command command) => command.Add(_disableFusion);

    /// <summary>Opens a GPU by the name it has on the command line.</summary>
    /// <param name="device"><c>cuda</c> or <c>cuda:N</c>.</param>
    /// <param name="driver">How it is reached: <c>cuda</c> or <c>managedcuda</c>.</param>
    /// <param name="localRank">Which of the processes on this machine this one is: the GPU of <c>cuda</c>.</param>
    public static Driver Cuda(string device, string driver, int? localRank = null)
    {
        int ordinal = LocalOrdinal(localRank);
        if (device != "cuda" && !(device.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(device.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out ordinal)))
        {
            throw new ConfigurationException($"there is no --device {device}; --help lists them");
        }

        return driver == "managedcuda" ? DriverPlugin.Open("Kernels.ManagedCuda", ordinal) : new CudaDriver(ordinal);
    }

    /// <summary>How a GPU is to work.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="precisions">The precisions asked for by other options; these ones win.</param>
    public GpuOptions GpuOptions(ParseResult parsed, (Precision? Diffusion, Precision? Classifier) precisions)
    {
        Precision? own = Parse(_precision);
        string[] disabled = parsed.GetValue(_disableFusion) ?? [];
        Precision diffusion = own ?? precisions.Diffusion ?? Precision.Fp32;

        // The original's switches are false where they are not given.
        Precision classifier = Parse(_classifierPrecision) ?? own ?? precisions.Classifier ?? Precision.Fp32;
        return new GpuOptions
        {
            Precision = diffusion,
            Overrides = classifier == diffusion ? [] : [(GuidedStep.ClassifierPrefix, classifier)],
            KernelsDirectory = parsed.GetValue(KernelsDir),
            CacheDirectory = parsed.GetValue(KernelCache),
            Gemm = parsed.GetValue(_gemm) == "cublas" ? GemmKind.Cublas : GemmKind.Own,
            DisabledFusions = [.. Backends.Gpu.GpuOptions.Fusions.Select(f => f.Name).Where(name => disabled.Contains(name) || disabled.Contains("all"))],
        };

        Precision? Parse(Option<string?> option) => parsed.GetValue(option) is string name ? Enum.Parse<Precision>(name, ignoreCase: true) : null;
    }

    // Without a compiler a GPU is of use only to those who prepared for it, and they name it.
    private static CudaDriver? TryCuda(int? localRank)
    {
        try
        {
            return KernelCompiler.IsAvailable(out _) ? new CudaDriver(LocalOrdinal(localRank)) : null;
        }
        catch (DeviceException)
        {
            return null;
        }
    }

    private static int LocalOrdinal(int? localRank) => localRank is null ? 0 : Rank.GpuOf(localRank, CudaDriver.DeviceCount());

    // A library's product is not counted: what it does on a device is not known.
    private static KernelCounters Counters(LaunchCounters? launch) => launch is null ? new KernelCounters() : new()
    {
        Instructions = launch.ThreadInstructions,
        Flops = launch.Flops,
        TensorFlops = launch.TensorFlops,
        BytesAsked = launch.GlobalReadBytes + launch.GlobalWrittenBytes,
        Sectors = launch.GlobalReadSectors + launch.GlobalWrittenSectors,
        LeastBytes = launch.DistinctReadBytes + launch.DistinctWrittenBytes,
        BankConflicts = launch.SharedExtraWavefronts,
    };

    private static ConfigurationException CpuPrecision(string option, string precision) =>
        new($"{option} {precision} needs a GPU or the emulator: the CPU computes in fp32");

    private int? Threads(ParseResult parsed)
    {
        int? threads = parsed.GetValue(_threads);
        return threads is < 1 or > 1024 ? throw new ConfigurationException($"--threads is {threads}; it must be 1 to 1024") : threads;
    }

    // Null for the CPU.
    private Driver? OpenDriver(ParseResult parsed, bool counters, string? named = null, int? localRank = null)
    {
        int? threads = Threads(parsed);
        string device = named ?? parsed.GetValue(_device)!;
        return device switch
        {
            "cpu" => null,
            "auto" => TryCuda(localRank),
            "emulator" => new EmulatorDriver(new EmulatorOptions
            {
                Checks = parsed.GetValue(_check) == "none" ? Checks.None : Checks.All,
                Counters = counters,
                Workers = threads ?? Environment.ProcessorCount,
            }),
            _ => Cuda(device, parsed.GetValue(_driver)!, localRank),
        };
    }

    private static Option<string?> PrecisionOption(string name, string description)
    {
        Option<string?> option = new(name) { Description = description };
        option.AcceptOnlyFromAmong([.. Enum.GetNames<Precision>().Select(n => n.ToLowerInvariant())]);
        return option;
    }
}
