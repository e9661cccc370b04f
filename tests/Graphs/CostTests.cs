using Kernels.Models;
using Kernels.Ops;
using Xunit;

namespace Kernels.Tests.Graphs;

/// <summary>Costs of single ops, by hand; those of whole models are compared with the published ones where the presets are tested.</summary>
public sealed class CostTests
{
    [Fact]
    public void A_batch_costs_its_images_but_reads_the_weights_once()
    {
        ModelConfig config = Presets.Find("adm64").Model;
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
        Assert.Equal(new Cost(96 + 32 + 192 + 24, 96 + 32 + 192 + 16, 24), builder.Build().Cost);
        Assert.Equal(344 + 336, builder.Build().Cost.Bytes);
    }

    private static Cost Of(Op op, params Shape[] inputs) =>
        Node.Create("node", op, [.. inputs.Select((s, i) => new Tensor($"input{i}", new TensorType(s), TensorKind.Input))]).Cost;
}
