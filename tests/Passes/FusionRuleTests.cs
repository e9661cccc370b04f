using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Passes;

/// <summary>What each rewrite finds and what it must leave alone, worked out by hand.</summary>
public sealed class FusionRuleTests
{
    private readonly GraphBuilder _builder = new();

    [Fact]
    public void A_ResBlock_becomes_two_norms_two_convolutions_and_its_modulation()
    {
        (Graph fused, Dictionary<string, int> applied) = Fuse((b, x) => ResBlock(b, x, 32, scaleShift: true));
        Assert.Equal(
            [
                "GroupNorm { Groups = 32, Epsilon = 1E-05, ScaleShift = False, SiLU = True, Pool = False, TwoInputs = False }",
                "Convolution { Stride = 1, Padding = 1, Bias = True, Residual = False, Upsample = False, ResidualResampling = None, TwoInputs = False }",
                "Activation { Kind = SiLU }",
                "Linear { Bias = True, Residual = False }",
                "GroupNorm { Groups = 32, Epsilon = 1E-05, ScaleShift = True, SiLU = True, Pool = False, TwoInputs = False }",
                "Convolution { Stride = 1, Padding = 1, Bias = True, Residual = True, Upsample = False, ResidualResampling = None, TwoInputs = False }",
            ],
            fused.Nodes.Select(n => n.Op.ToString()));

        // Two convolutions and a linear layer with a bias; one sum with the input.
        Assert.Equal(Counts(scaleShift: 1, silu: 2, bias: 3, residual: 1), applied);
    }

    [Fact]
    public void A_ResBlock_that_widens_adds_its_skip_connection()
    {
        (Graph fused, Dictionary<string, int> applied) = Fuse((b, x) => ResBlock(b, x, 64, scaleShift: true));
        Assert.Equal(6, fused.Launches);
        Assert.Equal(Counts(scaleShift: 1, silu: 2, bias: 4, residual: 1, skip: 1), applied);
        Node last = fused.Nodes[^1];
        Assert.Equal(new ConvolutionSkip(1), last.Op);
        Assert.Equal(
            ["block.out_layers.1", "block.out_layers.3.weight", "block.out_layers.3.bias", "x", "block.skip_connection.weight", "block.skip_connection.bias"],
            last.Inputs.Select(t => t.Name));

        // Apart, the later of the two convolutions that meet adds the earlier one's result, which is there by then.
        last = Fusion.Apply(Build((b, x) => ResBlock(b, x, 64, scaleShift: true)), ["conv_skip"]).Graph.Nodes[^1];
        Assert.Equal(new Convolution(1, 0, Bias: true, Residual: true), last.Op);
        Assert.Equal(["block.skip_connection.weight", "block.skip_connection.bias", "block.out_layers.3.add_bias"], last.Inputs.Skip(1).Select(t => t.Name));
    }

    [Fact]
    public void A_ResBlock_with_additive_embedding_keeps_the_sum()
    {
        (Graph fused, Dictionary<string, int> applied) = Fuse((b, x) => ResBlock(b, x, 32, scaleShift: false));
        Assert.Equal(["GroupNorm", "Convolution", "Activation", "Linear", "AddEmbedding", "GroupNorm", "Convolution"], fused.Nodes.Select(n => n.Op.Name));
        Assert.Equal(Counts(silu: 2, bias: 3, residual: 1), applied);
    }

    [Fact]
    public void An_AttentionBlock_becomes_four_launches()
    {
        (Graph fused, Dictionary<string, int> applied) = Fuse((b, x) => new Blocks(b, TestModels.UNet()).AttentionBlock("attention", x));
        Assert.Equal(
            [
                "GroupNorm { Groups = 32, Epsilon = 1E-05, ScaleShift = False, SiLU = False, Pool = False, TwoInputs = False }",
                "Linear { Bias = True, Residual = False }",
                "Attention { Heads = 1, Order = New }",
                "Linear { Bias = True, Residual = True }",
            ],
            fused.Nodes.Select(n => n.Op.ToString()));
        Assert.Equal(Counts(bias: 2, residual: 1), applied);
    }

