using System.Runtime.InteropServices;
using Kernels.Checkpoints;
using Xunit;

namespace Kernels.Tests.Checkpoints;

public sealed class ElementConversionTests
{
    [Fact]
    public void EveryHalfIsItsValue()
    {
        ushort[] all = [.. Enumerable.Range(0, 1 << 16).Select(i => (ushort)i)];
        float[] single = new float[all.Length];
        double[] twice = new double[all.Length];
        ElementConversion.ToFloat32(DType.F16, MemoryMarshal.AsBytes(all.AsSpan()), single);
        ElementConversion.ToFloat64(DType.F16, MemoryMarshal.AsBytes(all.AsSpan()), twice);
        for (int i = 0; i < all.Length; i++)
        {
            double expected = Value(all[i], exponentBits: 5, fractionBits: 10);
            AssertSame(expected, single[i]);
            AssertSame(expected, twice[i]);
        }
    }

    [Fact]
    public void EveryBFloat16IsItsValue()
    {
        ushort[] all = [.. Enumerable.Range(0, 1 << 16).Select(i => (ushort)i)];
        float[] single = new float[all.Length];
        double[] twice = new double[all.Length];
        ElementConversion.ToFloat32(DType.BF16, MemoryMarshal.AsBytes(all.AsSpan()), single);
        ElementConversion.ToFloat64(DType.BF16, MemoryMarshal.AsBytes(all.AsSpan()), twice);
        for (int i = 0; i < all.Length; i++)
        {
            double expected = Value(all[i], exponentBits: 8, fractionBits: 7);
            AssertSame(expected, single[i]);
            AssertSame(expected, twice[i]);
        }
    }

    [Theory]
    [InlineData(DType.F16)]
    [InlineData(DType.BF16)]
    public void NarrowingGivesTheNearestAndTiesGoToEven(DType dtype)
    {
        // All values of the type, those half-way between neighbours, and the floats beside them.
        ushort[] finite = [.. Enumerable.Range(0, dtype == DType.F16 ? 0x7C00 : 0x7F80).Select(i => (ushort)i)];
        float[] exact = new float[finite.Length];
        ElementConversion.ToFloat32(dtype, MemoryMarshal.AsBytes(finite.AsSpan()), exact);
        for (int i = 0; i + 1 < finite.Length; i++)
        {
            float middle = (float)(((double)exact[i] + exact[i + 1]) / 2);
            ushort even = (finite[i] & 1) == 0 ? finite[i] : finite[i + 1];
            Assert.Equal(finite[i], Narrow(exact[i], dtype));
            Assert.Equal(even, Narrow(middle, dtype));
            Assert.Equal(finite[i], Narrow(MathF.BitDecrement(middle), dtype));
            Assert.Equal(finite[i + 1], Narrow(MathF.BitIncrement(middle), dtype));
            Assert.Equal(finite[i] | 0x8000, Narrow(-exact[i], dtype));
        }
    }

    [Theory]
    [InlineData(DType.F16, 0x7C00)]
    [InlineData(DType.BF16, 0x7F80)]
    public void InfinitiesAndNaNStayWhatTheyAre(DType dtype, int infinity)
    {
        Assert.Equal(infinity, Narrow(float.PositiveInfinity, dtype));
        Assert.Equal(infinity | 0x8000, Narrow(float.NegativeInfinity, dtype));
        foreach (uint bits in new[] { 0x7F800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu })
        {
            ushort narrow = Narrow(BitConverter.UInt32BitsToSingle(bits), dtype);
            Assert.True((narrow & infinity) == infinity && (narrow & 0x7FFF) != infinity, $"{bits:x8} became {narrow:x4}");
        }
    }

    [Fact]
    public void LengthsThatDoNotFillAVectorAreConvertedToTheEnd()
    {
        for (int length = 0; length < 40; length++)
        {
            ushort[] ones = [.. Enumerable.Repeat((ushort)0x3F80, length)];
            float[] single = new float[length];
            ElementConversion.ToFloat32(DType.BF16, MemoryMarshal.AsBytes(ones.AsSpan()), single);
            Assert.All(single, value => Assert.Equal(1f, value));
        }
    }

    [Fact]
    public void IntegersKeepTheirValues()
    {
        Assert.Equal([long.MinValue, long.MaxValue], Int64(DType.I64, long.MinValue, long.MaxValue));
        Assert.Equal([int.MinValue, int.MaxValue], Int64(DType.I32, int.MinValue, int.MaxValue));
        Assert.Equal([short.MinValue, short.MaxValue], Int64(DType.I16, short.MinValue, short.MaxValue));
        Assert.Equal([sbyte.MinValue, sbyte.MaxValue], Int64(DType.I8, sbyte.MinValue, sbyte.MaxValue));
        Assert.Equal([0, 255], Int64<byte>(DType.U8, 0, 255));
        Assert.Equal([0, 1, 1], Int64<byte>(DType.Bool, 0, 1, 2));
        Assert.Throws<ArgumentException>(() => Int64(DType.F32, 1f));

        float[] single = new float[2];
        ElementConversion.ToFloat32(DType.I64, MemoryMarshal.AsBytes<long>([(1L << 24) + 1, -3]), single);
        Assert.Equal([16777216f, -3f], single);
    }

    // sign * 2^(exponent - bias) * (1 + fraction), subnormals without the 1: IEEE 754, section 3.4.
    private static double Value(ushort bits, int exponentBits, int fractionBits)
    {
        int bias = (1 << (exponentBits - 1)) - 1;
        int exponent = (bits >> fractionBits) & ((1 << exponentBits) - 1);
        double fraction = (bits & ((1 << fractionBits) - 1)) / (double)(1 << fractionBits);
        double magnitude = exponent == (1 << exponentBits) - 1 ? (fraction == 0 ? double.PositiveInfinity : double.NaN)
            : exponent == 0 ? fraction * Math.Pow(2, 1 - bias)
            : (1 + fraction) * Math.Pow(2, exponent - bias);
        return (bits & 0x8000) != 0 ? -magnitude : magnitude;
    }

    private static void AssertSame(double expected, double actual) => Assert.True(
        double.IsNaN(expected) ? double.IsNaN(actual) : BitConverter.DoubleToInt64Bits(expected) == BitConverter.DoubleToInt64Bits(actual),
        $"{actual:r} is not {expected:r}");

    private static ushort Narrow(float value, DType dtype)
    {
        Span<byte> bytes = stackalloc byte[2];
        ElementConversion.FromFloat32([value], dtype, bytes);
        return BitConverter.ToUInt16(bytes);
    }

    private static long[] Int64<T>(DType dtype, params ReadOnlySpan<T> values)
        where T : unmanaged
    {
        long[] result = new long[values.Length];
        ElementConversion.ToInt64(dtype, MemoryMarshal.AsBytes(values), result);
        return result;
    }
}
