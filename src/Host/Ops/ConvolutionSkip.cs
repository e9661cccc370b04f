using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>
/// The end of a residual block that changes its channels: y[n,i,j,o] = Σ h[n, i+a−p, j+b−p, c] · w[o,c,a,b] + bias[o] + Σ x[n,i,j,d] · v[o,d] + skip_bias[o], a convolution of stride 1 and
/// the 1x1 convolution of the skip connection in one sum.
/// </summary>
/// <param name="Padding">Rows and columns p of zeros on each side of h.</param>
/// <param name="TwoInputs">Whether the channels of x are followed by those of a second tensor (<see cref="Concat"/>).</param>
/// <remarks>
/// Inputs: h <c>[N, H, W, C]</c>, w <c>[O, C, KH, KW]</c>, bias <c>[O]</c>, x <c>[N, OH, OW, D]</c>, v <c>[O, D, 1, 1]</c>, skip bias <c>[O]</c>; if declared the second tensor
/// <c>[N, OH, OW, D₂]</c>, with which v is <c>[O, D + D₂, 1, 1]</c>. Output: <c>[N, OH, OW, O]</c>. Source: <c>out_layers.3</c> and <c>skip_connection</c> of <c>ResBlock</c>.
/// </remarks>
public sealed record ConvolutionSkip(int Padding, bool TwoInputs = false) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(TwoInputs ? 7 : 6);
        Shape h = inputs.ExpectRank(0, "h [N, H, W, C]", 4);
        Shape w = inputs.ExpectRank(1, "weight [O, C, KH, KW]", 4);
        inputs.Expect(w[1] == h[3], $"the weight takes {w[1]} channels, h has {h[3]}");
        (int height, int width) = Convolution.OutputSize(inputs, (h[1], h[2]), w, 1, Padding);
        inputs.ExpectShape(2, "bias [O]", [w[0]]);
        Shape x = inputs.ExpectRank(3, "x [N, OH, OW, D]", 4);
        Shape y = [h[0], height, width, w[0]];
        inputs.Expect(x.With(3, w[0]) == y, $"x must be [{y[0]}, {y[1]}, {y[2]}, D], got {inputs[3]}");
        if (TwoInputs)
        {
            Shape second = inputs.ExpectRank(6, "second x [N, OH, OW, D2]", 4);
            inputs.Expect(second.With(3, x[3]) == x, $"{inputs[6]} does not fit beside {inputs[3]}");
            x = x.With(3, x[3] + second[3]);
        }

        inputs.ExpectShape(4, "skip weight [O, D, 1, 1]", [w[0], x[3], 1, 1]);
        inputs.ExpectShape(5, "skip bias [O]", [w[0]]);
        return [new TensorType(y)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        Shape w = node.Inputs[1].Shape, v = node.Inputs[4].Shape;
        return node.Output.Shape.Elements * ((2L * ((w[1] * w[2] * w[3]) + v[1])) + 3);
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        foreach ((int i, string what) in new[] { (1, "weight"), (2, "bias"), (4, "skip weight"), (5, "skip bias") })
        {
            scope.ExpectConstant(node.Inputs[i], what);
        }

        Tensor dy = scope.Of(node.Output)!, h = node.Inputs[0];
        if (scope.Wants(h))
        {
            scope.Accumulate(h, scope.Emit(new ConvolutionGradient(1, Padding, h.Shape[1], h.Shape[2]), dy, node.Inputs[1]));
        }

        Tensor[] skipped = [node.Inputs[3], .. node.Inputs.Skip(6)];
        if (skipped.Any(scope.Wants))
        {
            Tensor dx = scope.Emit(new ConvolutionGradient(1, 0, dy.Shape[1], dy.Shape[2]), dy, node.Inputs[4]);
            if (TwoInputs)
            {
                Concat.Split(scope, dx, -1, skipped);
            }
            else
            {
                scope.Accumulate(skipped[0], dx);
            }
        }
    }
}
