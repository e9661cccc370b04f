using Kernels.Backends.Cpu;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Runtime;
using Xunit;
using Convolution = Kernels.Ops.Convolution;

namespace Kernels.Tests.Passes;

/// <summary>Fusions of convolutions: the same numbers from fewer launches.</summary>
public sealed class ConvolutionFusionTests
{
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

    private static Graph AssertEqual(Graph graph, string fusion, int times)
    {
        FusionResult result = Fusion.Apply(graph);
        Assert.Equal(times, result.Applied[fusion]);
        Dictionary<string, float[]> with = Run(result.Graph), without = Run(Fusion.Apply(graph, [fusion]).Graph);
        foreach ((string name, float[] values) in with)
        {
            Assert.True(values.AsSpan().SequenceEqual(without[name]), $"{name} differs");
            Assert.DoesNotContain(values, v => !float.IsFinite(v));
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
