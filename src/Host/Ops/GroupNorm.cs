using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>
/// Group normalisation: n = (x − μ_g) · rstd_g · γ_c + β_c over each group of C/G channels of one image, rstd = 1/√(σ² + ε) with the biased variance;
/// fused, n · (1 + scale) + shift and SiLU follow in the same pass.
/// </summary>
/// <param name="Groups">Number of groups G; it divides C.</param>
/// <param name="Epsilon">Added to the variance.</param>
/// <param name="ScaleShift">Whether scale and shift per image and channel are applied (see <see cref="Ops.ScaleShift"/>).</param>
/// <param name="SiLU">Whether SiLU is applied last.</param>
/// <remarks>
/// Inputs: x <c>[N, …, C]</c>, γ <c>[C]</c>, β <c>[C]</c>, and if declared scale-and-shift <c>[N, 2C]</c>, scales first.
/// Outputs: y <c>[N, …, C]</c>; statistics <c>[N, G, 2]</c>, mean and rstd, which the gradient reads.
/// Source: Wu and He 2018, "Group Normalization"; <c>GroupNorm32</c> and <c>use_scale_shift_norm</c> of guided-diffusion.
/// </remarks>
public sealed record GroupNorm(int Groups = 32, float Epsilon = 1e-5f, bool ScaleShift = false, bool SiLU = false) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(ScaleShift ? 4 : 3);
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, "x [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2, $"x [N, ..., C] must have at least two axes, got {inputs[0]}");
        inputs.Expect(Groups > 0 && x[-1] % Groups == 0, $"{x[-1]} channels cannot be split into {Groups} groups");
        inputs.ExpectShape(1, "gamma [C]", [x[-1]]);
        inputs.ExpectShape(2, "beta [C]", [x[-1]]);
        if (ScaleShift)
        {
            inputs.ExpectShape(3, "scale and shift [N, 2C]", [x[0], 2 * x[-1]]);
        }

        return [new TensorType(x), new TensorType([x[0], Groups, 2])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (7L + (ScaleShift ? 2 : 0) + (SiLU ? 4 : 0));
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.ExpectConstant(node.Inputs[1], "gamma");
        scope.ExpectConstant(node.Inputs[2], "beta");
        if (ScaleShift)
        {
            // The unfused form carries one: differentiation comes before fusion.
            scope.ExpectConstant(node.Inputs[3], "scale and shift");
        }

        if (scope.Of(node.Outputs[1]) is not null)
        {
            throw new GraphException($"GroupNorm '{node.Name}': no gradient is carried through its statistics");
        }

        Tensor dy = scope.Of(node.Output)!;
        Tensor x = node.Inputs[0];
        if (scope.Wants(x))
        {
            GroupNormGradient op = new(Groups, ScaleShift, SiLU);
            scope.Accumulate(x, op.HasForwardParameters
                ? ScaleShift
                    ? scope.Emit(op, dy, x, node.Outputs[1], node.Inputs[1], node.Inputs[2], node.Inputs[3])
                    : scope.Emit(op, dy, x, node.Outputs[1], node.Inputs[1], node.Inputs[2])
                : scope.Emit(op, dy, x, node.Outputs[1], node.Inputs[1]));
        }
    }
}

/// <summary>
/// Data gradient of <see cref="GroupNorm"/>. With x̂ = (x − μ)·rstd and g = dy · γ (through SiLU and scale first, where those are fused):
/// dx = rstd · (g − mean(g) − x̂ · mean(g · x̂)), means over the group.
/// </summary>
/// <param name="Groups">Number of groups of the forward op.</param>
/// <param name="ScaleShift">Whether the forward op applied scale and shift.</param>
/// <param name="SiLU">Whether the forward op applied SiLU; the pre-activation is computed again from x.</param>
/// <remarks>
/// Inputs: dy <c>[N, …, C]</c>, x <c>[N, …, C]</c>, statistics <c>[N, G, 2]</c>, γ <c>[C]</c>; with scale-and-shift or SiLU also β <c>[C]</c>; with the former
/// also scale-and-shift <c>[N, 2C]</c>. Output: dx <c>[N, …, C]</c>.
/// </remarks>
public sealed record GroupNormGradient(int Groups, bool ScaleShift = false, bool SiLU = false) : GradientOp
{
    /// <summary>Whether β (and scale-and-shift) are needed to follow the forward pass again.</summary>
    internal bool HasForwardParameters => ScaleShift || SiLU;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(4 + (HasForwardParameters ? 1 : 0) + (ScaleShift ? 1 : 0));
        Shape x = inputs[1].Shape;
        inputs.ExpectType(1, "x [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2 && Groups > 0 && x[-1] % Groups == 0, $"{inputs[1]} cannot be split into {Groups} groups of channels");
        inputs.ExpectShape(0, "dy [N, ..., C]", x);
        inputs.ExpectShape(2, "statistics [N, G, 2]", [x[0], Groups, 2]);
        inputs.ExpectShape(3, "gamma [C]", [x[-1]]);
        if (HasForwardParameters)
        {
            inputs.ExpectShape(4, "beta [C]", [x[-1]]);
        }

        if (ScaleShift)
        {
            inputs.ExpectShape(5, "scale and shift [N, 2C]", [x[0], 2 * x[-1]]);
        }

        return [new TensorType(x)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (12L + (ScaleShift ? 3 : 0) + (SiLU ? 8 : 0));
    }
}
