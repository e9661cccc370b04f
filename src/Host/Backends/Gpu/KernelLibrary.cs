using System.Runtime.ExceptionServices;

namespace Kernels.Backends.Gpu;

/// <summary>The kernels loaded on a device. Each is compiled once, several at a time.</summary>
internal sealed class KernelLibrary : IDisposable
{
    private readonly Driver _driver;
    private readonly KernelImages _images;
    private readonly Dictionary<(string File, string Options), DriverModule> _modules = [];

    /// <summary>Creates an empty library.</summary>
    /// <param name="driver">The device.</param>
    /// <param name="sources">The texts of the kernels.</param>
    /// <param name="cache">Where images are kept.</param>
    public KernelLibrary(Driver driver, KernelSources sources, KernelCache cache)
    {
        _driver = driver;
        Sources = sources;

        // A virtual target spares the assembler where PTX is all that runs.
        _images = new KernelImages(sources, cache, driver.RunsMachineCode ? driver.Architecture : "compute_" + driver.Architecture["sm_".Length..]);
    }

    /// <summary>The texts of the kernels.</summary>
    public KernelSources Sources { get; }

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
            Parallel.For(0, missing.Length, i => images[i] = _images.Get(missing[i]));
        }
        catch (AggregateException e)
        {
            // One kernel's log at a time is what a person can read.
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }

        foreach ((KernelSpec spec, byte[] image) in missing.Zip(images))
        {
            _modules.Add((spec.File, spec.Options), _driver.LoadModule(image, spec.File));
        }
    }

    /// <summary>A kernel that was loaded.</summary>
    /// <param name="spec">The kernel.</param>
    public DriverFunction Function(KernelSpec spec) => _modules[(spec.File, spec.Options)].Function(spec.Entry);

    /// <summary>Unloads everything.</summary>
    public void Dispose()
    {
        foreach (DriverModule module in _modules.Values)
        {
            module.Dispose();
        }

        _modules.Clear();
    }
}
