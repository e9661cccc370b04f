using System.Runtime.InteropServices;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>Tensors that lie in their storage with strides: transposed, sliced, expanded.</summary>
internal static class Strided
{
    /// <summary>Whether elements with these strides are dense and in row-major order; axes of one element may have any stride.</summary>
    public static bool IsContiguous(ReadOnlySpan<long> sizes, ReadOnlySpan<long> strides)
    {
        long expected = 1;
        for (int axis = sizes.Length - 1; axis >= 0; axis--)
        {
            if (sizes[axis] == 0)
            {
                return true;
            }

            if (sizes[axis] != 1 && strides[axis] != expected)
            {
                return false;
            }

            expected *= sizes[axis];
        }

        return true;
    }

    /// <summary>How many elements of a storage a tensor reaches over, from its first to past its last; null if that does not fit 63 bits.</summary>
    /// <remarks>1 + sum over axes of (size - 1) * stride; strides are not negative.</remarks>
    public static long? Extent(ReadOnlySpan<long> sizes, ReadOnlySpan<long> strides)
    {
        Int128 extent = 1;
        for (int axis = 0; axis < sizes.Length; axis++)
        {
            if (sizes[axis] == 0)
            {
                return 0;
            }

            extent += (Int128)(sizes[axis] - 1) * strides[axis];
            if (extent > long.MaxValue)
            {
                return null;
            }
        }

        return (long)extent;
    }

    /// <summary>Copies strided elements to a dense row-major destination.</summary>
    public static void Gather(ByteSource source, long start, DType dtype, Shape shape, long[] strides, Span<byte> destination)
    {
        if (destination.Length == 0)
        {
            return;
        }

        long extent = Extent([.. shape.Dims.ToArray().Select(dim => (long)dim)], strides)!.Value;
        byte[] reached = source.Read(start, checked((int)(extent * dtype.SizeInBytes())));
        switch (dtype.SizeInBytes())
        {
            case 8:
                Gather<ulong>(reached, shape.Dims, strides, destination);
                break;
            case 4:
                Gather<uint>(reached, shape.Dims, strides, destination);
                break;
            case 2:
                Gather<ushort>(reached, shape.Dims, strides, destination);
                break;
            default:
                Gather<byte>(reached, shape.Dims, strides, destination);
                break;
        }
    }

    private static void Gather<T>(ReadOnlySpan<byte> source, ReadOnlySpan<int> sizes, long[] strides, Span<byte> destination)
        where T : unmanaged
    {
        ReadOnlySpan<T> from = MemoryMarshal.Cast<byte, T>(source);
        Span<T> to = MemoryMarshal.Cast<byte, T>(destination);
        Span<int> index = stackalloc int[sizes.Length];
        long at = 0;
        for (int i = 0; i < to.Length; i++)
        {
            to[i] = from[(int)at];
            for (int axis = sizes.Length - 1; axis >= 0; axis--)
            {
                at += strides[axis];
                if (++index[axis] < sizes[axis])
                {
                    break;
                }

                at -= sizes[axis] * strides[axis];
                index[axis] = 0;
            }
        }
    }
}
