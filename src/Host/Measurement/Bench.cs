using System.Globalization;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>What <see cref="Bench"/> is to measure.</summary>
public sealed record BenchOptions
{
    /// <summary>Numbers of images.</summary>
    public IReadOnlyList<int> Batches { get; init; } = [1];

    /// <summary>What the names of ops must contain, for single ops instead of whole steps; empty for all ops; null for steps.</summary>
    public string? Kernels { get; init; }

    /// <summary>How long one row may be measured for.</summary>
    public TimeSpan TimeLimit { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Rewrites to leave out.</summary>
    public IReadOnlyCollection<string> DisabledFusions { get; init; } = [];

    /// <summary>Told of what is being done.</summary>
    public Action<string> Progress { get; init; } = _ => { };
}

/// <summary>Measures steps or ops of models on one device: verifies first, then times or counts. Rows are there as soon as they are measured.</summary>
public sealed class Bench : IDisposable
{
    private const int SplitRepeats = 5;
    private readonly MeasuredDevice _device;
    private readonly BenchOptions _options;
    private readonly List<BenchRow> _rows = [];
    private readonly Dictionary<ModelPair, float[]> _expected;
    private MeasuredDevice? _reference;

    /// <summary>Creates a bench.</summary>
    /// <param name="device">What is measured.</param>
    /// <param name="options">How.</param>
    /// <param name="previous">The bench of another precision, whose reference values hold here too.</param>
    public Bench(MeasuredDevice device, BenchOptions options, Bench? previous = null)
    {
        _device = device;
        _options = options;
        _expected = previous?._expected ?? [];
    }

    /// <summary>The rows so far.</summary>
    public IReadOnlyList<BenchRow> Rows => _rows;

    /// <summary>The device's limits; null before <see cref="Run"/> and on a device that counts.</summary>
    public Roofline? Roofline { get; private set; }

    private bool OnCpu => _device.Backend is CpuBackend;

    /// <summary>Measures models.</summary>
    /// <param name="models">The models.</param>
    /// <param name="cancellationToken">Ends the work; <see cref="Rows"/> keeps what is done.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public void Run(IReadOnlyList<ModelPair> models, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(models);
        if (!_device.CountsOnly)
        {
            _options.Progress($"limits of {_device.Backend.Name}");
            Roofline = RooflineProbe.Measure(_device, _options.TimeLimit, cancellationToken);
        }

        foreach (ModelPair model in models)
        {
            if (_options.Kernels is null)
            {
                RunSteps(model, cancellationToken);
            }
            else
            {
                RunOps(model, cancellationToken);
            }
        }
    }

