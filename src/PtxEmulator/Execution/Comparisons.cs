using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>A comparison of 32-bit lanes: all ones where it holds.</summary>
internal interface ICompare32
{
    static abstract Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b);
}

/// <summary>A comparison of 64-bit lanes: all ones where it holds.</summary>
internal interface ICompare64
{
    static abstract Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b);
}

/// <summary>What <c>setp</c> combines its comparison with.</summary>
internal enum Combine
{
    None,
    And,
    Or,
    Xor,
}

/// <summary><c>setp</c>: the mask where the comparison holds, and optionally where it does not, combined with a third predicate.</summary>
internal abstract unsafe class SetPredicate(int p, int q, Combine combine, PredicateSource with) : Instruction
{
    protected abstract uint Compare(byte* frame);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var holds = Compare(frame);
        var fails = ~holds;
        if (combine != Combine.None)
        {
            var other = with.Read(frame);
            (holds, fails) = combine switch
            {
                Combine.And => (holds & other, fails & other),
                Combine.Or => (holds | other, fails | other),
                _ => (holds ^ other, fails ^ other),
            };
        }
        if (p >= 0)
            Store(frame + p, holds, mask);
        if (q >= 0)
            Store(frame + q, fails, mask);
    }

    internal static void Store(byte* slot, uint value, uint mask)
    {
        var to = (uint*)slot;
        *to = (*to & ~mask) | (value & mask);
    }
}

/// <summary>A predicate operand, possibly negated.</summary>
internal readonly unsafe struct PredicateSource(int offset, bool negated)
{
    internal uint Read(byte* frame)
    {
        var value = *(uint*)(frame + offset);
        return negated ? ~value : value;
    }
}

internal sealed unsafe class SetPredicate32<TOp>(int p, int q, int a, int b, Combine combine, PredicateSource with) : SetPredicate(p, q, combine, with)
    where TOp : struct, ICompare32
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override uint Compare(byte* frame)
    {
        var pa = (uint*)(frame + a);
        var pb = (uint*)(frame + b);
        return Lanes.Compress(
            TOp.Apply(Vector512.Load(pa), Vector512.Load(pb)), TOp.Apply(Vector512.Load(pa + 16), Vector512.Load(pb + 16)));
    }
}

internal sealed unsafe class SetPredicate64<TOp>(int p, int q, int a, int b, Combine combine, PredicateSource with) : SetPredicate(p, q, combine, with)
    where TOp : struct, ICompare64
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override uint Compare(byte* frame)
    {
        var pa = (ulong*)(frame + a);
        var pb = (ulong*)(frame + b);
        uint result = 0;
        for (var i = 0; i < 4; i++)
            result |= (uint)TOp.Apply(Vector512.Load(pa + i * 8), Vector512.Load(pb + i * 8)).ExtractMostSignificantBits() << (i * 8);
        return result;
    }
}

/// <summary><c>setp</c> of two 16-bit floats in a register: <c>p</c> of the lower ones, <c>q</c> of the upper ones.</summary>
internal sealed unsafe class SetPackedPredicates(SetPredicate low, SetPredicate high, int lowResult, int highResult, int p, int q) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        // Both are compared before either is stored: a destination may be the predicate that they are combined with.
        low.Execute(warp, mask);
        high.Execute(warp, mask);
        var frame = warp.Frame;
        if (p >= 0)
            SetPredicate.Store(frame + p, *(uint*)(frame + lowResult), mask);
        if (q >= 0)
            SetPredicate.Store(frame + q, *(uint*)(frame + highResult), mask);
    }
}

/// <summary><c>set</c> of two 16-bit floats in a register: 1.0 in the half whose comparison holds.</summary>
internal sealed unsafe class SetPackedValues(SetPredicate low, SetPredicate high, int lowResult, int highResult, int d, uint one) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        low.Execute(warp, mask);
        high.Execute(warp, mask);
        uint first = *(uint*)(warp.Frame + lowResult), second = *(uint*)(warp.Frame + highResult);
        var (lower, upper) = (Vector512.Create(one), Vector512.Create(one << 16));
        Lanes.Store(
            (uint*)(warp.Frame + d), (Lanes.Expand(first) & lower) | (Lanes.Expand(second) & upper), (Lanes.Expand(first >> 16) & lower) | (Lanes.Expand(second >> 16) & upper), mask);
    }
}

/// <summary><c>testp</c>: what kind of number a float is.</summary>
internal sealed unsafe class TestFloat(bool wide, string kind, int p, int a) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        uint holds = 0;
        for (var lane = 0; lane < 32; lane++)
        {
            var yes = wide
                ? Is(BitConverter.UInt64BitsToDouble(((ulong*)(warp.Frame + a))[lane]))
                : Is(BitConverter.UInt32BitsToSingle(((uint*)(warp.Frame + a))[lane]));
            holds |= yes ? 1u << lane : 0;
        }
        SetPredicate.Store(warp.Frame + p, holds, mask);
    }

    private bool Is<T>(T value)
        where T : IFloatingPoint<T> => kind switch
        {
            "finite" => T.IsFinite(value),
            "infinite" => T.IsInfinity(value),
            "number" => !T.IsNaN(value),
            "notanumber" => T.IsNaN(value),
            "normal" => T.IsNormal(value),
            _ => T.IsSubnormal(value),
        };
}

