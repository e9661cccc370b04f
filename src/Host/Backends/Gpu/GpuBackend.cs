using System.Globalization;
using Kernels.Passes;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>Runs plans with the kernels of <c>kernels/*.cu</c> on a device behind a <see cref="Driver"/>: an NVIDIA GPU or the PTX emulator.</summary>
/// <remarks>
/// One thing at a time: executors of one backend share its device and wait for each other. Results do not depend on the batch, nor on whether a plan is captured.
/// </remarks>
public sealed class GpuBackend : Backend
{
    private readonly Driver _driver;
    private readonly KernelLibrary _library;
    private readonly DeviceWeights _weights;
    private readonly bool _owns = true;
    private DeviceBuffer? _eviction;

    /// <summary>Opens a backend.</summary>
    /// <param name="driver">The device, which the backend disposes.</param>
    /// <param name="options">Precision and the like; the defaults if null.</param>
    /// <exception cref="DeviceException">The device lacks what the precision needs.</exception>
    public GpuBackend(Driver driver, GpuOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(driver);
        _driver = driver;
        Options = options ?? new GpuOptions();
        foreach (Precision precision in Options.Overrides.Select(o => o.Precision).Prepend(Options.Precision))
        {
            int capability = int.Parse(driver.Architecture.AsSpan("sm_".Length).TrimEnd('a'), CultureInfo.InvariantCulture);
            if (capability < precision.LeastCapability())
            {
                throw new DeviceException(
                    $"{driver.Name} is {driver.Architecture}; {precision} needs sm_{precision.LeastCapability()} or later. Take another precision or device");
            }
        }

        _library = new KernelLibrary(driver, KernelSources.Open(Options.KernelsDirectory), new KernelCache(Options.CacheDirectory));
        _weights = new DeviceWeights(driver);
    }

    private GpuBackend(GpuBackend owner, GpuOptions options)
    {
        (_driver, _library, _weights, _owns, Options, Gate) = (owner._driver, owner._library, owner._weights, false, options, owner.Gate);
    }

    /// <summary>How it works.</summary>
    public GpuOptions Options { get; }

    /// <summary>The texts of the kernels that it runs.</summary>
    public KernelSources Sources => _library.Sources;

    /// <inheritdoc/>
    public override string Name => $"{_driver.Name} ({_driver.Architecture}, {Options.Precision.ToString().ToLowerInvariant()})";

    /// <summary>The device; to be used inside <see cref="Gate"/>.</summary>
    internal Driver Driver => _driver;

    /// <summary>What keeps the threads of the caller apart.</summary>
    internal Lock Gate { get; } = new();

    /// <summary>A backend on the same device, with its compiled kernels and weights, that fuses otherwise. It does not outlive this one.</summary>
    /// <param name="options">As this one's, but for the fusions.</param>
    internal GpuBackend With(GpuOptions options) => new(this, options);

    /// <summary>
    /// Writes more memory than any cache holds, so that what runs next reads from memory. Nothing waits for it: what is put behind it in the stream is there before the device comes
    /// to it, so that the time the host takes to launch is not measured. Without hardware there is neither cache nor time, and nothing is done.
    /// </summary>
    /// <param name="stream">The stream; the default one if null.</param>
    internal void EvictCache(DriverStream? stream = null)
    {
        if (!_driver.RunsMachineCode)
        {
            return;
        }

        // The largest second-level cache so far has 126 MB (B200).
        lock (Gate)
        {
            _eviction ??= new DeviceBuffer(_driver, Math.Min(256L << 20, Math.Max(_driver.FreeBytes / 4, 1)), "memory written to empty the cache");
            _driver.Fill(_eviction.Address, 0, _eviction.Bytes, stream);
        }
    }

    /// <inheritdoc/>
    public override Plan Plan(Graph graph) => Plan(graph, Options, _driver.MaximumSharedBytes);

    /// <inheritdoc/>
    public override Executor Compile(Plan plan, Weights weights)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(weights);
        weights.Check(plan.Graph);
        lock (Gate)
        {
            CheckMemory(plan, weights);
            return new GpuExecutor(this, _library, _weights, plan, weights);
        }
    }

    /// <summary>Plans a graph as a backend with these options does.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="options">The options.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    internal static Plan Plan(Graph graph, GpuOptions options, int sharedBytes)
    {
        Graph stored = NormPrologue.Apply(ReducedStorage.Apply(graph, node => options.Of(node).Storage()), options, sharedBytes);
        return options.Capture && Concurrency.Find(stored) is Concurrency concurrency ? Runtime.Plan.Create(concurrency) : Runtime.Plan.Create(stored);
    }

    // Before anything is uploaded or compiled, both of which take longer than saying no.
    private void CheckMemory(Plan plan, Weights weights)
    {
        long forWeights = plan.Graph.Weights.Where(w => !_weights.Holds(weights, w)).Sum(w => (long)w.Shape.Elements * Options.Precision.Storage().SizeInBytes());
        long arena = plan.Memory.ArenaBytes, free = _driver.FreeBytes;
        if (arena + forWeights <= free)
        {
            return;
        }

        int batch = plan.Graph.Inputs.Where(t => t.Shape.Rank == 4).Select(t => t.Shape[0]).DefaultIfEmpty(1).Max();
        long fits = Math.Max(0, free - forWeights) / Math.Max(1, arena / batch);
        throw new DeviceException(string.Create(
            CultureInfo.InvariantCulture,
            $"{_driver.Name}: {arena + forWeights} bytes are needed ({arena} of activations for a batch of {batch}, {forWeights} of weights), {free} are free. ")
            + (fits > 0 ? $"A batch of {fits} would fit" : "Not even one image fits; take another precision or device")) { Fault = DeviceFault.OutOfMemory };
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _eviction?.Dispose();
        }

        if (disposing && _owns)
        {
            _library.Dispose();
            _weights.Dispose();
            _driver.Dispose();
        }
    }
}
