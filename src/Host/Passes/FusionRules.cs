using Kernels.Ops;

namespace Kernels.Passes;

/// <summary>Group-norm with what surrounds it: x → GroupNorm → ScaleShift → SiLU, and the same chain backwards.</summary>
internal static class GroupNormRules
{
    public static FusionMatch? ScaleShift(Graph graph, Node node) =>
        node.Op is Ops.ScaleShift
        && graph.OnlyFor(node.Inputs[0], node) is { Op: GroupNorm { ScaleShift: false, SiLU: false } op } norm
        && StatisticsCanWait(graph, norm, node)
            ? new FusionMatch(
                new Node(node.Name, op with { ScaleShift = true }, [.. norm.Inputs, node.Inputs[1]], [node.Output, norm.Outputs[1]]),
                norm)
            : null;

    public static FusionMatch? SiLU(Graph graph, Node node) =>
        node.Op is Activation { Kind: ActivationKind.SiLU }
        && graph.OnlyFor(node.Inputs[0], node) is { Op: GroupNorm { SiLU: false } op } norm
        && StatisticsCanWait(graph, norm, node)
            ? new FusionMatch(new Node(node.Name, op with { SiLU = true }, norm.Inputs, [node.Output, norm.Outputs[1]]), norm)
            : null;

    /// <summary>dy → SiLU′ → (1 + scale) → GroupNormGradient, either of the first two missing; the pre-activation is computed again from x.</summary>
    public static FusionMatch? Gradient(Graph graph, Node node)
    {
        if (node.Op is not GroupNormGradient { HasForwardParameters: false } op || ForwardOf(graph, node) is not Node norm)
        {
            return null;
        }

        Node? scaleShift = graph.OnlyFor(node.Inputs[0], node) is { Op: ScaleShiftGradient } s ? s : null;
        Node first = scaleShift ?? node;
        Node? silu = graph.OnlyFor(first.Inputs[0], first) is { Op: ActivationGradient { Kind: ActivationKind.SiLU } } a ? a : null;

        // SiLU's operand must be the very chain that is to be computed again: the norm, through scale and shift if the gradient went through them.
        if (silu is not null && PreActivation(graph, norm, scaleShift) != silu.Inputs[1])
        {
            silu = null;
        }

        if (scaleShift is null && silu is null)
        {
            return null;
        }

        Tensor dy = (silu ?? scaleShift!).Inputs[0];
        List<Tensor> inputs = [dy, .. node.Inputs.Skip(1), norm.Inputs[2]];
        if (scaleShift is not null)
        {
            inputs.Add(scaleShift.Inputs[1]);
        }

        Node fused = new(node.Name, op with { ScaleShift = scaleShift is not null, SiLU = silu is not null }, inputs, node.Outputs);
        return new FusionMatch(fused, [.. new[] { scaleShift, silu }.OfType<Node>()]);
    }

    // The fused node stands where the last one stood, and writes the statistics only there.
    private static bool StatisticsCanWait(Graph graph, Node norm, Node last) =>
        graph.Consumers(norm.Outputs[1]).All(reader => graph.IndexOf(reader) > graph.IndexOf(last));

    private static Node? ForwardOf(Graph graph, Node gradient) =>
        graph.Producer(gradient.Inputs[2]) is { Op: GroupNorm { ScaleShift: false, SiLU: false } } norm && norm.Inputs[0] == gradient.Inputs[1] ? norm : null;

    private static Tensor? PreActivation(Graph graph, Node norm, Node? scaleShiftGradient) =>
        scaleShiftGradient is null
            ? norm.Output
            : graph.Consumers(norm.Output).FirstOrDefault(n => n.Op is Ops.ScaleShift && n.Inputs[1] == scaleShiftGradient.Inputs[1])?.Output;
}

/// <summary>Convolution and linear layers with what follows them.</summary>
internal static class ConvolutionRules
{
    public static FusionMatch? Bias(Graph graph, Node node)
    {
        if (node.Op is not AddBias || graph.OnlyFor(node.Inputs[0], node) is not Node producer)
        {
            return null;
        }

        Op? fused = producer.Op switch
        {
            Convolution { Bias: false, Residual: false } op => op with { Bias = true },
            Linear { Bias: false, Residual: false } op => op with { Bias = true },
            _ => null,
        };
        return fused is null ? null : new FusionMatch(new Node(node.Name, fused, [.. producer.Inputs, node.Inputs[1]], node.Outputs), producer);
    }

    public static FusionMatch? Residual(Graph graph, Node node)
    {
        if (node.Op is not Add)
        {
            return null;
        }

        // Where both operands could take the other, the later one does: its residual has been waiting, and the earlier result is needed anyway.
        foreach (int i in FirstIsLater(graph, node) ? new[] { 0, 1 } : [1, 0])
        {
            if (graph.OnlyFor(node.Inputs[i], node) is Node producer && WithResidual(producer.Op) is Op fused)
            {
                return new FusionMatch(new Node(node.Name, fused, [.. producer.Inputs, node.Inputs[1 - i]], node.Outputs), producer);
            }
        }

        return null;
    }

    /// <summary>Upsample2x → Convolution: the convolution addresses the small image, and the large one is never written.</summary>
    public static FusionMatch? Upsample(Graph graph, Node node) =>
        node.Op is Convolution { Upsample: false } op
        && graph.OnlyFor(node.Inputs[0], node) is { Op: Upsample2x { Factor: 1 } upsample } producer
        && upsample.Height % 2 == 0
        && upsample.Width % 2 == 0
            ? new FusionMatch(new Node(node.Name, op with { Upsample = true }, [producer.Inputs[0], .. node.Inputs.Skip(1)], node.Outputs), producer)
            : null;

    private static Op? WithResidual(Op op) => op switch
    {
        Convolution { Residual: false } c => c with { Residual = true },
        Linear { Residual: false } l => l with { Residual = true },
        ConvolutionGradient { Residual: false } c => c with { Residual = true },
        LinearGradient { Residual: false } l => l with { Residual = true },
        _ => null,
    };

    private static bool FirstIsLater(Graph graph, Node add) =>
        graph.Producer(add.Inputs[0]) is Node first && (graph.Producer(add.Inputs[1]) is not Node second || graph.IndexOf(first) > graph.IndexOf(second));
}
