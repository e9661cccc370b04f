using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Passes;

/// <summary>
/// Gradients of blocks and whole models. The rules are checked in float64, the graph with its backward pass against differences of the graph without; the
/// backend is then checked against the float64 backward pass, element by element.
/// </summary>
public sealed class GradientTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private static readonly Dictionary<string, Action<GraphBuilder, Tensor>> s_pieces = new()
    {
        ["ResBlock"] = (b, x) => ResBlock(b, x, 32),
        ["ResBlock, wider"] = (b, x) => ResBlock(b, x, 64),
        ["ResBlock, additive embedding"] = (b, x) => ResBlock(b, x, 32, scaleShift: false),
        ["ResBlock, down"] = (b, x) => ResBlock(b, x, 32, resampling: Resampling.Down),
        ["ResBlock, up"] = (b, x) => ResBlock(b, x, 32, resampling: Resampling.Up),
        ["AttentionBlock, new order"] = (b, x) => b.Output("y", new Blocks(b, TestModels.UNet()).AttentionBlock("attention", x)),
        ["AttentionBlock, legacy order"] = (b, x) => b.Output("y", new Blocks(b, TestModels.UNet(scaleShift: false)).AttentionBlock("attention", x)),
        ["Downsample and Upsample"] = (b, x) =>
        {
            Blocks blocks = new(b, TestModels.UNet(updown: false));
            b.Output("y", blocks.Upsample("up", blocks.Downsample("down", x)));
        },
        ["embedding of the timestep"] = (b, x) =>
        {
            Tensor t = b.Add("t", new Reshape([2]), b.Add("mean", new SpatialSum(0.05f), b.Add("slice", new Slice(-1, 0, 1), x)));
            b.Output("y", new Blocks(b, TestModels.UNet()).Embedding(t, labels: null));
        },
    };

    private static readonly Dictionary<string, (ModelConfig Config, bool Labels)> s_models = new()
    {
        ["classifier, attention"] = (TestModels.Classifier("attention"), false),
        ["classifier, adaptive"] = (TestModels.Classifier("adaptive", scaleShift: false), false),
        ["classifier, spatial"] = (TestModels.Classifier("spatial"), false),
        ["classifier, spatial_v2"] = (TestModels.Classifier("spatial_v2"), false),
        ["UNet"] = (TestModels.UNet(), true),
        ["UNet, improved-diffusion"] = (TestModels.UNet(scaleShift: false, updown: false, classes: null), false),
    };

    public static TheoryData<string> Pieces => [.. s_pieces.Keys, .. s_models.Keys];

    [Theory]
    [MemberData(nameof(Pieces))]
    public void Gradients_of_blocks_and_models_equal_finite_differences(string name)
    {
        Graph forward = Forward(name);
        Dictionary<string, double[]> values = Values(forward);
        Tensor scalar = forward.Output("z");
        Graph graph = Gradient.Append(forward, scalar, forward.Input("x"), scale: 1.5f);
        double[] exact = ReferenceInterpreter.Run(graph, values)[graph.Output("gradient")];

        // The rules: exact but for the differences themselves.
        const double Step = 1e-5;
        Random random = new(5);
        double norm = Math.Sqrt(exact.Sum(g => g * g));
        for (int k = 0; k < 2; k++)
        {
            double[] direction = TestModels.Normals(random, exact.Length);
            double difference = 1.5 * (Value(Step) - Value(-Step)) / (2 * Step);
            double slope = exact.Zip(direction, (g, d) => g * d).Sum();
            Assert.True(Math.Abs(slope - difference) <= 1e-6 * norm, $"{name}: slope {slope}, difference {difference}, gradient of norm {norm}");

            double Value(double step)
            {
                Dictionary<string, double[]> moved = new(values) { ["x"] = [.. values["x"].Zip(direction, (v, d) => v + (step * d))] };
                return ReferenceInterpreter.Run(forward, moved)[scalar].Sum();
            }
        }

        // The numbers, fused and unfused: rounding grows with the depth, to some ten times that of one op.
        foreach (string[] disabled in new[] { Array.Empty<string>(), ["all"] })
        {
            double error = CpuRun.RelativeError(CpuRun.Run(cpu.Backend, Fusion.Apply(graph, disabled).Graph, values)["gradient"], exact);
            Assert.True(error <= 1e-5, $"{name}, without [{string.Join(", ", disabled)}]: relative error {error:e2}");
        }
    }

    [Fact]
    public void The_rules_hold_for_any_graph() => RandomGraphs.Check(program =>
    {
        Graph forward = RandomGraphs.Build(program, updates: false);
        Tensor y = RandomGraphs.LastThatReadsX(forward);
        Dictionary<string, double[]> values = RandomGraphs.Values(forward);
        Graph graph = Gradient.Append(forward, y, forward.Input("x"));
        double[] exact = ReferenceInterpreter.Run(graph, values)[graph.Output("gradient")];
        double[] direction = TestModels.Normals(new Random(3), exact.Length);
        double[] differences = [.. new[] { 1e-5, 1e-6 }.Select(step => (Value(step) - Value(-step)) / (2 * step))];
        double slope = exact.Zip(direction, (g, d) => g * d).Sum(), norm = Math.Sqrt(exact.Sum(g => g * g));

        // A step may cross the kink of a ReLU: then the differences disagree among themselves, and say nothing.
        double doubt = Math.Abs(differences[0] - differences[1]);
        Assert.True(
            Math.Abs(slope - differences[0]) <= (1e-5 * norm) + (10 * doubt) + 1e-6, $"slope {slope}, differences {differences[0]} and {differences[1]}, norm {norm}");

        double Value(double step)
        {
            Dictionary<string, double[]> moved = new(values) { ["x"] = [.. values["x"].Zip(direction, (v, d) => v + (step * d))] };
            return ReferenceInterpreter.Run(forward, moved)[y].Sum();
        }
    });

    [Fact]
    public void The_gradient_of_an_input_is_the_scale()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]);
        Graph graph = Gradient.Append(builder.Build(), x, x, scale: -3);
        Assert.Equal([-3, -3, -3, -3, -3, -3], CpuRun.Run(cpu.Backend, graph, new Dictionary<string, double[]> { ["x"] = new double[6] })["gradient"]);
    }

    [Fact]
    public void Nodes_beside_the_path_are_left_alone()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]), other = builder.Input("other", [2, 3]);
        Tensor side = builder.Add("side", new LogSoftmaxGradient(), other, other);
        Tensor unused = builder.Add("unused", new Activation(ActivationKind.SiLU), x);
        Tensor y = builder.Add("y", new Multiply(), x, side);
        builder.Output("unused", unused);
        Graph graph = Gradient.Append(builder.Build(), y, x);

        // The seed and one product: neither the side branch, which has no rule, nor the branch that the scalar does not see, is differentiated.
        Assert.Equal(["Fill", "Multiply"], graph.Nodes.Skip(3).Select(n => n.Op.Name));
        Assert.Equal("y/gradient", graph.Nodes[3].Name);
    }

    [Fact]
    public void What_does_not_depend_on_x_has_no_gradient()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]), other = builder.Input("other", [2, 3]), labels = builder.Input("labels", [2], DType.I32);
        Tensor y = builder.Add("y", new Add(), other, other), rows = builder.Add("rows", new Embedding(), labels, builder.Weight("table", [4, 3]));
        Graph graph = builder.Build();
        Assert.Equal("'y' does not depend on 'x': there is no gradient to take", Assert.Throws<GraphException>(() => Gradient.Append(graph, y, x)).Message);
        Assert.Contains("'labels', which holds integers", Assert.Throws<GraphException>(() => Gradient.Append(graph, rows, labels)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Statistics_and_log_sum_exp_carry_no_gradient()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [1, 4, 12]);
        Node norm = builder.AddNode("norm", new GroupNorm(4), x, builder.Weight("gamma", [12]), builder.Weight("beta", [12]));
        Node attention = builder.AddNode("attention", new Attention(1, QkvOrder.New), x);
        Graph graph = builder.Build();
        Assert.Contains("'norm': no gradient is carried through its statistics", Assert.Throws<GraphException>(() => Gradient.Append(graph, norm.Outputs[1], x)).Message, StringComparison.Ordinal);
        Assert.Contains("'attention': no gradient is carried through its log-sum-exp", Assert.Throws<GraphException>(() => Gradient.Append(graph, attention.Outputs[1], x)).Message, StringComparison.Ordinal);
    }

    private static void ResBlock(GraphBuilder b, Tensor x, int channels, bool scaleShift = true, Resampling resampling = Resampling.None)
    {
        Blocks blocks = new(b, TestModels.UNet(scaleShift));

        // The embedding depends on x as well, so that the gradient to scale, shift and sum is needed.
        Tensor emb = b.Add("emb.cat", new Concat(), b.Add("emb.sum", new SpatialSum(0.1f), x), b.Input("emb", [2, 96]));
        b.Output("y", blocks.ResBlock("block", x, emb, channels, resampling));
    }

    /// <summary>The piece, and z: its output times a random functional.</summary>
    private static Graph Forward(string name)
    {
        GraphBuilder builder = new();
        if (s_pieces.TryGetValue(name, out Action<GraphBuilder, Tensor>? piece))
        {
            piece(builder, builder.Input("x", [2, 4, 4, 32]));
        }
        else
        {
            (ModelConfig config, bool labels) = s_models[name];
            Tensor x = builder.Input("x", [1, 8, 8, 3]), t = builder.Input("t", [1]);
            builder.Output("y", config.Kind == ModelKind.Encoder
                ? EncoderUNetModel.Build(builder, config, x, t)
                : UNetModel.Build(builder, config, x, t, labels ? builder.Input("label", [1], DType.I32) : null));
        }

        Tensor y = builder.Build().Output("y");
        builder.Output("z", builder.Add("z", new Multiply(), y, builder.Input("functional", y.Shape)));
        return builder.Build();
    }

    private static Dictionary<string, double[]> Values(Graph graph)
    {
        Dictionary<string, double[]> values = TestModels.Values(graph.Weights);
        foreach (Tensor input in graph.Inputs)
        {
            values.Add(input.Name, input.Name switch
            {
                "t" => [417],
                "label" => [7],
                _ => TestModels.Normals(new Random(values.Count), input.Shape.Elements),
            });
        }

        return values;
    }
}
