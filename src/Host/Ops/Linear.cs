using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Affine map of the innermost axis: y[…,m] = Σ x[…,k] · w[m,k] (+ bias[m]) (+ residual[…,m]).</summary>
/// <param name="Bias">Whether a bias is added.</param>
/// <param name="Residual">Whether a tensor of the output's shape is added.</param>
/// <remarks>
/// Inputs: x <c>[…, K]</c>, w <c>[M, K]</c> (or with trailing extents of 1, as a 1x1 convolution's), then bias <c>[M]</c> and residual <c>[…, M]</c> if
/// declared. Output: <c>[…, M]</c>. Source: <c>torch.nn.functional.linear</c>; also <c>conv1d</c> with a window of one.
/// </remarks>
public sealed record Linear(bool Bias = false, bool Residual = false) : Op
{
    /// <summary>Position of the residual among the inputs.</summary>
    internal int ResidualInput => Bias ? 3 : 2;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Residual ? [ResidualInput] : [];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2 + (Bias ? 1 : 0) + (Residual ? 1 : 0));
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, "x [..., K]", DType.F32);
        (int m, int k) = Extents(inputs);
        inputs.Expect(x.Rank >= 1 && x[-1] == k, $"the weight takes {k} features, x is {inputs[0]}");
        Shape y = x.With(-1, m);
        if (Bias)
        {
            inputs.ExpectShape(2, "bias [M]", [m]);
        }

        if (Residual)
        {
            inputs.ExpectShape(ResidualInput, "residual [..., M]", y);
        }

        return [new TensorType(y)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * ((2L * node.Inputs[0].Shape[-1]) + (Bias ? 1 : 0) + (Residual ? 1 : 0));
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.ExpectConstant(node.Inputs[1], "weight");
        if (Bias)
        {
            scope.ExpectConstant(node.Inputs[2], "bias");
        }

        Tensor dy = scope.Of(node.Output)!;
        if (scope.Wants(node.Inputs[0]))
        {
            scope.Accumulate(node.Inputs[0], scope.Emit(new LinearGradient(), dy, node.Inputs[1]));
        }

        if (Residual)
        {
            scope.Accumulate(node.Inputs[ResidualInput], dy);
        }
    }

    /// <summary>M and K of the weight, input 1, which may have trailing extents of 1.</summary>
    /// <param name="inputs">The inputs.</param>
    internal static (int M, int K) Extents(OpInputs inputs)
    {
        inputs.ExpectType(1, "weight [M, K]", DType.F32);
        Shape w = inputs[1].Shape;
        inputs.Expect(w.Rank >= 2 && w.Elements == w[0] * w[1], $"the weight must be [M, K], got {inputs[1]}");
        return (w[0], w[1]);
    }
}

/// <summary>Data gradient of <see cref="Linear"/>: dx[…,k] = Σ dy[…,m] · w[m,k] (+ residual[…,k]).</summary>
/// <param name="Residual">Whether a tensor of the output's shape is added: the gradient that another branch sends to the same tensor.</param>
/// <remarks>Inputs: dy <c>[…, M]</c>, w <c>[M, K]</c>, residual <c>[…, K]</c> if declared. Output: dx <c>[…, K]</c>.</remarks>
public sealed record LinearGradient(bool Residual = false) : GradientOp
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Residual ? [2] : [];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(Residual ? 3 : 2);
        inputs.ExpectType(0, "dy [..., M]", DType.F32);
        (int m, int k) = Linear.Extents(inputs);
        inputs.Expect(inputs[0].Shape.Rank >= 1 && inputs[0].Shape[-1] == m, $"the weight gives {m} features, dy is {inputs[0]}");
        Shape dx = inputs[0].Shape.With(-1, k);
        if (Residual)
        {
            inputs.ExpectShape(2, "residual [..., K]", dx);
        }

        return [new TensorType(dx)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * ((2L * node.Inputs[0].Shape[-1]) + (Residual ? 1 : 0));
    }
}
