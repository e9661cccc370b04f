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

    /// <summary>GroupNorm → Pool2x, and backwards Upsample2x of a quarter → GroupNormGradient.</summary>
    public static FusionMatch? Pool(Graph graph, Node node) => node.Op switch
    {
        Pool2x { Factor: 0.25f } when graph.OnlyFor(node.Inputs[0], node) is { Op: GroupNorm { Pool: false, TwoInputs: false } op } norm
            && Pooling.Halves(norm.Output.Shape) && StatisticsCanWait(graph, norm, node) =>
            new FusionMatch(new Node(node.Name, op with { Pool = true }, norm.Inputs, [node.Output, norm.Outputs[1]]), norm),
        GroupNormGradient { Pool: false } op when graph.OnlyFor(node.Inputs[0], node) is Node spread && ResidualRules.IsPoolGradient(spread) =>
            new FusionMatch(new Node(node.Name, op with { Pool = true }, [spread.Inputs[0], .. node.Inputs.Skip(1)], node.Outputs), spread),
        _ => null,
    };

    /// <summary>GroupNormGradient → Add: the gradients of two branches that meet in front of a norm.</summary>
    public static FusionMatch? Residual(Graph graph, Node node)
    {
        foreach (int i in node.Op is Add ? new[] { 1, 0 } : [])
        {
            if (graph.OnlyFor(node.Inputs[i], node) is { Op: GroupNormGradient { Residual: false } op } gradient)
            {
                return new FusionMatch(new Node(node.Name, op with { Residual = true }, [.. gradient.Inputs, node.Inputs[1 - i]], node.Outputs), gradient);
            }
        }

        return null;
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

    /// <summary>Two convolutions of which one is the residual of the other, and one has a window of 1x1: the skip connection of a block that changes its channels.</summary>
    public static FusionMatch? Skip(Graph graph, Node node)
    {
        if (node.Op is not Convolution { Bias: true, Residual: true, ResidualResampling: Resampling.None } op
            || graph.OnlyFor(node.Inputs[op.ResidualInput], node) is not { Op: Convolution { Bias: true, Residual: false } other } producer)
        {
            return null;
        }

        Tensor[] own = [.. node.Inputs.Where((_, i) => i != op.ResidualInput)];
        return IsSkip(op, node) && IsMain(other)
            ? new FusionMatch(new Node(node.Name, new ConvolutionSkip(other.Padding, op.TwoInputs), [.. producer.Inputs, .. own], node.Outputs), producer)
            : IsSkip(other, producer) && IsMain(op)
                ? new FusionMatch(new Node(node.Name, new ConvolutionSkip(op.Padding, other.TwoInputs), [.. own, .. producer.Inputs], node.Outputs), producer)
                : null;

        static bool IsMain(Convolution c) => c is { Stride: 1, Upsample: false, TwoInputs: false };

        static bool IsSkip(Convolution c, Node n) =>
            c is { Stride: 1, Padding: 0, Upsample: false } && n.Inputs[1].Shape[2] * n.Inputs[1].Shape[3] == 1;
    }

    private static Op? WithResidual(Op op) => op switch
    {
        Convolution { Residual: false } c => c with { Residual = true },
        Linear { Residual: false } l => l with { Residual = true },
        ConvolutionGradient { Residual: false } c => c with { Residual = true },
        LinearGradient { Residual: false } l => l with { Residual = true },
        SpatialBroadcast { Residual: false } b => b with { Residual = true },
        _ => null,
    };

    private static bool FirstIsLater(Graph graph, Node add) =>
        graph.Producer(add.Inputs[0]) is Node first && (graph.Producer(add.Inputs[1]) is not Node second || graph.IndexOf(first) > graph.IndexOf(second));
}

