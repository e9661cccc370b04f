using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Looks rows up: y[n,d] = table[label[n], d].</summary>
/// <remarks>Inputs: labels <c>[N]</c> of <see cref="DType.I32"/>, table <c>[K, D]</c>. Output: <c>[N, D]</c>. Source: <c>label_emb</c> of <c>UNetModel</c>.</remarks>
public sealed record Embedding : Op
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape labels = inputs.ExpectRank(0, "labels [N]", 1, DType.I32);
        Shape table = inputs.ExpectRank(1, "table [K, D]", 2);
        return [new TensorType([labels[0], table[1]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override Cost Cost(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return new Cost(node.Output.Bytes + node.Inputs[0].Bytes, node.Output.Bytes, 0);
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);

        // Labels are integers and the table is a weight: nothing to carry a gradient to.
        scope.ExpectConstant(node.Inputs[1], "table");
    }
}

/// <summary>
/// Sinusoidal embedding of the timestep: with ω_i = period^(−i/h), h = ⌊D/2⌋, y[n,i] = cos(t_n·ω_i), y[n,h+i] = sin(t_n·ω_i); an odd D ends with a zero.
/// </summary>
/// <param name="Dimension">Width D.</param>
/// <param name="MaxPeriod">Period of the slowest wave.</param>
/// <remarks>Input: t <c>[N]</c>, possibly fractional. Output: <c>[N, D]</c>. Source: <c>timestep_embedding</c> of guided-diffusion's <c>nn.py</c>.</remarks>
public sealed record TimestepEmbedding(int Dimension, float MaxPeriod = 10000) : Op
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape t = inputs.ExpectRank(0, "t [N]", 1);
        inputs.Expect(Dimension >= 2, $"an embedding of width {Dimension} holds no wave");
        return [new TensorType([t[0], Dimension])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 3L * node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new TimestepEmbeddingGradient(MaxPeriod), scope.Of(node.Output)!, node.Inputs[0]));
    }
}

/// <summary>Gradient of <see cref="TimestepEmbedding"/>: dt[n] = Σ_i ω_i · (cos(t·ω_i) · dy[n,h+i] − sin(t·ω_i) · dy[n,i]).</summary>
/// <param name="MaxPeriod">Period of the slowest wave.</param>
/// <remarks>Inputs: dy <c>[N, D]</c>, t <c>[N]</c>. Output: dt <c>[N]</c>.</remarks>
public sealed record TimestepEmbeddingGradient(float MaxPeriod) : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape dy = inputs.ExpectRank(0, "dy [N, D]", 2);
        inputs.ExpectShape(1, "t [N]", [dy[0]]);
        return [new TensorType([dy[0]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 5L * node.Inputs[0].Shape.Elements;
    }
}
