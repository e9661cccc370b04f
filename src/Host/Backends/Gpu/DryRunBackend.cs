using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>
/// Lowers plans as <see cref="GpuBackend"/> does, and stops there: no memory, no weights, no compiler, no device. For counting launches, and for compiling the kernels of a job ahead
/// of time.
/// </summary>
public sealed class DryRunBackend : Backend
{
    private readonly DryDriver _driver;
    private readonly GpuOptions _options;
    private readonly List<KernelCall> _calls = [];
    private readonly Dictionary<string, int> _applied = GpuOptions.Fusions.ToDictionary(f => f.Name, _ => 0);

    /// <summary>Creates a backend.</summary>
    /// <param name="options">Precision and the like; the defaults if null.</param>
    /// <param name="architecture">The device that is imagined.</param>
    /// <param name="multiprocessors">Its multiprocessors.</param>
    /// <param name="maximumSharedBytes">Shared memory that a block may have there, in bytes.</param>
    public DryRunBackend(GpuOptions? options = null, string architecture = "sm_90", int multiprocessors = 132, int maximumSharedBytes = 227 << 10)
    {
        _options = options ?? new GpuOptions();
        _driver = new DryDriver(architecture, multiprocessors, maximumSharedBytes);
    }

    /// <inheritdoc/>
    public override string Name => $"nothing ({_driver.Architecture}, {_options.Precision.ToString().ToLowerInvariant()})";

    /// <summary>The launches of all plans so far. Addresses in them mean nothing.</summary>
    public IReadOnlyList<KernelCall> Calls => _calls;

    /// <summary>How often each of <see cref="GpuOptions.Fusions"/> was applied in all plans so far.</summary>
    public IReadOnlyDictionary<string, int> Applied => _applied;

    /// <inheritdoc/>
    public override Plan Plan(Graph graph) => GpuBackend.Plan(graph, _options, _driver.MaximumSharedBytes);

    /// <inheritdoc/>
    public override Executor Compile(Plan plan, Weights weights)
    {
        ArgumentNullException.ThrowIfNull(plan);
        using DryWeights none = new(_driver);
        using GpuLowering lowering = new(_driver, plan, 0, none, weights, _options);
        foreach (Launch launch in plan.Launches)
        {
            lowering.Lower(launch.Node);
        }

        _calls.AddRange(lowering.Calls);
        foreach ((string fusion, int times) in lowering.Applied)
        {
            _applied[fusion] += times;
        }

        return new DryExecutor(plan);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _driver.Dispose();
        }
    }

    private sealed class DryWeights(Driver driver) : DeviceWeights(driver)
    {
        public override ulong Get(Weights weights, Tensor weight, string layout, Func<float[], byte[]> pack) => 0;
    }

    private sealed class DryExecutor(Plan plan) : Executor
    {
        private const string Nothing = "a dry run computes nothing";

        public override Plan Plan { get; } = plan;

        public override void Run(CancellationToken cancellationToken = default) => throw new DeviceException(Nothing);

        protected internal override double TimeLaunch(int launch) => throw new DeviceException(Nothing);

        protected override void WriteCore(Tensor tensor, ReadOnlySpan<byte> bytes)
        {
        }

        protected override void ReadCore(Tensor tensor, Span<byte> bytes) => throw new DeviceException(Nothing);

        protected override void Dispose(bool disposing)
        {
        }
    }
}
