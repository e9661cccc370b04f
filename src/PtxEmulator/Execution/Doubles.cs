using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>binary64 operations.</summary>
internal static class Doubles
{
    private const ulong Sign = 1UL << 63;

    internal struct Add : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => (a.AsDouble() + b.AsDouble()).AsUInt64(); }
    internal struct Sub : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => (a.AsDouble() - b.AsDouble()).AsUInt64(); }
    internal struct Mul : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => (a.AsDouble() * b.AsDouble()).AsUInt64(); }
    internal struct Div : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => (a.AsDouble() / b.AsDouble()).AsUInt64(); }

    internal struct Fma : ITernary64
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c) =>
            Vector512.FusedMultiplyAdd(a.AsDouble(), b.AsDouble(), c.AsDouble()).AsUInt64();
    }

    internal struct Rcp : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => (Vector512<double>.One / a.AsDouble()).AsUInt64(); }
    internal struct Sqrt : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => Vector512.Sqrt(a.AsDouble()).AsUInt64(); }
    internal struct Rsqrt : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => (Vector512<double>.One / Vector512.Sqrt(a.AsDouble())).AsUInt64(); }

    /// <summary><c>.approx.ftz</c>: of the upper 32 bits of the operand, and rounded to them, which leaves 20 bits of fraction; subnormal values are zero.</summary>
    internal struct RcpGross : IScalarWide1 { public static ulong Apply(ulong a) => ToGross(1 / FromGross(a)); }

    /// <inheritdoc cref="RcpGross"/>
    internal struct RsqrtGross : IScalarWide1 { public static ulong Apply(ulong a) => ToGross(1 / Math.Sqrt(FromGross(a))); }

    private const ulong Exponent = 0x7FFUL << 52;

    private static double FromGross(ulong a) => BitConverter.UInt64BitsToDouble(
        (a & Exponent) == 0 ? a & Sign : double.IsNaN(BitConverter.UInt64BitsToDouble(a)) ? a : a & ~(ulong)uint.MaxValue);

    private static ulong ToGross(double value)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        // A NaN keeps a fraction in its upper half, because hardware makes quiet ones only.
        return (bits & Exponent) == 0 ? bits & Sign : double.IsFinite(value) ? (bits + (1UL << 31)) & ~(ulong)uint.MaxValue : bits & ~(ulong)uint.MaxValue;
    }

    internal struct Neg : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => a ^ Vector512.Create(Sign); }
    internal struct Abs : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => a & Vector512.Create(~Sign); }
    internal struct CopySign : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => (a & Vector512.Create(Sign)) | (b & Vector512.Create(~Sign)); }
    internal struct Min : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.MinNumber(a.AsDouble(), b.AsDouble()).AsUInt64(); }
    internal struct Max : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.MaxNumber(a.AsDouble(), b.AsDouble()).AsUInt64(); }
}

/// <summary>
/// Arithmetic rounded toward zero, down or up. The rounded-to-nearest result and its exact error (two-sum, fused multiply) say which
/// neighbour to take; binary32 goes through binary64, where products are exact.
/// </summary>
internal static class Directed
{
    /// <summary>A direction of rounding.</summary>
    internal interface IDirection
    {
        /// <summary>The neighbour to take of a nearest value that is off by <paramref name="error"/>.</summary>
        static abstract double Adjust(double nearest, double error);
    }

    internal struct TowardZero : IDirection
    {
        public static double Adjust(double nearest, double error) =>
            nearest > 0 && error < 0 ? Math.BitDecrement(nearest) : nearest < 0 && error > 0 ? Math.BitIncrement(nearest) : nearest;
    }

    internal struct Down : IDirection
    {
        public static double Adjust(double nearest, double error) => error < 0 ? Math.BitDecrement(nearest) : nearest;
    }

    internal struct Up : IDirection
    {
        public static double Adjust(double nearest, double error) => error > 0 ? Math.BitIncrement(nearest) : nearest;
    }

    private static double Sum<TDirection>(double a, double b)
        where TDirection : struct, IDirection
    {
        var sum = a + b;
        if (double.IsInfinity(sum) && double.IsFinite(a) && double.IsFinite(b))
            return TDirection.Adjust(sum, sum > 0 ? -1 : 1);
        if (!double.IsFinite(sum))
            return sum;
        // Only rounding down makes the zero of cancelling operands negative.
        if (sum == 0 && (a != 0 || !double.IsNegative(a) != !double.IsNegative(b)))
            return TDirection.Adjust(0, -1) < 0 && TDirection.Adjust(1, 1) == 1 ? -0.0 : 0.0;
        var part = sum - a;
        return TDirection.Adjust(sum, (a - (sum - part)) + (b - part));
    }

