using Kernels.Ops;

namespace Kernels.Diffusion.Steps;

/// <summary>
/// Inpainting: puts what is known of an image, at the noise level that a step has reached, into the step's result, and where resampling goes back up, adds the noise of that
/// jump (Lugmayr et al. 2022, "RePaint", equation 8 and algorithm 1).
/// </summary>
/// <remarks>
/// y = f · (m · (a · x_0 + b · z) + (1 − m) · x) + g · z', with (a, b, f, g) the row of the current step (<see cref="InpaintingSchedule.Levels"/>) and z, z' the noise of
/// <see cref="RandomStreams.KnownNoise"/> and <see cref="RandomStreams.JumpNoise"/>: functions of seed, image, step and position alone. Where m is 0 and no jump follows, y has the bits of x; where m is 1 at the
/// last step, those of x_0.
/// Inputs: x <c>[N, H, W, C]</c>; known image x_0 like x; mask m <c>[N, H, W, 1]</c> in [0, 1], 1 for what is known; levels <c>[S, 4]</c>; step counter <c>[1]</c>; seed <c>[2]</c>; image
/// indices <c>[N, 2]</c>. Output: like x, possibly in its place.
/// </remarks>
public sealed record KnownRegion : GradientOp
{
    /// <summary>Position of the levels among the inputs; counter, seed and image indices follow.</summary>
    internal const int Levels = 3;

    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(7);
        Shape x = inputs.ExpectRank(0, "x [N, H, W, C]", 4);
        inputs.ExpectShape(1, "known image", x);
        inputs.ExpectShape(2, "mask [N, H, W, 1]", x.With(3, 1));
        Shape levels = inputs.ExpectRank(Levels, $"levels [S, {InpaintingSchedule.Columns}]", 2);
        inputs.Expect(levels[1] == InpaintingSchedule.Columns, $"the levels must have {InpaintingSchedule.Columns} columns, got {inputs[Levels]}");
        inputs.ExpectShape(Levels + 1, "step counter [1]", [1], DType.I32);
        StepInputs.ExpectSeed(inputs, Levels + 2, x[0]);
        return [new TensorType(x)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements * (6L + StepNoise.FlopsPerElement);
    }
}
