namespace Kernels.Passes;

/// <summary>Rewrites patterns of ops into fused ops. Every rewrite has a name by which it can be switched off, counted and priced.</summary>
public static class Fusion
{
    private static readonly IReadOnlyList<FusionRule> Rules =
    [
        // The backward rules come first: they free the forward intermediates of their second reader, and only then can the forward rules absorb them.
        new("label_gradient", "Log-softmax, the choice of the label and their gradients are one op", LabelRules.Gradient),
        new("group_norm_gradient", "GroupNormGradient takes over the gradients of SiLU and scale-shift", GroupNormRules.Gradient),
        new("group_norm_scale_shift", "GroupNorm applies scale and shift", GroupNormRules.ScaleShift),
        new("group_norm_silu", "GroupNorm applies SiLU", GroupNormRules.SiLU),
        new("conv_bias", "Convolution and Linear add their bias", ConvolutionRules.Bias),
        new("conv_residual", "Convolution, Linear, their gradients and SpatialBroadcast add a residual", ConvolutionRules.Residual),
        new("conv_upsample", "Convolution reads an up-sampled input where the small one lies", ConvolutionRules.Upsample),
        new("group_norm_pool", "GroupNorm averages 2x2 blocks of its result, and GroupNormGradient spreads their gradient", GroupNormRules.Pool),
        new("group_norm_residual", "GroupNormGradient adds the gradient of another branch", GroupNormRules.Residual),
        new("residual_resampling", "A residual is doubled or halved where it is added", ResidualRules.Resample),
        new("concat_inputs", "GroupNorm and Convolution read two tensors where those lie side by side", ConcatRules.Inputs),
        new("conv_skip", "The last convolution of a block and the 1x1 convolution of its skip connection are one sum", ConvolutionRules.Skip),
    ];

    /// <summary>Name of the rewrite that computes equal expressions once, such as the SiLU of the embedding in front of every block's linear layer.</summary>
    public const string CommonSubexpression = "common_subexpression";

    /// <summary>The names of all rewrites with what they do, in the order in which they are applied.</summary>
    public static IReadOnlyList<(string Name, string Description)> All { get; } =
        [(CommonSubexpression, "Equal expressions are computed once"), .. Rules.Select(r => (r.Name, r.Description))];

    /// <summary>Applies every rewrite that is not switched off.</summary>
    /// <param name="graph">The graph, gradients appended already.</param>
    /// <param name="disabled">Names of rewrites to leave out; <c>all</c> leaves out every one.</param>
    /// <returns>A graph that computes the same outputs, without nodes that no output needs, and how often each rewrite was applied.</returns>
    /// <exception cref="ConfigurationException">A name is unknown; the message lists those there are.</exception>
    public static FusionResult Apply(Graph graph, IReadOnlyCollection<string>? disabled = null)
    {
        ArgumentNullException.ThrowIfNull(graph);
        disabled ??= [];
        CheckNames(disabled, All);
        return Apply(graph, disabled, []);
    }

    /// <summary>Checks names of rewrites to leave out.</summary>
    /// <param name="disabled">The names.</param>
    /// <param name="all">The rewrites there are.</param>
    /// <exception cref="ConfigurationException">A name is unknown; the message lists those there are.</exception>
    internal static void CheckNames(IReadOnlyCollection<string> disabled, IReadOnlyList<(string Name, string Description)> all)
    {
        foreach (string name in disabled)
        {
            if (name != "all" && all.All(f => f.Name != name))
            {
                throw new ConfigurationException($"there is no fusion '{name}'; there are all, {string.Join(", ", all.Select(f => f.Name))}");
            }
        }
    }

    /// <summary>Applies every rewrite that is not switched off, and then some of ops that the passes do not know.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="disabled">Names of rewrites to leave out, checked already.</param>
    /// <param name="further">Further rewrites.</param>
    internal static FusionResult Apply(Graph graph, IReadOnlyCollection<string> disabled, IReadOnlyList<FusionRule> further)
    {
        graph = graph.Pruned();
        Dictionary<string, int> applied = [];
        if (Enabled(CommonSubexpression))
        {
            (graph, applied[CommonSubexpression]) = ShareEqual(graph);
        }

        foreach (FusionRule rule in Rules.Concat(further).Where(r => Enabled(r.Name)))
        {
            (graph, applied[rule.Name]) = ApplyRule(graph, rule);
        }

        return new FusionResult(graph.Pruned(), applied);

        bool Enabled(string name) => !disabled.Contains(name) && !disabled.Contains("all");
    }

    /// <summary>Applies one rewrite wherever it matches.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="rule">The rewrite.</param>
    internal static Graph ApplyOne(Graph graph, FusionRule rule) => ApplyRule(graph, rule).Graph;