/// <summary>Residuals of another resolution than the result.</summary>
internal static class ResidualRules
{
    /// <summary>Upsample2x or Pool2x → the residual of a convolution; Upsample2x of a quarter, the gradient of a pooling → that of a GroupNormGradient.</summary>
    public static FusionMatch? Resample(Graph graph, Node node)
    {
        (int residual, bool fits) = node.Op switch
        {
            Convolution { Residual: true, ResidualResampling: Resampling.None } op => (op.ResidualInput, true),
            GroupNormGradient { Residual: true, ResidualPool: false } op => (op.ResidualInput, true),
            _ => (0, false),
        };
        if (!fits || graph.OnlyFor(node.Inputs[residual], node) is not Node producer)
        {
            return null;
        }

        Op? fused = (node.Op, producer.Op) switch
        {
            (Convolution op, Upsample2x { Factor: 1 }) when Pooling.Halves(producer.Output.Shape) => op with { ResidualResampling = Resampling.Up },
            (Convolution op, Pool2x { Factor: 0.25f }) when Pooling.Halves(producer.Inputs[0].Shape) => op with { ResidualResampling = Resampling.Down },
            (GroupNormGradient op, _) when IsPoolGradient(producer) => op with { ResidualPool = true },
            _ => null,
        };
        return fused is null
            ? null
            : new FusionMatch(new Node(node.Name, fused, [.. node.Inputs.Take(residual), producer.Inputs[0], .. node.Inputs.Skip(residual + 1)], node.Outputs), producer);
    }

    /// <summary>Whether a node spreads a gradient over the 2x2 blocks that were averaged.</summary>
    public static bool IsPoolGradient(Node node) => node.Op is Upsample2x { Factor: 0.25f } && Pooling.Halves(node.Output.Shape);
}

/// <summary>Channels of two tensors side by side.</summary>
internal static class ConcatRules
{
    /// <summary>Concat → GroupNorm and Concat → Convolution, where every reader can read the two tensors, so that they are never joined.</summary>
    public static FusionMatch? Inputs(Graph graph, Node node)
    {
        if (!Reads(node) || graph.Producer(node.Inputs[0]) is not { Op: Concat { Axis: -1 }, Inputs.Count: 2 } concat)
        {
            return null;
        }

        Tensor joined = concat.Output;
        if (graph.Outputs.Values.Contains(joined) || !graph.Consumers(joined).All(n => Reads(n) && n.Inputs.Count(t => t == joined) == 1 && n.Inputs[0] == joined))
        {
            return null;
        }

        Op fused = node.Op switch
        {
            GroupNorm op => op with { TwoInputs = true },
            Convolution op => op with { TwoInputs = true },
            _ => throw new InvalidOperationException(),
        };
        return new FusionMatch(new Node(node.Name, fused, [concat.Inputs[0], .. node.Inputs.Skip(1), concat.Inputs[1]], node.Outputs)) { Bypassed = concat };
    }

    private static bool Reads(Node node) => node.Op is GroupNorm { TwoInputs: false, Pool: false } or Convolution { TwoInputs: false };
}

/// <summary>What the guidance of a classifier begins its backward pass with.</summary>
internal static class LabelRules
{
    /// <summary>LogSoftmaxGradient of (ScatterLabel of a constant, LogSoftmax), with SelectLabel where its result is read: all from the logits.</summary>
    public static FusionMatch? Gradient(Graph graph, Node node)
    {
        if (node.Op is not LogSoftmaxGradient
            || graph.OnlyFor(node.Inputs[0], node) is not { Op: ScatterLabel } scatter
            || graph.OnlyFor(scatter.Inputs[0], scatter) is not { Op: Fill fill } seed
            || graph.Producer(node.Inputs[1]) is not { Op: LogSoftmax } softmax
            || graph.Outputs.Values.Contains(softmax.Output))
        {
            return null;
        }

        // Who else reads the log-probabilities may only choose the same labels, and what is chosen must not be read before the gradient is there.
        Node[] others = [.. graph.Consumers(softmax.Output).Where(n => n != node)];
        Tensor labels = scatter.Inputs[1];
        bool chooses = others is [] or [{ Op: SelectLabel }] && others.All(n =>
            n.Inputs[1] == labels && graph.IndexOf(n) < graph.IndexOf(node) && graph.Consumers(n.Output).All(reader => graph.IndexOf(reader) > graph.IndexOf(node)));
        if (!chooses)
        {
            return null;
        }

        Tensor chosen = others is [Node select] ? select.Output : new Tensor($"{node.Name}#1", new TensorType(labels.Shape), TensorKind.Value);
        return new FusionMatch(new Node(node.Name, new LabelGradient(fill.Value), [softmax.Inputs[0], labels], [node.Output, chosen]), [scatter, seed, softmax, .. others]);
    }
}
