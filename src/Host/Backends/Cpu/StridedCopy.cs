using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>Copies runs of contiguous 32-bit words between tensors of different row length: what concatenation, slicing and padding come down to.</summary>
internal sealed unsafe class StridedCopyKernel(uint* source, nint sourceStride, uint* target, nint targetStride, int rows, int run) : RangeKernel(new WorkItems(rows, run))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            new ReadOnlySpan<uint>(source + (row * sourceStride), run).CopyTo(new Span<uint>(target + (row * targetStride), run));
        }
    }
}

/// <summary>Clears runs between other runs: the border that padding adds.</summary>
internal sealed unsafe class StridedClearKernel(uint* target, nint targetStride, int rows, int run) : RangeKernel(new WorkItems(rows, run))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        for (int row = begin; row < end; row++)
        {
            new Span<uint>(target + (row * targetStride), run).Clear();
        }
    }
}
