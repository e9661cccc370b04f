using Kernels.Diffusion;

namespace Kernels.Measurement;

/// <summary>The parts of a guided step, by the names of their nodes.</summary>
public static class StepParts
{
    /// <summary>The parts in the order in which they are reported.</summary>
    public static IReadOnlyList<string> All { get; } = ["unet", "classifier forward", "classifier backward", "sampler"];

    /// <summary>The part that a node belongs to.</summary>
    /// <param name="node">A node of a guided step.</param>
    public static string Of(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Name.StartsWith(GuidedStep.DiffusionPrefix, StringComparison.Ordinal) ? All[0]
            : !node.Name.StartsWith(GuidedStep.ClassifierPrefix, StringComparison.Ordinal) ? All[3]
            : node.Name.Contains("/gradient", StringComparison.Ordinal) ? All[2]
            : All[1];
    }

    /// <summary>The time of each part: the sum over its launches of their median over some runs.</summary>
    /// <param name="workload">The step.</param>
    /// <param name="repeats">Number of runs.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    public static IReadOnlyDictionary<string, double> Measure(GuidedWorkload workload, int repeats, CancellationToken cancellationToken = default)
    {
        double[] medians = LaunchTimes.Measure(workload, repeats, least: false, whole: false, cancellationToken).Ms;
        return All.ToDictionary(part => part, part => workload.Plan.Launches.Where(l => Of(l.Node) == part).Sum(l => medians[l.Index]));
    }
}

/// <summary>How long each launch of a step takes.</summary>
/// <param name="Ms">The time of every launch over some runs: its median, or its least.</param>
/// <param name="RunMs">The median of the runs' totals. Where a machine now and then does something else, it is more than the sum of the medians.</param>
/// <param name="WholeMs">The median of as many runs of the step as a whole, made in turns with the others; 0 if there were none.</param>
internal sealed record LaunchTimes(double[] Ms, double RunMs, double WholeMs)
{
    /// <summary>Measures.</summary>
    /// <param name="workload">The step.</param>
    /// <param name="repeats">Number of runs, at least 1.</param>
    /// <param name="least">Whether the least of the runs counts rather than their median: on a busy machine, the time without what others took.</param>
    /// <param name="whole">Whether the step is measured as a whole too.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    public static LaunchTimes Measure(GuidedWorkload workload, int repeats, bool least, bool whole, CancellationToken cancellationToken)
    {
        int launches = workload.Plan.Launches.Count;
        double[][] runs = new double[repeats][];
        double[] wholes = new double[repeats];
        for (int i = 0; i < repeats; i++)
        {
            wholes[i] = whole ? workload.Time(cancellationToken) : 0;
            workload.Profile(runs[i] = new double[launches], cancellationToken);
        }

        double[] times = [.. Enumerable.Range(0, launches).Select(launch => least ? runs.Min(r => r[launch]) : Statistics.Median(runs.Select(r => r[launch]).ToArray()))];
        return new LaunchTimes(times, Statistics.Median(runs.Select(r => r.Sum()).ToArray()), Statistics.Median(wholes));
    }
}
