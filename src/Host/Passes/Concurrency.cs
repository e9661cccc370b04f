using System.Collections;

namespace Kernels.Passes;

/// <summary>
/// Two parts of a graph that do not depend on each other and may run side by side: in a guided step the UNet and the classifier with its gradient, which meet in the sampler's update.
/// </summary>
/// <param name="Graph">The graph in this order: what both parts need, the side, what does not depend on the side, the rest. Any node may still run where it stands.</param>
/// <param name="Fork">Position of the first node of the side: what stands before it is done before the parts begin.</param>
/// <param name="Join">Position of the first node that reads what the side made.</param>
/// <param name="Side">The nodes of the side, the cheaper part; they stand at <paramref name="Fork"/> and behind.</param>
public sealed record Concurrency(Graph Graph, int Fork, int Join, IReadOnlySet<Node> Side)
{
    // A part that is a hundredth of the whole gains less than two streams cost.
    private const double LeastShare = 0.01;

    /// <summary>Whether a node runs while the other part may be running.</summary>
    /// <param name="position">Its position in the graph.</param>
    public bool Contains(int position) => position >= Fork && position < Join;

    /// <summary>Finds the node whose inputs bring the most work together that could have been done at the same time.</summary>
    /// <param name="graph">The graph.</param>
    /// <returns>The parts; null if the graph is one chain.</returns>
    public static Concurrency? Find(Graph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        BitArray[] ancestors = Ancestors(graph);
        long[] work = [.. graph.Nodes.Select(n => n.Cost.Flops + n.Cost.Bytes)];
        (long Work, BitArray Side, BitArray Other) best = ((long)(LeastShare * work.Sum()), new BitArray(0), new BitArray(0));
        foreach (Node node in graph.Nodes)
        {
            BitArray[] inputs = [.. node.Inputs.Select(graph.Producer).OfType<Node>().Distinct().Select(n => ancestors[graph.IndexOf(n)])];
            for (int i = 0; i < inputs.Length; i++)
            {
                for (int j = 0; j < i; j++)
                {
                    (long a, long b) = (WorkOf(inputs[i], inputs[j]), WorkOf(inputs[j], inputs[i]));
                    if (Math.Min(a, b) > best.Work)
                    {
                        best = a < b ? (a, inputs[i], inputs[j]) : (b, inputs[j], inputs[i]);
                    }
                }
            }
        }

        return best.Side.Length == 0 ? null : Arrange(graph, best.Side, best.Other);

        long WorkOf(BitArray set, BitArray without)
        {
            long sum = 0;
            for (int k = 0; k < set.Length; k++)
            {
                sum += set[k] && !without[k] ? work[k] : 0;
            }

            return sum;
        }
    }

    private static Concurrency? Arrange(Graph graph, BitArray sideAndShared, BitArray other)
    {
        List<Node> shared = [], side = [], main = [], last = [];

        // What writes over an input comes after all who read it, and so does what reads that.
        HashSet<Tensor> late = [.. graph.Updates.Keys];
        for (int i = 0; i < graph.Nodes.Count; i++)
        {
            Node node = graph.Nodes[i];
            bool updates = node.Outputs.Any(graph.Updates.ContainsKey);
            if (updates && sideAndShared[i])
            {
                return null;
            }

            List<Node> part = sideAndShared[i] ? other[i] ? shared : side : updates || node.Inputs.Any(late.Contains) ? last : main;
            part.Add(node);
            if (part == side || part == last)
            {
                late.UnionWith(node.Outputs);
            }
        }

        Graph arranged = new([.. shared, .. side, .. main, .. last], graph.Inputs, graph.Outputs, graph.Updates);
        return new Concurrency(arranged, shared.Count, shared.Count + side.Count + main.Count, side.ToHashSet());
    }

    // Every node counts among its own ancestors.
    private static BitArray[] Ancestors(Graph graph)
    {
        BitArray[] ancestors = new BitArray[graph.Nodes.Count];
        for (int i = 0; i < ancestors.Length; i++)
        {
            BitArray set = new(ancestors.Length) { [i] = true };
            foreach (Node producer in graph.Nodes[i].Inputs.Select(graph.Producer).OfType<Node>().Distinct())
            {
                set.Or(ancestors[graph.IndexOf(producer)]);
            }

            ancestors[i] = set;
        }

        return ancestors;
    }
}
