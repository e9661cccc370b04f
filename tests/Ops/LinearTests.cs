using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

public sealed class LinearTests : OpTests<LinearTests>, IOpCases
{
    public static IEnumerable<OpCase> Cases =>
    [
        // The embedding, a block's modulation, QKV and output projections, the logits.
        Forward("time_embed", [4, 32], 128, bias: true),
        Forward("emb_layers", [2, 128], 384, bias: true),
        Forward("qkv", [2, 8, 8, 64], 192, bias: true, conv1d: true),
        Forward("proj_out, residual", [2, 4, 4, 64], 64, bias: true, residual: true, conv1d: true),
        Forward("logits", [3, 96], 10),
        Forward("residual", [5, 33], 17, residual: true),
        Forward("one element", [1], 1, bias: true),
        Forward("one row", [1, 257], 3),
        Forward("batch 3, odd", [3, 7, 5], 11, bias: true, residual: true),
        Backward("emb_layers", [2, 384], 128),
        Backward("qkv", [2, 16, 192], 64, conv1d: true),
        Backward("residual", [2, 4, 4, 64], 64, residual: true, conv1d: true),
        Backward("odd", [3, 7, 5], 11),
        Backward("one element", [1], 1),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Linear(), [F(2, 4)], "takes 2 inputs, got 1"),
        new(new Linear(), [I(2, 4), F(4, 4)], "x [..., K] must be F32", "i32[2, 4]"),
        new(new Linear(), [F(2, 4), I(4, 4)], "weight [M, K] must be F32", "i32[4, 4]"),
        new(new Linear(), [F(2, 4), F(4)], "the weight must be [M, K]", "f32[4]"),
        new(new Linear(), [F(2, 4), F(4, 4, 3)], "the weight must be [M, K]", "f32[4, 4, 3]"),
        new(new Linear(), [F(2, 4), F(3, 5)], "the weight takes 5 features", "f32[2, 4]"),
        new(new Linear(Bias: true), [F(2, 4), F(3, 4), F(4)], "bias [M] must be [3]", "f32[4]"),
        new(new Linear(Residual: true), [F(2, 4), F(3, 4), F(2, 4)], "residual [..., M] must be [2, 3]", "f32[2, 4]"),
        new(new LinearGradient(), [F(2, 4), F(4, 4), F(2, 4)], "takes 2 inputs, got 3"),
        new(new LinearGradient(), [I(2, 4), F(4, 4)], "dy [..., M] must be F32", "i32[2, 4]"),
        new(new LinearGradient(), [F(2, 4), I(4, 4)], "weight [M, K] must be F32", "i32[4, 4]"),
        new(new LinearGradient(), [F(2, 4), F(4, 4, 2)], "the weight must be [M, K]", "f32[4, 4, 2]"),
        new(new LinearGradient(), [F(2, 4), F(5, 4)], "the weight gives 5 features", "f32[2, 4]"),
        new(new LinearGradient(Residual: true), [F(2, 4), F(4, 3), F(2, 4)], "residual [..., K] must be [2, 3]", "f32[2, 4]"),
    ];

    private static OpCase Forward(string name, Shape x, int outputs, bool bias = false, bool residual = false, bool conv1d = false)
    {
        List<Operand> operands = [Operand.Input("x", x), Operand.Weight("weight", conv1d ? [outputs, x[-1], 1] : [outputs, x[-1]])];
        operands.AddRange(bias ? [Operand.Weight("bias", [outputs])] : []);
        operands.AddRange(residual ? [Operand.Input("residual", x.With(-1, outputs))] : []);
        return new OpCase(name, new Linear(bias, residual), operands);
    }

    private static OpCase Backward(string name, Shape dy, int inputs, bool residual = false, bool conv1d = false)
    {
        List<Operand> operands = [Operand.Input("dy", dy), Operand.Weight("weight", conv1d ? [dy[-1], inputs, 1] : [dy[-1], inputs])];
        operands.AddRange(residual ? [Operand.Input("residual", dy.With(-1, inputs))] : []);
        return new OpCase(name, new LinearGradient(residual), operands);
    }
}
