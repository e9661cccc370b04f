using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Kernels.Emulation.Execution;

/// <summary>64-bit integer operations, and those between 32 and 64 bits.</summary>
internal static class Integers64
{
    internal struct Add : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => a + b; }
    internal struct Sub : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => a - b; }
    internal struct MulLo : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => a * b; }
    internal struct MadLo : ITernary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c) => a * b + c; }
    internal struct MulHiU : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => Math.BigMul(a, b, out ulong _); }
    internal struct MulHiS : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => (ulong)Math.BigMul((long)a, (long)b, out long _); }
    internal struct MadHiU : IScalarWide3 { public static ulong Apply(ulong a, ulong b, ulong c) => MulHiU.Apply(a, b) + c; }
    internal struct MadHiS : IScalarWide3 { public static ulong Apply(ulong a, ulong b, ulong c) => MulHiS.Apply(a, b) + c; }
    internal struct And : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => a & b; }
    internal struct Or : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => a | b; }
    internal struct Xor : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => a ^ b; }
    internal struct Not : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => ~a; }
    internal struct CNot : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => Vector512.Equals(a, Vector512<ulong>.Zero) & Vector512<ulong>.One; }
    internal struct Neg : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => Vector512<ulong>.Zero - a; }
    internal struct Abs : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => Vector512.Abs(a.AsInt64()).AsUInt64(); }
    internal struct Move : IUnary64 { public static Vector512<ulong> Apply(Vector512<ulong> a) => a; }
    internal struct MinU : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Min(a, b); }
    internal struct MaxU : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Max(a, b); }
    internal struct MinS : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Min(a.AsInt64(), b.AsInt64()).AsUInt64(); }
    internal struct MaxS : IBinary64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Max(a.AsInt64(), b.AsInt64()).AsUInt64(); }
    internal struct DivU : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => b == 0 ? ulong.MaxValue : a / b; }
    internal struct DivS : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => b == 0 ? ulong.MaxValue : b == ulong.MaxValue ? 0 - a : (ulong)((long)a / (long)b); }
    internal struct RemU : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => b == 0 ? ulong.MaxValue : a % b; }
    internal struct RemS : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => b == 0 ? ulong.MaxValue : b == ulong.MaxValue ? 0 : (ulong)((long)a % (long)b); }
    internal struct Brev : IScalarWide1 { public static ulong Apply(ulong a) => (ulong)Integers.Brev.Apply((uint)a) << 32 | Integers.Brev.Apply((uint)(a >> 32)); }

    internal struct SadU : IScalarWide3 { public static ulong Apply(ulong a, ulong b, ulong c) => c + (a > b ? a - b : b - a); }
    internal struct SadS : IScalarWide3 { public static ulong Apply(ulong a, ulong b, ulong c) => c + ((long)a > (long)b ? a - b : b - a); }
    internal struct Popc : IScalarNarrow { public static uint Apply(ulong a) => (uint)BitOperations.PopCount(a); }
    internal struct Clz : IScalarNarrow { public static uint Apply(ulong a) => (uint)BitOperations.LeadingZeroCount(a); }
    internal struct FindU : IScalarNarrow { public static uint Apply(ulong a) => a == 0 ? uint.MaxValue : 63 - Clz.Apply(a); }
    internal struct FindS : IScalarNarrow { public static uint Apply(ulong a) => FindU.Apply((long)a < 0 ? ~a : a); }
    internal struct FindShiftU : IScalarNarrow { public static uint Apply(ulong a) => a == 0 ? uint.MaxValue : Clz.Apply(a); }
    internal struct FindShiftS : IScalarNarrow { public static uint Apply(ulong a) => FindShiftU.Apply((long)a < 0 ? ~a : a); }

    // Counts above 63 shift everything out: PTX clamps, as AVX-512 does; scalar x86 wraps.
    internal struct Shl : IShift64
    {
        private struct Lane : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => b > 63 ? 0 : a << (int)b; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftLeftLogicalVariable(a, b) : EachWide2<Lane>.Apply(a, b);
    }

    internal struct ShrU : IShift64
    {
        private struct Lane : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => b > 63 ? 0 : a >> (int)b; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftRightLogicalVariable(a, b) : EachWide2<Lane>.Apply(a, b);
    }

    internal struct ShrS : IShift64
    {
        private struct Lane : IScalarWide2 { public static ulong Apply(ulong a, ulong b) => (ulong)((long)a >> (int)Math.Min(b, 63)); }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftRightArithmeticVariable(a.AsInt64(), b).AsUInt64() : EachWide2<Lane>.Apply(a, b);
    }

    internal struct MulWideU : IWideProduct
    {
        public static Vector512<ulong> Apply(Vector256<uint> a, Vector256<uint> b) => ZeroExtend.Apply(a) * ZeroExtend.Apply(b);
    }

    internal struct MulWideS : IWideProduct
    {
        public static Vector512<ulong> Apply(Vector256<uint> a, Vector256<uint> b) => SignExtend.Apply(a) * SignExtend.Apply(b);
    }

    internal struct ZeroExtend : IWiden
    {
        public static Vector512<ulong> Apply(Vector256<uint> a)
        {
            var (low, high) = Vector256.Widen(a);
            return Vector512.Create(low, high);
        }
    }

    internal struct SignExtend : IWiden
    {
        public static Vector512<ulong> Apply(Vector256<uint> a)
        {
            var (low, high) = Vector256.Widen(a.AsInt32());
            return Vector512.Create(low, high).AsUInt64();
        }
    }

    internal struct Truncate : INarrow
    {
        public static Vector256<uint> Apply(Vector512<ulong> a) => Vector256.Narrow(a.GetLower(), a.GetUpper());
    }

    internal struct HighWord : INarrow
    {
        public static Vector256<uint> Apply(Vector512<ulong> a) => Truncate.Apply(a >> 32);
    }
}
