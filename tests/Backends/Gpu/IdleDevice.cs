using Kernels.Backends.Gpu;
using Kernels.Runtime;
using Kernels.Tests.Files;
using Kernels.Tests.PtxEmulator;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The driver of a real device over a library that does nothing, with images of nothing for the kernels of a job: all of a step but the device's work.</summary>
internal sealed class IdleDevice : IDisposable
{
    private readonly TemporaryFolder _images = new();
    private readonly GpuOptions _options;

    /// <summary>Opens the device.</summary>
    /// <param name="options">The backend's options.</param>
    /// <param name="job">Compiles what will be run.</param>
    public IdleDevice(GpuOptions options, Action<Backend> job)
    {
        KernelCache cache = new(_images["images"]);
        KernelSources sources = KernelSources.Open();
        Version compiler = KernelCompiler.IsAvailable(out _) ? KernelCompiler.Version : new Version(12, 4);
        using DryRunBackend dry = new(options);
        job(dry);
        foreach (KernelSpec kernel in dry.Calls.Select(c => c.Kernel).DistinctBy(k => (k.File, k.Options)))
        {
            cache.Add(KernelCache.Key(sources.Text(kernel.File), sources.Headers, kernel, "sm_90"), compiler, [0]);
        }

        _options = options with { CacheDirectory = cache.Directory };
        Backend = Open();
    }

    public GpuBackend Backend { get; }

    /// <summary>Another backend on the device, as a program finds it that starts with a warm cache.</summary>
    public GpuBackend Open()
    {
        // Without it a driver cannot tell how many bytes of arguments a kernel takes.
        CudaDriver driver = new(FakeCuda.Load("cuFuncGetParamInfo"));
        FakeCuda.IsIdle = true;
        return new GpuBackend(driver, _options);
    }

    /// <summary>Graphs that have been captured.</summary>
    public int Graphs => FakeCuda.Calls.Count(c => c.StartsWith("cuGraphInstantiate", StringComparison.Ordinal));

    public void Dispose()
    {
        Backend.Dispose();
        _images.Dispose();
    }
}
