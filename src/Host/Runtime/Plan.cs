using System.Globalization;
using System.Text;
using Kernels.Passes;

namespace Kernels.Runtime;

/// <summary>One thing to do: a node of the graph with its place in the order of execution.</summary>
/// <param name="Index">Position in <see cref="Plan.Launches"/>.</param>
/// <param name="Node">The node.</param>
public sealed record Launch(int Index, Node Node)
{
    /// <summary>The least work it can do.</summary>
    public Cost Cost => Node.Cost;
}

/// <summary>The ordered list of launches with the place of every tensor: plain data that a backend runs and a person can read.</summary>
public sealed class Plan
{
    internal Plan(Graph graph, MemoryPlan memory, Concurrency? concurrency = null)
    {
        Graph = graph;
        Concurrency = concurrency;
        Memory = memory;
        Launches = [.. graph.Nodes.Where(n => !n.Op.IsView).Select((node, i) => new Launch(i, node))];
    }

    /// <summary>The graph as it is executed.</summary>
    public Graph Graph { get; }

    /// <summary>Which parts of the graph may run side by side; null if it runs in one line.</summary>
    public Concurrency? Concurrency { get; }

    /// <summary>Where the tensors lie.</summary>
    public MemoryPlan Memory { get; }

    /// <summary>What is done, in order.</summary>
    public IReadOnlyList<Launch> Launches { get; }

    /// <summary>Plans a graph as it stands.</summary>
    /// <param name="graph">The graph, fused or not.</param>
    /// <param name="reuseInPlace">Whether ops may write over dying inputs.</param>
    public static Plan Create(Graph graph, bool reuseInPlace = true) => new(graph, MemoryPlanner.Plan(graph, reuseInPlace));

    /// <summary>Plans a graph whose parts may run side by side.</summary>
    /// <param name="concurrency">The parts.</param>
    public static Plan Create(Concurrency concurrency)
    {
        ArgumentNullException.ThrowIfNull(concurrency);
        return new Plan(concurrency.Graph, MemoryPlanner.Plan(concurrency.Graph, reuseInPlace: true, concurrency), concurrency);
    }

    /// <summary>One line per launch: op, output shape, offset, bytes, FLOPs; then the totals.</summary>
    public string ToText()
    {
        StringBuilder text = new();
        foreach (Launch launch in Launches)
        {
            Tensor output = launch.Node.Output;
            text.AppendLine(
                CultureInfo.InvariantCulture,
                $"{launch.Index,4} {launch.Node.Op,-60} {output.Shape,-22} @{Memory.Offsets[output],-10} {launch.Cost.Bytes,12} B {launch.Cost.Flops,14} FLOP  {launch.Node.Name}");
        }

        Cost total = Graph.Cost;
        return text.AppendLine(
            CultureInfo.InvariantCulture,
            $"{Launches.Count} launches, {total.Bytes} B, {total.Flops} FLOP, arena {Memory.ArenaBytes} B (least {Memory.LeastBytes} B, unshared {Memory.UnsharedBytes} B), {Memory.InPlace} in place").ToString();
    }
}
