namespace Kernels;

/// <summary>Collects nodes into a <see cref="Graph"/>. Names are module paths; <see cref="Scope"/> nests them.</summary>
public sealed class GraphBuilder
{
    private readonly List<Node> _nodes = [];
    private readonly List<Tensor> _inputs = [];
    private readonly Dictionary<string, Tensor> _weights = [];
    private readonly Dictionary<string, Tensor> _outputs = [];
    private readonly Dictionary<Tensor, Tensor> _updates = [];
    private readonly HashSet<string> _names = [];
    private string _prefix = "";

    /// <summary>Puts a prefix before the names of nodes and weights until the result is disposed.</summary>
    /// <param name="prefix">For instance <c>diffusion/</c> or <c>input_blocks.3.0.</c>, separator included.</param>
    public ScopeToken Scope(string prefix)
    {
        string outer = _prefix;
        _prefix += prefix;
        return new ScopeToken(this, outer);
    }

    /// <summary>Declares an input. Its name takes no prefix.</summary>
    /// <param name="name">The name by which the caller writes it.</param>
    /// <param name="shape">The extents.</param>
    /// <param name="dtype">The element type.</param>
    public Tensor Input(string name, Shape shape, DType dtype = DType.F32)
    {
        Tensor tensor = new(name, new TensorType(shape, dtype), TensorKind.Input);
        _inputs.Add(tensor);
        _names.Add(name);
        return tensor;
    }

    /// <summary>Declares a weight under the current prefix, or returns it if it is declared already.</summary>
    /// <param name="key">The state-dict key.</param>
    /// <param name="shape">The extents it must have in the checkpoint.</param>
    /// <exception cref="GraphException">It is declared already, with another shape.</exception>
    public Tensor Weight(string key, Shape shape)
    {
        string name = _prefix + key;
        if (!_weights.TryGetValue(name, out Tensor? tensor))
        {
            _weights.Add(name, tensor = new Tensor(name, new TensorType(shape), TensorKind.Weight));
            _names.Add(name);
        }

        if (tensor.Shape != shape)
        {
            throw new GraphException($"weight '{name}' is declared as {tensor.Shape} and as {shape}");
        }

        return tensor;
    }

    /// <summary>Adds a node and returns its first output.</summary>
    /// <param name="name">Module path under the current prefix; made unique by a number if taken.</param>
    /// <param name="op">What it computes.</param>
    /// <param name="inputs">What it reads.</param>
    /// <exception cref="GraphException">The inputs do not fit the op.</exception>
    public Tensor Add(string name, Op op, params ReadOnlySpan<Tensor> inputs) => AddNode(name, op, inputs).Output;

    /// <summary>Adds a node.</summary>
    /// <param name="name">Module path under the current prefix; made unique by a number if taken.</param>
    /// <param name="op">What it computes.</param>
    /// <param name="inputs">What it reads.</param>
    /// <exception cref="GraphException">The inputs do not fit the op.</exception>
    public Node AddNode(string name, Op op, params ReadOnlySpan<Tensor> inputs)
    {
        string full = _prefix + name;
        for (int k = 2; !_names.Add(full); k++)
        {
            full = $"{_prefix}{name}~{k}";
        }

        Node node = Node.Create(full, op, inputs);
        _nodes.Add(node);
        return node;
    }

    /// <summary>Declares an output.</summary>
    /// <param name="name">The name by which the caller reads it.</param>
    /// <param name="tensor">The tensor.</param>
    /// <param name="updates">The input whose values it replaces, if any.</param>
    /// <exception cref="GraphException">There is an output of the name.</exception>
    public void Output(string name, Tensor tensor, Tensor? updates = null)
    {
        if (!_outputs.TryAdd(name, tensor))
        {
            throw new GraphException($"two outputs are named '{name}'");
        }

        if (updates is not null)
        {
            _updates.Add(tensor, updates);
        }
    }

    /// <summary>Appends the nodes and outputs of a finished graph, as a base for further ones.</summary>
    /// <param name="graph">The graph to continue.</param>
    /// <param name="withoutOutputs">Whether to leave its outputs behind.</param>
    public static GraphBuilder From(Graph graph, bool withoutOutputs = false)
    {
        ArgumentNullException.ThrowIfNull(graph);
        GraphBuilder builder = new();
        builder._nodes.AddRange(graph.Nodes);
        builder._inputs.AddRange(graph.Inputs);
        foreach (Tensor tensor in graph.Inputs.Concat(graph.Weights).Concat(graph.Nodes.SelectMany(n => n.Outputs)))
        {
            builder._names.Add(tensor.Name);
        }

        foreach (Tensor weight in graph.Weights)
        {
            builder._weights.Add(weight.Name, weight);
        }

        if (withoutOutputs)
        {
            return builder;
        }

        foreach ((string name, Tensor tensor) in graph.Outputs)
        {
            builder._outputs.Add(name, tensor);
        }

        foreach ((Tensor output, Tensor input) in graph.Updates)
        {
            builder._updates.Add(output, input);
        }

        return builder;
    }

    /// <summary>Verifies and returns the graph.</summary>
    /// <exception cref="GraphException">The graph is not well formed.</exception>
    public Graph Build() =>
        new([.. _nodes], [.. _inputs], new Dictionary<string, Tensor>(_outputs), new Dictionary<Tensor, Tensor>(_updates));

    /// <summary>Ends a <see cref="Scope"/>.</summary>
    public readonly struct ScopeToken : IDisposable
    {
        private readonly GraphBuilder _builder;
        private readonly string _outer;

        internal ScopeToken(GraphBuilder builder, string outer)
        {
            _builder = builder;
            _outer = outer;
        }

        /// <summary>Restores the prefix that held before.</summary>
        public void Dispose() => _builder._prefix = _outer;
    }
}
