using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Kernels.Checkpoints;

/// <summary>
/// Conversions between the element types of files and those of the program. Files are little-endian, and so is every machine .NET 10
/// serves this library on, so bytes are reinterpreted in place.
/// </summary>
/// <remarks>
/// To a wider type every conversion is exact, subnormals, infinities and NaN included; to a narrower one it rounds to nearest, ties to even.
/// </remarks>
internal static class ElementConversion
{
    /// <summary>Converts elements of any type to binary32.</summary>
    public static void ToFloat32(DType dtype, ReadOnlySpan<byte> bytes, Span<float> destination)
    {
        switch (dtype)
        {
            case DType.F32:
                Cast<float>(bytes).CopyTo(destination);
                break;
            case DType.F16:
                TensorPrimitives.ConvertToSingle(Cast<Half>(bytes), destination);
                break;
            case DType.BF16:
                FromBFloat16(Cast<ushort>(bytes), destination);
                break;
            default:
                Convert(dtype, bytes, destination);
                break;
        }
    }

    /// <summary>Converts elements of any type to binary64.</summary>
    public static void ToFloat64(DType dtype, ReadOnlySpan<byte> bytes, Span<double> destination)
    {
        if (dtype == DType.BF16)
        {
            float[] single = new float[destination.Length];
            FromBFloat16(Cast<ushort>(bytes), single);
            TensorPrimitives.ConvertTruncating<float, double>(single, destination);
        }
        else
        {
            Convert(dtype, bytes, destination);
        }
    }

    /// <summary>Converts integers and truth values to 64 bits.</summary>
    /// <exception cref="ArgumentException">The type holds real numbers.</exception>
    public static void ToInt64(DType dtype, ReadOnlySpan<byte> bytes, Span<long> destination)
    {
        if (dtype.IsFloatingPoint())
        {
            throw new ArgumentException($"{dtype} does not hold integers", nameof(dtype));
        }

        Convert(dtype, bytes, destination);
    }

    /// <summary>Converts binary32 to another floating-point type.</summary>
    public static void FromFloat32(ReadOnlySpan<float> values, DType dtype, Span<byte> bytes)
    {
        switch (dtype)
        {
            case DType.F32:
                values.CopyTo(MemoryMarshal.Cast<byte, float>(bytes));
                break;
            case DType.F16:
                TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(bytes));
                break;
            case DType.BF16:
                ToBFloat16(values, MemoryMarshal.Cast<byte, ushort>(bytes));
                break;
            case DType.F64:
                TensorPrimitives.ConvertTruncating(values, MemoryMarshal.Cast<byte, double>(bytes));
                break;
            default:
                throw new ArgumentException($"{dtype} does not hold real numbers", nameof(dtype));
        }
    }

    private static void Convert<T>(DType dtype, ReadOnlySpan<byte> bytes, Span<T> destination)
        where T : unmanaged, INumber<T>
    {
        switch (dtype)
        {
            case DType.F64:
                TensorPrimitives.ConvertTruncating(Cast<double>(bytes), destination);
                break;
            case DType.F32:
                TensorPrimitives.ConvertTruncating(Cast<float>(bytes), destination);
                break;
            case DType.F16:
                TensorPrimitives.ConvertTruncating(Cast<Half>(bytes), destination);
                break;
            case DType.I64:
                TensorPrimitives.ConvertTruncating(Cast<long>(bytes), destination);
                break;
            case DType.I32:
                TensorPrimitives.ConvertTruncating(Cast<int>(bytes), destination);
                break;
            case DType.I16:
                TensorPrimitives.ConvertTruncating(Cast<short>(bytes), destination);
                break;
            case DType.I8:
                TensorPrimitives.ConvertTruncating(Cast<sbyte>(bytes), destination);
                break;
            case DType.U8:
                TensorPrimitives.ConvertTruncating(bytes, destination);
                break;
            case DType.Bool:
                for (int i = 0; i < bytes.Length; i++)
                {
                    destination[i] = bytes[i] != 0 ? T.One : T.Zero;
                }

                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "unknown element type");
        }
    }

    private static void FromBFloat16(ReadOnlySpan<ushort> source, Span<float> destination)
    {
        Span<uint> bits = MemoryMarshal.Cast<float, uint>(destination)[..source.Length];
        int i = 0;
        for (; i + Vector<ushort>.Count <= source.Length; i += Vector<ushort>.Count)
        {
            Vector.Widen(new Vector<ushort>(source[i..]), out Vector<uint> low, out Vector<uint> high);
            (low << 16).CopyTo(bits[i..]);
            (high << 16).CopyTo(bits[(i + Vector<uint>.Count)..]);
        }

        for (; i < source.Length; i++)
        {
            bits[i] = (uint)source[i] << 16;
        }
    }

    private static void ToBFloat16(ReadOnlySpan<float> source, Span<ushort> destination)
    {
        ReadOnlySpan<uint> bits = MemoryMarshal.Cast<float, uint>(source);
        for (int i = 0; i < bits.Length; i++)
        {
            // Half of the last place, less one where the kept part is even. A NaN keeps its upper bits and becomes quiet: rounding could
            // carry its payload away and leave an infinity.
            uint rounded = bits[i] + 0x7FFF + ((bits[i] >> 16) & 1);
            destination[i] = (ushort)((float.IsNaN(source[i]) ? bits[i] | 0x0040_0000 : rounded) >> 16);
        }
    }

    private static ReadOnlySpan<T> Cast<T>(ReadOnlySpan<byte> bytes)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(bytes);
}
