using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

/// <summary>Ops that move elements: along an axis, or nowhere at all.</summary>
public sealed class AxisTests : OpTests<AxisTests>, IOpCases
{
    public static IEnumerable<OpCase> Cases =>
    [
        new("skip connection", new Concat(), Operand.Input("a", [2, 8, 8, 32]), Operand.Input("b", [2, 8, 8, 64])),
        new("both halves", new Concat(0), Operand.Input("a", [2, 4, 4, 3]), Operand.Input("b", [2, 4, 4, 3])),
        new("mean token", new Concat(1), Operand.Input("a", [3, 1, 32]), Operand.Input("b", [3, 16, 32])),
        new("three, odd", new Concat(-2), Operand.Input("a", [3, 2, 5]), Operand.Input("b", [3, 1, 5]), Operand.Input("c", [3, 4, 5])),
        new("one", new Concat(-1), Operand.Input("a", [3, 5])),
        new("labels", new Concat(0), Operand.Labels("a", 3, 10), Operand.Labels("b", 4, 10)),
        new("channels", new Slice(-1, 5, 7), Operand.Input("x", [2, 3, 4, 17])),
        new("first token", new Slice(1, 0, 1), Operand.Input("x", [2, 17, 32])),
        new("second image", new Slice(0, 1, 1), Operand.Input("x", [2, 4, 4, 3])),
        new("all", new Slice(0, 0, 4), Operand.Input("x", [4])),
        new("labels", new Slice(0, 1, 2), Operand.Labels("x", 4, 10)),
        new("channels", new Pad(-1, 2, 3), Operand.Input("x", [2, 3, 4, 5])),
        new("in front", new Pad(0, 2, 0), Operand.Input("x", [3, 5])),
        new("behind", new Pad(1, 0, 4), Operand.Input("x", [2, 3, 5])),
        new("by nothing", new Pad(0, 0, 0), Operand.Input("x", [3])),
        new("tokens", new Reshape([2, 16, 8]), Operand.Input("x", [2, 4, 4, 8])),
        new("to one axis", new Reshape([24]), Operand.Input("x", [2, 3, 4])),
        new("labels", new Reshape([2, 3]), Operand.Labels("x", 6, 10)),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Concat(), [], "takes at least one input", "got 0"),
        new(new Concat(2), [F(2, 3)], "axis 2 is not one of", "f32[2, 3]"),
        new(new Concat(-3), [F(2, 3)], "axis -3 is not one of", "f32[2, 3]"),
        new(new Concat(), [F(2, 3), F(3, 3)], "operand1: f32[3, 3] does not fit operand0: f32[2, 3] along axis -1"),
        new(new Concat(), [F(2, 3), F(2, 3, 1)], "operand1: f32[2, 3, 1] does not fit operand0: f32[2, 3] along axis -1"),
        new(new Concat(), [F(2, 3), I(2, 3)], "input 1 must be F32", "i32[2, 3]"),
        new(new Slice(0, 0, 1), [F(2), F(2)], "takes 1 inputs, got 2"),
        new(new Slice(1, 0, 1), [F(2)], "axis 1 is not one of", "f32[2]"),
        new(new Slice(0, 2, 3), [F(4)], "2..5 is not within axis 0", "f32[4]"),
        new(new Slice(0, -1, 3), [F(4)], "-1..2 is not within axis 0", "f32[4]"),
        new(new Slice(0, 1, int.MaxValue), [F(4)], "is not within axis 0", "f32[4]"),
        new(new Pad(0, 1, 1), [], "takes 1 inputs, got 0"),
        new(new Pad(0, 1, 1), [I(2)], "x must be F32", "i32[2]"),
        new(new Pad(-2, 1, 1), [F(2)], "axis -2 is not one of", "f32[2]"),
        new(new Pad(0, -1, 1), [F(2)], "cannot pad by -1 and 1"),
        new(new Reshape([2, 3]), [F(6), F(6)], "takes 1 inputs, got 2"),
        new(new Reshape([2, 3]), [F(7)], "f32[7] does not have the elements of [2, 3]"),
    ];
}
