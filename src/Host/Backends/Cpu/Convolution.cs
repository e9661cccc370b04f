namespace Kernels.Backends.Cpu;

/// <summary>Chooses the kernel for a convolution: a function of one image's shape, never of the batch, so that an image does not depend on its neighbours.</summary>
internal static unsafe class Convolution
{
    /// <summary>y = act(conv([x1, x2], w) + bias + residual).</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="weights"><see cref="PackedWeights.Forward"/> of the weight.</param>
    /// <param name="x1">[N, H, W, C1].</param>
    /// <param name="x2">[N, H, W, C2], or null if C2 is 0.</param>
    /// <param name="bias">[Cout], or null.</param>
    /// <param name="residual">[N, OutH, OutW, Cout], or null; may be <paramref name="y"/>.</param>
    /// <param name="y">[N, OutH, OutW, Cout].</param>
    /// <param name="silu">Whether act is SiLU rather than the identity.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Forward(
        in ConvolutionShape shape, PackedWeights weights, float* x1, float* x2, float* bias, float* residual, float* y, bool silu, WorkerScratch scratch)
    {
        shape.Validate();
        Require(weights, shape.Taps, shape.Cin, shape.Cout, transposed: false);
        var epilogue = new Epilogue(bias, residual, y, shape.Cout, silu);
        return Pointwise(shape, weights, x1, x2, epilogue, scratch)
            ?? Winograd(shape, weights, turned: false, x1, x2, epilogue, scratch)
            ?? Direct(ConvolutionGeometry.Forward(shape), weights, x1, shape.C1, x2, shape.C2, epilogue, scratch);
    }

    /// <summary>dx = the gradient of conv(x, w) with respect to x, times dy, plus residual.</summary>
    /// <param name="shape">Extents of the forward convolution, of one input and without up-sampling.</param>
    /// <param name="weights"><see cref="PackedWeights.DataGradient"/> of the weight.</param>
    /// <param name="dy">[N, OutH, OutW, Cout].</param>
    /// <param name="residual">[N, H, W, Cin], or null; may be <paramref name="dx"/>, which is then added to.</param>
    /// <param name="dx">[N, H, W, Cin].</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel DataGradient(
        in ConvolutionShape shape, PackedWeights weights, float* dy, float* residual, float* dx, WorkerScratch scratch)
    {
        shape.Validate();
        if (shape.C2 != 0 || shape.Upsample)
        {
            throw new ArgumentException("the data gradient is of one input that is not up-sampled", nameof(shape));
        }

        Require(weights, shape.Taps, shape.Cout, shape.Cin, transposed: true);
        var epilogue = new Epilogue(null, residual, dx, shape.Cin, silu: false);

        // With stride 1 the gradient is a convolution by the turned filter, padded so that the extents come back.
        ConvolutionShape turned = shape with { H = shape.OutH, W = shape.OutW, C1 = shape.Cout, Cout = shape.Cin, Pad = shape.KernelH - 1 - shape.Pad };
        return Pointwise(turned, weights, dy, null, epilogue, scratch)
            ?? Winograd(turned, weights, turned: true, dy, null, epilogue, scratch)
            ?? Direct(ConvolutionGeometry.DataGradient(shape), weights, dy, shape.Cout, null, 0, epilogue, scratch);
    }

    // A filter of one pixel is a matrix product over all pixels.
    private static CpuKernel? Pointwise(in ConvolutionShape shape, PackedWeights weights, float* x1, float* x2, in Epilogue epilogue, WorkerScratch scratch) =>
        shape is { KernelH: 1, KernelW: 1, Stride: 1, Pad: 0, Upsample: false }
            ? Linear.Create(new LinearShape(shape.N * shape.H * shape.W, shape.Cin, shape.Cout, shape.C2), weights, x1, x2, siluInput: false, epilogue, scratch)
            : null;

    private static CpuKernel? Winograd(
        in ConvolutionShape shape, PackedWeights weights, bool turned, float* x1, float* x2, in Epilogue epilogue, WorkerScratch scratch)
    {
        if (shape.Pad is < 0 or > 2 || weights.Rows)
        {
            return null;
        }

        return weights.PanelColumns switch
        {
            32 when WinogradConvolution<Simd512>.Suits(shape) => new WinogradConvolution<Simd512>(shape, weights, turned, x1, x2, epilogue, scratch),
            16 when WinogradConvolution<Simd256>.Suits(shape) => new WinogradConvolution<Simd256>(shape, weights, turned, x1, x2, epilogue, scratch),
            8 when WinogradConvolution<Simd128>.Suits(shape) => new WinogradConvolution<Simd128>(shape, weights, turned, x1, x2, epilogue, scratch),
            _ => null,
        };
    }

    private static CpuKernel Direct(
        ConvolutionGeometry geometry, PackedWeights weights, float* x1, int c1, float* x2, int c2, in Epilogue epilogue, WorkerScratch scratch) =>
        (weights.PanelColumns, weights.Rows) switch
        {
            // Two inputs that do not meet at a whole vector: rare enough to go one channel at a time.
            (_, true) when c1 % (weights.PanelColumns / 2) != 0 => new DotConvolution<Simd1>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
            (32, true) => new DotConvolution<Simd512>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
            (16, true) => new DotConvolution<Simd256>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
            (_, true) => new DotConvolution<Simd128>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
            (32, _) => new DirectConvolution<Simd512>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
            (16, _) => new DirectConvolution<Simd256>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
            _ => new DirectConvolution<Simd128>(geometry, weights, x1, c1, x2, c2, epilogue, scratch),
        };

    private static void Require(PackedWeights weights, int taps, int inputs, int outputs, bool transposed)
    {
        if (weights.Taps != taps || weights.Inputs != inputs || weights.Outputs != outputs || weights.Transposed != transposed)
        {
            throw new ArgumentException(
                $"weights packed as {weights.Taps} taps, {weights.Inputs} to {weights.Outputs} channels do not fit {taps} taps, {inputs} to {outputs} channels",
                nameof(weights));
        }
    }
}
