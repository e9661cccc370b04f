using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>
/// Two-dimensional convolution (cross-correlation) with zero padding: y[n,i,j,o] = Σ x[n, i·s+a−p, j·s+b−p, c] · w[o,c,a,b] (+ bias[o]) (+ residual[n,i,j,o]).
/// Fused, x may be read up-sampled or as two tensors side by side, and the residual at another resolution.
/// </summary>
/// <param name="Stride">Step s between windows.</param>
/// <param name="Padding">Rows and columns p of zeros on each side.</param>
/// <param name="Bias">Whether a bias is added.</param>
/// <param name="Residual">Whether a tensor of the output's shape is added.</param>
/// <param name="Upsample">Whether x is read as if doubled in height and width by nearest neighbour (<see cref="Upsample2x"/>).</param>
/// <param name="ResidualResampling">How the residual is brought to the output's resolution: doubled from <c>[N, OH/2, OW/2, O]</c>, or averaged from <c>[N, 2·OH, 2·OW, O]</c>.</param>
/// <param name="TwoInputs">Whether the channels of x are followed by those of a second tensor (<see cref="Concat"/>).</param>
/// <remarks>
/// Inputs: x <c>[N, H, W, C]</c>, w <c>[O, C, KH, KW]</c>, then if declared bias <c>[O]</c>, residual <c>[N, OH, OW, O]</c> and last the second tensor <c>[N, H, W, C₂]</c>, with which
/// w is <c>[O, C + C₂, KH, KW]</c>.
/// Output: <c>[N, OH, OW, O]</c> with OH = ⌊(H + 2p − KH) / s⌋ + 1, where an up-sampled x counts 2H. Source: <c>torch.nn.functional.conv2d</c>.
/// </remarks>
public sealed record Convolution(
    int Stride = 1,
    int Padding = 0,
    bool Bias = false,
    bool Residual = false,
    bool Upsample = false,
    Resampling ResidualResampling = Resampling.None,
    bool TwoInputs = false) : Op
{
    /// <summary>Position of the residual among the inputs.</summary>
    internal int ResidualInput => Bias ? 3 : 2;

    /// <summary>Position of the second tensor among the inputs.</summary>
    internal int SecondInput => ResidualInput + (Residual ? 1 : 0);

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Residual && ResidualResampling == Resampling.None ? [ResidualInput] : [];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2 + (Bias ? 1 : 0) + (Residual ? 1 : 0) + (TwoInputs ? 1 : 0));
        inputs.Expect(Residual || ResidualResampling == Resampling.None, "there is no residual to bring to another resolution");
        Shape x = inputs.ExpectRank(0, "x [N, H, W, C]", 4);
        if (TwoInputs)
        {
            Shape second = inputs.ExpectRank(SecondInput, "second x [N, H, W, C2]", 4);
            inputs.Expect(second.With(3, x[3]) == x, $"{inputs[SecondInput]} does not fit beside {inputs[0]}");
            x = x.With(3, x[3] + second[3]);
        }

        Shape w = inputs.ExpectRank(1, "weight [O, C, KH, KW]", 4);
        x = Upsample ? [x[0], 2 * x[1], 2 * x[2], x[3]] : x;
        inputs.Expect(w[1] == x[3], $"the weight takes {w[1]} channels, x has {x[3]}");
        (int height, int width) = OutputSize(inputs, (x[1], x[2]), w, Stride, Padding);
        Shape y = [x[0], height, width, w[0]];
        if (Bias)
        {
            inputs.ExpectShape(2, "bias [O]", [w[0]]);
        }

        if (Residual)
        {
            inputs.ExpectShape(ResidualInput, "residual [N, OH, OW, O]", ResidualShape(inputs, y));
        }

        return [new TensorType(y)];
    }

    private Shape ResidualShape(OpInputs inputs, Shape y)
    {
        inputs.Expect(ResidualResampling != Resampling.Up || (y[1] % 2 == 0 && y[2] % 2 == 0), $"nothing doubles to {y[1]}x{y[2]}");
        return ResidualResampling switch
        {
            Resampling.Up => [y[0], y[1] / 2, y[2] / 2, y[3]],
            Resampling.Down => [y[0], 2 * y[1], 2 * y[2], y[3]],
            _ => y,
        };
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        Shape w = node.Inputs[1].Shape;
        return node.Output.Shape.Elements * ((2L * w[1] * w[2] * w[3]) + (Bias ? 1 : 0) + (Residual ? 1 : 0) + (ResidualResampling == Resampling.Down ? 4 : 0));
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
        Tensor x = node.Inputs[0];
        if (scope.Wants(x) || (TwoInputs && scope.Wants(node.Inputs[SecondInput])))
        {
            int factor = Upsample ? 2 : 1;
            Tensor dx = scope.Emit(new ConvolutionGradient(Stride, Padding, factor * x.Shape[1], factor * x.Shape[2]), dy, node.Inputs[1]);
            dx = Upsample ? scope.Emit(new Pool2x(1), dx) : dx;
            if (TwoInputs)
            {
                Concat.Split(scope, dx, -1, [x, node.Inputs[SecondInput]]);
            }
            else
            {
                scope.Accumulate(x, dx);
            }
        }

        if (Residual && scope.Wants(node.Inputs[ResidualInput]))
        {
            scope.Accumulate(node.Inputs[ResidualInput], ResidualResampling switch
            {
                Resampling.Up => scope.Emit(new Pool2x(1), dy),
                Resampling.Down => scope.Emit(new Upsample2x(2 * dy.Shape[1], 2 * dy.Shape[2], 0.25f), dy),
                _ => dy,
            });
        }
    }

    /// <summary>Height and width of the output, checked.</summary>
    /// <param name="inputs">For messages.</param>
    /// <param name="size">Height and width of x.</param>
    /// <param name="weight">Shape of the weight <c>[O, C, KH, KW]</c>.</param>
    /// <param name="stride">Step between windows.</param>
    /// <param name="padding">Zeros on each side.</param>
    internal static (int Height, int Width) OutputSize(OpInputs inputs, (int Height, int Width) size, Shape weight, int stride, int padding)
    {
        inputs.Expect(stride > 0 && padding >= 0, $"the stride must be positive and the padding not negative, got {stride} and {padding}");
        (int height, int width) = (size.Height + (2 * padding) - weight[2], size.Width + (2 * padding) - weight[3]);
        inputs.Expect(height >= 0 && width >= 0, $"a {weight[2]}x{weight[3]} window does not fit {size.Height}x{size.Width} with padding {padding}");
        return ((height / stride) + 1, (width / stride) + 1);
    }
}

