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
        if (double.IsInfinity(product) && double.IsFinite(a) && double.IsFinite(b))
            return TDirection.Adjust(product, product > 0 ? -1 : 1);
        return double.IsFinite(product) ? TDirection.Adjust(product, Math.FusedMultiplyAdd(a, b, -product)) : product;
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
    internal struct MulWide<T> : IScalarWide2 where T : struct, IDirection { public static ulong Apply(ulong a, ulong b) => BitConverter.DoubleToUInt64Bits(Product<T>(Double(a), Double(b))); }

    internal struct DivWide<T> : IScalarWide2
        where T : struct, IDirection
    {
        public static ulong Apply(ulong a, ulong b)
        {
            var (x, y) = (Double(a), Double(b));
            var quotient = x / y;
            if (double.IsFinite(quotient) && quotient != 0)
            {
                var remainder = -Math.FusedMultiplyAdd(quotient, y, -x);
                quotient = T.Adjust(quotient, y > 0 ? remainder : -remainder);
            }
            return BitConverter.DoubleToUInt64Bits(quotient);
        }
    }
}
