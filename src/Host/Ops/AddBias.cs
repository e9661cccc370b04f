using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Adds one value per channel: y[…,c] = x[…,c] + bias[c].</summary>
/// <remarks>Inputs: x <c>[…, C]</c>, bias <c>[C]</c>. Output: <c>[…, C]</c>. The models emit it behind every convolution and linear layer; fusion folds it in.</remarks>
public sealed record AddBias : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        inputs.ExpectType(0, "x [..., C]", DType.F32);
        inputs.Expect(inputs[0].Shape.Rank >= 1, $"x [..., C] must have at least one axis, got {inputs[0]}");
        inputs.ExpectShape(1, "bias [C]", [inputs[0].Shape[-1]]);
        return [new TensorType(inputs[0].Shape)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => Elementwise.Flops(node);

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.ExpectConstant(node.Inputs[1], "bias");
        scope.Accumulate(node.Inputs[0], scope.Of(node.Output)!);
    }
}
