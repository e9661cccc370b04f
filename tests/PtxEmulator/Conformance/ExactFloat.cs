using System.Numerics;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>A binary floating-point format.</summary>
internal sealed record FloatFormat(string Name, int FractionBits, int ExponentBits)
{
    internal static readonly FloatFormat Half = new("f16", 10, 5);
    internal static readonly FloatFormat Brain = new("bf16", 7, 8);
    internal static readonly FloatFormat Single = new("f32", 23, 8);
    internal static readonly FloatFormat Double = new("f64", 52, 11);

    internal int Bias => (1 << (ExponentBits - 1)) - 1;

    internal ulong SignBit => 1UL << (FractionBits + ExponentBits);

    internal ulong Infinity => ((1UL << ExponentBits) - 1) << FractionBits;

    internal bool IsNaN(ulong bits) => (bits & (SignBit - 1)) > Infinity;

    internal bool IsInfinite(ulong bits) => (bits & (SignBit - 1)) == Infinity;

    internal bool IsSubnormal(ulong bits) => (bits & Infinity) == 0;

    /// <summary>Zeros, subnormals, powers of two and their neighbours, the largest values, infinities, NaN.</summary>
    internal ulong[] Edges
    {
        get
        {
            var one = (ulong)Bias << FractionBits;
            ulong[] magnitudes =
            [
                0, 1, 2, (1UL << FractionBits) - 1, 1UL << FractionBits, (1UL << FractionBits) + 1, one - 1, one, one + 1, one + (1UL << (FractionBits - 1)),
                one + (1UL << FractionBits), one - (1UL << FractionBits), one + ((ulong)FractionBits << FractionBits), one - ((ulong)FractionBits << FractionBits) + 1,
                Infinity - 1, Infinity - (1UL << FractionBits), Infinity, Infinity + 1, Infinity | 1UL << (FractionBits - 1),
            ];
            return [.. magnitudes, .. magnitudes.Select(m => m | SignBit)];
        }
    }

    /// <summary>Random values: any bits, or of moderate size so that sums and products stay finite.</summary>
    internal ulong Random(Random random)
    {
        var bits = (ulong)random.NextInt64(long.MinValue, long.MaxValue) & (2 * SignBit - 1);
        if (random.Next(2) == 0)
            return bits;
        var exponent = (ulong)(Bias + random.Next(-6, 7)) << FractionBits;
        return (bits & (SignBit | (1UL << FractionBits) - 1)) | exponent;
    }
}

/// <summary>A finite value as an exact fraction of integers times a power of two, rounded once into a format: the reference that IEEE 754 describes.</summary>
internal static class ExactFloat
{
    /// <summary>Numerator and exponent of a finite value.</summary>
    internal static (BigInteger Value, int Exponent) Decode(ulong bits, FloatFormat format)
    {
        var fraction = bits & ((1UL << format.FractionBits) - 1);
        var exponent = (int)((bits & format.Infinity) >> format.FractionBits);
        BigInteger value = exponent == 0 ? fraction : fraction | 1UL << format.FractionBits;
        var scale = Math.Max(exponent, 1) - format.Bias - format.FractionBits;
        return ((bits & format.SignBit) != 0 ? -value : value, scale);
    }

    /// <summary>Rounds value · 2^exponent; <paramref name="sticky"/> says that the magnitude is a little larger than that.</summary>
    internal static ulong Round(BigInteger value, int exponent, bool sticky, FloatFormat format, string mode)
    {
        var negative = value.Sign < 0;
        var magnitude = BigInteger.Abs(value);
        // Three more bits than any format needs keep what decides a tie.
        magnitude <<= 8;
        exponent -= 8;
        if (sticky)
            magnitude += 1;
        var length = (int)magnitude.GetBitLength();
        var lastPlace = Math.Max(exponent + length - 1 - format.FractionBits, 1 - format.Bias - format.FractionBits);
        var cut = lastPlace - exponent;
        BigInteger whole, rest, half;
        if (cut > 0)
        {
            whole = magnitude >> cut;
            rest = magnitude - (whole << cut);
            half = BigInteger.One << (cut - 1);
        }
        else
        {
            (whole, rest, half) = (magnitude << -cut, 0, 1);
        }
        var up = mode switch
        {
            "rn" => rest > half || rest == half && !whole.IsEven,
            "rna" => rest >= half && !rest.IsZero,
            "rz" => false,
            "rm" => negative && !rest.IsZero,
            _ => !negative && !rest.IsZero,
        };
        if (up)
            whole += 1;
        if (whole.GetBitLength() > format.FractionBits + 1)
        {
            whole >>= 1;
            lastPlace++;
        }
        var sign = negative ? format.SignBit : 0;
        var biased = lastPlace + format.FractionBits + format.Bias;
        if (whole >> format.FractionBits == 0)
            return sign | (ulong)whole;
        if (biased >= (1 << format.ExponentBits) - 1)
        {
            var away = mode is "rn" or "rna" || mode == (negative ? "rm" : "rp");
            return sign | (away ? format.Infinity : format.Infinity - 1);
        }
        return sign | (ulong)biased << format.FractionBits | (ulong)(whole - (BigInteger.One << format.FractionBits));
    }

