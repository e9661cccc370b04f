using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>y[r,c] = x[r,c] + e[r / rowsPerImage, c]; with one image for all rows it adds a bias. The output may be x.</summary>
internal sealed unsafe class AddRowKernel(float* x, float* e, float* y, int rows, int channels, int rowsPerImage) : RangeKernel(new WorkItems(rows, channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            nint offset = (nint)row * channels;
            TensorPrimitives.Add(
                new ReadOnlySpan<float>(x + offset, channels),
                new ReadOnlySpan<float>(e + ((nint)(row / rowsPerImage) * channels), channels),
                new Span<float>(y + offset, channels));
        }
    }
}

/// <summary>y[n,t,c] = x[n,t,c] + p[c,t]. The output may be x.</summary>
internal sealed unsafe class AddPositionalKernel(float* x, float* p, float* y, int images, int tokens, int channels) : RangeKernel(new WorkItems(images * tokens, channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            nint offset = (nint)row * channels;
            float* position = p + (row % tokens);
            for (int c = 0; c < channels; c++)
            {
                y[offset + c] = x[offset + c] + position[(nint)c * tokens];
            }
        }
    }
}

/// <summary>y = x · (1 + scale) + shift, or in the gradient without the shift. The output may be x.</summary>
internal sealed unsafe class ScaleShiftKernel(float* x, float* scaleShift, float* y, int rows, int channels, int rowsPerImage, bool gradient)
    : RangeKernel(new WorkItems(rows, channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            nint offset = (nint)row * channels;
            float* scale = scaleShift + ((nint)(row / rowsPerImage) * 2 * channels);
            ReadOnlySpan<float> source = new(x + offset, channels);
            Span<float> target = new(y + offset, channels);

            // x·scale + x rather than x·(1 + scale): the sum needs no row of its own, and a fused multiply-add rounds once.
            TensorPrimitives.MultiplyAdd(source, new ReadOnlySpan<float>(scale, channels), source, target);
            if (!gradient)
            {
                TensorPrimitives.Add(target, new ReadOnlySpan<float>(scale + channels, channels), target);
            }
        }
    }
}

/// <summary>y[n,c] = factor · Σ_r x[n,r,c].</summary>
internal sealed unsafe class SpatialSumKernel(float* x, float* y, int images, int rows, int channels, float factor) : RangeKernel(new WorkItems(images, rows * channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int image = begin; image < end; image++)
        {
            Span<float> sum = new(y + ((nint)image * channels), channels);
            sum.Clear();
            float* row = x + ((nint)image * rows * channels);
            for (int r = 0; r < rows; r++, row += channels)
            {
                TensorPrimitives.Add(sum, new ReadOnlySpan<float>(row, channels), sum);
            }

            TensorPrimitives.Multiply(sum, factor, sum);
        }
    }
}

/// <summary>y[n,r,c] = factor · x[n,c], plus the residual if there is one.</summary>
internal sealed unsafe class SpatialBroadcastKernel(float* x, float* residual, float* y, int images, int rows, int channels, float factor)
    : RangeKernel(new WorkItems(images * rows, channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            ReadOnlySpan<float> source = new(x + ((nint)(row / rows) * channels), channels);
            Span<float> target = new(y + ((nint)row * channels), channels);
            if (residual is null)
            {
                TensorPrimitives.Multiply(source, factor, target);
            }
            else
            {
                TensorPrimitives.MultiplyAddEstimate(source, factor, new ReadOnlySpan<float>(residual + ((nint)row * channels), channels), target);
            }
        }
    }
}
