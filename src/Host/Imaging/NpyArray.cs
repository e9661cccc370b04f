using System.Runtime.InteropServices;
using Kernels.Checkpoints;

namespace Kernels.Imaging;

/// <summary>An array of NumPy's <c>.npy</c> format: an element type, extents, and dense little-endian elements in C order.</summary>
public sealed class NpyArray
{
    /// <summary>Wraps elements, in one piece or several; they are not copied.</summary>
    /// <param name="dtype">The element type; bfloat16 is not one of NumPy's.</param>
    /// <param name="dims">The extents, outermost first; 64-bit, for sample sets are larger than one array can be.</param>
    /// <param name="parts">The elements, little-endian, in as many pieces as they come in.</param>
    /// <exception cref="ArgumentException">The bytes are not as many as the extents and the type take.</exception>
    public NpyArray(DType dtype, IReadOnlyList<long> dims, params IReadOnlyList<ReadOnlyMemory<byte>> parts)
    {
        ArgumentNullException.ThrowIfNull(dims);
        ArgumentNullException.ThrowIfNull(parts);
        if (NpyFormat.Descr(dtype) is null)
        {
            throw new ArgumentException($"NumPy has no {dtype}", nameof(dtype));
        }

        DType = dtype;
        Dims = [.. dims];
        Parts = [.. parts];
        Bytes = Parts.Sum(part => (long)part.Length);
        if (TensorShapes.Bytes([.. dims], dtype) != Bytes)
        {
            throw new ArgumentException($"{Bytes} bytes are not an array [{string.Join(", ", dims)}] of {dtype}", nameof(parts));
        }
    }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>The extents, outermost first.</summary>
    public IReadOnlyList<long> Dims { get; }

    /// <summary>Size of the elements in bytes.</summary>
    public long Bytes { get; }

    /// <summary>The elements, in the pieces they came in.</summary>
    internal IReadOnlyList<ReadOnlyMemory<byte>> Parts { get; }

    /// <summary>An array of bytes.</summary>
    /// <param name="values">The elements in row-major order; not copied.</param>
    /// <param name="dims">The extents.</param>
    public static NpyArray Of(byte[] values, params IReadOnlyList<long> dims) => new(DType.U8, dims, values);

    /// <summary>An array of 64-bit integers.</summary>
    /// <param name="values">The elements in row-major order; copied.</param>
    /// <param name="dims">The extents.</param>
    public static NpyArray Of(ReadOnlySpan<long> values, params IReadOnlyList<long> dims) => new(DType.I64, dims, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>An array of binary32 numbers.</summary>
    /// <param name="values">The elements in row-major order; copied.</param>
    /// <param name="dims">The extents.</param>
    public static NpyArray Of(ReadOnlySpan<float> values, params IReadOnlyList<long> dims) => new(DType.F32, dims, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>An array of binary64 numbers.</summary>
    /// <param name="values">The elements in row-major order; copied.</param>
    /// <param name="dims">The extents.</param>
    public static NpyArray Of(ReadOnlySpan<double> values, params IReadOnlyList<long> dims) => new(DType.F64, dims, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>The elements as they are in the file.</summary>
    /// <exception cref="InvalidOperationException">They are more than one array holds.</exception>
    public byte[] ToBytes()
    {
        if (Bytes > Array.MaxLength)
        {
            throw new InvalidOperationException($"{Bytes} bytes are more than one array holds");
        }

        byte[] bytes = new byte[Bytes];
        int at = 0;
        foreach (ReadOnlyMemory<byte> part in Parts)
        {
            part.Span.CopyTo(bytes.AsSpan(at));
            at += part.Length;
        }

        return bytes;
    }

    /// <summary>The elements as binary32: exact from narrower types, rounded to nearest from wider ones.</summary>
    public float[] ToFloat32()
    {
        float[] values = new float[Bytes / DType.SizeInBytes()];
        ElementConversion.ToFloat32(DType, ToBytes(), values);
        return values;
    }

    /// <summary>The elements as binary64; exact, but for integers beyond 2^53.</summary>
    public double[] ToFloat64()
    {
        double[] values = new double[Bytes / DType.SizeInBytes()];
        ElementConversion.ToFloat64(DType, ToBytes(), values);
        return values;
    }

    /// <summary>The elements as 64-bit integers.</summary>
    /// <exception cref="InvalidOperationException">They are not integers.</exception>
    public long[] ToInt64()
    {
        if (DType.IsFloatingPoint())
        {
            throw new InvalidOperationException($"the array holds {DType}, not integers");
        }

        long[] values = new long[Bytes / DType.SizeInBytes()];
        ElementConversion.ToInt64(DType, ToBytes(), values);
        return values;
    }
}
