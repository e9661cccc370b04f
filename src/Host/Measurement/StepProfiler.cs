using System.Text.Json;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Files;
using Kernels.Passes;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>How a step is profiled.</summary>
public sealed record ProfileOptions
{
    /// <summary>Number of images.</summary>
    public int Batch { get; init; } = 1;

    /// <summary>Runs that are profiled launch by launch.</summary>
    public int Repeats { get; init; } = 10;

    /// <summary>Whether the least of the runs counts rather than their median: on a busy machine, the time without what others took.</summary>
    public bool Least { get; init; }

    /// <summary>Whether the step is timed without each rewrite.</summary>
    public bool Price { get; init; }

    /// <summary>How long any one thing may be measured for.</summary>
    public TimeSpan TimeLimit { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Rewrites to leave out.</summary>
    public IReadOnlyCollection<string> DisabledFusions { get; init; } = [];

    /// <summary>Told of what is being done.</summary>
    public Action<string> Progress { get; init; } = _ => { };
}

/// <summary>Makes the ledger of one guided step.</summary>
public static class StepProfiler
{
    /// <summary>Profiles a step.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="model">The models.</param>
    /// <param name="options">How.</param>
    /// <param name="command">The command line, for the header.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    /// <exception cref="DeviceException">The device lacks memory.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static StepProfile Run(MeasuredDevice device, ModelPair model, ProfileOptions options, string? command = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        Roofline? roofline = null;
        if (!device.CountsOnly)
        {
            options.Progress($"limits of {device.Backend.Name}");
            roofline = RooflineProbe.Measure(device, options.TimeLimit, cancellationToken);
        }

        options.Progress($"{model.Name}, {device.PrecisionName}");
        using GuidedWorkload workload = new(device.Backend, model, options.Batch, options.DisabledFusions);
        Plan plan = workload.Plan;
        LaunchTimes? times = device.CountsOnly ? null : Time(workload, options, cancellationToken);
        IReadOnlyList<LedgerLine> lines = times is null ? Count(device, workload, cancellationToken) : Lines(workload, roofline!, times.Ms);
        return new StepProfile
        {
            Format = StepProfile.CurrentFormat,
            Header = ReportHeader.Of(device, command),
            Model = model.Name,
            Batch = options.Batch,
            Precision = device.PrecisionName,
            Roofline = roofline,
            ArenaBytes = plan.Memory.ArenaBytes,
            Totals = Totals(lines, plan, times),
            Ledger = [.. lines.OrderByDescending(l => l.GapMs ?? l.GapBytes ?? 0).ThenBy(l => l.Index)],
            Fusions = new FusionPricing(device, model, workload, options).Run(cancellationToken),
            Unfused = Lines(Fusion.Apply(workload.Unfused, ["all"]).Graph),
            Fused = Lines(plan.Graph),
        };
    }

    /// <summary>Writes a profile as JSON.</summary>
    /// <param name="profile">The profile.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void Save(StepProfile profile, string path) => AtomicFile.Write(path, stream => JsonSerializer.Serialize(stream, profile, ReportJson.Default.StepProfile));

    private static LaunchTimes Time(GuidedWorkload workload, ProfileOptions options, CancellationToken cancellationToken)
    {
        for (int i = 0; i < 2; i++)
        {
            workload.Run();
        }

        return LaunchTimes.Measure(workload, options.Repeats, options.Least, whole: true, cancellationToken);
    }

    private static IReadOnlyList<LedgerLine> Lines(GuidedWorkload workload, Roofline roofline, double[] times)
    {
        ILookup<Node, KernelCall>? kernels = MeasuredDevice.KernelsOf(workload.Executor)?.ToLookup(c => c.Node);
        return
        [
            .. workload.Plan.Launches.Select(launch => Line(launch, kernels?[launch.Node]) with
            {
                Ms = times[launch.Index],
                LimitMs = roofline.LimitMs(launch.Cost),
                Bound = roofline.Bound(launch.Cost),
                GapMs = times[launch.Index] - roofline.LimitMs(launch.Cost),
            }),
        ];
    }

    private static IReadOnlyList<LedgerLine> Count(MeasuredDevice device, GuidedWorkload workload, CancellationToken cancellationToken)
    {
        workload.Prepare(cancellationToken);
        ILookup<Node, (KernelCall Call, KernelCounters Counters)> counted = device.Count(workload.Executor, cancellationToken).ToLookup(c => c.Call.Node);
        return
        [
            .. workload.Plan.Launches.Select(launch =>
            {
                KernelCounters counters = KernelCounters.Sum(counted[launch.Node].Select(c => c.Counters));
                return Line(launch, counted[launch.Node].Select(c => c.Call)) with { Counters = counters, GapBytes = counters.BytesMoved - launch.Cost.Bytes };
            }),
        ];
    }

    private static LedgerLine Line(Launch launch, IEnumerable<KernelCall>? kernels) => new()
    {
        Index = launch.Index,
        Name = launch.Node.Name,
        Op = OpUse.TextOf(launch.Node.Op),
        Kernels = kernels is null ? null : [.. kernels.Select(k => k.Kernel.Entry)],
        Part = StepParts.Of(launch.Node),
        Shapes = OpUse.ShapesOf(launch.Node),
        Bytes = launch.Cost.Bytes,
        Flops = launch.Cost.Flops,
    };

    private static LedgerTotals Totals(IReadOnlyList<LedgerLine> lines, Plan plan, LaunchTimes? times)
    {
        bool timed = times is not null;
        return new LedgerTotals
        {
            Launches = lines.Count,
            Kernels = lines.Any(l => l.Kernels is not null) ? lines.Sum(l => l.Kernels?.Count ?? 0) : null,
            Bytes = lines.Sum(l => l.Bytes),
            GraphBytes = plan.Graph.Cost.Bytes,
            Flops = lines.Sum(l => l.Flops),
            GraphFlops = plan.Graph.Cost.Flops,
            Ms = timed ? lines.Sum(l => l.Ms) : null,
            RunMs = times?.RunMs,
            WholeMs = times?.WholeMs,
            LimitMs = timed ? lines.Sum(l => l.LimitMs) : null,
            Counters = timed ? null : KernelCounters.Sum(lines.Select(l => l.Counters!)),
        };
    }

    private static IReadOnlyList<string> Lines(Graph graph) => [.. graph.Nodes.Where(n => !n.Op.IsView).Select(n => $"{n.Name}: {OpUse.TextOf(n.Op)} {OpUse.ShapesOf(n)}")];
}
