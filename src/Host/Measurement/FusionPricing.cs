using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>What each fusion is worth: the step without it, counted, and timed if that is asked for.</summary>
/// <param name="device">The device.</param>
/// <param name="model">The models.</param>
/// <param name="workload">The step with all fusions that are not left out.</param>
/// <param name="options">How.</param>
internal sealed class FusionPricing(MeasuredDevice device, ModelPair model, GuidedWorkload workload, ProfileOptions options)
{
    private readonly GpuBackend? _gpu = device.Backend as GpuBackend;

    /// <summary>Prices every rewrite of the graph, and on a GPU every fusion between kernels.</summary>
    /// <param name="cancellationToken">Ends the work.</param>
    public IReadOnlyList<FusionPrice> Run(CancellationToken cancellationToken)
    {
        List<FusionPrice> prices = [];
        foreach ((string name, string description) in Rewrites.All.Append((Name: "all", Description: "Every rewrite at once")))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (options.DisabledFusions.Contains(name) || options.DisabledFusions.Contains("all"))
            {
                continue;
            }

            string[] disabled = [.. options.DisabledFusions, name];
            int applied = name == "all" ? workload.Graphs.Applied.Values.Sum() : workload.Graphs.Applied[name];
            prices.Add(Price((name, description, applied), Rewrites.Apply(workload.Unfused, disabled).Step, device.Backend, disabled, cancellationToken));
        }

        if (_gpu is not null)
        {
            using DryRunBackend dry = Lower(workload.Graphs.Step, _gpu);
            foreach ((string name, string description) in GpuOptions.Fusions.Where(f => !_gpu.Options.DisabledFusions.Contains(f.Name)))
            {
                using GpuBackend without = _gpu.With(_gpu.Options with { DisabledFusions = [.. _gpu.Options.DisabledFusions, name] });
                prices.Add(Price((name, description, dry.Applied[name]), workload.Graphs.Step, without, options.DisabledFusions, cancellationToken));
            }
        }

        return prices;
    }

    private FusionPrice Price((string Name, string Description, int Applied) fusion, Graph step, Backend backend, IReadOnlyCollection<string> disabled, CancellationToken cancellationToken)
    {
        Plan plan = backend.Plan(step);
        (Timing With, Timing Without)? times = null;
        if (options.Price && !device.CountsOnly)
        {
            options.Progress($"without {fusion.Name}");
            using GuidedWorkload without = new(backend, model, options.Batch, disabled);
            times = new RepeatRule(options.TimeLimit).MeasureInTurns(() => workload.Time(cancellationToken), () => without.Time(cancellationToken), cancellationToken);
        }

        int? kernels = null;
        if (backend is GpuBackend gpu)
        {
            using DryRunBackend dry = Lower(step, gpu);
            kernels = dry.Calls.Count;
        }

        return new FusionPrice(
            fusion.Name, fusion.Description, fusion.Applied, plan.Launches.Count, kernels, plan.Graph.Cost.Bytes, plan.Memory.ArenaBytes, times?.Without.MedianMs, times?.With.MedianMs);
    }

    // As that backend would, on its device, without touching it.
    private static DryRunBackend Lower(Graph step, GpuBackend gpu)
    {
        DryRunBackend dry = new(gpu.Options, gpu.Driver.Architecture, gpu.Driver.Multiprocessors, gpu.Driver.MaximumSharedBytes);
        using Executor executor = dry.Compile(dry.Plan(step), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        return dry;
    }
}
