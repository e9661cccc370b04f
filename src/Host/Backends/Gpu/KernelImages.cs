namespace Kernels.Backends.Gpu;

/// <summary>Compiles kernels for one target, or takes them from the cache.</summary>
/// <param name="sources">The texts.</param>
/// <param name="cache">Where images are kept.</param>
/// <param name="architecture">The target, real (<c>sm_90</c>: machine code, or PTX where the compiler makes none) or virtual (<c>compute_90</c>: PTX).</param>
public sealed class KernelImages(KernelSources sources, KernelCache cache, string architecture)
{
    /// <summary>The image of a kernel's file and options.</summary>
    /// <param name="spec">The kernel.</param>
    /// <exception cref="KernelCompileException">It does not compile; the message holds the compiler's log.</exception>
    /// <exception cref="DeviceException">NVRTC is needed and was not found.</exception>
    public byte[] Get(KernelSpec spec)
    {
        bool canCompile = KernelCompiler.IsAvailable(out string reason);
        if (cache.Find(Key(spec), canCompile ? KernelCompiler.Version : null) is byte[] kept)
        {
            return kept;
        }

        return canCompile
            ? Compile(spec).Image
            : throw new DeviceException($"{spec} is not among the compiled kernels in {cache.Directory ?? "memory"}, and cannot be compiled: {reason}");
    }

    /// <summary>Compiles whatever the cache holds, and keeps the image.</summary>
    /// <param name="spec">The kernel.</param>
    /// <exception cref="KernelCompileException">It does not compile; the message holds the compiler's log.</exception>
    /// <exception cref="DeviceException">NVRTC was not found.</exception>
    public CompiledKernels Compile(KernelSpec spec)
    {
        CompiledKernels compiled = KernelCompiler.Compile(
            sources.Text(spec.File), spec.File, architecture, spec.Options.Split('\n', StringSplitOptions.RemoveEmptyEntries), sources.Headers);
        cache.Add(Key(spec), KernelCompiler.Version, compiled.Image);
        return compiled;
    }

    private string Key(KernelSpec spec) => KernelCache.Key(sources.Text(spec.File), sources.Headers, spec, architecture);
}
