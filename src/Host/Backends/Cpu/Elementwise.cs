using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>y = a + b. The output may be either operand.</summary>
internal sealed unsafe class AddKernel(float* a, float* b, float* y, int elements) : RangeKernel(new WorkItems(elements, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int n = end - begin;
        TensorPrimitives.Add(new ReadOnlySpan<float>(a + begin, n), new ReadOnlySpan<float>(b + begin, n), new Span<float>(y + begin, n));
    }
}

/// <summary>y = a · b. The output may be either operand.</summary>
internal sealed unsafe class MultiplyKernel(float* a, float* b, float* y, int elements) : RangeKernel(new WorkItems(elements, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int n = end - begin;
        TensorPrimitives.Multiply(new ReadOnlySpan<float>(a + begin, n), new ReadOnlySpan<float>(b + begin, n), new Span<float>(y + begin, n));
    }
}

/// <summary>y = value everywhere.</summary>
internal sealed unsafe class FillKernel(float value, float* y, int elements) : RangeKernel(new WorkItems(elements, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end) => new Span<float>(y + begin, end - begin).Fill(value);
}

/// <summary>y = max(x, 0). The output may be the operand.</summary>
internal sealed unsafe class ReLUKernel(float* x, float* y, int elements) : RangeKernel(new WorkItems(elements, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end) =>
        TensorPrimitives.Max(new ReadOnlySpan<float>(x + begin, end - begin), 0f, new Span<float>(y + begin, end - begin));
}

/// <summary>dx = dy where x is positive, else zero. The output may be either operand.</summary>
internal sealed unsafe class ReLUGradientKernel(float* dy, float* x, float* dx, int elements) : RangeKernel(new WorkItems(elements, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int i = begin; i < end; i++)
        {
            dx[i] = x[i] > 0 ? dy[i] : 0;
        }
    }
}

/// <summary>y = SiLU(x). The output may be the operand.</summary>
internal sealed unsafe class SiLUKernel<T>(float* x, float* y, int elements) : RangeKernel(new WorkItems(elements, 1))
    where T : unmanaged, ISimd<T>
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end) => VectorMath.SiLU<T>(x + begin, y + begin, end - begin);
}

/// <summary>dx = dy · SiLU′(x). The output may be either operand.</summary>
internal sealed unsafe class SiLUGradientKernel<T>(float* dy, float* x, float* dx, int elements) : RangeKernel(new WorkItems(elements, 1))
    where T : unmanaged, ISimd<T>
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int i = begin;
        for (; i <= end - T.Count; i += T.Count)
        {
            (T.Load(dy + i) * VectorMath.SiLUDerivative(T.Load(x + i))).Store(dx + i);
        }

        for (; i < end; i++)
        {
            (Simd1.Load(dy + i) * VectorMath.SiLUDerivative(Simd1.Load(x + i))).Store(dx + i);
        }
    }
}
