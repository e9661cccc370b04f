using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

public sealed class GroupNormTests : OpTests<GroupNormTests>, IOpCases
{
    private static readonly (bool ScaleShift, bool SiLU)[] s_fusions = [(false, false), (true, false), (false, true), (true, true)];

    public static IEnumerable<OpCase> Cases =>
    [
        .. s_fusions.SelectMany(f => new[]
        {
            // One channel per group, as in every small model; several; odd sizes; one group; few elements in a group; the classifier's [N, C].
            Forward("32 channels", [2, 8, 8, 32], 32, f),
            Forward("several per group", [1, 8, 8, 96], 32, f),
            Forward("odd, batch 3", [3, 5, 7, 33], 11, f),
            Forward("one group", [2, 3, 5, 5], 1, f),
            Forward("few elements", [1, 2, 2, 32], 32, f),
            Forward("no image axes", [3, 64], 4, f),
            Backward("32 channels", [2, 8, 8, 32], 32, f),
            Backward("several per group", [1, 8, 8, 96], 32, f),
            Backward("odd, batch 3", [3, 5, 7, 33], 11, f),
            Backward("one group", [2, 3, 5, 5], 1, f),
            Backward("no image axes", [3, 64], 4, f),
        }),
        .. s_fusions.SelectMany(f => new[]
        {
            // Pooled, and the gradient of that; two inputs whose border is within a group, and within a vector; the gradient of another branch.
            Forward("pooled", [2, 8, 8, 32], 32, f, pool: true),
            Forward("pooled, odd channels", [3, 6, 4, 21], 7, f, pool: true),
            Forward("two inputs", [2, 8, 8, 32], 32, f, second: 64),
            Forward("two inputs, border in a group", [3, 3, 5, 7], 4, f, second: 13),
            Forward("two inputs, no image axes", [3, 32], 4, f, second: 16),
            Backward("pooled", [2, 8, 8, 32], 32, f, pool: true),
            Backward("residual", [2, 8, 6, 64], 32, f, residual: true),
            Backward("residual, no image axes", [3, 60], 4, f, residual: true),
            Backward("pooled, residual pooled", [3, 12, 10, 21], 7, f, pool: true, residual: true, residualPool: true),
            Backward("residual pooled", [1, 4, 6, 16], 2, f, residual: true, residualPool: true),
        }),
        Forward("other epsilon", [1, 4, 4, 8], 4, (false, false), epsilon: 0.3f),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new GroupNorm(4), [F(1, 2, 8), F(8)], "takes 3 inputs, got 2"),
        new(new GroupNorm(4, ScaleShift: true), [F(1, 2, 8), F(8), F(8)], "takes 4 inputs, got 3"),
        new(new GroupNorm(4), [I(1, 2, 8), F(8), F(8)], "x [N, ..., C] must be F32", "i32[1, 2, 8]"),
        new(new GroupNorm(4), [F(8), F(8), F(8)], "x [N, ..., C] must have at least two axes", "f32[8]"),
        new(new GroupNorm(33), [F(1, 2, 320), F(320), F(320)], "320 channels cannot be split into 33 groups"),
        new(new GroupNorm(0), [F(1, 2, 8), F(8), F(8)], "8 channels cannot be split into 0 groups"),
        new(new GroupNorm(4), [F(1, 2, 8), F(4), F(8)], "gamma [C] must be [8]", "operand1: f32[4]"),
        new(new GroupNorm(4), [F(1, 2, 8), F(8), F(4)], "beta [C] must be [8]", "operand2: f32[4]"),
        new(new GroupNorm(4, ScaleShift: true), [F(1, 2, 8), F(8), F(8), F(1, 8)], "scale and shift [N, 2C] must be [1, 16]", "f32[1, 8]"),
        new(new GroupNorm(4, Pool: true), [F(1, 2, 8), F(8), F(8)], "f32[1, 2, 8] is not an image of even height and width"),
        new(new GroupNorm(4, Pool: true), [F(1, 4, 3, 8), F(8), F(8)], "f32[1, 4, 3, 8] is not an image of even height and width"),
        new(new GroupNorm(4, Pool: true, TwoInputs: true), [F(1, 4, 4, 8), F(8), F(8), F(1, 4, 4, 8)], "does not pool two tensors"),
        new(new GroupNorm(4, TwoInputs: true), [F(1, 4, 4, 8), F(8), F(8)], "takes 4 inputs, got 3"),
        new(new GroupNorm(4, TwoInputs: true), [F(1, 4, 4, 8), F(8), F(8), F(1, 4, 4, 8)], "gamma [C] must be [16]", "f32[8]"),
        new(new GroupNorm(4, TwoInputs: true), [F(1, 4, 4, 8), F(16), F(16), F(1, 4, 2, 8)], "f32[1, 4, 2, 8] does not fit beside", "f32[1, 4, 4, 8]"),
        new(new GroupNorm(4, TwoInputs: true), [F(1, 4, 4, 8), F(16), F(16), I(1, 4, 4, 8)], "second x [N, ..., C2] must be F32", "i32[1, 4, 4, 8]"),
        new(new GroupNormGradient(4, Residual: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8)], "takes 5 inputs, got 4"),
        new(new GroupNormGradient(4, Residual: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8), F(2, 8)], "residual [N, ..., C] must be [1, 8]", "f32[2, 8]"),
        new(new GroupNormGradient(4, ResidualPool: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8)], "there is no residual to spread"),
        new(new GroupNormGradient(4, Pool: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8)], "f32[1, 8] is not an image of even height and width"),
        new(new GroupNormGradient(4, Pool: true), [F(1, 4, 4, 8), F(1, 4, 4, 8), F(1, 4, 2), F(8)], "dy [N, ..., C] must be [1, 2, 2, 8]", "f32[1, 4, 4, 8]"),
        new(new GroupNormGradient(4), [F(1, 8), F(1, 8), F(1, 4, 2)], "takes 4 inputs, got 3"),
        new(new GroupNormGradient(4, SiLU: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8)], "takes 5 inputs, got 4"),
        new(new GroupNormGradient(4, ScaleShift: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8), F(8)], "takes 6 inputs, got 5"),
        new(new GroupNormGradient(4), [F(1, 8), I(1, 8), F(1, 4, 2), F(8)], "x [N, ..., C] must be F32", "i32[1, 8]"),
        new(new GroupNormGradient(3), [F(1, 8), F(1, 8), F(1, 4, 2), F(8)], "f32[1, 8] cannot be split into 3 groups"),
        new(new GroupNormGradient(4), [F(2, 8), F(1, 8), F(1, 4, 2), F(8)], "dy [N, ..., C] must be [1, 8]", "f32[2, 8]"),
        new(new GroupNormGradient(4), [F(1, 8), F(1, 8), F(1, 2, 2), F(8)], "statistics [N, G, 2] must be [1, 4, 2]", "f32[1, 2, 2]"),
        new(new GroupNormGradient(4), [F(1, 8), F(1, 8), F(1, 4, 2), F(4)], "gamma [C] must be [8]", "f32[4]"),
        new(new GroupNormGradient(4, SiLU: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8), F(4)], "beta [C] must be [8]", "f32[4]"),
        new(new GroupNormGradient(4, ScaleShift: true), [F(1, 8), F(1, 8), F(1, 4, 2), F(8), F(8), F(1, 8)], "scale and shift [N, 2C] must be [1, 16]", "f32[1, 8]"),
    ];

    private static OpCase Forward(string name, Shape x, int groups, (bool ScaleShift, bool SiLU) fused, float epsilon = 1e-5f, bool pool = false, int second = 0)
    {
        GroupNorm op = new(groups, epsilon, fused.ScaleShift, fused.SiLU, pool, second > 0);
        int channels = x[-1] + second;
        List<Operand> operands = [Operand.Input("x", x, scale: 2, offset: 0.5), Operand.Weight("gamma", [channels]), Operand.Weight("beta", [channels])];

        // The fused op is made after differentiation and carries gradients to x alone.
        operands.AddRange(fused.ScaleShift ? [Operand.Input("scale_shift", [x[0], 2 * channels], scale: 0.5) with { Constant = true }] : []);
        operands.AddRange(second > 0 ? [Operand.Input("second", x.With(-1, second), offset: -1)] : []);
        return new OpCase(Named(name, fused), op, operands);
    }

    private static OpCase Backward(
        string name, Shape x, int groups, (bool ScaleShift, bool SiLU) fused, bool pool = false, bool residual = false, bool residualPool = false)
    {
        GroupNormGradient op = new(groups, fused.ScaleShift, fused.SiLU, pool, residual, residualPool);
        List<Operand> operands =
        [
            Operand.Input("dy", pool ? Halved() : x),
            Operand.Input("x", x, scale: 2, offset: 0.5),
            Operand.From("statistics", [x[0], groups, 2], v =>
                ReferenceInterpreter.Evaluate(new GroupNorm(groups), [x], [v[1], new double[x[-1]], new double[x[-1]]])[1]),
            Operand.Weight("gamma", [x[-1]]),
        ];
        operands.AddRange(op.HasForwardParameters ? [Operand.Weight("beta", [x[-1]])] : []);
        operands.AddRange(fused.ScaleShift ? [Operand.Input("scale_shift", [x[0], 2 * x[-1]], scale: 0.5)] : []);
        operands.AddRange(residual ? [Operand.Input("residual", residualPool ? Halved() : x)] : []);

        // Two means are subtracted from each term, and rstd multiplies the rounding of what is left.
        return new OpCase(Named(name, fused), op, operands) { Tolerance = 2e-6 };

        Shape Halved() => [x[0], x[1] / 2, x[2] / 2, x[3]];
    }

    private static string Named(string name, (bool ScaleShift, bool SiLU) fused) =>
        name + (fused.ScaleShift ? ", scale and shift" : "") + (fused.SiLU ? ", SiLU" : "");
}
