using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Element-wise sum of two tensors of one shape.</summary>
public sealed record Add : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0, 1];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => Elementwise.InferBinary(inputs);

    /// <inheritdoc/>
    public override long Flops(Node node) => Elementwise.Flops(node);

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Tensor dy = scope.Of(node.Output)!;
        scope.Accumulate(node.Inputs[0], dy);
        scope.Accumulate(node.Inputs[1], dy);
    }
}

/// <summary>Element-wise product of two tensors of one shape.</summary>
public sealed record Multiply : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0, 1];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => Elementwise.InferBinary(inputs);

    /// <inheritdoc/>
    public override long Flops(Node node) => Elementwise.Flops(node);

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Tensor dy = scope.Of(node.Output)!;
        for (int i = 0; i < 2; i++)
        {
            if (scope.Wants(node.Inputs[i]))
            {
                scope.Accumulate(node.Inputs[i], scope.Emit(new Multiply(), dy, node.Inputs[1 - i]));
            }
        }
    }
}

/// <summary>A tensor of one value; it seeds a backward pass.</summary>
/// <param name="Shape">The extents.</param>
/// <param name="Value">The value of every element.</param>
public sealed record Fill(Shape Shape, float Value) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(0);
        return [new TensorType(Shape)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        // A constant: there is nothing to carry a gradient to.
    }
}

/// <summary>What element-wise ops share.</summary>
internal static class Elementwise
{
    public static IReadOnlyList<TensorType> InferUnary(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        inputs.ExpectType(0, "x", DType.F32);
        return [new TensorType(inputs[0].Shape)];
    }

    public static IReadOnlyList<TensorType> InferBinary(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        inputs.ExpectType(0, "the first operand", DType.F32);
        inputs.ExpectShape(1, "the second operand", inputs[0].Shape);
        return [new TensorType(inputs[0].Shape)];
    }

    // One operation per element.
    public static long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements;
    }
}
