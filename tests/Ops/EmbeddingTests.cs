using Kernels.Ops;
using Kernels.Tests.Support;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

public sealed class EmbeddingTests : OpTests<EmbeddingTests>, IOpCases
{
    private static readonly double[] s_timesteps = [0, 1, 17, 499.5, 999];

    public static IEnumerable<OpCase> Cases =>
    [
        new("labels", new Embedding(), Operand.Labels("labels", 5, 11), Operand.Weight("table", [11, 128])),
        new("one class", new Embedding(), Operand.Labels("labels", 1, 1), Operand.Weight("table", [1, 1])),
        Waves("32", 32, 10000),
        Waves("odd", 33, 10000),
        Waves("one wave", 2, 10000),
        Waves("short period", 8, 100),
        WavesBack("32", 32, 10000),
        WavesBack("odd", 33, 10000),
        new("logits", new LogSoftmax(), Operand.Input("logits", [4, 10], scale: 3)),
        new("1000 classes", new LogSoftmax(), Operand.Input("logits", [2, 1000])),
        new("one class", new LogSoftmax(), Operand.Input("logits", [3, 1])),
        new("near 10^4", new LogSoftmax(), Operand.Of("logits", [2, 4], 1e4, 1e4 - 1, 1e4 - 2.5, 1e4 - 40, -1e4, -1e4 + 3, -1e4 - 1, -1e4)),
        new("10^4 apart", new LogSoftmax(), Operand.Of("logits", [2, 3], 1e4, -1e4, 0, -1e4, -1e4 + 1, 1e4)),
        LogSoftmaxBack("logits", [4, 10]),
        LogSoftmaxBack("1000 classes", [2, 1000]),
        LogSoftmaxBack("10^4 apart", [2, 3], 1e4, -1e4, 0, -1e4, -1e4 + 1, 1e4),
        new("labels", new LabelGradient(), Operand.Input("logits", [5, 10], scale: 3), Operand.Labels("labels", 5, 10)),
        new("1000 classes, factor", new LabelGradient(-2.5f), Operand.Input("logits", [3, 1000]), Operand.Labels("labels", 3, 1000)),
        new("one class", new LabelGradient(), Operand.Input("logits", [2, 1]), Operand.Labels("labels", 2, 1)),
        new("near 10^4", new LabelGradient(), Operand.Of("logits", [2, 4], 1e4, 1e4 - 1, 1e4 - 2.5, 1e4 - 40, -1e4, -1e4 + 3, -1e4 - 1, -1e4), Operand.Labels("labels", 2, 4)),
        new("10^4 apart", new LabelGradient(), Operand.Of("logits", [2, 3], 1e4, -1e4, 0, -1e4, -1e4 + 1, 1e4), Operand.Labels("labels", 2, 3)),
        new("labels", new SelectLabel(), Operand.Input("x", [5, 10]), Operand.Labels("labels", 5, 10)),
        new("one class", new SelectLabel(), Operand.Input("x", [1, 1]), Operand.Labels("labels", 1, 1)),
        new("labels", new ScatterLabel(10), Operand.Input("x", [5]), Operand.Labels("labels", 5, 10)),
        new("one class", new ScatterLabel(1), Operand.Input("x", [1]), Operand.Labels("labels", 1, 1)),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Embedding(), [I(4)], "takes 2 inputs, got 1"),
        new(new Embedding(), [F(4), F(10, 8)], "labels [N] must be I32", "f32[4]"),
        new(new Embedding(), [I(4, 1), F(10, 8)], "labels [N] must have 1 axes", "i32[4, 1]"),
        new(new Embedding(), [I(4), F(80)], "table [K, D] must have 2 axes", "f32[80]"),
        new(new TimestepEmbedding(8), [], "takes 1 inputs, got 0"),
        new(new TimestepEmbedding(8), [I(4)], "t [N] must be F32", "i32[4]"),
        new(new TimestepEmbedding(8), [F(4, 1)], "t [N] must have 1 axes", "f32[4, 1]"),
        new(new TimestepEmbedding(1), [F(4)], "an embedding of width 1 holds no wave"),
        new(new TimestepEmbeddingGradient(100), [F(4, 8)], "takes 2 inputs, got 1"),
        new(new TimestepEmbeddingGradient(100), [F(4), F(4)], "dy [N, D] must have 2 axes", "f32[4]"),
        new(new TimestepEmbeddingGradient(100), [F(4, 8), F(5)], "t [N] must be [4]", "f32[5]"),
        new(new LogSoftmax(), [], "takes 1 inputs, got 0"),
        new(new LogSoftmax(), [F(2, 3, 4)], "logits [N, K] must have 2 axes", "f32[2, 3, 4]"),
        new(new LogSoftmaxGradient(), [F(2, 3)], "takes 2 inputs, got 1"),
        new(new LogSoftmaxGradient(), [F(6), F(2, 3)], "dy [N, K] must have 2 axes", "f32[6]"),
        new(new LogSoftmaxGradient(), [F(2, 3), F(3, 2)], "y [N, K] must be [2, 3]", "f32[3, 2]"),
        new(new LabelGradient(), [F(2, 3)], "takes 2 inputs, got 1"),
        new(new LabelGradient(), [F(6), I(2)], "logits [N, K] must have 2 axes", "f32[6]"),
        new(new LabelGradient(), [F(2, 3), I(3)], "labels [N] must be [2]", "i32[3]"),
        new(new LabelGradient(), [F(2, 3), F(2)], "labels [N] must be I32", "f32[2]"),
        new(new SelectLabel(), [F(2, 3)], "takes 2 inputs, got 1"),
        new(new SelectLabel(), [F(6), I(2)], "x [N, K] must have 2 axes", "f32[6]"),
        new(new SelectLabel(), [F(2, 3), I(3)], "labels [N] must be [2]", "i32[3]"),
        new(new SelectLabel(), [F(2, 3), F(2)], "labels [N] must be I32", "f32[2]"),
        new(new ScatterLabel(3), [F(2)], "takes 2 inputs, got 1"),
        new(new ScatterLabel(3), [F(2, 3), I(2)], "x [N] must have 1 axes", "f32[2, 3]"),
        new(new ScatterLabel(3), [F(2), I(3)], "labels [N] must be [2]", "i32[3]"),
        new(new ScatterLabel(0), [F(2), I(2)], "0 classes"),
    ];

    // The angle is a float32, as in the original: t = 999 times the fastest wave is off by up to 3e-5, and its sine with it.
    private static OpCase Waves(string name, int dimension, float period) =>
        new(name, new TimestepEmbedding(dimension, period), Operand.Of("t", [s_timesteps.Length], s_timesteps)) { Tolerance = 3e-5, GradientTolerance = 1e-4 };

    private static OpCase WavesBack(string name, int dimension, float period) =>
        new(name, new TimestepEmbeddingGradient(period), Operand.Input("dy", [s_timesteps.Length, dimension]), Operand.Of("t", [s_timesteps.Length], s_timesteps))
        {
            Tolerance = 1e-4,
        };

    private static OpCase LogSoftmaxBack(string name, Shape shape, params double[] logits) => new(
        name,
        new LogSoftmaxGradient(),
        Operand.Input("dy", shape),
        Operand.Of("y", shape, Reference.LogSoftmax(logits.Length > 0 ? logits : TestModels.Normals(new Random(3), shape.Elements), shape[1])));
}
