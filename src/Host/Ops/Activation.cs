using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>The non-linearities of the models.</summary>
public enum ActivationKind
{
    /// <summary>x · σ(x), also called swish.</summary>
    SiLU,

    /// <summary>max(x, 0).</summary>
    ReLU,
}

/// <summary>Applies a non-linearity to every element.</summary>
/// <param name="Kind">Which one.</param>
public sealed record Activation(ActivationKind Kind) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => Elementwise.InferUnary(inputs);

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (Kind == ActivationKind.SiLU ? 4L : 1L);
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new ActivationGradient(Kind), scope.Of(node.Output)!, node.Inputs[0]));
    }
}

/// <summary>Gradient of <see cref="Activation"/>: dx = dy · f′(x), with SiLU′(x) = σ(x) · (1 + x · (1 − σ(x))).</summary>
/// <param name="Kind">Which non-linearity.</param>
/// <remarks>Inputs: dy, x of one shape. Output: dx.</remarks>
public sealed record ActivationGradient(ActivationKind Kind) : GradientOp
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0, 1];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => Elementwise.InferBinary(inputs);

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (Kind == ActivationKind.SiLU ? 8L : 1L);
    }
}
