using Kernels.Models;
using Kernels.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Graphs;

public sealed class CostTests
{
    [Theory]
    [InlineData(64, 296, 219)]
    [InlineData(128, 422, 614)]
    [InlineData(256, 554, 2240)]
    [InlineData(512, 559, 3965)]
    public void The_published_diffusion_models_cost_what_is_known_of_them(int size, int millions, int gigaflops)
    {
        Graph graph = ModelGraphs.UNet(PublishedModels.Diffusion(size), 1, size, size);
        Assert.Equal(millions, Math.Round(graph.Weights.Sum(t => (double)t.Shape.Elements) / 1e6));
        Assert.InRange(graph.Cost.Flops / 1e9, 0.99 * gigaflops, 1.01 * gigaflops);
    }

    [Theory]
    [InlineData(64, 65, 38)]
    [InlineData(128, 43, 42)]
    [InlineData(256, 54, 147)]
    [InlineData(512, 54, 226)]
    public void The_published_classifiers_cost_what_is_known_of_them(int size, int millions, int gigaflops)
    {
        GraphBuilder builder = new();
        builder.Output("logits", EncoderUNetModel.Build(builder, PublishedModels.Classifier(size), builder.Input("x", [1, size, size, 3]), builder.Input("t", [1])));
        Graph graph = builder.Build();
        Assert.Equal(millions, Math.Round(graph.Weights.Sum(t => (double)t.Shape.Elements) / 1e6));
        Assert.InRange(graph.Cost.Flops / 1e9, 0.99 * gigaflops, 1.01 * gigaflops);
    }

    [Fact]
    public void A_batch_costs_its_images_but_reads_the_weights_once()
    {
        ModelConfig config = PublishedModels.Diffusion(64);
        Cost one = ModelGraphs.UNet(config, 1, 64, 64).Cost, two = ModelGraphs.UNet(config, 2, 64, 64).Cost;
        long weights = ModelGraphs.UNet(config, 1, 64, 64).Weights.Where(t => t.Name != "label_emb.weight").Sum(t => t.Bytes);
        Assert.Equal(2 * one.Flops, two.Flops);
        Assert.Equal((2 * one.Bytes) - weights, two.Bytes);
    }

    [Fact]
    public void A_convolution_costs_its_products_and_what_is_added()
    {
        // 2 images of 4x4 of 5 channels from 3x3x7 values each: 160 outputs, 63 multiply-adds per output.
        Cost plain = Of(new Convolution(2, 1), [2, 8, 8, 7], [5, 7, 3, 3]);
        Assert.Equal(new Cost(4 * (896 + 315), 4 * 160, 160 * 126), plain);
        Cost full = Of(new Convolution(2, 1, Bias: true, Residual: true), [2, 8, 8, 7], [5, 7, 3, 3], [5], [2, 4, 4, 5]);
        Assert.Equal(new Cost(4 * (896 + 315 + 5 + 160), 4 * 160, 160 * 128), full);

        // Backwards, the same products.
        Assert.Equal(new Cost(4 * (160 + 315), 4 * 896, 160 * 126), Of(new ConvolutionGradient(2, 1, 8, 8), [2, 4, 4, 5], [5, 7, 3, 3]));
    }

    [Fact]
    public void Matrix_products_and_attention_cost_theirs()
    {
        Assert.Equal(new Cost(4 * (12 + 20 + 5), 4 * 15, 15 * 9), Of(new Linear(Bias: true), [3, 4], [5, 4], [5]));
        Assert.Equal(new Cost(4 * (15 + 20), 4 * 12, 12 * 10), Of(new LinearGradient(), [3, 5], [5, 4]));

        // Per head 16x16 scores of 8 products, as many again with the values, and an exponential, a sum and a scale per score.
        Assert.Equal(2 * ((2 * 2 * 16 * 16 * 8) + (3 * 16 * 16)), Of(new Attention(2, QkvOrder.New), [1, 16, 48]).Flops);
    }

    [Fact]
    public void Bytes_are_those_that_must_move()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [4, 6]);
        Assert.Equal(new Cost(96, 96, 24), builder.AddNode("square", new Multiply(), x, x).Cost);
        Assert.Equal(default, builder.AddNode("view", new Reshape([24]), x).Cost);
        Assert.Equal(new Cost(32, 32, 0), builder.AddNode("slice", new Slice(1, 2, 2), x).Cost);
        Assert.Equal(new Cost(192, 192, 0), builder.AddNode("both", new Concat(), x, builder.Input("y", [4, 6])).Cost);
        Assert.Equal(new Cost(16 + 8, 16, 0), builder.AddNode("rows", new Embedding(), builder.Input("labels", [2], DType.I32), builder.Weight("table", [1000, 2])).Cost);
        Assert.Equal(builder.Build().Nodes.Aggregate(default(Cost), (sum, n) => Cost.Add(sum, n.Cost)), builder.Build().Cost);
    }

    private static Cost Of(Op op, params Shape[] inputs) =>
        Node.Create("node", op, [.. inputs.Select((s, i) => new Tensor($"input{i}", new TensorType(s), TensorKind.Input))]).Cost;
}
