using Kernels.Backends.Cpu;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Backends.Cpu;
using Xunit;
using Convolution = Kernels.Ops.Convolution;
using GroupNorm = Kernels.Ops.GroupNorm;

namespace Kernels.Tests.Passes;

/// <summary>Fusions that turn copies into addressing: the same numbers from fewer launches.</summary>
public sealed class FusionAddressingTests
{
    // A convolution sums each part of its input by itself, so the last bits differ.
    private const double Tolerance = 1e-6;

    [Theory]
    [InlineData(64, 32)]
    [InlineData(32, 64)]
    [InlineData(17, 47)]
    public void A_concatenation_is_read_in_two_parts(int first, int second)
    {
        GraphBuilder builder = new();
        Tensor cat = builder.Add("cat", new Concat(), builder.Input("x1", [2, 6, 5, first]), builder.Input("x2", [2, 6, 5, second]));
        Outputs(builder, cat, first + second);
        Graph fused = AssertEqual(builder.Build(), "concat_inputs", 2);
        Assert.DoesNotContain(fused.Nodes, n => n.Op is Concat);
        Assert.Contains(fused.Nodes, n => n.Op is GroupNorm { Concat: true, SiLU: true });
        Assert.Contains(fused.Nodes, n => n.Op is Convolution { Concat: true, Bias: true });
    }

    [Fact]
    public void A_concatenation_that_is_needed_anyway_stays()
    {
        GraphBuilder builder = new();
        Tensor cat = builder.Add("cat", new Concat(), builder.Input("x1", [1, 4, 4, 32]), builder.Input("x2", [1, 4, 4, 32]));
        Outputs(builder, cat, 64);
        builder.Output("sum", builder.Add("sum", new SpatialSum(), cat));
        AssertEqual(builder.Build(), "concat_inputs", 0);

        builder = new();
        cat = builder.Add("cat", new Concat(), builder.Input("x1", [1, 4, 4, 32]), builder.Input("x2", [1, 4, 4, 32]));
        Outputs(builder, cat, 64);
        builder.Output("cat", cat);
        AssertEqual(builder.Build(), "concat_inputs", 0);
    }

    [Fact]
    public void A_concatenation_that_is_also_the_residual_stays()
    {
        GraphBuilder builder = new();
        Tensor cat = builder.Add("cat", new Concat(), builder.Input("x1", [1, 4, 4, 32]), builder.Input("x2", [1, 4, 4, 32]));
        Tensor y = builder.Add("conv", new Convolution(1, 1), cat, builder.Weight("conv.weight", [64, 64, 3, 3]));
        builder.Output("y", builder.Add("add", new Add(), cat, y));
        AssertEqual(builder.Build(), "concat_inputs", 0);
    }

    [Fact]
    public void A_concatenation_of_images_is_not_one_of_channels()
    {
        GraphBuilder builder = new();
        Tensor cat = builder.Add("cat", new Concat(0), builder.Input("x1", [1, 4, 4, 32]), builder.Input("x2", [1, 4, 4, 32]));
        Outputs(builder, cat, 32);
        AssertEqual(builder.Build(), "concat_inputs", 0);
    }

    [Theory]
    [InlineData(32)]
    [InlineData(5)]
    public void An_up_sampled_image_is_read_where_the_small_one_lies(int channels)
    {
        GraphBuilder builder = new();
        Tensor up = builder.Add("up", new Upsample2x(8, 6), builder.Input("x1", [2, 4, 3, channels]));
        builder.Output("y", builder.Add("conv", new Convolution(1, 1), up, builder.Weight("conv.weight", [32, channels, 3, 3])));
        Assert.DoesNotContain(AssertEqual(builder.Build(), "conv_upsample", 1).Nodes, n => n.Op is Upsample2x);
    }

    [Theory]
    [InlineData(9, 6, 1f)]
    [InlineData(8, 7, 1f)]
    [InlineData(8, 6, 0.25f)]
    public void An_up_sampling_that_does_more_than_double_stays(int height, int width, float factor)
    {
        GraphBuilder builder = new();
        Tensor up = builder.Add("up", new Upsample2x(height, width, factor), builder.Input("x1", [1, height / 2, width / 2, 32]));
        builder.Output("y", builder.Add("conv", new Convolution(1, 1), up, builder.Weight("conv.weight", [32, 32, 3, 3])));
        AssertEqual(builder.Build(), "conv_upsample", 0);
    }

    [Fact]
    public void An_up_sampled_image_that_others_read_stays()
    {
        GraphBuilder builder = new();
        Tensor up = builder.Add("up", new Upsample2x(8, 8), builder.Input("x1", [1, 4, 4, 32]));
        Tensor y = builder.Add("conv", new Convolution(1, 1), up, builder.Weight("conv.weight", [32, 32, 3, 3]));
        builder.Output("y", builder.Add("add", new Add(), up, y));
        AssertEqual(builder.Build(), "conv_upsample", 0);
    }

    [Fact]
    public void The_forms_that_read_in_place_have_no_gradient()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x1", [1, 4, 4, 32]);
        Tensor y = builder.Add("conv", new Convolution(1, 1, Upsample: true), x, builder.Weight("conv.weight", [32, 32, 3, 3]));
        builder.Output("y", y);
        Assert.Contains("before fusion", Assert.Throws<GraphException>(() => Gradient.Append(builder.Build(), y, x)).Message, StringComparison.Ordinal);
    }

    // The two readers that a residual block has: group-norm with SiLU, and the skip connection.
    private static void Outputs(GraphBuilder builder, Tensor x, int channels)
    {
        Tensor norm = builder.Add("norm", new GroupNorm(8), x, builder.Weight("norm.weight", [channels]), builder.Weight("norm.bias", [channels]));
        builder.Output("norm", builder.Add("silu", new Activation(ActivationKind.SiLU), norm));
        Tensor skip = builder.Add("skip", new Convolution(), x, builder.Weight("skip.weight", [24, channels, 1, 1]));
        builder.Output("skip", builder.Add("bias", new AddBias(), skip, builder.Weight("skip.bias", [24])));
    }

    private static Graph AssertEqual(Graph graph, string fusion, int times)
    {
        FusionResult result = Fusion.Apply(graph);
        Assert.Equal(times, result.Applied[fusion]);
        Dictionary<string, float[]> with = Run(result.Graph), without = Run(Fusion.Apply(graph, [fusion]).Graph);
        foreach ((string name, float[] values) in with)
        {
            double error = KernelTest.RelativeError(values, Array.ConvertAll(without[name], v => (double)v));
            Assert.True(error <= Tolerance, $"{name}: relative error {error:e2}");
        }

        return result.Graph;
    }

    private static Dictionary<string, float[]> Run(Graph graph)
    {
        Random random = new(1);
        Dictionary<string, (Shape, float[])> weights = graph.Weights.OrderBy(w => w.Name).ToDictionary(w => w.Name, w => (w.Shape, Values(random, w.Shape.Elements)));
        using CpuBackend backend = new(2);
        using Executor executor = backend.Compile(Plan.Create(graph), Weights.FromArrays(weights));
        foreach (Tensor input in graph.Inputs)
        {
            executor.Write(input.Name, Values(random, input.Shape.Elements));
        }

        executor.Run();
        return graph.Outputs.Keys.ToDictionary(name => name, executor.Read);
    }

    private static float[] Values(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (float)((2 * random.NextDouble()) - 1))];
}
