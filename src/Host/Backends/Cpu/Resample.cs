using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>y[i,j] = factor · (x[2i,2j] + x[2i,2j+1] + x[2i+1,2j] + x[2i+1,2j+1]), channels innermost; an item is an output row of pixels.</summary>
internal sealed unsafe class Pool2xKernel(float* x, float* y, int images, int height, int width, int channels, float factor)
    : RangeKernel(new WorkItems(images * (height / 2), width / 2 * channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int outHeight = height / 2;
        int outWidth = width / 2;
        for (int row = begin; row < end; row++)
        {
            float* upper = x + ((((nint)(row / outHeight) * height) + (2 * (row % outHeight))) * width * channels);
            float* lower = upper + ((nint)width * channels);
            for (int j = 0; j < outWidth; j++)
            {
                Span<float> target = new(y + ((((nint)row * outWidth) + j) * channels), channels);
                nint left = (nint)2 * j * channels;
                nint right = left + channels;
                TensorPrimitives.Add(new ReadOnlySpan<float>(upper + left, channels), new ReadOnlySpan<float>(upper + right, channels), target);
                TensorPrimitives.Add(target, new ReadOnlySpan<float>(lower + left, channels), target);
                TensorPrimitives.Add(target, new ReadOnlySpan<float>(lower + right, channels), target);
                TensorPrimitives.Multiply(target, factor, target);
            }
        }
    }
}

/// <summary>y[i,j] = factor · x[i/2,j/2], zero in an odd last row or column; an item is an output row of pixels.</summary>
internal sealed unsafe class Upsample2xKernel(float* x, float* y, int images, int height, int width, int channels, float factor)
    : RangeKernel(new WorkItems(images * height, width * channels))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int inHeight = height / 2;
        int inWidth = width / 2;
        for (int row = begin; row < end; row++)
        {
            int i = row % height / 2;
            float* source = x + ((((nint)(row / height) * inHeight) + i) * inWidth * channels);
            float* target = y + ((nint)row * width * channels);
            for (int j = 0; j < width; j++, target += channels)
            {
                Span<float> pixel = new(target, channels);
                if (i >= inHeight || j / 2 >= inWidth)
                {
                    pixel.Clear();
                    continue;
                }

                ReadOnlySpan<float> value = new(source + ((nint)(j / 2) * channels), channels);
                if (factor == 1)
                {
                    value.CopyTo(pixel);
                }
                else
                {
                    TensorPrimitives.Multiply(value, factor, pixel);
                }
            }
        }
    }
}

/// <summary>Where bilinear interpolation reads along one axis: two source positions and the weight of the second.</summary>
internal readonly struct BilinearAxis
{
    private readonly (int Low, int High, float Weight)[] _taps;

    /// <summary>Computes the taps in float32, in the order of PyTorch's <c>area_pixel_compute_source_index</c>: scale · (i + 0.5) − 0.5, not below zero.</summary>
    /// <param name="source">Extent of the source.</param>
    /// <param name="target">Extent of the target.</param>
    public BilinearAxis(int source, int target)
    {
        _taps = new (int, int, float)[target];
        float scale = (float)source / target;
        for (int i = 0; i < target; i++)
        {
            float position = MathF.Max(0, (scale * (i + 0.5f)) - 0.5f);
            int low = Math.Min((int)position, source - 1);
            _taps[i] = (low, Math.Min(low + 1, source - 1), position - low);
        }
    }

    /// <summary>The taps of a target position.</summary>
    /// <param name="index">The position.</param>
    public (int Low, int High, float Weight) this[int index] => _taps[index];
}

/// <summary>Bilinear interpolation; an item is an output row of pixels.</summary>
internal sealed unsafe class BilinearUpsampleKernel(float* x, float* y, int images, int height, int width, int outHeight, int outWidth, int channels)
    : RangeKernel(new WorkItems(images * outHeight, outWidth * channels))
{
    private readonly BilinearAxis _rows = new(height, outHeight);
    private readonly BilinearAxis _columns = new(width, outWidth);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            float* image = x + ((nint)(row / outHeight) * height * width * channels);
            (int top, int bottom, float v) = _rows[row % outHeight];
            float* target = y + ((nint)row * outWidth * channels);
            for (int j = 0; j < outWidth; j++, target += channels)
            {
                (int left, int right, float u) = _columns[j];
                float* a = image + ((((nint)top * width) + left) * channels);
                float* b = image + ((((nint)top * width) + right) * channels);
                float* c = image + ((((nint)bottom * width) + left) * channels);
                float* d = image + ((((nint)bottom * width) + right) * channels);
                for (int k = 0; k < channels; k++)
                {
                    target[k] = ((1 - v) * (((1 - u) * a[k]) + (u * b[k]))) + (v * (((1 - u) * c[k]) + (u * d[k])));
                }
            }
        }
    }
}

/// <summary>The adjoint of bilinear interpolation. An item is an image: its pixels gather from overlapping places.</summary>
internal sealed unsafe class BilinearUpsampleGradientKernel(float* dy, float* dx, int images, int height, int width, int outHeight, int outWidth, int channels)
    : RangeKernel(new WorkItems(images, outHeight * outWidth * channels))
{
    private readonly BilinearAxis _rows = new(height, outHeight);
    private readonly BilinearAxis _columns = new(width, outWidth);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            float* image = dx + ((nint)n * height * width * channels);
            new Span<float>(image, height * width * channels).Clear();
            float* source = dy + ((nint)n * outHeight * outWidth * channels);
            for (int i = 0; i < outHeight; i++)
            {
                (int top, int bottom, float v) = _rows[i];
                for (int j = 0; j < outWidth; j++, source += channels)
                {
                    (int left, int right, float u) = _columns[j];
                    Give(image, top, left, source, (1 - v) * (1 - u));
                    Give(image, top, right, source, (1 - v) * u);
                    Give(image, bottom, left, source, v * (1 - u));
                    Give(image, bottom, right, source, v * u);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Give(float* image, int i, int j, float* source, float weight)
    {
        float* target = image + ((((nint)i * width) + j) * channels);
        for (int k = 0; k < channels; k++)
        {
            target[k] += weight * source[k];
        }
    }
}
