using Kernels.Ops;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

public sealed class ConvolutionTests : OpTests<ConvolutionTests>, IOpCases
{
    public static IEnumerable<OpCase> Cases =>
    [
        // As the models use it: 3x3, 1x1, RGB in and out, stride 2, with and without what fusion adds.
        Forward("3x3", [1, 8, 8, 32], 64, 3),
        Forward("3x3, bias", [2, 8, 8, 48], 32, 3, bias: true),
        Forward("3x3, bias, residual", [1, 16, 8, 32], 32, 3, bias: true, residual: true),
        Forward("3x3, residual", [1, 4, 4, 64], 32, 3, residual: true),
        Forward("from RGB", [1, 16, 16, 3], 32, 3, bias: true),
        Forward("to learned variance", [1, 16, 16, 32], 6, 3, bias: true),
        Forward("1x1", [2, 8, 8, 32], 96, 1, bias: true),
        Forward("1x1, residual", [2, 8, 8, 32], 32, 1, bias: true, residual: true),
        Forward("stride 2", [1, 16, 16, 32], 32, 3, stride: 2, bias: true),
        Forward("up-sampled", [1, 4, 8, 32], 64, 3, bias: true, upsample: true),

        // Awkward: odd sizes, one element, no padding, strides that leave columns unread, batch 3.
        Forward("odd", [3, 5, 7, 17], 33, 3, bias: true, residual: true),
        Forward("one element", [1, 1, 1, 1], 1, 1),
        Forward("one pixel under 3x3", [1, 1, 1, 5], 3, 3, bias: true),
        Forward("stride 2, odd", [3, 7, 5, 5], 4, 3, stride: 2, bias: true, residual: true),
        Forward("stride 3, no padding", [1, 9, 10, 3], 7, 2, stride: 3, padding: 0),
        Forward("5x5", [1, 6, 9, 3], 5, 5, bias: true),
        Forward("odd, up-sampled, residual", [3, 3, 5, 7], 4, 3, residual: true, upsample: true),

        // Fused: the residual from another resolution, two inputs, the skip connection. Channels that fill vectors, and channels that meet within one.
        Forward("residual doubled", [2, 8, 8, 32], 32, 3, bias: true, residual: true, resampling: Resampling.Up),
        Forward("residual halved", [2, 8, 6, 32], 32, 3, bias: true, residual: true, resampling: Resampling.Down),
        Forward("residual halved, odd, stride 2", [1, 5, 7, 3], 5, 3, stride: 2, residual: true, resampling: Resampling.Down),
        Forward("residual doubled behind an up-sampled x", [1, 3, 4, 5], 7, 3, residual: true, upsample: true, resampling: Resampling.Up),
        Forward("two inputs, 1x1", [2, 8, 8, 64], 32, 1, bias: true, second: 32),
        Forward("two inputs, 1x1, residual", [1, 8, 8, 32], 48, 1, bias: true, residual: true, second: 64),
        Forward("two inputs, 3x3", [2, 8, 8, 32], 64, 3, bias: true, second: 32),
        Forward("two inputs, odd", [3, 5, 7, 5], 9, 3, residual: true, second: 12),
        Forward("two inputs, up-sampled, halved", [1, 4, 4, 16], 32, 3, residual: true, upsample: true, resampling: Resampling.Down, second: 16),
        Forward("two inputs, to RGB", [1, 8, 8, 32], 3, 3, bias: true, second: 8),
        Skip("widens", [2, 8, 8, 64], 32, 64),
        Skip("two inputs", [1, 8, 8, 32], 96, 32, second: 32),
        Skip("odd", [3, 5, 7, 5], 9, 4, second: 3),
        Skip("1x1", [1, 4, 4, 32], 32, 16, kernel: 1),
        Skip("no padding", [1, 6, 5, 8], 3, 8, padding: 0),
        Backward("3x3", [1, 8, 8, 32], 64, 3),
        Backward("3x3, residual", [2, 8, 8, 32], 32, 3, residual: true),
        Backward("1x1", [1, 8, 8, 32], 64, 1),
        Backward("to RGB", [1, 16, 16, 3], 32, 3),
        Backward("stride 2", [1, 16, 16, 32], 32, 3, stride: 2),
        Backward("odd, stride 2, residual", [3, 7, 5, 5], 4, 3, stride: 2, residual: true),
        Backward("stride 3, columns never read", [1, 9, 10, 3], 7, 2, stride: 3, padding: 0),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new Convolution(), [F(1, 8, 8, 4)], "takes 2 inputs, got 1"),
        new(new Convolution(Bias: true, Residual: true), [F(1, 8, 8, 4), F(4, 4, 3, 3)], "takes 4 inputs, got 2"),
        new(new Convolution(), [F(8, 8, 4), F(4, 4, 3, 3)], "x [N, H, W, C] must have 4 axes", "operand0: f32[8, 8, 4]"),
        new(new Convolution(), [F(1, 8, 8, 4), F(4, 4)], "weight [O, C, KH, KW] must have 4 axes", "operand1: f32[4, 4]"),
        new(new Convolution(), [F(1, 8, 8, 4), F(4, 5, 3, 3)], "the weight takes 5 channels", "x has 4"),
        new(new Convolution(), [I(1, 8, 8, 4), F(4, 4, 3, 3)], "x [N, H, W, C] must be F32", "i32"),
        new(new Convolution(), [F(1, 2, 8, 4), F(4, 4, 3, 3)], "3x3 window does not fit 2x8 with padding 0"),
        new(new Convolution(Stride: 0), [F(1, 8, 8, 4), F(4, 4, 3, 3)], "stride must be positive", "got 0 and"),
        new(new Convolution(Padding: -1), [F(1, 8, 8, 4), F(4, 4, 3, 3)], "padding not negative", "got 1 and -1"),
        new(new Convolution(1, 1, Bias: true), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(4)], "bias [O] must be [5]", "operand2: f32[4]"),
        new(new Convolution(1, 1, Residual: true), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(1, 8, 8, 4)], "residual [N, OH, OW, O] must be [1, 8, 8, 5]", "f32[1, 8, 8, 4]"),
        new(new Convolution(1, 1, ResidualResampling: Resampling.Up), [F(1, 8, 8, 4), F(5, 4, 3, 3)], "no residual to bring to another resolution"),
        new(new Convolution(1, 1, Residual: true, ResidualResampling: Resampling.Up), [F(1, 8, 7, 4), F(5, 4, 3, 3), F(1, 4, 3, 5)], "nothing doubles to 8x7"),
        new(new Convolution(1, 1, Residual: true, ResidualResampling: Resampling.Up), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(1, 8, 8, 5)], "must be [1, 4, 4, 5]", "f32[1, 8, 8, 5]"),
        new(new Convolution(1, 1, Residual: true, ResidualResampling: Resampling.Down), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(1, 8, 8, 5)], "must be [1, 16, 16, 5]", "f32[1, 8, 8, 5]"),
        new(new Convolution(1, 1, TwoInputs: true), [F(1, 8, 8, 4), F(5, 4, 3, 3)], "takes 3 inputs, got 2"),
        new(new Convolution(1, 1, TwoInputs: true), [F(1, 8, 8, 4), F(5, 8, 3, 3), F(1, 8, 4, 4)], "f32[1, 8, 4, 4] does not fit beside", "f32[1, 8, 8, 4]"),
        new(new Convolution(1, 1, TwoInputs: true), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(1, 8, 8, 4)], "the weight takes 4 channels", "x has 8"),
        new(new ConvolutionSkip(1), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(5)], "takes 6 inputs, got 3"),
        new(new ConvolutionSkip(1, TwoInputs: true), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(5), F(1, 8, 8, 2), F(5, 2, 1, 1), F(5)], "takes 7 inputs, got 6"),
        new(new ConvolutionSkip(1), [F(1, 8, 8, 4), F(5, 3, 3, 3), F(5), F(1, 8, 8, 2), F(5, 2, 1, 1), F(5)], "the weight takes 3 channels", "h has 4"),
        new(new ConvolutionSkip(1), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(5), F(1, 8, 4, 2), F(5, 2, 1, 1), F(5)], "x must be [1, 8, 8, D]", "f32[1, 8, 4, 2]"),
        new(new ConvolutionSkip(1), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(5), F(1, 8, 8, 2), F(5, 2, 3, 3), F(5)], "skip weight [O, D, 1, 1] must be [5, 2, 1, 1]", "f32[5, 2, 3, 3]"),
        new(new ConvolutionSkip(1), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(5), F(1, 8, 8, 2), F(5, 2, 1, 1), F(4)], "skip bias [O] must be [5]", "f32[4]"),
        new(new ConvolutionSkip(1, TwoInputs: true), [F(1, 8, 8, 4), F(5, 4, 3, 3), F(5), F(1, 8, 8, 2), F(5, 3, 1, 1), F(5), F(2, 8, 8, 1)], "f32[2, 8, 8, 1] does not fit beside"),
        new(new ConvolutionGradient(1, 1, 8, 8), [F(1, 8, 8, 4)], "takes 2 inputs, got 1"),
        new(new ConvolutionGradient(1, 1, 8, 8), [F(1, 8, 8), F(4, 4, 3, 3)], "dy [N, OH, OW, O] must have 4 axes", "f32[1, 8, 8]"),
        new(new ConvolutionGradient(1, 1, 8, 8), [F(1, 8, 8, 4), F(4, 3, 3)], "weight [O, C, KH, KW] must have 4 axes", "f32[4, 3, 3]"),
        new(new ConvolutionGradient(1, 1, 8, 8), [F(1, 8, 8, 4), F(5, 4, 3, 3)], "the weight gives 5 channels", "dy has 4"),
        new(new ConvolutionGradient(2, 1, 8, 8), [F(1, 8, 8, 4), F(4, 4, 3, 3)], "an input of 8x8 gives 4x4", "dy is operand0: f32[1, 8, 8, 4]"),
        new(new ConvolutionGradient(1, 0, 2, 8), [F(1, 8, 8, 4), F(4, 4, 3, 3)], "3x3 window does not fit 2x8"),
        new(new ConvolutionGradient(0, 1, 8, 8), [F(1, 8, 8, 4), F(4, 4, 3, 3)], "stride must be positive", "got 0 and"),
        new(new ConvolutionGradient(1, 1, 8, 8, Residual: true), [F(1, 8, 8, 4), F(4, 4, 3, 3), F(1, 8, 8, 5)], "residual [N, H, W, C] must be [1, 8, 8, 4]", "[1, 8, 8, 5]"),
    ];

    private static OpCase Forward(
        string name,
        Shape x,
        int outputs,
        int kernel,
        int stride = 1,
        int? padding = null,
        bool bias = false,
        bool residual = false,
        bool upsample = false,
        Resampling resampling = Resampling.None,
        int second = 0)
    {
        Convolution op = new(stride, padding ?? kernel / 2, bias, residual, upsample, resampling, second > 0);
        int factor = upsample ? 2 : 1;
        Shape y = [x[0], (((factor * x[1]) + (2 * op.Padding) - kernel) / stride) + 1, (((factor * x[2]) + (2 * op.Padding) - kernel) / stride) + 1, outputs];
        List<Operand> operands = [Operand.Input("x", x), Operand.Weight("weight", [outputs, x[3] + second, kernel, kernel])];
        operands.AddRange(bias ? [Operand.Weight("bias", [outputs])] : []);
        Shape r = resampling == Resampling.Up ? [y[0], y[1] / 2, y[2] / 2, y[3]] : resampling == Resampling.Down ? [y[0], 2 * y[1], 2 * y[2], y[3]] : y;
        operands.AddRange(residual ? [Operand.Input("residual", r)] : []);
        operands.AddRange(second > 0 ? [Operand.Input("second", x.With(3, second))] : []);
        return new OpCase(name, op, operands);
    }

    private static OpCase Skip(string name, Shape h, int skipped, int outputs, int kernel = 3, int? padding = null, int second = 0)
    {
        ConvolutionSkip op = new(padding ?? kernel / 2, second > 0);
        Shape x = [h[0], h[1] + (2 * op.Padding) - kernel + 1, h[2] + (2 * op.Padding) - kernel + 1, skipped];
        List<Operand> operands =
        [
            Operand.Input("h", h), Operand.Weight("weight", [outputs, h[3], kernel, kernel]), Operand.Weight("bias", [outputs]),
            Operand.Input("x", x), Operand.Weight("skip weight", [outputs, skipped + second, 1, 1]), Operand.Weight("skip bias", [outputs]),
        ];
        operands.AddRange(second > 0 ? [Operand.Input("second", x.With(3, second))] : []);
        return new OpCase(name, op, operands);
    }

    private static OpCase Backward(string name, Shape x, int outputs, int kernel, int stride = 1, int? padding = null, bool residual = false)
    {
        ConvolutionGradient op = new(stride, padding ?? kernel / 2, x[1], x[2], residual);
        Shape dy = [x[0], ((x[1] + (2 * op.Padding) - kernel) / stride) + 1, ((x[2] + (2 * op.Padding) - kernel) / stride) + 1, outputs];
        List<Operand> operands = [Operand.Input("dy", dy), Operand.Weight("weight", [outputs, x[3], kernel, kernel])];
        operands.AddRange(residual ? [Operand.Input("residual", x)] : []);
        return new OpCase(name, op, operands);
    }
}