    /// <summary>a b + c, rounded once. A sum is the product with one plus c; a product alone has no c.</summary>
    internal static ulong? MultiplyAdd(ulong a, ulong b, ulong? c, FloatFormat format, string mode)
    {
        var signs = (a ^ b) & format.SignBit;
        if (format.IsNaN(a) || format.IsNaN(b) || c is { } n && format.IsNaN(n))
            return null;
        if (format.IsInfinite(a) || format.IsInfinite(b))
        {
            var zero = ((format.IsInfinite(a) ? b : a) & (format.SignBit - 1)) == 0;
            if (zero || c is { } other && format.IsInfinite(other) && (other & format.SignBit) != signs)
                return null;
            return format.Infinity | signs;
        }
        if (c is { } infinite && format.IsInfinite(infinite))
            return infinite;
        var (x, ex) = Decode(a, format);
        var (y, ey) = Decode(b, format);
        var (product, exponent) = (x * y, ex + ey);
        if (c is { } addend)
        {
            var (z, ez) = Decode(addend, format);
            var low = Math.Min(exponent, ez);
            var sum = (product << (exponent - low)) + (z << (ez - low));
            if (sum.IsZero)
            {
                // Exact zero: the common sign if both are zeros of one sign, else -0 only when rounding down.
                var same = signs == (addend & format.SignBit);
                return product.IsZero && z.IsZero && same ? signs : mode == "rm" ? format.SignBit : 0;
            }
            return Round(sum, low, false, format, mode);
        }
        return product.IsZero ? signs : Round(product, exponent, false, format, mode);
    }

    internal static ulong? Divide(ulong a, ulong b, FloatFormat format, string mode)
    {
        var sign = (a ^ b) & format.SignBit;
        bool Zero(ulong v) => (v & (format.SignBit - 1)) == 0;
        if (format.IsNaN(a) || format.IsNaN(b) || Zero(a) && Zero(b) || format.IsInfinite(a) && format.IsInfinite(b))
            return null;
        if (format.IsInfinite(a) || Zero(b))
            return format.Infinity | sign;
        if (format.IsInfinite(b) || Zero(a))
            return sign;
        var (x, ex) = Decode(a & (format.SignBit - 1), format);
        var (y, ey) = Decode(b & (format.SignBit - 1), format);
        var quotient = BigInteger.DivRem(x << 200, y, out var remainder);
        var signed = sign != 0 ? -quotient : quotient;
        return Round(signed, ex - ey - 200, !remainder.IsZero, format, mode);
    }

    internal static ulong? SquareRoot(ulong a, FloatFormat format, string mode)
    {
        if ((a & (format.SignBit - 1)) == 0)
            return a;
        if (format.IsNaN(a) || (a & format.SignBit) != 0)
            return null;
        if (format.IsInfinite(a))
            return a;
        var (x, e) = Decode(a, format);
        var shift = 200 + (e & 1);
        var scaled = x << shift;
        var root = (BigInteger)0;
        for (var bit = (int)scaled.GetBitLength() / 2 + 1; bit >= 0; bit--)
        {
            var trial = root | BigInteger.One << bit;
            if (trial * trial <= scaled)
                root = trial;
        }
        return Round(root, (e - shift) / 2, root * root != scaled, format, mode);
    }

    /// <summary>One of a format's values in another format.</summary>
    internal static ulong? Convert(ulong bits, FloatFormat from, FloatFormat to, string mode)
    {
        if (from.IsNaN(bits))
            return null;
        var sign = (bits & from.SignBit) != 0 ? to.SignBit : 0;
        if (from.IsInfinite(bits))
            return sign | to.Infinity;
        var (value, exponent) = Decode(bits, from);
        return value.IsZero ? sign : Round(value, exponent, false, to, mode);
    }
}
