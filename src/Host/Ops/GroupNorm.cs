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
/// <param name="Pool">Whether the result is averaged over 2x2 blocks (<see cref="Pool2x"/>), of an image of even height and width.</param>
/// <param name="TwoInputs">Whether the channels of x are followed by those of a second tensor (<see cref="Concat"/>); groups may lie across the border.</param>
/// <remarks>
/// Inputs: x <c>[N, …, C]</c>, γ <c>[C]</c>, β <c>[C]</c>, and if declared scale-and-shift <c>[N, 2C]</c>, scales first, and last the second tensor <c>[N, …, C₂]</c>, with which C counts
/// the channels of both everywhere else. Not both of pooling and a second tensor.
/// Outputs: y <c>[N, …, C]</c>, pooled <c>[N, H/2, W/2, C]</c>; statistics <c>[N, G, 2]</c>, mean and rstd, which the gradient reads.
/// Source: Wu and He 2018, "Group Normalization"; <c>GroupNorm32</c> and <c>use_scale_shift_norm</c> of guided-diffusion.
/// </remarks>
public sealed record GroupNorm(int Groups = 32, float Epsilon = 1e-5f, bool ScaleShift = false, bool SiLU = false, bool Pool = false, bool TwoInputs = false) : Op
{
    /// <summary>Position of the second tensor among the inputs.</summary>
    internal int SecondInput => ScaleShift ? 4 : 3;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Pool || TwoInputs ? [] : [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount((ScaleShift ? 4 : 3) + (TwoInputs ? 1 : 0));
        inputs.Expect(!Pool || !TwoInputs, "does not pool two tensors");
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, "x [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2, $"x [N, ..., C] must have at least two axes, got {inputs[0]}");
        if (TwoInputs)
        {
            inputs.ExpectType(SecondInput, "second x [N, ..., C2]", DType.F32);
            Shape second = inputs[SecondInput].Shape;
            inputs.Expect(second.Rank == x.Rank && second.With(-1, x[-1]) == x, $"{inputs[SecondInput]} does not fit beside {inputs[0]}");
            x = x.With(-1, x[-1] + second[-1]);
        }

        inputs.Expect(Groups > 0 && x[-1] % Groups == 0, $"{x[-1]} channels cannot be split into {Groups} groups");
        inputs.ExpectShape(1, "gamma [C]", [x[-1]]);
        inputs.ExpectShape(2, "beta [C]", [x[-1]]);
        if (ScaleShift)
        {
            inputs.ExpectShape(3, "scale and shift [N, 2C]", [x[0], 2 * x[-1]]);
        }

        inputs.Expect(!Pool || Pooling.Halves(x), $"{inputs[0]} is not an image of even height and width, whose result could be pooled");
        return [new TensorType(Pool ? Pooling.Halved(x) : x), new TensorType([x[0], Groups, 2])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (Pool ? 4 : 1) * (7L + (ScaleShift ? 2 : 0) + (SiLU ? 4 : 0) + (Pool ? 1 : 0));
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

        Tensor[] x = TwoInputs ? [node.Inputs[0], node.Inputs[SecondInput]] : [node.Inputs[0]];
        if (x.Any(scope.Wants))
        {
            GroupNormGradient op = new(Groups, ScaleShift, SiLU, Pool);
            IEnumerable<Tensor> parameters = node.Inputs.Skip(1).Take(!op.HasForwardParameters ? 1 : ScaleShift ? 3 : 2);
            Tensor dx = scope.Emit(op, [scope.Of(node.Output)!, TwoInputs ? scope.Emit(new Concat(), x) : x[0], node.Outputs[1], .. parameters]);
            if (TwoInputs)
            {
                Concat.Split(scope, dx, -1, x);
            }
            else
            {
                scope.Accumulate(x[0], dx);
            }
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
/// <param name="Pool">Whether the forward op averaged 2x2 blocks: dy is then <c>[N, H/2, W/2, C]</c>, and each element of it counts a quarter in four places.</param>
/// <param name="Residual">Whether a tensor is added to dx: the gradient that another branch sends to x.</param>
/// <param name="ResidualPool">Whether the residual is the gradient of a pooling of x, spread as dy is with <paramref name="Pool"/>.</param>
/// <remarks>
/// Inputs: dy <c>[N, …, C]</c>, x <c>[N, …, C]</c>, statistics <c>[N, G, 2]</c>, γ <c>[C]</c>; with scale-and-shift or SiLU also β <c>[C]</c>; with the former
/// also scale-and-shift <c>[N, 2C]</c>; last the residual, like dx or <c>[N, H/2, W/2, C]</c>, if declared. Output: dx <c>[N, …, C]</c>.
/// </remarks>
public sealed record GroupNormGradient(int Groups, bool ScaleShift = false, bool SiLU = false, bool Pool = false, bool Residual = false, bool ResidualPool = false) : GradientOp
{
    /// <summary>Position of the residual among the inputs.</summary>
    internal int ResidualInput => 4 + (HasForwardParameters ? 1 : 0) + (ScaleShift ? 1 : 0);

    /// <summary>Whether β (and scale-and-shift) are needed to follow the forward pass again.</summary>
    internal bool HasForwardParameters => ScaleShift || SiLU;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Pool ? [] : [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(ResidualInput + (Residual ? 1 : 0));
        inputs.Expect(Residual || !ResidualPool, "there is no residual to spread");
        Shape x = inputs[1].Shape;
        inputs.ExpectType(1, "x [N, ..., C]", DType.F32);
        inputs.Expect(x.Rank >= 2 && Groups > 0 && x[-1] % Groups == 0, $"{inputs[1]} cannot be split into {Groups} groups of channels");
        inputs.Expect(!(Pool || ResidualPool) || Pooling.Halves(x), $"{inputs[1]} is not an image of even height and width, which could have been pooled");
        inputs.ExpectShape(0, "dy [N, ..., C]", Pool ? Pooling.Halved(x) : x);
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

        if (Residual)
        {
            inputs.ExpectShape(ResidualInput, "residual [N, ..., C]", ResidualPool ? Pooling.Halved(x) : x);
        }

        return [new TensorType(x)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (12L + (ScaleShift ? 3 : 0) + (SiLU ? 8 : 0) + (Pool ? 1 : 0) + (Residual ? 1 : 0) + (ResidualPool ? 1 : 0));
    }
}