    private static (Graph Graph, int Count) ApplyRule(Graph graph, FusionRule rule)
    {
        // Each match replaces the last node of its pattern; the nodes before it lose their reader and are pruned. A replacement can be part of a further
        // match (a residual behind a residual), so the rule runs until it finds nothing.
        int total = 0;
        while (true)
        {
            int count = 0;
            HashSet<Node> consumed = [];
            List<Node> nodes = new(graph.Nodes.Count);
            foreach (Node node in graph.Nodes)
            {
                FusionMatch? match = rule.Match(graph, node);
                if (match is null || match.Absorbed.Any(consumed.Contains) || graph.Postpones(match, node))
                {
                    nodes.Add(node);
                    continue;
                }

                foreach (Node absorbed in match.Absorbed)
                {
                    consumed.Add(absorbed);
                    nodes.Remove(absorbed);
                }

                nodes.Add(match.Replacement);
                count++;
            }

            if (count == 0)
            {
                return (graph, total);
            }

            total += count;
            graph = new Graph(nodes, graph.Inputs, graph.Outputs, graph.Updates);
        }
    }

    private static (Graph Graph, int Count) ShareEqual(Graph graph)
    {
        Dictionary<Tensor, Tensor> same = [];
        Dictionary<Op, List<Node>> seen = [];
        List<Node> nodes = [];
        foreach (Node original in graph.Nodes)
        {
            Node node = original.Inputs.Any(same.ContainsKey)
                ? new Node(original.Name, original.Op, [.. original.Inputs.Select(t => same.GetValueOrDefault(t, t))], original.Outputs)
                : original;
            if (!seen.TryGetValue(node.Op, out List<Node>? candidates))
            {
                seen.Add(node.Op, candidates = []);
            }

            Node? twin = candidates.FirstOrDefault(c => c.Inputs.SequenceEqual(node.Inputs));
            if (twin is null || node.Outputs.Any(graph.Outputs.Values.Contains))
            {
                candidates.Add(node);
                nodes.Add(node);
                continue;
            }

            foreach ((Tensor output, Tensor kept) in node.Outputs.Zip(twin.Outputs))
            {
                same.Add(output, kept);
            }
        }

        return (new Graph(nodes, graph.Inputs, graph.Outputs, graph.Updates), graph.Nodes.Count - nodes.Count);
    }
}

/// <summary>What <see cref="Fusion"/> made of a graph.</summary>
/// <param name="Graph">The rewritten graph.</param>
/// <param name="Applied">Name of each enabled rewrite, and how often it was applied.</param>
public sealed record FusionResult(Graph Graph, IReadOnlyDictionary<string, int> Applied);

/// <summary>A rewrite: looks at a node as the last one of its pattern.</summary>
/// <param name="Name">The name by which it is switched off.</param>
/// <param name="Description">What it does.</param>
/// <param name="Match">The match that ends at a node, or null.</param>
internal sealed record FusionRule(string Name, string Description, Func<Graph, Node, FusionMatch?> Match);

/// <summary>A pattern found: the replacement stands where the last node stood, and writes the tensors that later nodes read.</summary>
/// <param name="Replacement">The fused node.</param>
/// <param name="Absorbed">The nodes in front of the last one that the replacement makes superfluous.</param>
internal sealed record FusionMatch(Node Replacement, params IReadOnlyList<Node> Absorbed)
{
    /// <summary>A node in front that the replacement reads past, and that goes when its last reader does.</summary>
    public Node? Bypassed { get; init; }
}

/// <summary>Questions that the rules ask.</summary>
internal static class FusionQueries
{
    /// <summary>The producer of a tensor if nobody but <paramref name="reader"/> needs the tensor.</summary>
    public static Node? OnlyFor(this Graph graph, Tensor tensor, Node reader) =>
        graph.Producer(tensor) is Node node
        && graph.Consumers(tensor) is [Node only] && only == reader
        && reader.Inputs.Count(t => t == tensor) == 1
        && !graph.Outputs.Values.Contains(tensor)
            ? node
            : null;

    /// <summary>
    /// Whether an absorbed node would read an input only where the last node stands, and by then the input's update has been written over it, or is just being written; unless the
    /// replacement itself makes the update, reads the input once and may work in place on it.
    /// </summary>
    public static bool Postpones(this Graph graph, FusionMatch match, Node last) =>
        graph.Updates.Any(u =>
            graph.Producer(u.Key) is Node update
            && graph.IndexOf(update) <= graph.IndexOf(last)
            && !graph.WorksInPlace(match.Replacement, u.Key, u.Value)
            && match.Absorbed.Append(match.Bypassed).OfType<Node>().Any(a => a.Inputs.Any(t => graph.Source(t) == u.Value)));

    private static bool WorksInPlace(this Graph graph, Node node, Tensor output, Tensor input)
    {
        int k = node.Outputs.TakeWhile(o => o != output).Count();
        return k < node.Outputs.Count && node.Inputs.Count(t => graph.Source(t) == input) == 1 && node.Op.InPlaceInputsOf(k).Any(i => node.Inputs[i] == input);
    }

    /// <summary>The tensor that a view, or a view of a view, shows; a tensor that is no view is its own.</summary>
    private static Tensor Source(this Graph graph, Tensor tensor)
    {
        while (graph.Producer(tensor) is { Op.IsView: true } view)
        {
            tensor = view.Inputs[0];
        }

        return tensor;
    }
}
