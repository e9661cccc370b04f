using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>How the channels of a QKV tensor are ordered.</summary>
public enum QkvOrder
{
    /// <summary>Head by head, q, k, v within each: channel = head·3·HS + {q,k,v}·HS + d. <c>QKVAttentionLegacy</c>; improved-diffusion's <c>QKVAttention</c>.</summary>
    Legacy,

    /// <summary>All queries, then all keys, then all values: channel = {q,k,v}·NH·HS + head·HS + d. <c>QKVAttention</c> of guided-diffusion.</summary>
    New,
}

/// <summary>
/// Multi-head self-attention: per image and head, out = softmax(q·kᵀ / √HS) · v. As in the original, q and k are each multiplied by HS^(−1/4).
/// </summary>
/// <param name="Heads">Number of heads NH; it divides C.</param>
/// <param name="Order">Order of the channels of the QKV tensor.</param>
/// <remarks>
/// Input: qkv <c>[N, …, 3C]</c>, the axes between forming the T tokens. Outputs: out <c>[N, …, C]</c>, channel = head·HS + d;
/// log Σ exp of every row of scores <c>[N, NH, T]</c>, which the gradient reads.
/// Source: Vaswani et al. 2017; <c>QKVAttention</c> and <c>QKVAttentionLegacy</c> of guided-diffusion.
/// </remarks>
public sealed record Attention(int Heads, QkvOrder Order) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape qkv = inputs[0].Shape;
        inputs.ExpectType(0, "qkv [N, ..., 3C]", DType.F32);
        inputs.Expect(qkv.Rank >= 3, $"qkv [N, ..., 3C] must have at least three axes, got {inputs[0]}");
        inputs.Expect(Heads > 0 && qkv[-1] % (3 * Heads) == 0, $"{qkv[-1]} channels cannot be split into q, k and v of {Heads} heads");
        return [new TensorType(qkv.With(-1, qkv[-1] / 3)), new TensorType([qkv[0], Heads, Tokens(qkv)])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        Shape y = node.Output.Shape;
        return (4L * y.Elements * Tokens(y)) + (3L * y[0] * Heads * Tokens(y) * Tokens(y));
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        if (scope.Of(node.Outputs[1]) is not null)
        {
            throw new GraphException($"Attention '{node.Name}': no gradient is carried through its log-sum-exp");
        }

        AttentionGradient op = new(Heads, Order);
        scope.Accumulate(node.Inputs[0], scope.Emit(op, scope.Of(node.Output)!, node.Inputs[0], node.Output, node.Outputs[1]));
    }

    /// <summary>Number of tokens T of a tensor <c>[N, …, C]</c>.</summary>
    /// <param name="shape">The tensor's shape.</param>
    internal static int Tokens(Shape shape) => shape[0] * shape[-1] == 0 ? 0 : shape.Elements / (shape[0] * shape[-1]);
}

/// <summary>
/// Gradient of <see cref="Attention"/>. With P = softmax(S), S = q·kᵀ/√HS: dv = Pᵀ·dout, dP = dout·vᵀ, dS = P ∘ (dP − rowsum(dout ∘ out)),
/// dq = dS·k/√HS, dk = dSᵀ·q/√HS. P is computed again from the log-sum-exp, so no T×T matrix is kept.
/// </summary>
/// <param name="Heads">Number of heads NH.</param>
/// <param name="Order">Order of the channels of the QKV tensor.</param>
/// <remarks>
/// Inputs: dout <c>[N, …, C]</c>, qkv <c>[N, …, 3C]</c>, out <c>[N, …, C]</c>, log-sum-exp <c>[N, NH, T]</c>. Output: dqkv <c>[N, …, 3C]</c>.
/// Source: Dao et al. 2022, "FlashAttention", appendix B.
/// </remarks>
public sealed record AttentionGradient(int Heads, QkvOrder Order) : GradientOp
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(4);
        Shape qkv = inputs[1].Shape;
        inputs.ExpectType(1, "qkv [N, ..., 3C]", DType.F32);
        inputs.Expect(qkv.Rank >= 3 && Heads > 0 && qkv[-1] % (3 * Heads) == 0, $"{inputs[1]} cannot be split into q, k and v of {Heads} heads");
        inputs.ExpectShape(0, "dout [N, ..., C]", qkv.With(-1, qkv[-1] / 3));
        inputs.ExpectShape(2, "out [N, ..., C]", qkv.With(-1, qkv[-1] / 3));
        inputs.ExpectShape(3, "log-sum-exp [N, NH, T]", [qkv[0], Heads, Attention.Tokens(qkv)]);
        return [new TensorType(qkv)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        Shape dout = node.Inputs[0].Shape;
        return (10L * dout.Elements * Attention.Tokens(dout)) + (4L * dout[0] * Heads * Attention.Tokens(dout) * Attention.Tokens(dout));
    }
}
