using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>
/// binary32 operations. A NaN result is the canonical 0x7FFFFFFF, as PTX defines. Approximate functions are computed more exactly than PTX's
/// bound asks for: what is within the bound on one device may differ on another, and nothing may depend on it.
/// </summary>
internal static class Floats
{
    internal const uint CanonicalNaN = 0x7FFFFFFF;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> Canonical(Vector512<float> a) =>
        Vector512.ConditionalSelect(Vector512.Equals(a, a), a, Vector512.Create(CanonicalNaN).AsSingle()).AsUInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> Flush(Vector512<uint> a)
    {
        var subnormal = Vector512.Equals(a & Vector512.Create(0x7F800000u), Vector512<uint>.Zero);
        return Vector512.ConditionalSelect(subnormal, a & Vector512.Create(0x80000000u), a);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> Saturate(Vector512<uint> a)
    {
        // The comparison is false for NaN, and for -0 the sign must go too.
        var positive = Vector512.GreaterThan(a.AsSingle(), Vector512<float>.Zero).AsUInt32();
        return Vector512.ConditionalSelect(
            Vector512.GreaterThan(a.AsSingle(), Vector512<float>.One).AsUInt32(), Vector512<float>.One.AsUInt32(), a & positive);
    }

    internal struct Add : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() + b.AsSingle()); }
    internal struct Sub : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() - b.AsSingle()); }
    internal struct Mul : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() * b.AsSingle()); }
    internal struct Div : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() / b.AsSingle()); }

    internal struct Fma : ITernary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) =>
            Canonical(Vector512.FusedMultiplyAdd(a.AsSingle(), b.AsSingle(), c.AsSingle()));
    }

    internal struct Rcp : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Canonical(Vector512<float>.One / a.AsSingle()); }
    internal struct Sqrt : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Canonical(Vector512.Sqrt(a.AsSingle())); }

    internal struct Rsqrt : IScalar1
    {
        public static uint Apply(uint a) => Single(1.0 / Math.Sqrt(BitConverter.UInt32BitsToSingle(a)));
    }

    internal struct Neg : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a ^ Vector512.Create(0x80000000u); }
    internal struct Abs : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a & Vector512.Create(0x7FFFFFFFu); }

    /// <summary>The sign of a with the magnitude of b.</summary>
    internal struct CopySign : IBinary32
    {
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => (a & Vector512.Create(0x80000000u)) | (b & Vector512.Create(0x7FFFFFFFu));
    }

    /// <summary>The smaller; the other one if one is NaN; -0 is smaller than +0.</summary>
    internal struct Min : IBinary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.MinNumber(a.AsSingle(), b.AsSingle()));
    }

    /// <summary>The larger, with the rules of <see cref="Min"/>.</summary>
    internal struct Max : IBinary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.MaxNumber(a.AsSingle(), b.AsSingle()));
    }

    /// <summary>The smaller; NaN if either is.</summary>
    internal struct MinNaN : IBinary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.Min(a.AsSingle(), b.AsSingle()));
    }

    /// <summary>The larger; NaN if either is.</summary>
    internal struct MaxNaN : IBinary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.Max(a.AsSingle(), b.AsSingle()));
    }

    /// <summary>2^a by a polynomial on [-1/2, 1/2]; below 2^-22 relative error, PTX's bound.</summary>
    internal struct Ex2 : IUnary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> bits)
        {
            var a = bits.AsSingle();
            // Beyond this range the result is 0 or infinity anyway; clamping keeps the exponent arithmetic in range.
            var x = Vector512.Min(Vector512.Max(a, Vector512.Create(-160f)), Vector512.Create(130f));
            var whole = Vector512.Round(x);
            var f = x - whole;
            var p = Vector512.Create(1.5252733e-5f);
            p = Vector512.FusedMultiplyAdd(p, f, Vector512.Create(1.5403530e-4f));
            p = Vector512.FusedMultiplyAdd(p, f, Vector512.Create(1.3333558e-3f));
            p = Vector512.FusedMultiplyAdd(p, f, Vector512.Create(9.6181291e-3f));
            p = Vector512.FusedMultiplyAdd(p, f, Vector512.Create(5.5504109e-2f));
            p = Vector512.FusedMultiplyAdd(p, f, Vector512.Create(2.4022651e-1f));
            p = Vector512.FusedMultiplyAdd(p, f, Vector512.Create(6.9314718e-1f));
            p = Vector512.FusedMultiplyAdd(p, f, Vector512<float>.One);
            // Two factors reach the subnormal results that one exponent cannot.
            var n = Vector512.ConvertToInt32(whole);
            var half = n >> 1;
            var scale1 = ((half + Vector512.Create(127)) << 23).AsSingle();
            var scale2 = ((n - half + Vector512.Create(127)) << 23).AsSingle();
            return Canonical(Vector512.ConditionalSelect(Vector512.Equals(a, a), p * scale1 * scale2, a));
        }
    }

    internal struct Lg2 : IScalar1 { public static uint Apply(uint a) => Single(Math.Log2(BitConverter.UInt32BitsToSingle(a))); }
    internal struct Sin : IScalar1 { public static uint Apply(uint a) => Single(Math.Sin(BitConverter.UInt32BitsToSingle(a))); }
    internal struct Cos : IScalar1 { public static uint Apply(uint a) => Single(Math.Cos(BitConverter.UInt32BitsToSingle(a))); }
    internal struct Tanh : IScalar1 { public static uint Apply(uint a) => Single(Math.Tanh(BitConverter.UInt32BitsToSingle(a))); }

    private static uint Single(double value) => double.IsNaN(value) ? CanonicalNaN : BitConverter.SingleToUInt32Bits((float)value);
}