/// <summary>
/// Data gradient of <see cref="Convolution"/>: dx[n,h,w,c] = Σ dy[n,i,j,o] · w[o,c,a,b] over h = i·s+a−p, w = j·s+b−p (+ residual[n,h,w,c]).
/// </summary>
/// <param name="Stride">Step s of the forward convolution.</param>
/// <param name="Padding">Padding p of the forward convolution.</param>
/// <param name="Height">Height of the forward input.</param>
/// <param name="Width">Width of the forward input.</param>
/// <param name="Residual">Whether a tensor of the output's shape is added: the gradient that another branch sends to the same tensor.</param>
/// <remarks>Inputs: dy <c>[N, OH, OW, O]</c>, w <c>[O, C, KH, KW]</c>, residual <c>[N, H, W, C]</c> if declared. Output: dx <c>[N, H, W, C]</c>.</remarks>
public sealed record ConvolutionGradient(int Stride, int Padding, int Height, int Width, bool Residual = false) : GradientOp
{
    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => Residual ? [2] : [];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(Residual ? 3 : 2);
        Shape dy = inputs.ExpectRank(0, "dy [N, OH, OW, O]", 4);
        Shape w = inputs.ExpectRank(1, "weight [O, C, KH, KW]", 4);
        inputs.Expect(w[0] == dy[3], $"the weight gives {w[0]} channels, dy has {dy[3]}");
        (int height, int width) = Convolution.OutputSize(inputs, (Height, Width), w, Stride, Padding);
        inputs.Expect(dy[1] == height && dy[2] == width, $"an input of {Height}x{Width} gives {height}x{width}, dy is {inputs[0]}");
        Shape dx = [dy[0], Height, Width, w[1]];
        if (Residual)
        {
            inputs.ExpectShape(2, "residual [N, H, W, C]", dx);
        }

        return [new TensorType(dx)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        Shape w = node.Inputs[1].Shape;
        return (2L * node.Inputs[0].Shape.Elements * w[1] * w[2] * w[3]) + (Residual ? node.Output.Shape.Elements : 0);
    }
}
