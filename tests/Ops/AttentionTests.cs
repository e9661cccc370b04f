using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

public sealed class AttentionTests : OpTests<AttentionTests>, IOpCases
{
    private static readonly QkvOrder[] s_orders = [QkvOrder.Legacy, QkvOrder.New];

    public static IEnumerable<OpCase> Cases =>
    [
        .. s_orders.SelectMany(order => new[]
        {
            // Images and token sequences, head sizes of the models and awkward ones, a token more than a square, a single token, scores that are far apart.
            Forward("8x8, two heads", [1, 8, 8], 2, 32, order),
            Forward("head size 64", [1, 4, 16], 1, 64, order),
            Forward("classifier pooling", [2, 65], 2, 32, order),
            Forward("odd, batch 3", [3, 7], 3, 5, order),
            Forward("one token", [2, 1], 2, 4, order),
            Forward("far apart", [1, 9], 1, 8, order, scale: 6),
            Backward("8x8, two heads", [1, 8, 8], 2, 32, order),
            Backward("classifier pooling", [2, 65], 2, 32, order),
            Backward("odd, batch 3", [3, 7], 3, 5, order),
        }),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Attention(1, QkvOrder.New), [], "takes 1 inputs, got 0"),
        new(new Attention(1, QkvOrder.New), [I(1, 4, 12)], "qkv [N, ..., 3C] must be F32", "i32[1, 4, 12]"),
        new(new Attention(1, QkvOrder.New), [F(4, 12)], "qkv [N, ..., 3C] must have at least three axes", "f32[4, 12]"),
        new(new Attention(5, QkvOrder.New), [F(1, 4, 12)], "12 channels cannot be split into q, k and v of 5 heads"),
        new(new Attention(0, QkvOrder.New), [F(1, 4, 12)], "12 channels cannot be split into q, k and v of 0 heads"),
        new(new AttentionGradient(1, QkvOrder.New), [F(1, 4, 4), F(1, 4, 12)], "takes 4 inputs, got 2"),
        new(new AttentionGradient(1, QkvOrder.New), [F(1, 4, 4), I(1, 4, 12), F(1, 4, 4), F(1, 1, 4)], "qkv [N, ..., 3C] must be F32"),
        new(new AttentionGradient(5, QkvOrder.New), [F(1, 4, 4), F(1, 4, 12), F(1, 4, 4), F(1, 1, 4)], "f32[1, 4, 12] cannot be split into q, k and v of 5 heads"),
        new(new AttentionGradient(1, QkvOrder.New), [F(1, 4, 8), F(1, 4, 12), F(1, 4, 4), F(1, 1, 4)], "dout [N, ..., C] must be [1, 4, 4]", "f32[1, 4, 8]"),
        new(new AttentionGradient(1, QkvOrder.New), [F(1, 4, 4), F(1, 4, 12), F(1, 4, 8), F(1, 1, 4)], "out [N, ..., C] must be [1, 4, 4]", "f32[1, 4, 8]"),
        new(new AttentionGradient(1, QkvOrder.New), [F(1, 4, 4), F(1, 4, 12), F(1, 4, 4), F(1, 1, 5)], "log-sum-exp [N, NH, T] must be [1, 1, 4]", "f32[1, 1, 5]"),
    ];

    private static OpCase Forward(string name, int[] tokens, int heads, int size, QkvOrder order, double scale = 1) =>
        new($"{name}, {order}", new Attention(heads, order), Operand.Input("qkv", [.. tokens, 3 * heads * size], scale))
        {
            // Products of scores that are far apart cancel in the softmax: its exponents carry the rounding of scores of some hundred.
            Tolerance = scale > 1 ? 1e-5 : 1e-6,
            GradientTolerance = scale > 1 ? 5e-5 : 5e-6,
        };

    private static OpCase Backward(string name, int[] tokens, int heads, int size, QkvOrder order)
    {
        Shape qkv = [.. tokens, 3 * heads * size], y = qkv.With(-1, heads * size);
        Shape lse = [tokens[0], heads, y.Elements / (tokens[0] * heads * size)];
        double[] Forward(IReadOnlyList<double[]> values, int output) => ReferenceInterpreter.Evaluate(new Attention(heads, order), [qkv], [values[1]])[output];
        return new OpCase(
            $"{name}, {order}",
            new AttentionGradient(heads, order),
            Operand.Input("dout", y),
            Operand.Input("qkv", qkv),
            Operand.From("out", y, v => Forward(v, 0)),
            Operand.From("log_sum_exp", lse, v => Forward(v, 1)))
        {
            Tolerance = 2e-6,
        };
    }
}
