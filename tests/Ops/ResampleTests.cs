using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

public sealed class ResampleTests : OpTests<ResampleTests>, IOpCases
{
    public static IEnumerable<OpCase> Cases =>
    [
        new("average", new Pool2x(), Operand.Input("x", [2, 8, 8, 32])),
        new("sum, odd", new Pool2x(1), Operand.Input("x", [3, 5, 7, 3])),
        new("one pixel out", new Pool2x(), Operand.Input("x", [1, 2, 3, 1])),
        new("nearest", new Upsample2x(8, 16), Operand.Input("x", [2, 4, 8, 32])),
        new("adjoint of an odd pooling", new Upsample2x(5, 7, 0.25f), Operand.Input("x", [3, 2, 3, 3])),
        new("one pixel in", new Upsample2x(3, 2), Operand.Input("x", [1, 1, 1, 1])),
        new("x4", new BilinearUpsample(16, 16), Operand.Input("x", [2, 4, 4, 3])),
        new("x2", new BilinearUpsample(12, 8), Operand.Input("x", [1, 6, 4, 3])),
        new("odd ratio", new BilinearUpsample(7, 9), Operand.Input("x", [3, 3, 2, 2])),
        new("smaller", new BilinearUpsample(3, 2), Operand.Input("x", [1, 7, 5, 2])),
        new("from one pixel", new BilinearUpsample(4, 5), Operand.Input("x", [2, 1, 1, 3])),
        new("same size", new BilinearUpsample(4, 5), Operand.Input("x", [1, 4, 5, 2])),
        new("x4", new BilinearUpsampleGradient(4, 4), Operand.Input("dy", [2, 16, 16, 3])),
        new("odd ratio", new BilinearUpsampleGradient(3, 2), Operand.Input("dy", [3, 7, 9, 2])),
        new("smaller", new BilinearUpsampleGradient(7, 5), Operand.Input("dy", [1, 3, 2, 2])),
        new("to one pixel", new BilinearUpsampleGradient(1, 1), Operand.Input("dy", [2, 4, 5, 3])),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Pool2x(), [], "takes 1 inputs, got 0"),
        new(new Pool2x(), [F(4, 4, 3)], "x [N, H, W, C] must have 4 axes", "f32[4, 4, 3]"),
        new(new Pool2x(), [F(1, 1, 4, 3)], "f32[1, 1, 4, 3] is too small to be halved"),
        new(new Upsample2x(8, 8), [F(1, 4, 4, 3), F(1)], "takes 1 inputs, got 2"),
        new(new Upsample2x(8, 8), [F(4, 4, 3)], "x [N, H, W, C] must have 4 axes", "f32[4, 4, 3]"),
        new(new Upsample2x(8, 10), [F(1, 4, 4, 3)], "f32[1, 4, 4, 3] cannot be doubled to 8x10"),
        new(new BilinearUpsample(8, 8), [], "takes 1 inputs, got 0"),
        new(new BilinearUpsample(8, 8), [F(8, 8)], "x [N, H, W, C] must have 4 axes", "f32[8, 8]"),
        new(new BilinearUpsample(8, 0), [F(1, 4, 4, 3)], "cannot interpolate", "f32[1, 4, 4, 3] to 8x0"),
        new(new BilinearUpsampleGradient(8, 8), [], "takes 1 inputs, got 0"),
        new(new BilinearUpsampleGradient(8, 8), [F(8, 8)], "dy [N, OH, OW, C] must have 4 axes", "f32[8, 8]"),
        new(new BilinearUpsampleGradient(0, 8), [F(1, 4, 4, 3)], "an input of 0x8 cannot be interpolated"),
    ];
}
