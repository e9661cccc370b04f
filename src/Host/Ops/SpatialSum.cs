using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Sums over the positions of an image: y[n,c] = factor · Σ x[n,…,c]. A factor of 1/(H·W) makes it the mean.</summary>
/// <param name="Factor">Multiplies the sum.</param>
/// <remarks>Input: x <c>[N, …, C]</c>. Output: <c>[N, C]</c>. Source: <c>AdaptiveAvgPool2d((1, 1))</c>, <c>mean(dim=(2, 3))</c>.</remarks>
public sealed record SpatialSum(float Factor = 1) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, "x [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2, $"x [N, ..., C] must have at least two axes, got {inputs[0]}");
        return [new TensorType([x[0], x[-1]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Inputs[0].Shape.Elements + (long)node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new SpatialBroadcast(node.Inputs[0].Shape, Factor), scope.Of(node.Output)!));
    }
}

/// <summary>The adjoint of <see cref="SpatialSum"/>: y[n,…,c] = factor · x[n,c] (+ residual[n,…,c]).</summary>
/// <param name="Shape">Shape of the output <c>[N, …, C]</c>.</param>
/// <param name="Factor">Multiplies the value.</param>
/// <param name="Residual">Whether a tensor of the output's shape is added.</param>
/// <remarks>Inputs: x <c>[N, C]</c>, residual <c>[N, …, C]</c> if declared. Output: <c>[N, …, C]</c>.</remarks>
public sealed record SpatialBroadcast(Shape Shape, float Factor = 1, bool Residual = false) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Residual ? [1] : [];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(Residual ? 2 : 1);
        inputs.Expect(Shape.Rank >= 2, $"the output {Shape} must have at least two axes");
        inputs.ExpectShape(0, "x [N, C]", [Shape[0], Shape[-1]]);
        if (Residual)
        {
            inputs.ExpectShape(1, "residual [N, ..., C]", Shape);
        }

        return [new TensorType(Shape)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (Residual ? 2L : 1L);
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Tensor dy = scope.Of(node.Output)!;
        if (scope.Wants(node.Inputs[0]))
        {
            scope.Accumulate(node.Inputs[0], scope.Emit(new SpatialSum(Factor), dy));
        }

        if (Residual)
        {
            scope.Accumulate(node.Inputs[1], dy);
        }
    }
}