    [Fact]
    public void The_backward_pass_of_a_ResBlock_fuses()
    {
        (Graph fused, Dictionary<string, int> applied) = Fuse((b, x) => ResBlock(b, x, 32, scaleShift: true), gradient: true);

        // Each norm's gradient takes over those of the ops behind it, which frees those ops to be fused forwards; the first adds the gradient of the skip connection.
        Assert.Equal(Counts(gradient: 2, scaleShift: 1, silu: 2, bias: 3, residual: 1, normResidual: 1), applied);
        Assert.Equal(
            [
                "Fill { Shape = [2, 4, 4, 32], Value = 1 }",
                "ConvolutionGradient { Stride = 1, Padding = 1, Height = 4, Width = 4, Residual = False }",
                "GroupNormGradient { Groups = 32, ScaleShift = True, SiLU = True, Pool = False, Residual = False, ResidualPool = False }",
                "ConvolutionGradient { Stride = 1, Padding = 1, Height = 4, Width = 4, Residual = False }",
                "GroupNormGradient { Groups = 32, ScaleShift = False, SiLU = True, Pool = False, Residual = True, ResidualPool = False }",
            ],
            fused.Nodes.Skip(6).Select(n => n.Op.ToString()));
    }

    [Fact]
    public void The_gradient_of_a_skip_connection_is_added_by_the_convolution_that_meets_it()
    {
        (Graph fused, Dictionary<string, int> applied) = Fuse((b, x) => ResBlock(b, x, 64, scaleShift: false), gradient: true);
        Assert.Equal(2, applied["conv_residual"]);
        Assert.Contains(fused.Nodes, n => n.Op is ConvolutionGradient { Residual: true });
    }

    [Fact]
    public void Equal_expressions_are_computed_once()
    {
        Tensor x = _builder.Input("x", [2, 3]);
        Tensor a = _builder.Add("a", new Activation(ActivationKind.SiLU), x), b = _builder.Add("b", new Activation(ActivationKind.SiLU), x);
        Tensor relu = _builder.Add("relu", new Activation(ActivationKind.ReLU), x);

        // Equal once their operands are known to be equal; but x + relu and relu + x are different expressions.
        _builder.Output("y", _builder.Add("y", new Multiply(), _builder.Add("p", new Add(), a, relu), _builder.Add("q", new Add(), b, relu)));
        _builder.Output("z", _builder.Add("z", new Add(), relu, x));
        _builder.Output("w", _builder.Add("w", new Add(), x, relu));
        FusionResult result = Fusion.Apply(_builder.Build());
        Assert.Equal(2, result.Applied["common_subexpression"]);
        Assert.Equal(["a", "relu", "p", "y", "z", "w"], result.Graph.Nodes.Select(n => n.Name));
    }

    [Fact]
    public void Equal_outputs_are_all_there()
    {
        Tensor x = _builder.Input("x", [2, 3]);
        _builder.Output("y", _builder.Add("y", new Activation(ActivationKind.SiLU), x));
        _builder.Output("z", _builder.Add("z", new Activation(ActivationKind.SiLU), x));
        Assert.Equal(["y", "z"], Fusion.Apply(_builder.Build()).Graph.Nodes.Select(n => n.Name));
    }

    [Fact]
    public void An_output_is_never_absorbed()
    {
        Tensor x = _builder.Input("x", [1, 4, 4, 32]);
        foreach ((string name, Tensor tensor) in Intermediates(x))
        {
            _builder.Output(name, tensor);
        }

        FusionResult result = Fusion.Apply(_builder.Build());
        Assert.All(result.Applied, a => Assert.Equal(0, a.Value));
    }

    [Fact]
    public void A_tensor_with_two_readers_is_never_absorbed()
    {
        Tensor x = _builder.Input("x", [1, 4, 4, 32]);
        foreach ((string name, Tensor tensor) in Intermediates(x))
        {
            _builder.Output(name, _builder.Add($"second reader of {name}", new Activation(ActivationKind.ReLU), tensor));
        }

        FusionResult result = Fusion.Apply(_builder.Build());
        Assert.All(result.Applied, a => Assert.Equal(0, a.Value));
    }

