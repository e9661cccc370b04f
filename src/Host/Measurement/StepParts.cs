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
        double[] medians = LaunchTimes.Measure(workload, repeats, least: false, cancellationToken);
        return All.ToDictionary(part => part, part => workload.Plan.Launches.Where(l => Of(l.Node) == part).Sum(l => medians[l.Index]));
    }
}

/// <summary>How long each launch of a step takes.</summary>
internal static class LaunchTimes
{
    /// <summary>The time of every launch over some runs, in milliseconds.</summary>
    /// <param name="workload">The step.</param>
    /// <param name="repeats">Number of runs, at least 1.</param>
    /// <param name="least">Whether the least of the runs counts rather than their median: on a busy machine, the time without what others took.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    public static double[] Measure(GuidedWorkload workload, int repeats, bool least, CancellationToken cancellationToken)
    {
        int launches = workload.Plan.Launches.Count;
        double[][] runs = new double[repeats][];
        for (int i = 0; i < repeats; i++)
        {
            workload.Profile(runs[i] = new double[launches], cancellationToken);
        }

        return [.. Enumerable.Range(0, launches).Select(launch => least ? runs.Min(r => r[launch]) : Statistics.Median(runs.Select(r => r[launch]).ToArray()))];
    }
}
