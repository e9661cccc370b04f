namespace Kernels.Passes;

/// <summary>Reverse-mode differentiation with respect to an input.</summary>
/// <remarks>
/// Guidance needs ∇ₓ log p(y|x) and nothing else, so only activations carry gradients: weights are constants, and nodes that do not lie between the input
/// and the scalar are left alone.
/// </remarks>
public static class Gradient
{
    /// <summary>Appends the nodes that compute scale · ∇ Σ y.</summary>
    /// <param name="graph">A graph that computes <paramref name="y"/>.</param>
    /// <param name="y">The tensor whose sum is differentiated, any shape.</param>
    /// <param name="x">The input to differentiate with respect to.</param>
    /// <param name="scale">A factor on the gradient: the classifier scale.</param>
    /// <param name="outputName">Name of the new output, of the shape of <paramref name="x"/>.</param>
    /// <returns>The graph with the gradient as a further output.</returns>
    /// <exception cref="GraphException"><paramref name="y"/> does not depend on <paramref name="x"/>, or a node between them has no rule.</exception>
    public static Graph Append(Graph graph, Tensor y, Tensor x, float scale = 1, string outputName = "gradient")
    {
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentNullException.ThrowIfNull(y);
        ArgumentNullException.ThrowIfNull(x);
        if (!x.DType.IsFloatingPoint())
        {
            throw new GraphException($"there is no gradient with respect to '{x.Name}', which holds integers");
        }

        HashSet<Tensor> active = Reach(graph, x);
        if (!active.Contains(y))
        {
            throw new GraphException($"'{y.Name}' does not depend on '{x.Name}': there is no gradient to take");
        }

        GraphBuilder builder = GraphBuilder.From(graph);
        GradientScope scope = new(builder, active);
        scope.Seed(y, builder.Add($"{y.Name}/gradient", new Ops.Fill(y.Shape, scale)));
        for (int i = graph.Nodes.Count - 1; i >= 0; i--)
        {
            Node node = graph.Nodes[i];
            if (node.Inputs.Any(active.Contains) && node.Outputs.Any(t => scope.Of(t) is not null))
            {
                scope.Differentiate(node);
            }
        }

        builder.Output(outputName, scope.Of(x) ?? throw new GraphException($"'{y.Name}' depends on '{x.Name}' through nothing that carries a gradient"));
        return builder.Build();
    }

    private static HashSet<Tensor> Reach(Graph graph, Tensor x)
    {
        HashSet<Tensor> active = [x];
        foreach (Node node in graph.Nodes)
        {
            if (node.Inputs.Any(active.Contains))
            {
                active.UnionWith(node.Outputs.Where(t => t.DType.IsFloatingPoint()));
            }
        }

        return active;
    }
}

/// <summary>What a gradient rule sees: the gradients of a node's outputs, and the place to put those of its inputs.</summary>
public sealed class GradientScope
{
    private readonly GraphBuilder _builder;
    private readonly HashSet<Tensor> _active;
    private readonly Dictionary<Tensor, Tensor> _gradients = [];
    private Node? _node;

    internal GradientScope(GraphBuilder builder, HashSet<Tensor> active)
    {
        _builder = builder;
        _active = active;
    }

    /// <summary>The gradient of an output; null if nothing differentiated depends on it.</summary>
    /// <param name="output">An output of the node.</param>
    public Tensor? Of(Tensor output) => _gradients.GetValueOrDefault(output);

    /// <summary>Whether an input lies between the differentiated input and the scalar.</summary>
    /// <param name="input">An input of the node.</param>
    public bool Wants(Tensor input) => _active.Contains(input);

    /// <summary>Adds a node to the backward pass.</summary>
    /// <param name="op">What it computes.</param>
    /// <param name="inputs">What it reads: gradients and tensors of the forward pass.</param>
    /// <returns>Its first output.</returns>
    public Tensor Emit(Op op, params ReadOnlySpan<Tensor> inputs) => _builder.Add($"{_node?.Name}/gradient", op, inputs);

    /// <summary>Adds a node with several outputs to the backward pass.</summary>
    /// <param name="op">What it computes.</param>
    /// <param name="inputs">What it reads.</param>
    public Node EmitNode(Op op, params ReadOnlySpan<Tensor> inputs) => _builder.AddNode($"{_node?.Name}/gradient", op, inputs);

    /// <summary>Adds to the gradient of an input; ignored if the input wants none.</summary>
    /// <param name="input">An input of the node.</param>
    /// <param name="gradient">A gradient of its shape.</param>
    public void Accumulate(Tensor input, Tensor gradient)
    {
        if (Wants(input))
        {
            _gradients[input] = _gradients.TryGetValue(input, out Tensor? sum) ? Emit(new Ops.Add(), sum, gradient) : gradient;
        }
    }

    /// <summary>Checks that nothing between the differentiated input and the scalar enters the node where it takes a constant.</summary>
    /// <param name="input">An input of the node.</param>
    /// <param name="what">Its name in the op's notation.</param>
    /// <exception cref="GraphException">The input depends on the one that is differentiated.</exception>
    public void ExpectConstant(Tensor input, string what)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (Wants(input))
        {
            throw new GraphException($"{_node?.Op.Name} '{_node?.Name}': no gradient is carried to its {what}, '{input.Name}', which must be constant");
        }
    }

    internal void Seed(Tensor tensor, Tensor gradient) => _gradients.Add(tensor, gradient);

    internal void Differentiate(Node node)
    {
        _node = node;
        node.Op.Gradient(this, node);
    }
}
