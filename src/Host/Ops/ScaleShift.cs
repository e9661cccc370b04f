using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Modulation by the embedding: y[n,…,c] = x[n,…,c] · (1 + scale[n,c]) + shift[n,c].</summary>
/// <remarks>
/// Inputs: x <c>[N, …, C]</c>, scale-and-shift <c>[N, 2C]</c>, scales first. Output: <c>[N, …, C]</c>.
/// Source: <c>use_scale_shift_norm</c> of guided-diffusion's <c>ResBlock</c>.
/// </remarks>
public sealed record ScaleShift : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => Check(inputs, "x");

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 2L * node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Tensor dy = scope.Of(node.Output)!;
        (Tensor x, Tensor scaleShift) = (node.Inputs[0], node.Inputs[1]);
        if (scope.Wants(x))
        {
            scope.Accumulate(x, scope.Emit(new ScaleShiftGradient(), dy, scaleShift));
        }

        if (scope.Wants(scaleShift))
        {
            Tensor dScale = scope.Emit(new SpatialSum(), scope.Emit(new Multiply(), dy, x));
            scope.Accumulate(scaleShift, scope.Emit(new Concat(), dScale, scope.Emit(new SpatialSum(), dy)));
        }
    }

    internal static IReadOnlyList<TensorType> Check(OpInputs inputs, string name)
    {
        inputs.ExpectCount(2);
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, $"{name} [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2, $"{name} [N, ..., C] must have at least two axes, got {inputs[0]}");
        inputs.ExpectShape(1, "scale and shift [N, 2C]", [x[0], 2 * x[-1]]);
        return [new TensorType(x)];
    }
}

/// <summary>Gradient of <see cref="ScaleShift"/> with respect to x: dx[n,…,c] = dy[n,…,c] · (1 + scale[n,c]).</summary>
/// <remarks>Inputs: dy <c>[N, …, C]</c>, scale-and-shift <c>[N, 2C]</c>. Output: dx.</remarks>
public sealed record ScaleShiftGradient : GradientOp
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => ScaleShift.Check(inputs, "dy");

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 2L * node.Output.Shape.Elements;
    }
}
