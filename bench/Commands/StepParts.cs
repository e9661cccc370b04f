using Kernels.Bench.Workloads;
using Kernels.Diffusion;

namespace Kernels.Bench.Commands;

/// <summary>The parts of a guided step, by the names of their nodes.</summary>
internal static class StepParts
{
    /// <summary>The parts in the order in which they are reported.</summary>
    public static IReadOnlyList<string> All { get; } = ["unet", "classifier forward", "classifier backward", "sampler"];

    /// <summary>The part that a node belongs to.</summary>
    /// <param name="node">A node of a guided step.</param>
    public static string Of(Node node) =>
        node.Name.StartsWith(GuidedStep.DiffusionPrefix, StringComparison.Ordinal) ? All[0]
        : !node.Name.StartsWith(GuidedStep.ClassifierPrefix, StringComparison.Ordinal) ? All[3]
        : node.Name.Contains("/gradient", StringComparison.Ordinal) ? All[2]
        : All[1];

    /// <summary>The time of each part: the sum over its launches of their median over some runs.</summary>
    /// <param name="workload">The step.</param>
    /// <param name="repeats">Number of runs.</param>
    public static IReadOnlyList<(string Part, double Milliseconds)> Measure(GuidedWorkload workload, int repeats)
    {
        double[] medians = LaunchTimes.Measure(workload, repeats, least: false);
        return [.. All.Select(part => (part, workload.Plan.Launches.Where(l => Of(l.Node) == part).Sum(l => medians[l.Index])))];
    }
}

/// <summary>How long each launch of a step takes.</summary>
internal static class LaunchTimes
{
    /// <summary>The time of every launch over some runs, in milliseconds.</summary>
    /// <param name="workload">The step.</param>
    /// <param name="repeats">Number of runs, at least 1.</param>
    /// <param name="least">Whether the least of the runs counts rather than their median: on a busy machine, the time without what others took.</param>
    public static double[] Measure(GuidedWorkload workload, int repeats, bool least)
    {
        int launches = workload.Plan.Launches.Count;
        double[][] runs = new double[repeats][];
        for (int i = 0; i < repeats; i++)
        {
            workload.Profile(runs[i] = new double[launches]);
        }

        return [.. Enumerable.Range(0, launches).Select(launch => least ? runs.Min(r => r[launch]) : Statistics.Median(runs.Select(r => r[launch]).ToArray()))];
    }
}
