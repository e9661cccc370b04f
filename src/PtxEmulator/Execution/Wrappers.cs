using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

// Modifiers as wrappers around operations, and the way from a scalar function to a vector operation where the hardware has none.

/// <summary>A function of one lane's 32 bits.</summary>
internal interface IScalar1
{
    static abstract uint Apply(uint a);
}

/// <summary>A function of two lanes' 32 bits.</summary>
internal interface IScalar2
{
    static abstract uint Apply(uint a, uint b);
}

/// <summary>A function of three lanes' 32 bits.</summary>
internal interface IScalar3
{
    static abstract uint Apply(uint a, uint b, uint c);
}

/// <summary>A function of one lane's 64 bits.</summary>
internal interface IScalarWide1
{
    static abstract ulong Apply(ulong a);
}

/// <summary>A function of two lanes' 64 bits.</summary>
internal interface IScalarWide2
{
    static abstract ulong Apply(ulong a, ulong b);
}

/// <summary>A function of three lanes' 64 bits.</summary>
internal interface IScalarWide3
{
    static abstract ulong Apply(ulong a, ulong b, ulong c);
}

/// <summary>A function from 32 bits to 64.</summary>
internal interface IScalarWiden
{
    static abstract ulong Apply(uint a);
}

/// <summary>A function from 64 bits to 32.</summary>
internal interface IScalarNarrow
{
    static abstract uint Apply(ulong a);
}

/// <summary>Applies a scalar function lane by lane.</summary>
internal unsafe struct Each<TOp> : IUnary32
    where TOp : struct, IScalar1
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a)
    {
        var p = (uint*)&a;
        for (var i = 0; i < 16; i++)
            p[i] = TOp.Apply(p[i]);
        return a;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct Each2<TOp> : IBinary32
    where TOp : struct, IScalar2
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b)
    {
        var p = (uint*)&a;
        var q = (uint*)&b;
        for (var i = 0; i < 16; i++)
            p[i] = TOp.Apply(p[i], q[i]);
        return a;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct Each3<TOp> : ITernary32
    where TOp : struct, IScalar3
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c)
    {
        var p = (uint*)&a;
        var q = (uint*)&b;
        var r = (uint*)&c;
        for (var i = 0; i < 16; i++)
            p[i] = TOp.Apply(p[i], q[i], r[i]);
        return a;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct EachWide<TOp> : IUnary64
    where TOp : struct, IScalarWide1
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<ulong> Apply(Vector512<ulong> a)
    {
        var p = (ulong*)&a;
        for (var i = 0; i < 8; i++)
            p[i] = TOp.Apply(p[i]);
        return a;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct EachWide2<TOp> : IBinary64
    where TOp : struct, IScalarWide2
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b)
    {
        var p = (ulong*)&a;
        var q = (ulong*)&b;
        for (var i = 0; i < 8; i++)
            p[i] = TOp.Apply(p[i], q[i]);
        return a;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct EachWide3<TOp> : ITernary64
    where TOp : struct, IScalarWide3
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c)
    {
        var p = (ulong*)&a;
        var q = (ulong*)&b;
        var r = (ulong*)&c;
        for (var i = 0; i < 8; i++)
            p[i] = TOp.Apply(p[i], q[i], r[i]);
        return a;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct EachWiden<TOp> : IWiden
    where TOp : struct, IScalarWiden
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<ulong> Apply(Vector256<uint> a)
    {
        Vector512<ulong> result = default;
        var p = (uint*)&a;
        var q = (ulong*)&result;
        for (var i = 0; i < 8; i++)
            q[i] = TOp.Apply(p[i]);
        return result;
    }
}

/// <inheritdoc cref="Each{TOp}"/>
internal unsafe struct EachNarrow<TOp> : INarrow
    where TOp : struct, IScalarNarrow
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Apply(Vector512<ulong> a)
    {
        Vector256<uint> result = default;
        var p = (ulong*)&a;
        var q = (uint*)&result;
        for (var i = 0; i < 8; i++)
            q[i] = TOp.Apply(p[i]);
        return result;
    }
}

/// <summary><c>.ftz</c>: subnormal inputs and results become zero of the same sign.</summary>
internal struct Ftz1<TOp> : IUnary32
    where TOp : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Flush(TOp.Apply(Floats.Flush(a)));
}

/// <inheritdoc cref="Ftz1{TOp}"/>
internal struct Ftz2<TOp> : IBinary32
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Floats.Flush(TOp.Apply(Floats.Flush(a), Floats.Flush(b)));
}

/// <inheritdoc cref="Ftz1{TOp}"/>
internal struct Ftz3<TOp> : ITernary32
    where TOp : struct, ITernary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) =>
        Floats.Flush(TOp.Apply(Floats.Flush(a), Floats.Flush(b), Floats.Flush(c)));
}

/// <summary><c>.sat</c> of a float: clamped to [0, 1], NaN to +0.</summary>
internal struct Sat1<TOp> : IUnary32
    where TOp : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a) => Floats.Saturate(TOp.Apply(a));
}

/// <inheritdoc cref="Sat1{TOp}"/>
internal struct Sat2<TOp> : IBinary32
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => Floats.Saturate(TOp.Apply(a, b));
}

/// <inheritdoc cref="Sat1{TOp}"/>
internal struct Sat3<TOp> : ITernary32
    where TOp : struct, ITernary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => Floats.Saturate(TOp.Apply(a, b, c));
}

/// <summary>An unsigned 16-bit operation done in 32 bits: the result's upper half is cleared.</summary>
internal struct Low16U<TOp> : IBinary32
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) => TOp.Apply(a, b) & Vector512.Create(0xFFFFu);
}

/// <summary>A signed 16-bit operation done in 32 bits: inputs are sign-extended first.</summary>
internal struct Low16S<TOp> : IBinary32
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b) =>
        TOp.Apply(Integers.SignExtend16(a), Integers.SignExtend16(b)) & Vector512.Create(0xFFFFu);
}

/// <summary>The unary form of <see cref="Low16S{TOp}"/>.</summary>
internal struct Low16S1<TOp> : IUnary32
    where TOp : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a) => TOp.Apply(Integers.SignExtend16(a)) & Vector512.Create(0xFFFFu);
}

/// <summary>The ternary form of <see cref="Low16U{TOp}"/>.</summary>
internal struct Low16T<TOp> : ITernary32
    where TOp : struct, ITernary32
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => TOp.Apply(a, b, c) & Vector512.Create(0xFFFFu);
}