    [Fact]
    public void A_result_added_to_itself_is_not_a_residual()
    {
        Tensor x = _builder.Input("x", [2, 3]), y = _builder.Add("y", new Linear(), x, _builder.Weight("w", [3, 3]));
        _builder.Output("z", _builder.Add("z", new Add(), y, y));
        Assert.Equal(0, Fusion.Apply(_builder.Build()).Applied["conv_residual"]);
    }

    [Fact]
    public void A_layer_adds_one_bias_and_one_residual()
    {
        Tensor x = _builder.Input("x", [2, 3]), h = _builder.Add("y", new Linear(), x, _builder.Weight("w", [3, 3]));
        for (int i = 0; i < 2; i++)
        {
            h = _builder.Add("bias", new AddBias(), h, _builder.Weight($"b{i}", [3]));
        }

        for (int i = 0; i < 2; i++)
        {
            h = _builder.Add("residual", new Add(), h, _builder.Input($"r{i}", [2, 3]));
        }

        _builder.Output("z", h);
        FusionResult result = Fusion.Apply(_builder.Build());
        Assert.Equal((1, 0), (result.Applied["conv_bias"], result.Applied["conv_residual"]));
    }

    [Fact]
    public void What_is_updated_is_not_read_later_than_before()
    {
        // y + x updates x: a layer that reads x itself cannot add it, and one that is added after the update cannot wait for that.
        Tensor x = _builder.Input("x", [2, 3]), w = _builder.Weight("w", [3, 3]);
        Tensor y = _builder.Add("y", new Linear(), x, w);
        Tensor view = _builder.Add("view", new Reshape([3, 2]), x), z = _builder.Add("z", new Linear(), view, _builder.Weight("v", [4, 2]));
        _builder.Output("x_next", _builder.Add("x_next", new Add(), x, y), updates: x);
        _builder.Output("late", _builder.Add("late", new Add(), z, _builder.Input("r", [3, 4])));
        FusionResult result = Fusion.Apply(_builder.Build());
        Assert.Equal(0, result.Applied["conv_residual"]);
        ArenaSimulation.Check(result.Graph, MemoryPlanner.Plan(result.Graph));
    }

    [Fact]
    public void An_update_may_be_a_residual()
    {
        Tensor x = _builder.Input("x", [2, 3]), y = _builder.Add("y", new Linear(), _builder.Input("h", [2, 3]), _builder.Weight("w", [3, 3]));
        _builder.Output("x_next", _builder.Add("x_next", new Add(), x, y), updates: x);
        FusionResult result = Fusion.Apply(_builder.Build());
        Assert.Equal(1, result.Applied["conv_residual"]);
        ArenaSimulation.Check(result.Graph, MemoryPlanner.Plan(result.Graph));
    }

    [Fact]
    public void A_norm_whose_statistics_are_wanted_early_stays_where_it_is()
    {
        Tensor x = _builder.Input("x", [2, 4, 32]);
        Node norm = Norm(x);
        _builder.Output("statistics", _builder.Add("early", new Activation(ActivationKind.ReLU), norm.Outputs[1]));
        _builder.Output("y", _builder.Add("late", new Activation(ActivationKind.SiLU), norm.Output));
        Assert.Equal(0, Fusion.Apply(_builder.Build()).Applied["group_norm_silu"]);
    }

    [Fact]
    public void A_norm_takes_over_the_gradient_of_its_own_SiLU_only()
    {
        Tensor x = _builder.Input("x", [2, 4, 32]), dy = _builder.Input("dy", [2, 4, 32]), modulation = _builder.Input("modulation", [2, 64]);
        Node norm = Norm(x);
        Tensor own = _builder.Add("own", new ActivationGradient(ActivationKind.SiLU), dy, norm.Output);
        Tensor other = _builder.Add("other", new ActivationGradient(ActivationKind.SiLU), dy, x);
        Tensor scaled = _builder.Add("scaled", new ScaleShiftGradient(), _builder.Add("unscaled", new ActivationGradient(ActivationKind.SiLU), dy, norm.Output), modulation);
        foreach (Tensor gradient in new[] { own, other, scaled })
        {
            _builder.Output($"d{gradient.Name}", _builder.Add($"d{gradient.Name}", new GroupNormGradient(32), gradient, x, norm.Outputs[1], norm.Inputs[1]));
        }

        // Of the third, the scale is taken over and the SiLU is not: it was taken of the norm before scale and shift.
        Graph fused = Fusion.Apply(_builder.Build(), ["common_subexpression"]).Graph;
        Assert.Equal(
            [(false, true), (false, false), (true, false)],
            fused.Nodes.Select(n => n.Op).OfType<GroupNormGradient>().Select(op => (op.ScaleShift, op.SiLU)));
    }

