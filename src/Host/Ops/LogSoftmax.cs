using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>y[n,k] = x[n,k] − m − log Σ_j exp(x[n,j] − m) with m the row's maximum.</summary>
/// <remarks>Input: logits <c>[N, K]</c>. Output: <c>[N, K]</c>. Source: <c>F.log_softmax(logits, dim=-1)</c> in guided-diffusion's <c>cond_fn</c>.</remarks>
public sealed record LogSoftmax : Op
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        return [new TensorType(inputs.ExpectRank(0, "logits [N, K]", 2))];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 5L * node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new LogSoftmaxGradient(), scope.Of(node.Output)!, node.Output));
    }
}

/// <summary>Gradient of <see cref="LogSoftmax"/>: dx[n,k] = dy[n,k] − exp(y[n,k]) · Σ_j dy[n,j].</summary>
/// <remarks>Inputs: dy <c>[N, K]</c>, y <c>[N, K]</c>, the forward output. Output: dx <c>[N, K]</c>.</remarks>
public sealed record LogSoftmaxGradient : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape dy = inputs.ExpectRank(0, "dy [N, K]", 2);
        inputs.ExpectShape(1, "y [N, K]", dy);
        return [new TensorType(dy)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 4L * node.Output.Shape.Elements;
    }
}

/// <summary>
/// Log-probability of the label and its gradient, from the logits: dx[n,k] = factor · ([k = label[n]] − softmax(x[n])[k]) and l[n] = log softmax(x[n])[label[n]]. What <c>cond_fn</c> takes
/// <see cref="LogSoftmax"/>, <see cref="SelectLabel"/> and the gradients of both for.
/// </summary>
/// <param name="Factor">Multiplies the gradient.</param>
/// <remarks>Inputs: logits <c>[N, K]</c>, labels <c>[N]</c> of <see cref="DType.I32"/>. Outputs: dx <c>[N, K]</c>; l <c>[N]</c>. The row's maximum is subtracted first.</remarks>
public sealed record LabelGradient(float Factor = 1) : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape x = inputs.ExpectRank(0, "logits [N, K]", 2);
        inputs.ExpectShape(1, "labels [N]", [x[0]], DType.I32);
        return [new TensorType(x), new TensorType([x[0]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 6L * node.Output.Shape.Elements;
    }
}

/// <summary>Picks the entry of the chosen label: y[n] = x[n, label[n]].</summary>
/// <remarks>Inputs: x <c>[N, K]</c>, labels <c>[N]</c> of <see cref="DType.I32"/>. Output: <c>[N]</c>.</remarks>
public sealed record SelectLabel : Op
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        Shape x = inputs.ExpectRank(0, "x [N, K]", 2);
        inputs.ExpectShape(1, "labels [N]", [x[0]], DType.I32);
        return [new TensorType([x[0]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        if (scope.Wants(node.Inputs[0]))
        {
            scope.Accumulate(node.Inputs[0], scope.Emit(new ScatterLabel(node.Inputs[0].Shape[1]), scope.Of(node.Output)!, node.Inputs[1]));
        }
    }
}

/// <summary>The adjoint of <see cref="SelectLabel"/>: y[n,k] = x[n] where k is the label, else zero.</summary>
/// <param name="Classes">Number of classes K.</param>
/// <remarks>Inputs: x <c>[N]</c>, labels <c>[N]</c> of <see cref="DType.I32"/>. Output: <c>[N, K]</c>.</remarks>
public sealed record ScatterLabel(int Classes) : Op
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        inputs.Expect(Classes > 0, $"cannot scatter into {Classes} classes");
        Shape x = inputs.ExpectRank(0, "x [N]", 1);
        inputs.ExpectShape(1, "labels [N]", x, DType.I32);
        return [new TensorType([x[0], Classes])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        if (scope.Wants(node.Inputs[0]))
        {
            scope.Accumulate(node.Inputs[0], scope.Emit(new SelectLabel(), scope.Of(node.Output)!, node.Inputs[1]));
        }
    }
}
