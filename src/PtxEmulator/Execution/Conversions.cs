using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>The conversions that kernels use most, as vectors; the others go through <see cref="ConvertLane"/>.</summary>
internal static class Conversions
{
    internal struct SignedToSingle : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Vector512.ConvertToSingle(a.AsInt32()).AsUInt32(); }
    internal struct UnsignedToSingle : IScalar1 { public static uint Apply(uint a) => BitConverter.SingleToUInt32Bits(a); }

    /// <summary>Toward zero; out of range to the nearest end, NaN to 0.</summary>
    internal struct SingleToSigned : IUnary32
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Apply(Vector512<uint> a) => Vector512.ConvertToInt32(a.AsSingle()).AsUInt32();
    }

    internal struct FloorSingle : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical(Vector512.Floor(a.AsSingle())); }
    internal struct CeilingSingle : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical(Vector512.Ceiling(a.AsSingle())); }
    internal struct RoundSingle : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical(Vector512.Round(a.AsSingle())); }
    internal struct TruncateSingle : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical(Vector512.Truncate(a.AsSingle())); }
    internal struct CopySingle : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical(a.AsSingle()); }
    internal struct FromHalf : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical(HalfFormat.Expand(a).AsSingle()); }
    internal struct ToHalf : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Formats.SingleToHalf(a); }
    internal struct FromBrain : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Canonical((a << 16).AsSingle()); }
    internal struct ToBrain : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Formats.SingleToBrain(a); }

    /// <summary>Two binary32 to two binary16 in one register: the first operand becomes the upper half.</summary>
    internal struct PackHalves : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Formats.SingleToHalf(a) << 16 | Formats.SingleToHalf(b); }

    /// <summary>Two binary32 to two bfloat16 in one register.</summary>
    internal struct PackBrains : IBinary32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Formats.SingleToBrain(a) << 16 | Formats.SingleToBrain(b); }

    internal struct SingleToDouble : IWiden
    {
        public static Vector512<ulong> Apply(Vector256<uint> a)
        {
            var (low, high) = Vector256.Widen(a.AsSingle());
            return Vector512.Create(low, high).AsUInt64();
        }
    }

    internal struct DoubleToSingle : INarrow
    {
        public static Vector256<uint> Apply(Vector512<ulong> a)
        {
            var narrow = Vector256.Narrow(a.GetLower().AsDouble(), a.GetUpper().AsDouble());
            return Vector256.ConditionalSelect(Vector256.Equals(narrow, narrow), narrow.AsUInt32().AsSingle(), Vector256.Create(Floats.CanonicalNaN).AsSingle()).AsUInt32();
        }
    }

    internal struct Byte : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a & Vector512.Create(0xFFu); }
    internal struct Word : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => a & Vector512.Create(0xFFFFu); }
    internal struct SignedWord : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Integers.SignExtend16(a); }
    internal struct SignedByte : IUnary32 { public static Vector512<uint> Apply(Vector512<uint> a) => Integers.SignExtend8(a); }
}

/// <summary>A type that <c>cvt</c> converts from or to.</summary>
internal readonly record struct NumberType(bool IsFloat, bool IsSigned, int Bits, bool IsBrain, bool IsTf32)
{
    internal static NumberType Parse(string type) => new(
        type[0] == 'f' || type[0] == 'b' || type[0] == 't', type[0] == 's',
        type switch { "bf16" => 16, "tf32" => 32, _ => int.Parse(type.AsSpan(1), System.Globalization.CultureInfo.InvariantCulture) },
        type == "bf16", type == "tf32");
}

