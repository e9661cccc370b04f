using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Adds one value per image and channel: y[n,…,c] = x[n,…,c] + e[n,c].</summary>
/// <remarks>Inputs: x <c>[N, …, C]</c>, e <c>[N, C]</c>. Output: <c>[N, …, C]</c>. Source: <c>ResBlock</c> without <c>use_scale_shift_norm</c>.</remarks>
public sealed record AddEmbedding : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, "x [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2, $"x [N, ..., C] must have at least two axes, got {inputs[0]}");
        inputs.ExpectShape(1, "embedding [N, C]", [x[0], x[-1]]);
        return [new TensorType(x)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => Elementwise.Flops(node);

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Tensor dy = scope.Of(node.Output)!;
        scope.Accumulate(node.Inputs[0], dy);
        if (scope.Wants(node.Inputs[1]))
        {
            scope.Accumulate(node.Inputs[1], scope.Emit(new SpatialSum(), dy));
        }
    }
}

/// <summary>Adds a learned position: y[n,t,c] = x[n,t,c] + p[c,t].</summary>
/// <remarks>Inputs: x <c>[N, T, C]</c>, p <c>[C, T]</c> as the checkpoint stores it. Output: <c>[N, T, C]</c>. Source: <c>AttentionPool2d</c>.</remarks>
public sealed record AddPositional : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape x = inputs.ExpectRank(0, "x [N, T, C]", 3);
        inputs.ExpectShape(1, "positions [C, T]", [x[2], x[1]]);
        return [new TensorType(x)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => Elementwise.Flops(node);

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.ExpectConstant(node.Inputs[1], "positions");
        scope.Accumulate(node.Inputs[0], scope.Of(node.Output)!);
    }
}
