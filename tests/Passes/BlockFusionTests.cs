using Kernels.Ops;
using Kernels.Passes;
using Xunit;

namespace Kernels.Tests.Passes;

/// <summary>Fusions across the parts of a block: what each finds, what it must leave alone, and that the numbers stay in exact arithmetic.</summary>
public sealed class BlockFusionTests
{
    private readonly GraphBuilder _builder = new();

    [Fact]
    public void Two_tensors_are_read_where_they_lie_side_by_side()
    {
        Tensor cat = Cat(out Tensor h, out Tensor skip);
        Tensor norm = Norm(cat).Output, conv = Conv(cat, "w", 16, 1);
        _builder.Output("norm", norm);
        _builder.Output("y", conv);
        Graph fused = Fuse("concat_inputs", 2);
        Assert.DoesNotContain(fused.Nodes, n => n.Op is Concat);
        Assert.Equal([h, _builder.Weight("gamma", [24]), _builder.Weight("beta", [24]), skip], fused.Producer(norm)!.Inputs);
        Assert.Equal([h, _builder.Weight("w", [16, 24, 1, 1]), skip], fused.Producer(conv)!.Inputs);
    }

    [Fact]
    public void Two_tensors_keep_what_the_layers_take_in_besides()
    {
        Tensor cat = Cat(out Tensor h, out Tensor skip);
        Tensor modulation = _builder.Input("modulation", [2, 48]), residual = _builder.Input("r", [2, 4, 4, 16]);
        Tensor norm = _builder.Add("silu", new Activation(ActivationKind.SiLU), _builder.Add("scale_shift", new ScaleShift(), Norm(cat).Output, modulation));
        Tensor conv = _builder.Add("add_bias", new AddBias(), Conv(cat, "w", 16, 3), _builder.Weight("b", [16]));
        Tensor sum = _builder.Add("sum", new Add(), conv, residual);
        _builder.Output("norm", norm);
        _builder.Output("y", sum);
        Graph fused = Fuse("concat_inputs", 2);
        Assert.Equal([h, _builder.Weight("gamma", [24]), _builder.Weight("beta", [24]), modulation, skip], fused.Producer(norm)!.Inputs);
        Assert.Equal([h, _builder.Weight("w", [16, 24, 3, 3]), _builder.Weight("b", [16]), residual, skip], fused.Producer(sum)!.Inputs);
        Assert.Equal(2, fused.Launches);
    }

    [Theory]
    [InlineData("another reader")]
    [InlineData("an output")]
    [InlineData("three tensors")]
    [InlineData("another axis")]
    [InlineData("a pooled norm")]
    public void Tensors_that_must_be_joined_stay_joined(string why)
    {
        Tensor cat = Cat(out Tensor h, out Tensor skip);
        cat = why == "three tensors" ? _builder.Add("cat3", new Concat(), h, skip, h) : why == "another axis" ? _builder.Add("cat1", new Concat(1), h, h) : cat;
        Tensor norm = Norm(cat).Output;
        _builder.Output("norm", why == "a pooled norm" ? _builder.Add("pool", new Pool2x(), norm) : norm);
        if (why == "another reader")
        {
            _builder.Output("other", _builder.Add("silu", new Activation(ActivationKind.SiLU), cat));
        }
        else if (why == "an output")
        {
            _builder.Output("cat", cat);
        }

        Fuse("concat_inputs", 0);
    }

