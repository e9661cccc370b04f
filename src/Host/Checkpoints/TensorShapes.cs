namespace Kernels.Checkpoints;

/// <summary>Shapes as files claim them: any 64-bit extents, to be held against the limits before they become a <see cref="Shape"/>.</summary>
internal static class TensorShapes
{
    /// <summary>The size in bytes; null if an extent is negative or the product does not fit 63 bits.</summary>
    public static long? Bytes(ReadOnlySpan<long> sizes, DType dtype)
    {
        Int128 bytes = dtype.SizeInBytes();
        bool empty = sizes.Contains(0);
        foreach (long size in sizes)
        {
            // An axis of zero makes the product zero; without it, it would wrap in the middle.
            bytes *= empty ? 0 : size;
            if (size < 0 || bytes > long.MaxValue)
            {
                return null;
            }
        }

        return (long)bytes;
    }

    /// <summary>The shape, if its elements fit one array.</summary>
    public static Shape? Create(ReadOnlySpan<long> sizes, DType dtype)
    {
        if (Bytes(sizes, dtype) is not { } bytes || bytes > Array.MaxLength)
        {
            return null;
        }

        int[] dims = new int[sizes.Length];
        long elements = 1;
        for (int axis = 0; axis < sizes.Length; axis++)
        {
            // An empty tensor may have any extents beside the zero; those that Shape cannot hold are refused all the same.
            if (sizes[axis] > int.MaxValue || (elements *= sizes[axis]) > int.MaxValue)
            {
                return null;
            }

            dims[axis] = (int)sizes[axis];
        }

        return Shape.Create(dims);
    }

    /// <summary>What to say when <see cref="Create"/> gives none.</summary>
    public static string TooLarge(ReadOnlySpan<long> sizes) =>
        $"shape [{string.Join(", ", sizes.ToArray())}] is larger than the {Array.MaxLength} bytes a tensor may take";
}
