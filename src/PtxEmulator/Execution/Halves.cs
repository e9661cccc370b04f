using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>A 16-bit float format: how its values become binary32 and are rounded back.</summary>
internal interface IFormat16
{
    static abstract Vector512<uint> Expand(Vector512<uint> bits);

    static abstract Vector512<uint> Round(Vector512<uint> single);

    static abstract uint Round(double value);

    static abstract double Value(uint bits);
}

/// <summary>binary16.</summary>
internal struct HalfFormat : IFormat16
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Expand(Vector512<uint> bits) => Formats.HalfToSingle(bits & Vector512.Create(0xFFFFu));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Round(Vector512<uint> single) => Formats.SingleToHalf(single);

    public static uint Round(double value) => Formats.ToHalf(value, Rounding.Nearest);

    public static double Value(uint bits) => Formats.FromHalf(bits & 0xFFFF);
}

/// <summary>bfloat16.</summary>
internal struct BrainFormat : IFormat16
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Expand(Vector512<uint> bits) => bits << 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Round(Vector512<uint> single) => Formats.SingleToBrain(single);

    public static uint Round(double value) => Formats.ToBrain(value, Rounding.Nearest);

    public static double Value(uint bits) => BitConverter.UInt32BitsToSingle(bits << 16);
}

/// <summary>
/// A binary32 operation on 16-bit floats. Rounding twice is harmless for sums, products, quotients and roots, because 24 bits are at least twice 11 plus
/// two (Figueroa 1995); a fused multiply-add needs <see cref="Fma16{TFormat}"/>.
/// </summary>
internal struct Narrow1<TFormat, TOp> : IUnary32
    where TFormat : struct, IFormat16
    where TOp : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a) => TFormat.Round(TOp.Apply(TFormat.Expand(a)));
}

/// <inheritdoc cref="Narrow1{TFormat,TOp}"/>
internal struct Narrow2<TFormat, TOp> : IBinary32
    where TFormat : struct, IFormat16
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => TFormat.Round(TOp.Apply(TFormat.Expand(a), TFormat.Expand(b)));
}

/// <summary>A fused multiply-add of 16-bit floats, rounded once.</summary>
internal struct Fma16<TFormat> : IScalar3
    where TFormat : struct, IFormat16
{
    public static uint Apply(uint a, uint b, uint c) => TFormat.Round(Exact.FusedOdd(TFormat.Value(a), TFormat.Value(b), TFormat.Value(c)));
}

/// <summary>The operation on both halves of a register that packs two.</summary>
internal struct Both1<TOp> : IUnary32
    where TOp : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a) => TOp.Apply(a & Vector512.Create(0xFFFFu)) | TOp.Apply(a >> 16) << 16;
}

/// <inheritdoc cref="Both1{TOp}"/>
internal struct Both2<TOp> : IBinary32
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b)
    {
        var low = Vector512.Create(0xFFFFu);
        return TOp.Apply(a & low, b & low) | TOp.Apply(a >> 16, b >> 16) << 16;
    }
}

/// <inheritdoc cref="Both1{TOp}"/>
internal struct Both3<TOp> : ITernary32
    where TOp : struct, ITernary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c)
    {
        var low = Vector512.Create(0xFFFFu);
        return TOp.Apply(a & low, b & low, c & low) | TOp.Apply(a >> 16, b >> 16, c >> 16) << 16;
    }
}

/// <summary><c>.sat</c> of a 16-bit float; the bounds are values of the format, so clamping after rounding is exact.</summary>
internal struct SatNarrow<TFormat> : IUnary32
    where TFormat : struct, IFormat16
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a) => TFormat.Round(Floats.Saturate(TFormat.Expand(a)));
}

/// <summary><c>.relu</c> of a 16-bit float: negative values become +0, NaN stays.</summary>
internal struct ReluNarrow<TFormat> : IUnary32
    where TFormat : struct, IFormat16
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a)
    {
        var value = TFormat.Expand(a).AsSingle();
        var keep = Vector512.GreaterThan(value, Vector512<float>.Zero) | ~Vector512.Equals(value, value);
        return a & keep.AsUInt32();
    }
}

/// <summary>Follows a binary operation by a unary one.</summary>
internal struct Then2<TOp, TAfter> : IBinary32
    where TOp : struct, IBinary32
    where TAfter : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => TAfter.Apply(TOp.Apply(a, b));
}

/// <summary>Follows a ternary operation by a unary one.</summary>
internal struct Then3<TOp, TAfter> : ITernary32
    where TOp : struct, ITernary32
    where TAfter : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => TAfter.Apply(TOp.Apply(a, b, c));
}

/// <summary>Sign bits of 16-bit floats, one or two in a register.</summary>
internal static class Signs
{
    internal struct Neg16 : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a ^ Vector512.Create(0x8000u); }
    internal struct Abs16 : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a & Vector512.Create(0x7FFFu); }
    internal struct Neg16x2 : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a ^ Vector512.Create(0x80008000u); }
    internal struct Abs16x2 : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a & Vector512.Create(0x7FFF7FFFu); }
}

/// <summary>Sums that keep what binary64 rounds away.</summary>
internal static class Exact
{
    /// <summary>a b + c rounded to odd in binary64, for operands whose product is exact there; rounding that once more to a narrower format is rounding once.</summary>
    internal static double FusedOdd(double a, double b, double c)
    {
        var product = a * b;
        var sum = product + c;
        if (!double.IsFinite(sum))
            return sum;
        var part = sum - product;
        var error = (product - (sum - part)) + (c - part);
        if (error == 0)
            return sum;
        var bits = BitConverter.DoubleToInt64Bits(sum);
        // Toward zero first, then the last place says that something was cut off.
        if (error > 0 != sum > 0)
            bits--;
        return BitConverter.Int64BitsToDouble(bits | 1);
    }
}