    [Fact]
    public void Two_tensors_of_which_one_is_updated_are_joined_in_time()
    {
        Tensor x = _builder.Input("x", [2, 4, 4, 8]), cat = _builder.Add("cat", new Concat(), x, _builder.Input("skip", [2, 4, 4, 16]));
        _builder.Output("x_next", _builder.Add("x_next", new Add(), x, _builder.Input("dx", x.Shape)), updates: x);
        _builder.Output("y", Conv(cat, "w", 16, 1));
        Graph fused = Fuse("concat_inputs", 0, compare: false);
        ArenaSimulation.Check(fused, MemoryPlanner.Plan(fused));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_block_that_halves_pools_in_its_norm_and_halves_its_residual_where_that_is_added(bool silu)
    {
        Tensor x = _builder.Input("x", [2, 8, 6, 16]), norm = Norm(x).Output;
        norm = silu ? _builder.Add("silu", new Activation(ActivationKind.SiLU), norm) : norm;
        Tensor pooled = _builder.Add("pooled", new Pool2x(), norm), skip = _builder.Add("skip", new Pool2x(), x);
        _builder.Output("y", _builder.Add("sum", new Add(), skip, Conv(pooled, "w", 16, 3)));
        Graph fused = Fuse("group_norm_pool", 1);
        Assert.Equal([new GroupNorm(8, SiLU: silu, Pool: true), new Convolution(1, 1, Residual: true, ResidualResampling: Resampling.Down)], fused.Nodes.Select(n => n.Op));
        Assert.Equal(["x", "x"], [fused.Nodes[0].Inputs[0].Name, fused.Nodes[1].Inputs[2].Name]);
        Fuse("residual_resampling", 1);
    }

    [Fact]
    public void A_block_that_doubles_doubles_its_residual_where_that_is_added()
    {
        Tensor x = _builder.Input("x", [2, 4, 3, 16]);
        Tensor skip = _builder.Add("skip", new Upsample2x(8, 6), x), h = _builder.Add("h", new Upsample2x(8, 6), x);
        _builder.Output("y", _builder.Add("sum", new Add(), skip, Conv(h, "w", 16, 3)));
        Graph fused = Fusion.Apply(_builder.Build(), ["common_subexpression"]).Graph;
        Assert.Equal(
            [new Convolution(1, 1, Residual: true, Upsample: true, ResidualResampling: Resampling.Up)], fused.Nodes.Select(n => n.Op));
        Check(_builder.Build(), fused);
    }

    [Theory]
    [InlineData(8, 6, 1f)]
    [InlineData(8, 7, 0.25f)]
    [InlineData(9, 6, 0.25f)]
    public void A_pooling_that_does_more_than_average_stays(int height, int width, float factor)
    {
        Tensor x = _builder.Input("x", [1, height, width, 16]), residual = _builder.Input("r", x.Shape), h = _builder.Input("h", [1, height / 2, width / 2, 16]);
        _builder.Output("pooled", _builder.Add("pooled", new Pool2x(factor), Norm(x).Output));
        _builder.Output("y", _builder.Add("sum", new Add(), Conv(h, "w", 16, 3), _builder.Add("skip", new Pool2x(factor), residual)));
        Fuse("group_norm_pool", 0);
        Fuse("residual_resampling", 0);
    }

    [Fact]
    public void A_norm_that_others_read_is_not_pooled()
    {
        Tensor norm = Norm(_builder.Input("x", [1, 4, 4, 16])).Output;
        _builder.Output("pooled", _builder.Add("pooled", new Pool2x(), norm));
        _builder.Output("other", _builder.Add("other", new Activation(ActivationKind.ReLU), norm));
        Fuse("group_norm_pool", 0);
    }

    [Fact]
    public void Backwards_a_block_that_halves_is_one_convolution_and_one_norm()
    {
        Tensor x = _builder.Input("x", [2, 8, 8, 16]);
        Tensor h = _builder.Add("pooled", new Pool2x(), _builder.Add("silu", new Activation(ActivationKind.SiLU), Norm(x).Output));
        Tensor y = _builder.Add("sum", new Add(), _builder.Add("skip", new Pool2x(), x), Conv(h, "w", 16, 3));
        _builder.Output("y", y);
        Graph graph = Gradient.Append(_builder.Build(), y, x), fused = Fusion.Apply(graph).Graph;
        Assert.Equal(
            [
                new GroupNorm(8, SiLU: true, Pool: true),
                new Convolution(1, 1, Residual: true, ResidualResampling: Resampling.Down),
                new Fill([2, 4, 4, 16], 1),
                new ConvolutionGradient(1, 1, 4, 4),
                new GroupNormGradient(8, SiLU: true, Pool: true, Residual: true, ResidualPool: true),
            ],
            fused.Nodes.Select(n => n.Op));
        Check(graph, fused);

        // Each of the three can be switched off by itself.
        foreach ((string name, GroupNormGradient left) in new[]
        {
            ("group_norm_pool", new GroupNormGradient(8, SiLU: true, Residual: true, ResidualPool: true)),
            ("group_norm_residual", new GroupNormGradient(8, SiLU: true, Pool: true)),
            ("residual_resampling", new GroupNormGradient(8, SiLU: true, Pool: true, Residual: true)),
        })
        {
            Graph without = Fusion.Apply(graph, [name]).Graph;
            Assert.Contains(left, without.Nodes.Select(n => n.Op));
            Check(graph, without);
        }
    }

    [Fact]
    public void A_norm_adds_one_gradient_and_not_its_own()
    {
        Tensor dy = _builder.Input("dy", [2, 4, 16]), x = _builder.Input("x", dy.Shape);
        Node norm = Norm(x);
        Tensor d = _builder.Add("d", new GroupNormGradient(8), dy, x, norm.Outputs[1], norm.Inputs[1]);
        Tensor once = _builder.Add("once", new Add(), _builder.Input("r0", dy.Shape), d);
        _builder.Output("y", _builder.Add("twice", new Add(), _builder.Input("r1", dy.Shape), once));
        Tensor own = _builder.Add("own", new GroupNormGradient(8), x, x, norm.Outputs[1], norm.Inputs[1]);
        _builder.Output("z", _builder.Add("double", new Add(), own, own));
        Fuse("group_norm_residual", 1);
    }

    [Theory]
    [InlineData(3, 1, true)]
    [InlineData(1, 3, true)]
    [InlineData(1, 1, true)]
    [InlineData(3, 3, false)]
    public void The_convolution_of_a_skip_connection_joins_the_other(int first, int second, bool joins)
    {
        Tensor a = Biased(_builder.Input("a", [2, 4, 4, 8]), "a", first), b = Biased(_builder.Input("b", [2, 4, 4, 24]), "b", second);
        _builder.Output("y", _builder.Add("sum", new Add(), a, b));
        Graph fused = Fuse("conv_skip", joins ? 1 : 0);
        Assert.Equal(joins ? 1 : 2, fused.Launches);
    }

    [Theory]
    [InlineData("stride")]
    [InlineData("no bias")]
    [InlineData("another reader")]
    public void Convolutions_that_cannot_be_one_sum_stay_two(string why)
    {
        int size = why == "stride" ? 8 : 4, stride = why == "stride" ? 2 : 1;
        Tensor a = Biased(_builder.Input("a", [2, size, size, 8]), "a", 3, stride), x = _builder.Input("b", [2, 4, 4, 24]);
        Tensor b = why == "no bias" ? Conv(x, "b.weight", 16, 1) : Biased(x, "b", 1);
        _builder.Output("y", _builder.Add("sum", new Add(), a, b));
        if (why == "another reader")
        {
            _builder.Output("a", _builder.Add("relu a", new Activation(ActivationKind.ReLU), a));
            _builder.Output("b", _builder.Add("relu b", new Activation(ActivationKind.ReLU), b));
        }

        Fuse("conv_skip", 0);
    }

    [Fact]
    public void A_skip_connection_of_two_tensors_reads_both()
    {
        Tensor cat = Cat(out Tensor h, out Tensor skip);
        _builder.Output("y", _builder.Add("sum", new Add(), Biased(cat, "skip", 1), Biased(_builder.Input("x", [2, 4, 4, 8]), "main", 3)));
        Node only = Assert.Single(Fuse("conv_skip", 1).Nodes);
        Assert.Equal(new ConvolutionSkip(1, TwoInputs: true), only.Op);
        Assert.Equal(["x", "main.weight", "main.bias", "h", "skip.weight", "skip.bias", "skip"], only.Inputs.Select(t => t.Name));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_gradient_of_a_label_is_one_op(bool selected)
    {
        (Graph graph, Tensor logits, Tensor labels) = LabelGraph(selected ? "selected" : "");
        Graph fused = Fusion.Apply(graph).Graph;
        Node only = Assert.Single(fused.Nodes, n => n.Op is LabelGradient);
        Assert.Equal(new LabelGradient(-2), only.Op);
        Assert.Equal([logits, labels], only.Inputs);
        Assert.Equal(selected ? 2 : 1, fused.Launches);
        Check(graph, fused);
        Assert.Contains(Fusion.Apply(graph, ["label_gradient"]).Graph.Nodes, n => n.Op is LogSoftmaxGradient);
    }

    [Theory]
    [InlineData("log-probabilities")]
    [InlineData("other labels")]
    [InlineData("a seed of many values")]
    public void The_gradient_of_a_label_leaves_what_others_read(string why)
    {
        (Graph graph, _, _) = LabelGraph(why);
        FusionResult result = Fusion.Apply(graph);
        Assert.Equal(0, result.Applied["label_gradient"]);
    }

    private (Graph Graph, Tensor Logits, Tensor Labels) LabelGraph(string variant)
    {
        Tensor logits = _builder.Input("logits", [3, 5]), labels = _builder.Input("labels", [3], DType.I32);
        Tensor log = _builder.Add("log_softmax", new LogSoftmax(), logits);
        Tensor chosen = _builder.Add("selected", new SelectLabel(), log, variant == "other labels" ? _builder.Input("others", [3], DType.I32) : labels);
        Tensor seed = variant == "a seed of many values" ? _builder.Input("seed", [3]) : _builder.Add("seed", new Fill([3], -2));
        _builder.Output("gradient", _builder.Add("gradient", new LogSoftmaxGradient(), _builder.Add("scattered", new ScatterLabel(5), seed, labels), log));
        if (variant == "log-probabilities")
        {
            _builder.Output("log", log);
        }
        else if (variant.Length > 0)
        {
            _builder.Output("selected", variant == "selected" ? _builder.Add("relu", new Activation(ActivationKind.ReLU), chosen) : chosen);
        }

        return (_builder.Build(), logits, labels);
    }

    private Tensor Cat(out Tensor h, out Tensor skip) =>
        _builder.Add("cat", new Concat(), h = _builder.Input("h", [2, 4, 4, 8]), skip = _builder.Input("skip", [2, 4, 4, 16]));

    private Node Norm(Tensor x) =>
        _builder.AddNode("norm", new GroupNorm(8), x, _builder.Weight("gamma", [x.Shape[-1]]), _builder.Weight("beta", [x.Shape[-1]]));

    private Tensor Conv(Tensor x, string weight, int outputs, int kernel, int stride = 1) =>
        _builder.Add($"conv {weight}", new Convolution(stride, kernel / 2), x, _builder.Weight(weight, [outputs, x.Shape[3], kernel, kernel]));

    private Tensor Biased(Tensor x, string name, int kernel, int stride = 1) =>
        _builder.Add($"{name} add_bias", new AddBias(), Conv(x, $"{name}.weight", 16, kernel, stride), _builder.Weight($"{name}.bias", [16]));

    private Graph Fuse(string name, int times, bool compare = true)
    {
        Graph graph = _builder.Build();
        FusionResult result = Fusion.Apply(graph);
        Assert.Equal(times, result.Applied[name]);
        if (compare)
        {
            Check(graph, result.Graph);
        }

        return result.Graph;
    }

    private static void Check(Graph graph, Graph fused)
    {
        Dictionary<string, double[]> values = RandomGraphs.Values(graph);
        foreach (Tensor labels in graph.Inputs.Where(t => t.DType == DType.I32))
        {
            values[labels.Name] = [.. Enumerable.Range(0, labels.Shape.Elements).Select(i => (double)(3 * i % 5))];
        }

        Dictionary<Tensor, double[]> expected = ReferenceInterpreter.Run(graph, values), actual = ReferenceInterpreter.Run(fused, values);
        foreach ((string name, Tensor tensor) in graph.Outputs)
        {
            double error = expected[tensor].Zip(actual[fused.Output(name)], (a, b) => Math.Abs(a - b)).Max();
            Assert.True(error <= 1e-9, $"{name} is off by {error}");
        }
    }
}