    /// <summary>Frees what verification needed; the device is the caller's.</summary>
    public void Dispose() => _reference?.Dispose();

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);

    private void RunSteps(ModelPair model, CancellationToken cancellationToken)
    {
        Verdict? verdict = null;
        foreach (int batch in _options.Batches)
        {
            BenchRow row = new() { Model = model.Name, Batch = batch, Precision = _device.PrecisionName, Part = BenchRow.Step };
            Try(row, () =>
            {
                // An image has the same bits whatever the batch, so one verification holds for all.
                verdict ??= VerifyStep(model);
                if (!verdict.Passed)
                {
                    return [row with { Verified = verdict }];
                }

                _options.Progress($"{model.Name}, batch {Text(batch)}, {_device.PrecisionName}");
                return MeasureStep(model, row with { Verified = verdict }, cancellationToken);
            });
        }
    }

    private IEnumerable<BenchRow> MeasureStep(ModelPair model, BenchRow row, CancellationToken cancellationToken)
    {
        using GuidedWorkload workload = new(_device.Backend, model, row.Batch, _options.DisabledFusions);
        Plan plan = workload.Plan;
        row = row with
        {
            Flops = plan.Graph.Cost.Flops,
            Bytes = plan.Graph.Cost.Bytes,
            Launches = plan.Launches.Count,
            Kernels = MeasuredDevice.KernelsOf(workload.Executor)?.Count,
            ArenaBytes = plan.Memory.ArenaBytes,
        };
        if (_device.CountsOnly)
        {
            workload.Prepare(cancellationToken);
            IReadOnlyList<(KernelCall Call, KernelCounters Counters)> counted = _device.Count(workload.Executor, cancellationToken);
            return
            [
                row with
                {
                    Counters = KernelCounters.Sum(counted.Select(c => c.Counters)),
                    SplitCounters = StepParts.All.ToDictionary(part => part, part => KernelCounters.Sum(counted.Where(c => StepParts.Of(c.Call.Node) == part).Select(c => c.Counters))),
                },
                .. counted.GroupBy(c => c.Call.Kernel.Entry).OrderByDescending(g => g.Sum(c => c.Counters.BytesMoved)).Select(kernel => new BenchRow
                {
                    Model = row.Model,
                    Batch = row.Batch,
                    Precision = row.Precision,
                    Part = "kernel",
                    Op = kernel.Key,
                    Uses = kernel.Count(),
                    Counters = KernelCounters.Sum(kernel.Select(c => c.Counters)),
                }),
            ];
        }

        Timing timing = new RepeatRule(_options.TimeLimit).Measure(() => workload.Time(cancellationToken), cancellationToken);
        return [row.With(timing, plan.Graph.Cost, plan.Launches.Sum(l => Roofline!.LimitMs(l.Cost))) with { SplitMs = StepParts.Measure(workload, SplitRepeats, cancellationToken) }];
    }

    // A device is held against the CPU; the CPU, whose ops the tests hold against float64, against itself without any rewrite of the graph.
    private Verdict VerifyStep(ModelPair model)
    {
        _options.Progress($"verifying {model.Name}, {_device.PrecisionName}");
        if (!_expected.TryGetValue(model, out float[]? expected))
        {
            using GuidedWorkload reference = new((OnCpu ? _device : Reference()).Backend, model, 1, OnCpu ? ["all"] : [], suppliedNoise: true);
            _expected.Add(model, expected = reference.Result());
        }

        using GuidedWorkload workload = new(_device.Backend, model, 1, _options.DisabledFusions, suppliedNoise: true);
        return Verdict.Of(OnCpu ? "cpu, unfused" : "cpu fp32", expected, workload.Result(), _device.StepTolerance);
    }

    private void RunOps(ModelPair model, CancellationToken cancellationToken)
    {
        Diffusion.StepTable table = model.CreateTable();
        foreach (int batch in _options.Batches)
        {
            foreach (OpUse use in OpCatalog.Of(model, batch, _options.Kernels!, _options.DisabledFusions))
            {
                cancellationToken.ThrowIfCancellationRequested();
                BenchRow row = new()
                {
                    Model = model.Name, Batch = batch, Precision = _device.PrecisionName, Part = "op", Op = use.Op, Shapes = use.Shapes, Uses = use.Uses,
                };
                _options.Progress($"{row.Op} {row.Shapes}");
                Try(row, () => [MeasureOp(model, use, row, table, cancellationToken)]);
            }
        }
    }

    private BenchRow MeasureOp(ModelPair model, OpUse use, BenchRow row, Diffusion.StepTable table, CancellationToken cancellationToken)
    {
        using OpWorkload workload = new(_device, use.Node, model.Weights, table);
        row = row with { Flops = workload.Cost.Flops, Bytes = workload.Cost.Bytes, Launches = 1, Kernels = workload.Kernels, Verified = VerifyOp(model, use, workload, table) };
        if (!row.Verified.Passed)
        {
            return row;
        }

        return _device.CountsOnly
            ? row with { Counters = KernelCounters.Sum(workload.Count(cancellationToken).Select(c => c.Counters)) }
            : row.With(new RepeatRule(_options.TimeLimit).Measure(workload.Time, cancellationToken), workload.Cost, Roofline!.LimitMs(workload.Cost));
    }

    // The CPU's own ops are held against their narrowest form, which blocks and sums otherwise.
    private Verdict VerifyOp(ModelPair model, OpUse use, OpWorkload workload, Diffusion.StepTable table)
    {
        const int Narrow = 128;
        int bits = Simd.Bits;
        float[] expected;
        try
        {
            Simd.Bits = OnCpu ? Narrow : bits;
            using OpWorkload reference = new(Reference(), use.Node, model.Weights, table);
            expected = reference.Result();
        }
        finally
        {
            Simd.Bits = bits;
        }

        return Verdict.Of(OnCpu ? "cpu, 128-bit vectors" : "cpu fp32", expected, workload.Result(), _device.OpTolerance);
    }

    // Weights stay packed for one width of vectors, so the narrow form has a backend of its own.
    private MeasuredDevice Reference() => _reference ??= new MeasuredDevice(new CpuBackend(_device.Threads), "cpu");

    // What does not fit or is refused must not hide the other rows.
    private void Try(BenchRow row, Func<IEnumerable<BenchRow>> measure)
    {
        try
        {
            _rows.AddRange(measure());
        }
        catch (KernelsException e) when (e is not (ConfigurationException or InvalidFileException))
        {
            _rows.Add(row with { Error = e.Message });
        }
    }
}