    private static double Product<TDirection>(double a, double b)
        where TDirection : struct, IDirection
    {
        var product = a * b;
        // The error of a product this small is below the smallest number.
        if (Math.Abs(product) < 1e-290 && a != 0 && b != 0)
            return TinyProduct<TDirection>(a, b);
        if (double.IsInfinity(product) && double.IsFinite(a) && double.IsFinite(b))
            return TDirection.Adjust(product, product > 0 ? -1 : 1);
        return double.IsFinite(product) ? TDirection.Adjust(product, Math.FusedMultiplyAdd(a, b, -product)) : product;
    }

    private static double TinyProduct<TDirection>(double a, double b)
        where TDirection : struct, IDirection
    {
        var (x, ex) = Decode(a);
        var (y, ey) = Decode(b);
        var exact = (UInt128)x * y;
        // The place of the last bit: of the smallest number, or 53 bits below the first.
        var bits = 128 - (int)UInt128.LeadingZeroCount(exact);
        var place = Math.Max(-1074, ex + ey + bits - 53);
        var cut = place - (ex + ey);
        var whole = cut >= 128 ? 0 : cut <= 0 ? exact << -cut : exact >> cut;
        var inexact = cut > 0 && (cut >= 128 || whole << cut != exact);
        var sign = double.IsNegative(a) == double.IsNegative(b) ? 1.0 : -1.0;
        if (inexact && TDirection.Adjust(sign, sign) != sign)
            whole++;
        return sign * Math.ScaleB((double)whole, place);
    }

