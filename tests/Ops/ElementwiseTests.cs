using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

/// <summary>Ops that treat every element alike, and those that add or multiply a row to every pixel.</summary>
public sealed class ElementwiseTests : OpTests<ElementwiseTests>, IOpCases
{
    private static readonly Shape[] s_shapes = [[2, 8, 8, 32], [3, 5, 7, 11], [1], [3, 128], [9001]];

    private static readonly double[] s_extremes = [-1e4, -100, -20, -1e-3, -1e-30, 0, 1e-30, 1e-3, 1, 20, 100, 1e4];

    public static IEnumerable<OpCase> Cases =>
    [
        .. s_shapes.SelectMany(s => new OpCase[]
        {
            new($"{s}", new Add(), Operand.Input("a", s), Operand.Input("b", s)),
            new($"{s}", new Multiply(), Operand.Input("a", s), Operand.Input("b", s)),
            new($"{s}", new Fill(s, -1.25f)),
            new($"{s}, SiLU", new Activation(ActivationKind.SiLU), Operand.Input("x", s, scale: 3)),
            new($"{s}, ReLU", new Activation(ActivationKind.ReLU), Operand.Input("x", s, scale: 3)),
            new($"{s}, SiLU", new ActivationGradient(ActivationKind.SiLU), Operand.Input("dy", s), Operand.Input("x", s, scale: 3)),
            new($"{s}, ReLU", new ActivationGradient(ActivationKind.ReLU), Operand.Input("dy", s), Operand.Input("x", s, scale: 3)),
            new($"{s}", new AddBias(), Operand.Input("x", s), Operand.Weight("bias", [s[-1]])),
        }),
        .. s_shapes.Where(s => s.Rank >= 2).SelectMany(s => new OpCase[]
        {
            new($"{s}", new AddEmbedding(), Operand.Input("x", s), Operand.Input("embedding", [s[0], s[-1]])),
            new($"{s}", new ScaleShift(), Operand.Input("x", s), Operand.Input("scale_shift", [s[0], 2 * s[-1]])),
            new($"{s}", new ScaleShiftGradient(), Operand.Input("dy", s), Operand.Input("scale_shift", [s[0], 2 * s[-1]])),
            new($"{s}, mean", new SpatialSum(1f / 64), Operand.Input("x", s)),
            new($"{s}, mean", new SpatialBroadcast(s, 1f / 64), Operand.Input("x", [s[0], s[-1]])),
            new($"{s}, mean, residual", new SpatialBroadcast(s, 1f / 64, Residual: true), Operand.Input("x", [s[0], s[-1]]), Operand.Input("residual", s)),
        }),
        new("extremes, SiLU", new Activation(ActivationKind.SiLU), Operand.Of("x", [s_extremes.Length], s_extremes)),
        new("extremes, SiLU", new ActivationGradient(ActivationKind.SiLU), Operand.Input("dy", [s_extremes.Length]), Operand.Of("x", [s_extremes.Length], s_extremes)),
        new("tokens", new AddPositional(), Operand.Input("x", [2, 65, 32]), Operand.Weight("positions", [32, 65])),
        new("odd", new AddPositional(), Operand.Input("x", [3, 5, 7]), Operand.Weight("positions", [7, 5])),
        new("one element", new AddPositional(), Operand.Input("x", [1, 1, 1]), Operand.Weight("positions", [1, 1])),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Add(), [F(4)], "takes 2 inputs, got 1"),
        new(new Add(), [I(4), F(4)], "the first operand must be F32", "i32[4]"),
        new(new Add(), [F(4), I(4)], "the second operand must be F32", "i32[4]"),
        new(new Add(), [F(4, 1), F(4)], "the second operand must be [4, 1]", "f32[4]"),
        new(new Multiply(), [F(4), F(5)], "the second operand must be [4]", "f32[5]"),
        new(new Fill([4], 1), [F(4)], "takes 0 inputs, got 1"),
        new(new Activation(ActivationKind.SiLU), [F(4), F(4)], "takes 1 inputs, got 2"),
        new(new Activation(ActivationKind.ReLU), [I(4)], "x must be F32", "i32[4]"),
        new(new ActivationGradient(ActivationKind.SiLU), [F(4), F(5)], "the second operand must be [4]", "f32[5]"),
        new(new AddBias(), [F(4)], "takes 2 inputs, got 1"),
        new(new AddBias(), [I(4), F(4)], "x [..., C] must be F32", "i32[4]"),
        new(new AddBias(), [F(), F()], "x [..., C] must have at least one axis", "f32[]"),
        new(new AddBias(), [F(4, 3), F(4)], "bias [C] must be [3]", "f32[4]"),
        new(new AddEmbedding(), [F(4, 3)], "takes 2 inputs, got 1"),
        new(new AddEmbedding(), [I(4, 3), F(4, 3)], "x [N, ..., C] must be F32", "i32[4, 3]"),
        new(new AddEmbedding(), [F(3), F(4, 3)], "x [N, ..., C] must have at least two axes", "f32[3]"),
        new(new AddEmbedding(), [F(2, 5, 3), F(3)], "embedding [N, C] must be [2, 3]", "f32[3]"),
        new(new AddPositional(), [F(2, 5, 3)], "takes 2 inputs, got 1"),
        new(new AddPositional(), [F(5, 3), F(3, 5)], "x [N, T, C] must have 3 axes", "f32[5, 3]"),
        new(new AddPositional(), [F(2, 5, 3), F(5, 3)], "positions [C, T] must be [3, 5]", "f32[5, 3]"),
        new(new ScaleShift(), [F(2, 3)], "takes 2 inputs, got 1"),
        new(new ScaleShift(), [I(2, 3), F(2, 6)], "x [N, ..., C] must be F32", "i32[2, 3]"),
        new(new ScaleShift(), [F(3), F(2, 6)], "x [N, ..., C] must have at least two axes", "f32[3]"),
        new(new ScaleShift(), [F(2, 4, 3), F(2, 3)], "scale and shift [N, 2C] must be [2, 6]", "f32[2, 3]"),
        new(new ScaleShiftGradient(), [F(3), F(2, 6)], "dy [N, ..., C] must have at least two axes", "f32[3]"),
        new(new SpatialSum(), [F(2, 3), F(2, 3)], "takes 1 inputs, got 2"),
        new(new SpatialSum(), [I(2, 3)], "x [N, ..., C] must be F32", "i32[2, 3]"),
        new(new SpatialSum(), [F(3)], "x [N, ..., C] must have at least two axes", "f32[3]"),
        new(new SpatialBroadcast([2, 4, 3]), [], "takes 1 inputs, got 0"),
        new(new SpatialBroadcast([2, 4, 3], Residual: true), [F(2, 3), F(2, 3, 3)], "residual [N, ..., C] must be [2, 4, 3]", "f32[2, 3, 3]"),
        new(new SpatialBroadcast([3]), [F(3)], "the output [3] must have at least two axes"),
        new(new SpatialBroadcast([2, 4, 3]), [F(2, 4)], "x [N, C] must be [2, 3]", "f32[2, 4]"),
    ];
}