/// <summary><c>set</c>: writes all ones, or 1.0, where a comparison holds.</summary>
internal sealed unsafe class SetValue(SetPredicate compare, int p, int d, uint one) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        compare.Execute(warp, mask);
        var holds = *(uint*)(warp.Frame + p);
        var value = Vector512.Create(one);
        Lanes.Store((uint*)(warp.Frame + d), Lanes.Expand(holds) & value, Lanes.Expand(holds >> 16) & value, mask);
    }
}

/// <summary>Comparisons of signed, unsigned and floating values. The unordered forms (<c>ltu</c>, …) hold for NaN as well.</summary>
internal static class Compare
{
    internal struct Eq : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.Equals(a, b); }
    internal struct Ne : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => ~Vector512.Equals(a, b); }
    internal struct LtU : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(a, b); }
    internal struct LeU : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(a, b); }
    internal struct LtS : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(a.AsInt32(), b.AsInt32()).AsUInt32(); }
    internal struct LeS : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(a.AsInt32(), b.AsInt32()).AsUInt32(); }
    internal struct EqF : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.Equals(a.AsSingle(), b.AsSingle()).AsUInt32(); }
    internal struct LtF : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(a.AsSingle(), b.AsSingle()).AsUInt32(); }
    internal struct LeF : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(a.AsSingle(), b.AsSingle()).AsUInt32(); }
    internal struct Ordered : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => EqF.Apply(a, a) & EqF.Apply(b, b); }

    internal struct Eq64 : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Equals(a, b); }
    internal struct LtU64 : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThan(a, b); }
    internal struct LeU64 : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThanOrEqual(a, b); }
    internal struct LtS64 : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThan(a.AsInt64(), b.AsInt64()).AsUInt64(); }
    internal struct LeS64 : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThanOrEqual(a.AsInt64(), b.AsInt64()).AsUInt64(); }
    internal struct EqD : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Equals(a.AsDouble(), b.AsDouble()).AsUInt64(); }
    internal struct LtD : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThan(a.AsDouble(), b.AsDouble()).AsUInt64(); }
    internal struct LeD : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThanOrEqual(a.AsDouble(), b.AsDouble()).AsUInt64(); }
    internal struct OrderedD : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => EqD.Apply(a, a) & EqD.Apply(b, b); }

    /// <summary>The opposite.</summary>
    internal struct Not<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => ~T.Apply(a, b); }

    /// <summary>Operands exchanged: greater out of less.</summary>
    internal struct Swap<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => T.Apply(b, a); }

    /// <summary>Not equal, but both are numbers.</summary>
    internal struct NeF : ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => ~EqF.Apply(a, b) & Ordered.Apply(a, b); }

    /// <summary>Signed 16-bit operands.</summary>
    internal struct Short<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => T.Apply(Integers.SignExtend16(a), Integers.SignExtend16(b)); }

    /// <summary>Subnormal operands count as zero.</summary>
    internal struct Ftz<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => T.Apply(Floats.Flush(a), Floats.Flush(b)); }

    /// <summary>binary16 operands.</summary>
    internal struct InHalf<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => T.Apply(Formats.HalfToSingle(a), Formats.HalfToSingle(b)); }

    /// <summary>bfloat16 operands.</summary>
    internal struct InBrain<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => T.Apply(a << 16, b << 16); }

    /// <summary>The upper of two binary16 operands.</summary>
    internal struct InUpperHalf<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => InHalf<T>.Apply(a >> 16, b >> 16); }

    /// <summary>The lower of two binary16 operands.</summary>
    internal struct InLowerHalf<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => InHalf<T>.Apply(a & Vector512.Create(0xFFFFu), b & Vector512.Create(0xFFFFu)); }

    /// <summary>The upper of two bfloat16 operands.</summary>
    internal struct InUpperBrain<T> : ICompare32 where T : struct, ICompare32 { public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => T.Apply(a & Vector512.Create(0xFFFF0000u), b & Vector512.Create(0xFFFF0000u)); }

    /// <inheritdoc cref="Not{T}"/>
    internal struct Not64<T> : ICompare64 where T : struct, ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => ~T.Apply(a, b); }

    /// <inheritdoc cref="Swap{T}"/>
    internal struct Swap64<T> : ICompare64 where T : struct, ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => T.Apply(b, a); }

    /// <inheritdoc cref="NeF"/>
    internal struct NeD : ICompare64 { public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b) => ~EqD.Apply(a, b) & OrderedD.Apply(a, b); }
}
