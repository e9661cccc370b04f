namespace Kernels.Passes;

/// <summary>
/// Decides which activations a device stores in 16 bits. Arithmetic stays in binary32 whatever the storage; kept in binary32 are the caller's inputs and outputs, statistics,
/// embeddings, and what an exact op (<see cref="Op.IsExact"/>) reads or writes.
/// </summary>
public static class ReducedStorage
{
    /// <summary>Rewrites a graph so that the activations <c>[N, …, C]</c> of chosen nodes are stored in another type.</summary>
    /// <param name="graph">The graph, fused.</param>
    /// <param name="storage">The type in which a node's activation is stored: <see cref="DType.F32"/>, <see cref="DType.F16"/> or <see cref="DType.BF16"/>.</param>
    /// <returns>The same graph with other element types.</returns>
    public static Graph Apply(Graph graph, Func<Node, DType> storage)
    {
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentNullException.ThrowIfNull(storage);
        HashSet<Tensor> exact = Exact(graph);
        Dictionary<Tensor, Tensor> replaced = [];
        List<Node> nodes = [];
        foreach (Node node in graph.Nodes)
        {
            DType dtype = node.Op.IsView ? Of(node.Inputs[0]).DType : exact.Contains(node.Output) ? DType.F32 : storage(node);
            if (dtype != node.Output.DType && node.Output.DType == DType.F32)
            {
                replaced.Add(node.Output, new Tensor(node.Output.Name, new TensorType(node.Output.Shape, dtype), TensorKind.Value));
            }

            nodes.Add(new Node(node.Name, node.Op, [.. node.Inputs.Select(Of)], [.. node.Outputs.Select(Of)]));
        }

        return new Graph(
            nodes,
            graph.Inputs,
            graph.Outputs.ToDictionary(p => p.Key, p => Of(p.Value)),
            graph.Updates.ToDictionary(p => Of(p.Key), p => Of(p.Value)));

        Tensor Of(Tensor tensor) => replaced.GetValueOrDefault(tensor, tensor);
    }

    private static HashSet<Tensor> Exact(Graph graph)
    {
        HashSet<Tensor> exact = [.. graph.Outputs.Values];
        for (int i = graph.Nodes.Count - 1; i >= 0; i--)
        {
            Node node = graph.Nodes[i];

            // [N, C] and smaller is embeddings, logits, scalars: nothing to save. A view is what it is a view of.
            if (node.Op.IsExact || (!node.Op.IsView && node.Output.Shape.Rank < 3))
            {
                exact.Add(node.Output);
            }

            if (node.Op.IsExact)
            {
                exact.UnionWith(node.Inputs);
            }
            else if (node.Op.IsView && exact.Contains(node.Output))
            {
                exact.Add(node.Inputs[0]);
            }
        }

        return exact;
    }
}
