namespace Kernels;

/// <summary>
/// A static-shape dataflow graph: nodes in an order in which they can run, with named inputs and outputs. Immutable; a pass returns another graph.
/// </summary>
public sealed class Graph
{
    private readonly Dictionary<Tensor, Node> _producers = [];
    private readonly Dictionary<Tensor, List<Node>> _consumers = [];
    private readonly Dictionary<Node, int> _positions = [];

    /// <summary>Creates and verifies a graph.</summary>
    /// <param name="nodes">The nodes, each after those it reads from.</param>
    /// <param name="inputs">Tensors that the caller writes.</param>
    /// <param name="outputs">Name to tensor: what the caller reads.</param>
    /// <param name="updates">
    /// Output tensor to input tensor: the output replaces the input's values, in the same memory, so that the next run reads them (x_{t-1} becomes x_t).
    /// </param>
    /// <exception cref="GraphException">The graph is not well formed: see <see cref="Verify"/>.</exception>
    public Graph(
        IReadOnlyList<Node> nodes,
        IReadOnlyList<Tensor> inputs,
        IReadOnlyDictionary<string, Tensor> outputs,
        IReadOnlyDictionary<Tensor, Tensor>? updates = null)
    {
        Nodes = nodes;
        Inputs = inputs;
        Outputs = outputs;
        Updates = updates ?? new Dictionary<Tensor, Tensor>();
        Verify();
        Weights = [.. Nodes.SelectMany(n => n.Inputs).Where(t => t.Kind == TensorKind.Weight).Distinct()];
    }

    /// <summary>The nodes, each after those it reads from.</summary>
    public IReadOnlyList<Node> Nodes { get; }

    /// <summary>Tensors that the caller writes.</summary>
    public IReadOnlyList<Tensor> Inputs { get; }

    /// <summary>Tensors that the caller reads, by name.</summary>
    public IReadOnlyDictionary<string, Tensor> Outputs { get; }

    /// <summary>Outputs that replace an input's values in the same memory.</summary>
    public IReadOnlyDictionary<Tensor, Tensor> Updates { get; }

    /// <summary>Tensors that a checkpoint supplies, in order of first use.</summary>
    public IReadOnlyList<Tensor> Weights { get; }

    /// <summary>The sum of the nodes' costs.</summary>
    public Cost Cost => Nodes.Aggregate(default(Cost), (sum, node) => sum + node.Cost);

    /// <summary>Nodes that launch something: all but views.</summary>
    public int Launches => Nodes.Count(n => !n.Op.IsView);

    /// <summary>The node that writes a tensor; null for inputs and weights.</summary>
    /// <param name="tensor">The tensor.</param>
    public Node? Producer(Tensor tensor) => _producers.GetValueOrDefault(tensor);

    /// <summary>A node's position in <see cref="Nodes"/>.</summary>
    /// <param name="node">A node of this graph.</param>
    public int IndexOf(Node node) => _positions[node];

    /// <summary>The nodes that read a tensor, in order; one that reads it twice appears once.</summary>
    /// <param name="tensor">The tensor.</param>
    public IReadOnlyList<Node> Consumers(Tensor tensor) => _consumers.TryGetValue(tensor, out List<Node>? nodes) ? nodes : [];

    /// <summary>Finds an input by name.</summary>
    /// <param name="name">The input's name.</param>
    /// <exception cref="GraphException">There is none; the message lists those there are.</exception>
    public Tensor Input(string name)
    {
        // A plain loop: inputs are written between steps, where nothing is allocated.
        for (int i = 0; i < Inputs.Count; i++)
        {
            if (Inputs[i].Name == name)
            {
                return Inputs[i];
            }
        }

        throw new GraphException($"the graph has no input '{name}'; it has {string.Join(", ", Inputs.Select(t => t.Name))}");
    }

    /// <summary>Finds an output by name.</summary>
    /// <param name="name">The output's name.</param>
    /// <exception cref="GraphException">There is none; the message lists those there are.</exception>
    public Tensor Output(string name) =>
        Outputs.TryGetValue(name, out Tensor? tensor)
            ? tensor
            : throw new GraphException($"the graph has no output '{name}'; it has {string.Join(", ", Outputs.Keys)}");

    /// <summary>
    /// The same graph without the nodes that no output needs.
    /// </summary>
    public Graph Pruned()
    {
        HashSet<Tensor> needed = [.. Outputs.Values];
        List<Node> kept = [];
        for (int i = Nodes.Count - 1; i >= 0; i--)
        {
            if (Nodes[i].Outputs.Any(needed.Contains))
            {
                kept.Add(Nodes[i]);
                needed.UnionWith(Nodes[i].Inputs);
            }
        }

        kept.Reverse();
        return new Graph(kept, Inputs, Outputs, Updates);
    }

    /// <summary>
    /// Checks that every tensor is written once and before it is read, that names are unique, that the shapes are those that the ops infer, and that
    /// updates replace inputs of their own type, each input once.
    /// </summary>
    private void Verify()
    {
        HashSet<Tensor> known = [.. Inputs];
        Dictionary<string, Tensor> names = [];
        foreach (Tensor input in Inputs)
        {
            Require(input.Kind == TensorKind.Input, $"input '{input.Name}' is of kind {input.Kind}");
            Name(input);
        }

        foreach (Node node in Nodes)
        {
            Require(_positions.TryAdd(node, _positions.Count), $"{node.Op.Name} '{node.Name}' stands in the graph twice");
            foreach (Tensor tensor in node.Inputs)
            {
                if (tensor.Kind == TensorKind.Weight)
                {
                    known.Add(tensor);
                    Name(tensor);
                }

                Require(known.Contains(tensor), $"{node.Op.Name} '{node.Name}' reads '{tensor.Name}' before anything has written it");
                if (!_consumers.TryGetValue(tensor, out List<Node>? consumers))
                {
                    _consumers.Add(tensor, consumers = []);
                }

                if (consumers.Count == 0 || consumers[^1] != node)
                {
                    consumers.Add(node);
                }
            }

            IReadOnlyList<TensorType> types = node.Op.Infer(new OpInputs(node.Name, node.Op, node.Inputs.ToArray()));
            Require(types.Count == node.Outputs.Count, $"{node.Op.Name} '{node.Name}' has {node.Outputs.Count} outputs, the op has {types.Count}");
            foreach ((Tensor output, TensorType type) in node.Outputs.Zip(types))
            {
                Require(output.Shape == type.Shape && output.DType.Fits(type.DType), $"{node.Op.Name} '{node.Name}' writes {type}, not {output}");
                Require(known.Add(output), $"'{output.Name}' is written twice, the second time by '{node.Name}'");
                Name(output);
                _producers.Add(output, node);
            }
        }

        foreach ((string name, Tensor tensor) in Outputs)
        {
            Require(known.Contains(tensor) && tensor.Kind != TensorKind.Weight, $"nothing writes output '{name}'");
        }

        HashSet<Tensor> updated = [];
        foreach ((Tensor output, Tensor input) in Updates)
        {
            Require(updated.Add(input), $"input '{input.Name}' is updated twice, the second time by '{output.Name}'");
            Require(Outputs.Values.Contains(output) && Inputs.Contains(input), $"update '{output.Name}' -> '{input.Name}' must join an output and an input");
            Require(output.Shape == input.Shape && output.DType == input.DType, $"update {output} does not fit {input}");
        }

        void Name(Tensor tensor)
        {
            Require(names.TryAdd(tensor.Name, tensor) || names[tensor.Name] == tensor, $"two tensors are named '{tensor.Name}'");
        }

        static void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new GraphException(message);
            }
        }
    }
}