/// <summary>Any <c>cvt</c>, lane by lane: the source is read as an exact integer or binary64 value and rounded once into the destination.</summary>
internal sealed unsafe class ConvertLane(
    NumberType to, NumberType from, Rounding rounding, bool toIntegral, bool ftz, bool sat, bool relu, Memory.ElementSlot d, Memory.ElementSlot a) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var bits = a.Wide ? ((ulong*)(warp.Frame + a.Slot))[lane] : ((uint*)(warp.Frame + a.Slot))[lane];
            var result = Apply(bits);
            if (d.Wide)
                ((ulong*)(warp.Frame + d.Slot))[lane] = result;
            else
                ((uint*)(warp.Frame + d.Slot))[lane] = (uint)result;
        }
    }

    internal ulong Apply(ulong bits) => from.IsFloat ? FromFloat(Value(bits)) : FromInteger(Integer(bits));

    private double Value(ulong bits)
    {
        double value = from.Bits switch
        {
            64 => BitConverter.UInt64BitsToDouble(bits),
            32 => BitConverter.UInt32BitsToSingle((uint)bits),
            _ => from.IsBrain ? BitConverter.UInt32BitsToSingle((uint)bits << 16) : Formats.FromHalf((uint)bits & 0xFFFF),
        };
        var tiny = ftz && from.Bits == 32 && Math.Abs(value) < 1.1754943508222875e-38;
        return tiny ? Math.CopySign(0, value) : value;
    }

    private Int128 Integer(ulong bits)
    {
        var shift = 64 - from.Bits;
        return from.IsSigned ? (long)(bits << shift) >> shift : bits << shift >> shift;
    }

    private ulong FromFloat(double value)
    {
        if (to.IsFloat)
        {
            if (toIntegral)
                value = ToIntegral(value);
            if (sat)
                value = value > 0 ? Math.Min(value, 1) : 0;
            if (relu && value <= 0)
                value = 0;
            return ToFloat(value);
        }
        if (double.IsNaN(value))
            return 0;
        value = ToIntegral(value);
        var (low, high) = Range();
        return value <= (double)low ? Wrap(low) : value >= (double)high ? Wrap(high) : Wrap((Int128)value);
    }

    private double ToIntegral(double value) => rounding switch
    {
        Rounding.Nearest => Math.Round(value, MidpointRounding.ToEven),
        Rounding.Down => Math.Floor(value),
        Rounding.Up => Math.Ceiling(value),
        _ => Math.Truncate(value),
    };

    private ulong FromInteger(Int128 value)
    {
        if (!to.IsFloat)
        {
            if (sat)
            {
                var (low, high) = Range();
                value = Int128.Clamp(value, low, high);
            }
            return Wrap(value);
        }
        if (to.Bits == 64 && rounding == Rounding.Nearest)
            return BitConverter.DoubleToUInt64Bits((double)value);
        // 64 bits do not fit 53: cut off, and let the last place say so, which leaves the rounding to the narrower format right.
        var magnitude = value < 0 ? -value : value;
        var cut = Math.Max(0, 128 - (int)Int128.LeadingZeroCount(magnitude) - 53);
        var kept = magnitude >> cut;
        var real = Math.ScaleB((double)kept, cut);
        var inexact = kept << cut != magnitude;
        if (to.Bits == 64)
        {
            if (inexact && rounding == (value < 0 ? Rounding.Down : Rounding.Up))
                real = Math.BitIncrement(real);
            return BitConverter.DoubleToUInt64Bits(value < 0 ? -real : real);
        }
        if (inexact)
            real = BitConverter.Int64BitsToDouble(BitConverter.DoubleToInt64Bits(real) | 1);
        return ToFloat(value < 0 ? -real : real);
    }

    private ulong ToFloat(double value)
    {
        // Between floats of one width nothing is rounded; `.rni` and its kin have done their part already.
        var mode = toIntegral ? Rounding.Nearest : rounding;
        if (to.Bits == 64)
            return BitConverter.DoubleToUInt64Bits(value);
        if (to.Bits == 16)
            return to.IsBrain ? Formats.ToBrain(value, mode) : Formats.ToHalf(value, mode);
        if (to.IsTf32)
            return double.IsNaN(value) ? Floats.CanonicalNaN : Formats.ToTf32(value, mode);
        var result = Formats.ToSingle(value, mode);
        return ftz && (result & 0x7F800000) == 0 ? result & 0x80000000 : result;
    }

    private (Int128 Low, Int128 High) Range() => to.IsSigned
        ? (-(Int128.One << (to.Bits - 1)), (Int128.One << (to.Bits - 1)) - 1)
        : (0, (Int128.One << to.Bits) - 1);

    /// <summary>The value in the destination register: sign-extended to a register that is wider than a signed type.</summary>
    private ulong Wrap(Int128 value)
    {
        var low = (ulong)(UInt128)value;
        var shift = 64 - to.Bits;
        var extended = to.IsSigned ? (ulong)((long)(low << shift) >> shift) : low << shift >> shift;
        return registerBits switch { 64 => extended, 16 => extended & 0xFFFF, _ => extended & uint.MaxValue };
    }

    private readonly int registerBits = d.Wide ? 64 : 32;

    /// <summary>Set for 16-bit destination registers, whose slots keep the upper half clear.</summary>
    internal int RegisterBits
    {
        init => registerBits = value;
    }
}
