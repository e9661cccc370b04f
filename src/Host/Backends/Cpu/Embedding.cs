using System.Runtime.CompilerServices;
using Kernels.Ops;

namespace Kernels.Backends.Cpu;

/// <summary>y[n] = table[label[n]].</summary>
internal sealed unsafe class EmbeddingKernel(int* labels, float* table, float* y, int images, int classes, int width) : RangeKernel(new WorkItems(images, width))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            nint row = LabelRange.Check(labels[n], n, classes);
            new ReadOnlySpan<float>(table + (row * width), width).CopyTo(new Span<float>(y + ((nint)n * width), width));
        }
    }
}

/// <summary>y[n] = cos(t_n·ω), sin(t_n·ω), and a zero if the width is odd.</summary>
internal sealed unsafe class TimestepEmbeddingKernel(float* t, float* y, int images, int dimension, float maxPeriod) : RangeKernel(new WorkItems(images, dimension))
{
    private readonly float[] _frequencies = TimestepFrequencies.Create(dimension, maxPeriod);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int half = dimension / 2;
        for (int n = begin; n < end; n++)
        {
            float* row = y + ((nint)n * dimension);
            for (int i = 0; i < half; i++)
            {
                (row[half + i], row[i]) = MathF.SinCos(t[n] * _frequencies[i]);
            }

            if (dimension % 2 == 1)
            {
                row[dimension - 1] = 0;
            }
        }
    }
}

/// <summary>dt[n] = Σ ω·(cos(t·ω)·dy_sin − sin(t·ω)·dy_cos).</summary>
internal sealed unsafe class TimestepEmbeddingGradientKernel(float* dy, float* t, float* dt, int images, int dimension, float maxPeriod)
    : RangeKernel(new WorkItems(images, dimension))
{
    private readonly float[] _frequencies = TimestepFrequencies.Create(dimension, maxPeriod);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int half = dimension / 2;
        for (int n = begin; n < end; n++)
        {
            float* row = dy + ((nint)n * dimension);
            float sum = 0;
            for (int i = 0; i < half; i++)
            {
                (float sin, float cos) = MathF.SinCos(t[n] * _frequencies[i]);
                sum += _frequencies[i] * ((cos * row[half + i]) - (sin * row[i]));
            }

            dt[n] = sum;
        }
    }
}
