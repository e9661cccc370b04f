using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>The same values under another shape. A view: it shares storage and launches nothing.</summary>
/// <param name="Shape">The new extents, of as many elements.</param>
public sealed record Reshape(Shape Shape) : Op
{
    /// <inheritdoc/>
    public override bool IsView => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        inputs.Expect(inputs[0].Kind != TensorKind.Weight, $"weight {inputs[0]} keeps the shape that the checkpoint gives it");
        inputs.Expect(inputs[0].Shape.Elements == Shape.Elements, $"{inputs[0]} does not have the elements of {Shape}");
        return [new TensorType(Shape, inputs[0].DType)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new Reshape(node.Inputs[0].Shape), scope.Of(node.Output)!));
    }
}