    [Fact]
    public void Only_SiLU_is_fused_into_a_norm()
    {
        _builder.Output("y", _builder.Add("relu", new Activation(ActivationKind.ReLU), Norm(_builder.Input("x", [2, 4, 32])).Output));
        Assert.Equal(0, Fusion.Apply(_builder.Build()).Applied["group_norm_silu"]);
    }

    private Node Norm(Tensor x) => _builder.AddNode("norm", new GroupNorm(), x, _builder.Weight("gamma", [32]), _builder.Weight("beta", [32]));

    // The first node of every pattern, with the op behind it that would absorb it.
    private List<(string Name, Tensor Tensor)> Intermediates(Tensor x)
    {
        Tensor modulation = _builder.Input("modulation", [1, 64]);
        Tensor norm = Norm(x).Output, second = _builder.Add("norm2", new GroupNorm(16), x, _builder.Weight("gamma", [32]), _builder.Weight("beta", [32]));
        Tensor conv = _builder.Add("conv", new Convolution(1, 1), x, _builder.Weight("w", [32, 32, 3, 3]));
        Tensor linear = _builder.Add("linear", new Linear(), x, _builder.Weight("v", [32, 32]));
        _builder.Output("silu", _builder.Add("silu", new Activation(ActivationKind.SiLU), norm));
        _builder.Output("scale_shift", _builder.Add("scale_shift", new ScaleShift(), second, modulation));
        _builder.Output("bias", _builder.Add("bias", new AddBias(), conv, _builder.Weight("b", [32])));
        _builder.Output("residual", _builder.Add("residual", new Add(), linear, x));
        return [("norm", norm), ("norm2", second), ("conv", conv), ("linear", linear)];
    }

    private static Tensor ResBlock(GraphBuilder b, Tensor x, int channels, bool scaleShift) =>
        new Blocks(b, TestModels.UNet(scaleShift)).ResBlock("block", x, b.Input("emb", [2, 128]), channels);

    private (Graph Fused, Dictionary<string, int> Applied) Fuse(Func<GraphBuilder, Tensor, Tensor> build, bool gradient = false)
    {
        Tensor x = _builder.Input("x", [2, 4, 4, 32]), y = build(_builder, x);
        _builder.Output("y", y);
        Graph graph = _builder.Build();
        FusionResult result = Fusion.Apply(gradient ? Gradient.Append(graph, y, x) : graph);
        return (result.Graph, new Dictionary<string, int>(result.Applied));
    }

    private static Graph Build(Func<GraphBuilder, Tensor, Tensor> build)
    {
        GraphBuilder builder = new();
        builder.Output("y", build(builder, builder.Input("x", [2, 4, 4, 32])));
        return builder.Build();
    }

    private static Dictionary<string, int> Counts(int gradient = 0, int scaleShift = 0, int silu = 0, int bias = 0, int residual = 0, int normResidual = 0, int skip = 0) => new()
    {
        ["common_subexpression"] = 0,
        ["label_gradient"] = 0,
        ["group_norm_gradient"] = gradient,
        ["group_norm_scale_shift"] = scaleShift,
        ["group_norm_silu"] = silu,
        ["conv_bias"] = bias,
        ["conv_residual"] = residual,
        ["conv_upsample"] = 0,
        ["group_norm_pool"] = 0,
        ["group_norm_residual"] = normResidual,
        ["residual_resampling"] = 0,
        ["concat_inputs"] = 0,
        ["conv_skip"] = skip,
    };
}
