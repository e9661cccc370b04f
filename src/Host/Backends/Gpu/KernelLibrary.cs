namespace Kernels.Backends.Gpu;

/// <summary>The compiled kernels of a device: each is compiled once, several at a time, and its image kept on disk.</summary>
internal sealed class KernelLibrary(Driver driver, KernelSources sources, KernelCache cache) : IDisposable
{
    private readonly Dictionary<(string File, string Options), DriverModule> _modules = [];

    /// <summary>The target that kernels are compiled for; virtual where the driver runs PTX only, which spares the assembler.</summary>
    public string Architecture { get; } = driver.RunsMachineCode ? driver.Architecture : "compute_" + driver.Architecture["sm_".Length..];

    /// <summary>Makes sure that kernels are loaded.</summary>
    /// <param name="specs">The kernels; repetitions do not matter.</param>
    /// <exception cref="KernelCompileException">One does not compile; the message holds the compiler's log.</exception>
    /// <exception cref="DeviceException">NVRTC is needed and was not found.</exception>
    public void Load(IEnumerable<KernelSpec> specs)
    {
        KernelSpec[] missing = [.. specs.Where(s => !_modules.ContainsKey((s.File, s.Options))).DistinctBy(s => (s.File, s.Options))];
        byte[][] images = new byte[missing.Length][];
        try
        {
            Parallel.For(0, missing.Length, i => images[i] = Image(missing[i]));
        }
        catch (AggregateException e) when (e.InnerExceptions.Count > 0)
        {
            // One kernel's log at a time is what a person can read.
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }

        foreach ((KernelSpec spec, byte[] image) in missing.Zip(images))
        {
            _modules.Add((spec.File, spec.Options), driver.LoadModule(image, spec.File));
        }
    }

    /// <summary>A kernel that was loaded.</summary>
    /// <param name="spec">The kernel.</param>
    public DriverFunction Function(KernelSpec spec) => _modules[(spec.File, spec.Options)].Function(spec.Entry);

    public void Dispose()
    {
        foreach (DriverModule module in _modules.Values)
        {
            module.Dispose();
        }

        _modules.Clear();
    }

    private byte[] Image(KernelSpec spec)
    {
        string source = sources.Text(spec.File);
        string key = KernelCache.Key(source, sources.Headers, spec, Architecture);
        bool canCompile = KernelCompiler.IsAvailable(out string reason);
        if (cache.Find(key, canCompile ? KernelCompiler.Version : null) is byte[] kept)
        {
            return kept;
        }

        if (!canCompile)
        {
            throw new DeviceException($"{spec} is not among the compiled kernels in {cache.Directory ?? "memory"}, and cannot be compiled: {reason}");
        }

        CompiledKernels compiled = KernelCompiler.Compile(source, spec.File, Architecture, spec.Options.Split('\n', StringSplitOptions.RemoveEmptyEntries), sources.Headers);
        byte[] image = driver.RunsMachineCode ? compiled.Cubin : compiled.Ptx;
        cache.Add(key, KernelCompiler.Version, image);
        return image;
    }
}
