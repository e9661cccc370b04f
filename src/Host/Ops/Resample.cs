using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>How a tensor changes its resolution on the way to where it is used.</summary>
public enum Resampling
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>Doubled by nearest neighbour (<see cref="Upsample2x"/>).</summary>
    Up,

    /// <summary>Halved by averaging 2x2 blocks (<see cref="Pool2x"/>).</summary>
    Down,
}

/// <summary>Sums 2x2 blocks: y[n,i,j,c] = factor · Σ x[n,2i+a,2j+b,c]. A factor of 1/4 makes it average pooling.</summary>
/// <param name="Factor">Multiplies the sum.</param>
/// <remarks>
/// Input: x <c>[N, H, W, C]</c>. Output: <c>[N, ⌊H/2⌋, ⌊W/2⌋, C]</c>; an odd last row or column is dropped.
/// Source: <c>avg_pool_nd(2, kernel_size=2, stride=2)</c>, <c>Downsample</c> without convolution.
/// </remarks>
public sealed record Pool2x(float Factor = 0.25f) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape x = inputs.ExpectRank(0, "x [N, H, W, C]", 4);
        inputs.Expect(x[1] >= 2 && x[2] >= 2, $"{inputs[0]} is too small to be halved");
        return [new TensorType([x[0], x[1] / 2, x[2] / 2, x[3]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 4L * node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Shape x = node.Inputs[0].Shape;
        scope.Accumulate(node.Inputs[0], scope.Emit(new Upsample2x(x[1], x[2], Factor), scope.Of(node.Output)!));
    }
}

/// <summary>Nearest-neighbour doubling: y[n,i,j,c] = factor · x[n,⌊i/2⌋,⌊j/2⌋,c], zero where that lies outside x.</summary>
/// <param name="Height">Height of the output: 2H, or 2H + 1 in the gradient of pooling an odd height.</param>
/// <param name="Width">Width of the output: 2W or 2W + 1.</param>
/// <param name="Factor">Multiplies the value.</param>
/// <remarks>Input: x <c>[N, H, W, C]</c>. Output: <c>[N, Height, Width, C]</c>. Source: <c>F.interpolate(scale_factor=2, mode="nearest")</c>.</remarks>
public sealed record Upsample2x(int Height, int Width, float Factor = 1) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape x = inputs.ExpectRank(0, "x [N, H, W, C]", 4);
        inputs.Expect(Height / 2 == x[1] && Width / 2 == x[2], $"{inputs[0]} cannot be doubled to {Height}x{Width}");
        return [new TensorType([x[0], Height, Width, x[3]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return Factor == 1 ? 0 : node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new Pool2x(Factor), scope.Of(node.Output)!));
    }
}

/// <summary>What the ops that take in a 2x2 pooling or its gradient share.</summary>
internal static class Pooling
{
    /// <summary>Whether a shape is that of images <c>[N, H, W, C]</c> of even height and width, of which pooling drops nothing.</summary>
    public static bool Halves(Shape x) => x.Rank == 4 && x[1] % 2 == 0 && x[2] % 2 == 0;

    /// <summary><c>[N, H/2, W/2, C]</c>.</summary>
    public static Shape Halved(Shape x) => [x[0], x[1] / 2, x[2] / 2, x[3]];
}

/// <summary>Bilinear interpolation to a given size, pixel centres at half-integers, edges clamped.</summary>
/// <param name="Height">Height of the output.</param>
/// <param name="Width">Width of the output.</param>
/// <remarks>
/// Input: x <c>[N, H, W, C]</c>. Output: <c>[N, Height, Width, C]</c>. Output row i reads the source position max(0, (i + ½)·H/Height − ½).
/// Source: <c>F.interpolate(mode="bilinear", align_corners=False)</c> in <c>SuperResModel</c>.
/// </remarks>
public sealed record BilinearUpsample(int Height, int Width) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape x = inputs.ExpectRank(0, "x [N, H, W, C]", 4);
        inputs.Expect(x[1] > 0 && x[2] > 0 && Height > 0 && Width > 0, $"cannot interpolate {inputs[0]} to {Height}x{Width}");
        return [new TensorType([x[0], Height, Width, x[3]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 7L * node.Output.Shape.Elements;
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Shape x = node.Inputs[0].Shape;
        scope.Accumulate(node.Inputs[0], scope.Emit(new BilinearUpsampleGradient(x[1], x[2]), scope.Of(node.Output)!));
    }
}

/// <summary>The adjoint of <see cref="BilinearUpsample"/>: every output element gives its weight back to the four it came from.</summary>
/// <param name="Height">Height of the forward input.</param>
/// <param name="Width">Width of the forward input.</param>
/// <remarks>Input: dy <c>[N, OH, OW, C]</c>. Output: dx <c>[N, Height, Width, C]</c>.</remarks>
public sealed record BilinearUpsampleGradient(int Height, int Width) : GradientOp
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape dy = inputs.ExpectRank(0, "dy [N, OH, OW, C]", 4);
        inputs.Expect(Height > 0 && Width > 0, $"an input of {Height}x{Width} cannot be interpolated");
        return [new TensorType([dy[0], Height, Width, dy[3]])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 8L * node.Inputs[0].Shape.Elements;
    }
}
