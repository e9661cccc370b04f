using System.Globalization;
using Kernels.Backends.Cpu;
using Kernels.Bench.Workloads;
using Kernels.Runtime;

namespace Kernels.Bench.Commands;

/// <summary>Where the time of a guided step goes: launches grouped by op, by op and shape, or one by one.</summary>
internal static class ProfileCommand
{
    /// <summary>How launches may be grouped.</summary>
    public static IReadOnlyList<string> Groupings { get; } = ["op", "shape", "launch"];

    /// <summary>Measures and prints a table, slowest group first.</summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="repeats">Number of runs.</param>
    /// <param name="threads">Number of threads; null for one per core.</param>
    /// <param name="weights">A file of weights, or null.</param>
    /// <param name="grouping">One of <see cref="Groupings"/>.</param>
    /// <param name="least">Whether the least of the runs counts rather than their median.</param>
    /// <param name="disabledFusions">Rewrites to leave out.</param>
    public static void Run(
        BenchModel model, int batch, int repeats, int? threads, string? weights, string grouping, bool least, IReadOnlyCollection<string> disabledFusions)
    {
        using CpuBackend backend = new(threads);
        using GuidedWorkload workload = new(backend, model, batch, weights, disabledFusions);
        for (int i = 0; i < 2; i++)
        {
            workload.Run();
        }

        double[] times = LaunchTimes.Measure(workload, repeats, least);
        double total = times.Sum();
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{model.Name}, batch {batch}, {backend.Name}: {total:F2} ms in {times.Length} launches (sum of their {(least ? "least" : "median")} times over {repeats} runs)"));
        Console.WriteLine($"{"ms",10} {"share",7} {"count",5} {"GFLOP/s",9} {"GB/s",7}  {grouping}");
        foreach (IGrouping<string, Launch> group in workload.Plan.Launches.GroupBy(l => Key(l, grouping)).OrderByDescending(Sum))
        {
            Cost cost = group.Aggregate(default(Cost), (sum, launch) => sum + launch.Cost);
            double ms = Sum(group);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{ms,10:F3} {ms / total,7:P1} {group.Count(),5} {cost.Flops / ms / 1e6,9:F1} {cost.Bytes / ms / 1e6,7:F1}  {group.Key}"));
        }

        double Sum(IEnumerable<Launch> launches) => launches.Sum(l => times[l.Index]);
    }

    private static string Key(Launch launch, string grouping)
    {
        Node node = launch.Node;
        string what = string.Join(", ", node.Inputs.Take(node.Op.Name == "Concat" ? 2 : node.Op.Name.StartsWith("Conv", StringComparison.Ordinal) ? 2 : 1).Select(t => t.Shape));
        return grouping switch
        {
            "op" => $"{StepParts.Of(node),-19} {node.Op.Name}",
            "shape" => $"{node.Op} {what} -> {node.Output.Shape}",
            _ => $"{node.Name}: {node.Op} {what} -> {node.Output.Shape}",
        };
    }
}
