using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>y[n] = x[n] − max − log Σ exp(x[n] − max). The output may be x.</summary>
internal sealed unsafe class LogSoftmaxKernel(float* x, float* y, int rows, int classes) : RangeKernel(new WorkItems(rows, classes))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            ReadOnlySpan<float> source = new(x + ((nint)n * classes), classes);
            float max = TensorPrimitives.Max(source);
            double sum = 0;
            foreach (float value in source)
            {
                sum += MathF.Exp(value - max);
            }

            // Two subtractions, not one of the sum: with logits of 10^4 the logarithm would drown in the maximum.
            float logSum = (float)Math.Log(sum);
            Span<float> target = new(y + ((nint)n * classes), classes);
            TensorPrimitives.Subtract(source, max, target);
            TensorPrimitives.Subtract(target, logSum, target);
        }
    }
}

/// <summary>dx[n] = dy[n] − exp(y[n]) · Σ dy[n]. The output may be dy.</summary>
internal sealed unsafe class LogSoftmaxGradientKernel(float* dy, float* y, float* dx, int rows, int classes) : RangeKernel(new WorkItems(rows, classes))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            nint offset = (nint)n * classes;
            float sum = TensorPrimitives.Sum(new ReadOnlySpan<float>(dy + offset, classes));
            for (int k = 0; k < classes; k++)
            {
                dx[offset + k] = dy[offset + k] - (MathF.Exp(y[offset + k]) * sum);
            }
        }
    }
}

/// <summary>dx[n] = factor · (one-hot(label[n]) − softmax(x[n])), l[n] = log softmax(x[n])[label[n]]. The gradient may be x.</summary>
internal sealed unsafe class LabelGradientKernel(float* x, int* labels, float* dx, float* logProbability, int rows, int classes, float factor)
    : RangeKernel(new WorkItems(rows, classes))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            float* source = x + ((nint)n * classes);
            float* target = dx + ((nint)n * classes);
            int label = LabelRange.Check(labels[n], n, classes);
            float max = TensorPrimitives.Max(new ReadOnlySpan<float>(source, classes));
            double sum = 0;
            for (int k = 0; k < classes; k++)
            {
                sum += MathF.Exp(source[k] - max);
            }

            // As LogSoftmaxKernel and the gradients behind it round: log-probabilities first, then their exponentials.
            float logSum = (float)Math.Log(sum);
            for (int k = 0; k < classes; k++)
            {
                float log = source[k] - max - logSum;
                target[k] = (k == label ? factor : 0) - (MathF.Exp(log) * factor);
                if (k == label)
                {
                    logProbability[n] = log;
                }
            }
        }
    }
}

/// <summary>y[n] = x[n, label[n]].</summary>
internal sealed unsafe class SelectLabelKernel(float* x, int* labels, float* y, int rows, int classes) : RangeKernel(new WorkItems(rows, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            y[n] = x[((nint)n * classes) + LabelRange.Check(labels[n], n, classes)];
        }
    }
}

/// <summary>y[n, label[n]] = x[n], zero elsewhere.</summary>
internal sealed unsafe class ScatterLabelKernel(float* x, int* labels, float* y, int rows, int classes) : RangeKernel(new WorkItems(rows, classes))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int n = begin; n < end; n++)
        {
            nint offset = (nint)n * classes;
            new Span<float>(y + offset, classes).Clear();
            y[offset + LabelRange.Check(labels[n], n, classes)] = x[n];
        }
    }
}

/// <summary>Labels index memory, so a wrong one must not get through.</summary>
internal static class LabelRange
{
    public static int Check(int label, int image, int classes) =>
        (uint)label < (uint)classes ? label : throw new GraphException($"label {label} of image {image} is not one of {classes} classes");
}