    private static (ulong Significand, int Exponent) Decode(double value)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        var exponent = (int)(bits >> 52) & 0x7FF;
        var fraction = bits & ((1UL << 52) - 1);
        return exponent == 0 ? (fraction, -1074) : (fraction | 1UL << 52, exponent - 1075);
    }

    /// <summary>Rounds a binary64 value that stands for an exact one, rounded in the same direction, to binary32.</summary>
    private static uint Narrow<TDirection>(double value)
        where TDirection : struct, IDirection
    {
        var nearest = (float)value;
        if (float.IsNaN(nearest))
            return Floats.CanonicalNaN;
        if ((double)nearest != value && double.IsFinite(value))
        {
            var error = float.IsInfinity(nearest) ? (nearest > 0 ? -1 : 1) : value - nearest;
            var moved = TDirection.Adjust(nearest, error);
            if (moved > nearest)
                nearest = MathF.BitIncrement(nearest);
            else if (moved < nearest)
                nearest = MathF.BitDecrement(nearest);
        }
        return BitConverter.SingleToUInt32Bits(nearest);
    }

    private static double Single(uint bits) => BitConverter.UInt32BitsToSingle(bits);

    private static double Double(ulong bits) => BitConverter.UInt64BitsToDouble(bits);

    internal struct Add<T> : IScalar2 where T : struct, IDirection { public static uint Apply(uint a, uint b) => Narrow<T>(Sum<T>(Single(a), Single(b))); }
    internal struct Sub<T> : IScalar2 where T : struct, IDirection { public static uint Apply(uint a, uint b) => Narrow<T>(Sum<T>(Single(a), -Single(b))); }
    internal struct Mul<T> : IScalar2 where T : struct, IDirection { public static uint Apply(uint a, uint b) => Narrow<T>(Single(a) * Single(b)); }
    internal struct Fma<T> : IScalar3 where T : struct, IDirection { public static uint Apply(uint a, uint b, uint c) => Narrow<T>(Sum<T>(Single(a) * Single(b), Single(c))); }

    /// <summary>Rounds an exact value, <paramref name="magnitude"/> times two to <paramref name="exponent"/> and a little more where <paramref name="sticky"/>.</summary>
    private static double Round<TDirection>(bool negative, BigInteger magnitude, int exponent, bool sticky)
        where TDirection : struct, IDirection
    {
        // The place of the last bit: of the smallest number, or 53 bits below the first.
        var place = Math.Max(-1074, exponent + (int)magnitude.GetBitLength() - 53);
        var cut = place - exponent;
        var whole = cut <= 0 ? magnitude << -cut : magnitude >> cut;
        var sign = negative ? -1.0 : 1.0;
        if ((sticky || (cut > 0 && whole << cut != magnitude)) && TDirection.Adjust(sign, sign) != sign)
            whole++;
        var rounded = sign * Math.ScaleB((double)whole, place);
        return double.IsInfinity(rounded) ? TDirection.Adjust(rounded, -sign) : rounded;
    }

    private static double Fused<TDirection>(double a, double b, double c)
        where TDirection : struct, IDirection
    {
        if (!double.IsFinite(a) || !double.IsFinite(b) || !double.IsFinite(c) || a == 0 || b == 0)
            return double.IsFinite(a) && double.IsFinite(b) && double.IsFinite(c) ? Sum<TDirection>(a * b, c) : Math.FusedMultiplyAdd(a, b, c);
        var (x, ex) = Decode(a);
        var (y, ey) = Decode(b);
        var (z, ez) = Decode(c);
        var (product, exponent) = ((BigInteger)x * y, ex + ey);
        var addend = (BigInteger)z;
        if (double.IsNegative(a) != double.IsNegative(b))
            product = -product;
        if (double.IsNegative(c))
            addend = -addend;
        if (ez > exponent)
            addend <<= ez - exponent;
        else
            (product, exponent) = (product << (exponent - ez), ez);
        var sum = product + addend;
        // Only rounding down makes the zero of cancelling operands negative.
        return sum.IsZero ? Sum<TDirection>(1, -1) : Round<TDirection>(sum.Sign < 0, BigInteger.Abs(sum), exponent, false);
    }

    private static double Quotient<TDirection>(double a, double b)
        where TDirection : struct, IDirection
    {
        if (!double.IsFinite(a) || !double.IsFinite(b) || a == 0 || b == 0)
            return a / b;
        var (x, ex) = Decode(a);
        var (y, ey) = Decode(b);
        // Enough bits for a significand of any operands.
        const int Shift = 128;
        var quotient = BigInteger.DivRem((BigInteger)x << Shift, y, out var remainder);
        return Round<TDirection>(double.IsNegative(a) != double.IsNegative(b), quotient, ex - ey - Shift, !remainder.IsZero);
    }

    private static double Root<TDirection>(double a)
        where TDirection : struct, IDirection
    {
        // The error of a small number's root would vanish; a power of four moves it where it does not.
        var (scale, back) = a < 1e-200 ? (540, -270) : (0, 0);
        var value = Math.ScaleB(a, scale);
        var root = Math.Sqrt(value);
        return double.IsFinite(root) && root != 0 ? Math.ScaleB(TDirection.Adjust(root, -Math.FusedMultiplyAdd(root, root, -value)), back) : root;
    }

    internal struct Div<T> : IScalar2
        where T : struct, IDirection
    {
        public static uint Apply(uint a, uint b)
        {
            var (x, y) = (Single(a), Single(b));
            var quotient = x / y;
            if (!double.IsFinite(quotient) || quotient == 0)
                return Narrow<T>(quotient);
            var remainder = -Math.FusedMultiplyAdd(quotient, y, -x);
            return Narrow<T>(T.Adjust(quotient, y > 0 ? remainder : -remainder));
        }
    }

    internal struct Sqrt<T> : IScalar1
        where T : struct, IDirection
    {
        public static uint Apply(uint a)
        {
            var x = Single(a);
            var root = Math.Sqrt(x);
            return Narrow<T>(double.IsFinite(root) && root != 0 ? T.Adjust(root, -Math.FusedMultiplyAdd(root, root, -x)) : root);
        }
    }

    internal struct AddWide<T> : IScalarWide2 where T : struct, IDirection { public static ulong Apply(ulong a, ulong b) => BitConverter.DoubleToUInt64Bits(Sum<T>(Double(a), Double(b))); }
    internal struct SubWide<T> : IScalarWide2 where T : struct, IDirection { public static ulong Apply(ulong a, ulong b) => BitConverter.DoubleToUInt64Bits(Sum<T>(Double(a), -Double(b))); }
    internal struct FmaWide<T> : IScalarWide3 where T : struct, IDirection { public static ulong Apply(ulong a, ulong b, ulong c) => BitConverter.DoubleToUInt64Bits(Fused<T>(Double(a), Double(b), Double(c))); }
    internal struct DivWide<T> : IScalarWide2 where T : struct, IDirection { public static ulong Apply(ulong a, ulong b) => BitConverter.DoubleToUInt64Bits(Quotient<T>(Double(a), Double(b))); }
    internal struct RcpWide<T> : IScalarWide1 where T : struct, IDirection { public static ulong Apply(ulong a) => BitConverter.DoubleToUInt64Bits(Quotient<T>(1, Double(a))); }
    internal struct SqrtWide<T> : IScalarWide1 where T : struct, IDirection { public static ulong Apply(ulong a) => BitConverter.DoubleToUInt64Bits(Root<T>(Double(a))); }
    internal struct Rcp<T> : IScalar1 where T : struct, IDirection { public static uint Apply(uint a) => Div<T>.Apply(0x3F800000, a); }
    internal struct MulWide<T> : IScalarWide2 where T : struct, IDirection { public static ulong Apply(ulong a, ulong b) => BitConverter.DoubleToUInt64Bits(Product<T>(Double(a), Double(b))); }
}
