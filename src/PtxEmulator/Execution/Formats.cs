using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>A direction of rounding, as PTX writes it.</summary>
internal enum Rounding
{
    /// <summary><c>.rn</c>: to nearest, ties to even.</summary>
    Nearest,

    /// <summary><c>.rna</c>: to nearest, ties away from zero.</summary>
    NearestAway,

    /// <summary><c>.rz</c>.</summary>
    Zero,

    /// <summary><c>.rm</c>.</summary>
    Down,

    /// <summary><c>.rp</c>.</summary>
    Up,
}

/// <summary>Conversions between binary32 and the narrower formats: binary16, bfloat16, tf32.</summary>
internal static class Formats
{
    internal const uint HalfNaN = 0x7FFF;

    /// <summary>binary16 in the low half of each lane to binary32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> HalfToSingle(Vector512<uint> half)
    {
        // The exponent is rebiased by a multiplication, which also normalises subnormals; infinities and NaNs need the top exponent put back.
        var magnitude = (half & Vector512.Create(0x7FFFu)) << 13;
        var scaled = (magnitude.AsSingle() * Vector512.Create(5.192296858534828e33f)).AsUInt32();
        var special = Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(0x7C00u << 13));
        return (scaled | (special & Vector512.Create(0x7F800000u))) | ((half & Vector512.Create(0x8000u)) << 16);
    }

    /// <summary>binary32 to binary16, to nearest even.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> SingleToHalf(Vector512<uint> single)
    {
        var sign = (single >> 16) & Vector512.Create(0x8000u);
        var magnitude = single & Vector512.Create(0x7FFFFFFFu);
        // Results that are subnormal: adding 0.5 aligns the last place, and the addition rounds.
        var small = (magnitude.AsSingle() + Vector512.Create(0.5f)).AsUInt32() - Vector512.Create(0x3F000000u);
        var odd = (magnitude >> 13) & Vector512<uint>.One;
        var normal = (magnitude + Vector512.Create(0xC8000FFFu) + odd) >> 13;
        var result = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(0x38800000u)), small, normal);
        result = Vector512.ConditionalSelect(Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(0x477FF000u)), Vector512.Create(0x7C00u), result) | sign;
        return Vector512.ConditionalSelect(Vector512.GreaterThan(magnitude, Vector512.Create(0x7F800000u)), Vector512.Create(HalfNaN), result);
    }

    /// <summary>binary32 to bfloat16, to nearest even.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> SingleToBrain(Vector512<uint> single)
    {
        var odd = (single >> 16) & Vector512<uint>.One;
        var rounded = (single + Vector512.Create(0x7FFFu) + odd) >> 16;
        var nan = Vector512.GreaterThan(single & Vector512.Create(0x7FFFFFFFu), Vector512.Create(0x7F800000u));
        return Vector512.ConditionalSelect(nan, Vector512.Create(0x7FFFu), rounded);
    }

    /// <summary>binary16 of a value.</summary>
    internal static uint ToHalf(double value, Rounding rounding) => Narrow(value, 10, 5, rounding);

    /// <summary>bfloat16 of a value.</summary>
    internal static uint ToBrain(double value, Rounding rounding) => Narrow(value, 7, 8, rounding);

    /// <summary>tf32 of a value: binary32 with the last 13 bits zero.</summary>
    internal static uint ToTf32(double value, Rounding rounding) => Narrow(value, 10, 8, rounding) << 13;

    /// <summary>binary32 of a value.</summary>
    internal static uint ToSingle(double value, Rounding rounding) => Narrow(value, 23, 8, rounding);

    /// <summary>Value of a binary16.</summary>
    internal static double FromHalf(uint bits) => (double)BitConverter.UInt16BitsToHalf((ushort)bits);

    /// <summary>Rounds to a format with the given bits of fraction and exponent, subnormals, infinities and a NaN of all ones.</summary>
    internal static uint Narrow(double value, int fractionBits, int exponentBits, Rounding rounding)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        var sign = (uint)(bits >> 63) << (fractionBits + exponentBits);
        var top = (1u << exponentBits) - 1;
        if (double.IsNaN(value))
            return (1u << (fractionBits + exponentBits)) - 1;
        if (double.IsInfinity(value))
            return sign | top << fractionBits;
        if (value == 0)
            return sign;
        var bias = (1 << (exponentBits - 1)) - 1;
        var exponent = Math.ILogB(value);
        // Units of the last place of the result, which for subnormals is fixed.
        var lastPlace = Math.Max(exponent, 1 - bias) - fractionBits;
        var scaled = Math.ScaleB(Math.Abs(value), -lastPlace);
        var negative = sign != 0;
        var whole = rounding switch
        {
            Rounding.Nearest => Math.Round(scaled, MidpointRounding.ToEven),
            Rounding.NearestAway => Math.Round(scaled, MidpointRounding.AwayFromZero),
            Rounding.Down => negative ? Math.Ceiling(scaled) : Math.Floor(scaled),
            Rounding.Up => negative ? Math.Floor(scaled) : Math.Ceiling(scaled),
            _ => Math.Floor(scaled),
        };
        // A carry out of the fraction runs into the exponent, which is what the format wants.
        var result = (ulong)whole + ((ulong)(Math.Max(exponent, 1 - bias) + bias - 1) << fractionBits);
        var infinity = (ulong)top << fractionBits;
        if (result >= infinity)
        {
            var away = rounding is Rounding.Nearest or Rounding.NearestAway || rounding == (negative ? Rounding.Down : Rounding.Up);
            result = away ? infinity : infinity - 1;
        }
        return sign | (uint)result;
    }
}
