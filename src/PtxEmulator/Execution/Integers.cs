using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Kernels.Emulation.Execution;

/// <summary>32-bit integer operations; 16-bit ones go through the wrappers.</summary>
internal static class Integers
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> SignExtend16(Vector512<uint> a) => ((a << 16).AsInt32() >> 16).AsUInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> SignExtend8(Vector512<uint> a) => ((a << 24).AsInt32() >> 24).AsUInt32();

    /// <summary>Shift counts above 31 give what a shift by 32 would: PTX clamps, x86 wraps.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Left(uint a, uint count) => count > 31 ? 0 : a << (int)count;

    internal struct Add : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a + b; }
    internal struct Sub : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a - b; }
    internal struct MulLo : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a * b; }
    internal struct MadLo : ITernary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => a * b + c; }
    internal struct MulHiU : IScalar2 { public static uint Apply(uint a, uint b) => (uint)((ulong)a * b >> 32); }
    internal struct MulHiS : IScalar2 { public static uint Apply(uint a, uint b) => (uint)((long)(int)a * (int)b >> 32); }
    internal struct MadHiU : IScalar3 { public static uint Apply(uint a, uint b, uint c) => MulHiU.Apply(a, b) + c; }
    internal struct MadHiS : IScalar3 { public static uint Apply(uint a, uint b, uint c) => MulHiS.Apply(a, b) + c; }
    internal struct MulHi16U : IScalar2 { public static uint Apply(uint a, uint b) => a * b >> 16; }
    internal struct MulHi16S : IScalar2 { public static uint Apply(uint a, uint b) => (uint)((short)a * (short)b >> 16) & 0xFFFF; }
    internal struct Mul24U : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => (a & Vector512.Create(0xFFFFFFu)) * (b & Vector512.Create(0xFFFFFFu)); }
    internal struct Mul24S : IScalar2 { public static uint Apply(uint a, uint b) => (uint)(((int)(a << 8) >> 8) * ((int)(b << 8) >> 8)); }
    internal struct MulWide16U : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a * b; }
    internal struct MulWide16S : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => SignExtend16(a) * SignExtend16(b); }
    internal struct MadWide16S : ITernary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => SignExtend16(a) * SignExtend16(b) + c; }
    internal struct And : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a & b; }
    internal struct Or : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a | b; }
    internal struct Xor : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => a ^ b; }
    internal struct Not : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => ~a; }
    internal struct Not16 : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => ~a & Vector512.Create(0xFFFFu); }
    internal struct CNot : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Vector512.Equals(a, Vector512<uint>.Zero) & Vector512<uint>.One; }
    internal struct Neg : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Vector512<uint>.Zero - a; }
    internal struct Abs : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Vector512.Abs(a.AsInt32()).AsUInt32(); }
    internal struct Move : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a; }
    internal struct MinU : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.Min(a, b); }
    internal struct MaxU : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.Max(a, b); }
    internal struct MinS : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.Min(a.AsInt32(), b.AsInt32()).AsUInt32(); }
    internal struct MaxS : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.Max(a.AsInt32(), b.AsInt32()).AsUInt32(); }
    internal struct Shl : IBinary32
    {
        private struct Lane : IScalar2 { public static uint Apply(uint a, uint b) => Left(a, b); }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftLeftLogicalVariable(a, b) : Each2<Lane>.Apply(a, b);
    }

    internal struct Shl16 : IScalar2 { public static uint Apply(uint a, uint b) => Left(a, b) & 0xFFFF; }
    internal struct ShrU : IBinary32
    {
        private struct Lane : IScalar2 { public static uint Apply(uint a, uint b) => b > 31 ? 0 : a >> (int)b; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftRightLogicalVariable(a, b) : Each2<Lane>.Apply(a, b);
    }

    internal struct ShrS : IBinary32
    {
        private struct Lane : IScalar2 { public static uint Apply(uint a, uint b) => (uint)((int)a >> (int)Math.Min(b, 31)); }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftRightArithmeticVariable(a.AsInt32(), b).AsUInt32() : Each2<Lane>.Apply(a, b);
    }

    internal struct ShrS16 : IScalar2 { public static uint Apply(uint a, uint b) => (uint)((short)a >> (int)Math.Min(b, 31)) & 0xFFFF; }

    // Division by zero has no defined result; all ones is what the hardware's sequence gives.
    internal struct DivU : IScalar2 { public static uint Apply(uint a, uint b) => b == 0 ? uint.MaxValue : a / b; }
    internal struct DivS : IScalar2 { public static uint Apply(uint a, uint b) => b == 0 ? uint.MaxValue : b == uint.MaxValue ? 0 - a : (uint)((int)a / (int)b); }
    internal struct RemU : IScalar2 { public static uint Apply(uint a, uint b) => b == 0 ? uint.MaxValue : a % b; }
    internal struct RemS : IScalar2 { public static uint Apply(uint a, uint b) => b == 0 ? uint.MaxValue : b == uint.MaxValue ? 0 : (uint)((int)a % (int)b); }

    internal struct Popc : IScalar1 { public static uint Apply(uint a) => (uint)BitOperations.PopCount(a); }
    internal struct Clz : IScalar1 { public static uint Apply(uint a) => (uint)BitOperations.LeadingZeroCount(a); }
    internal struct Brev : IScalar1
    {
        public static uint Apply(uint a)
        {
            a = (a >> 1 & 0x55555555) | (a & 0x55555555) << 1;
            a = (a >> 2 & 0x33333333) | (a & 0x33333333) << 2;
            a = (a >> 4 & 0x0F0F0F0F) | (a & 0x0F0F0F0F) << 4;
            return System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(a);
        }
    }

    internal struct FindU : IScalar1 { public static uint Apply(uint a) => a == 0 ? uint.MaxValue : 31 - Clz.Apply(a); }
    internal struct FindS : IScalar1 { public static uint Apply(uint a) => FindU.Apply((int)a < 0 ? ~a : a); }
    internal struct FindShiftU : IScalar1 { public static uint Apply(uint a) => a == 0 ? uint.MaxValue : Clz.Apply(a); }
    internal struct FindShiftS : IScalar1 { public static uint Apply(uint a) => FindShiftU.Apply((int)a < 0 ? ~a : a); }

    internal struct BfeU : IScalar3
    {
        public static uint Apply(uint a, uint position, uint length)
        {
            (position, length) = (position & 255, length & 255);
            if (position > 31 || length == 0)
                return 0;
            a >>= (int)position;
            return length > 31 ? a : a & (1u << (int)length) - 1;
        }
    }

    internal struct BfeS : IScalar3
    {
        public static uint Apply(uint a, uint position, uint length)
        {
            (position, length) = (position & 255, length & 255);
            if (length == 0)
                return 0;
            var top = Math.Min(position + length - 1, 31);
            if (position > 31)
                return (uint)((int)a >> 31);
            return (uint)((int)(a << (int)(31 - top)) >> (int)(31 - top + position));
        }
    }

    /// <summary>Sum of absolute differences: c + |a - b|.</summary>
    internal struct SadU : IScalar3 { public static uint Apply(uint a, uint b, uint c) => c + (a > b ? a - b : b - a); }
    internal struct SadS : IScalar3 { public static uint Apply(uint a, uint b, uint c) => c + (uint)Math.Abs((long)(int)a - (int)b); }
    internal struct AddSat : IScalar2 { public static uint Apply(uint a, uint b) => (uint)(int)Math.Clamp((long)(int)a + (int)b, int.MinValue, int.MaxValue); }
    internal struct SubSat : IScalar2 { public static uint Apply(uint a, uint b) => (uint)(int)Math.Clamp((long)(int)a - (int)b, int.MinValue, int.MaxValue); }

    internal struct ShfLeftWrap : IScalar3 { public static uint Apply(uint a, uint b, uint c) => (uint)(((ulong)b << 32 | a) << (int)(c & 31) >> 32); }
    internal struct ShfLeftClamp : IScalar3 { public static uint Apply(uint a, uint b, uint c) => c > 31 ? a : (uint)(((ulong)b << 32 | a) << (int)c >> 32); }
    internal struct ShfRightWrap : IScalar3 { public static uint Apply(uint a, uint b, uint c) => (uint)(((ulong)b << 32 | a) >> (int)(c & 31)); }
    internal struct ShfRightClamp : IScalar3 { public static uint Apply(uint a, uint b, uint c) => c > 31 ? b : (uint)(((ulong)b << 32 | a) >> (int)c); }

    /// <summary><c>prmt</c>: each result byte is chosen by a nibble of c, whose top bit asks for the sign instead.</summary>
    internal struct Prmt : IScalar3
    {
        public static uint Apply(uint a, uint b, uint c)
        {
            var bytes = (ulong)b << 32 | a;
            uint result = 0;
            for (var i = 0; i < 4; i++)
            {
                var selector = c >> (4 * i) & 15;
                var value = (uint)(bytes >> (int)(8 * (selector & 7))) & 255;
                if ((selector & 8) != 0)
                    value = (value & 128) != 0 ? 255u : 0;
                result |= value << (8 * i);
            }
            return result;
        }
    }

    /// <summary><c>dp4a</c>: c plus the four products of bytes; the letters say whether a and b are signed.</summary>
    internal struct Dp4aSS : IScalar3 { public static uint Apply(uint a, uint b, uint c) => Dp4a(a, b, c, true, true); }
    internal struct Dp4aUU : IScalar3 { public static uint Apply(uint a, uint b, uint c) => Dp4a(a, b, c, false, false); }
    internal struct Dp4aSU : IScalar3 { public static uint Apply(uint a, uint b, uint c) => Dp4a(a, b, c, true, false); }
    internal struct Dp4aUS : IScalar3 { public static uint Apply(uint a, uint b, uint c) => Dp4a(a, b, c, false, true); }

    private static uint Dp4a(uint a, uint b, uint c, bool signedA, bool signedB)
    {
        var sum = (int)c;
        for (var i = 0; i < 32; i += 8)
        {
            int x = (byte)(a >> i), y = (byte)(b >> i);
            sum += (signedA ? (sbyte)x : x) * (signedB ? (sbyte)y : y);
        }
        return (uint)sum;
    }
}
