using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

// The shapes of operations. Each is an interface that an operation implements as a struct, and an instruction class that the JIT
// specialises for it: one virtual call per warp instruction, and the operation's vectors inlined into it.

/// <summary>One 32-bit operand.</summary>
internal interface IUnary32
{
    static abstract Vector512<uint> Apply(Vector512<uint> a);
}

/// <summary>Two 32-bit operands.</summary>
internal interface IBinary32
{
    static abstract Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b);
}

/// <summary>Three 32-bit operands.</summary>
internal interface ITernary32
{
    static abstract Vector512<uint> Apply(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c);
}

/// <summary>One 64-bit operand.</summary>
internal interface IUnary64
{
    static abstract Vector512<ulong> Apply(Vector512<ulong> a);
}

/// <summary>Two 64-bit operands.</summary>
internal interface IBinary64
{
    static abstract Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b);
}

/// <summary>Three 64-bit operands.</summary>
internal interface ITernary64
{
    static abstract Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c);
}

/// <summary>32 bits to 64.</summary>
internal interface IWiden
{
    static abstract Vector512<ulong> Apply(Vector256<uint> a);
}

/// <summary>64 bits to 32.</summary>
internal interface INarrow
{
    static abstract Vector256<uint> Apply(Vector512<ulong> a);
}

/// <summary>Two 32-bit operands and a 64-bit one; <c>mul.wide</c> and <c>mad.wide</c>.</summary>
internal interface IWideProduct
{
    static abstract Vector512<ulong> Apply(Vector256<uint> a, Vector256<uint> b);
}

/// <summary>A 64-bit operand and a 32-bit one: shifts.</summary>
internal interface IShift64
{
    static abstract Vector512<ulong> Apply(Vector512<ulong> a, Vector512<ulong> count);
}

internal sealed unsafe class Unary32<TOp>(int d, int a) : Instruction
    where TOp : struct, IUnary32
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var pa = (uint*)(warp.Frame + a);
        Lanes.Store((uint*)(warp.Frame + d), TOp.Apply(Vector512.Load(pa)), TOp.Apply(Vector512.Load(pa + 16)), mask);
    }
}

internal sealed unsafe class Binary32<TOp>(int d, int a, int b) : Instruction
    where TOp : struct, IBinary32
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (uint*)(frame + a);
        var pb = (uint*)(frame + b);
        var low = TOp.Apply(Vector512.Load(pa), Vector512.Load(pb));
        var high = TOp.Apply(Vector512.Load(pa + 16), Vector512.Load(pb + 16));
        Lanes.Store((uint*)(frame + d), low, high, mask);
    }
}

internal sealed unsafe class Ternary32<TOp>(int d, int a, int b, int c) : Instruction
    where TOp : struct, ITernary32
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (uint*)(frame + a);
        var pb = (uint*)(frame + b);
        var pc = (uint*)(frame + c);
        var low = TOp.Apply(Vector512.Load(pa), Vector512.Load(pb), Vector512.Load(pc));
        var high = TOp.Apply(Vector512.Load(pa + 16), Vector512.Load(pb + 16), Vector512.Load(pc + 16));
        Lanes.Store((uint*)(frame + d), low, high, mask);
    }
}

internal sealed unsafe class Unary64<TOp>(int d, int a) : Instruction
    where TOp : struct, IUnary64
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var pa = (ulong*)(warp.Frame + a);
        var pd = (ulong*)(warp.Frame + d);
        for (var q = 0; q < 4; q++)
            Lanes.Store(pd, q, TOp.Apply(Vector512.Load(pa + q * 8)), mask);
    }
}

internal sealed unsafe class Binary64<TOp>(int d, int a, int b) : Instruction
    where TOp : struct, IBinary64
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (ulong*)(frame + a);
        var pb = (ulong*)(frame + b);
        var pd = (ulong*)(frame + d);
        for (var q = 0; q < 4; q++)
            Lanes.Store(pd, q, TOp.Apply(Vector512.Load(pa + q * 8), Vector512.Load(pb + q * 8)), mask);
    }
}

internal sealed unsafe class Ternary64<TOp>(int d, int a, int b, int c) : Instruction
    where TOp : struct, ITernary64
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (ulong*)(frame + a);
        var pb = (ulong*)(frame + b);
        var pc = (ulong*)(frame + c);
        var pd = (ulong*)(frame + d);
        for (var q = 0; q < 4; q++)
            Lanes.Store(pd, q, TOp.Apply(Vector512.Load(pa + q * 8), Vector512.Load(pb + q * 8), Vector512.Load(pc + q * 8)), mask);
    }
}

internal sealed unsafe class Widen<TOp>(int d, int a) : Instruction
    where TOp : struct, IWiden
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var pa = (uint*)(warp.Frame + a);
        var pd = (ulong*)(warp.Frame + d);
        for (var q = 0; q < 4; q++)
            Lanes.Store(pd, q, TOp.Apply(Vector256.Load(pa + q * 8)), mask);
    }
}

internal sealed unsafe class Narrow<TOp>(int d, int a) : Instruction
    where TOp : struct, INarrow
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var pa = (ulong*)(warp.Frame + a);
        var low = Vector512.Create(TOp.Apply(Vector512.Load(pa)), TOp.Apply(Vector512.Load(pa + 8)));
        var high = Vector512.Create(TOp.Apply(Vector512.Load(pa + 16)), TOp.Apply(Vector512.Load(pa + 24)));
        Lanes.Store((uint*)(warp.Frame + d), low, high, mask);
    }
}

internal sealed unsafe class WideProduct<TOp>(int d, int a, int b) : Instruction
    where TOp : struct, IWideProduct
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (uint*)(frame + a);
        var pb = (uint*)(frame + b);
        var pd = (ulong*)(frame + d);
        for (var q = 0; q < 4; q++)
            Lanes.Store(pd, q, TOp.Apply(Vector256.Load(pa + q * 8), Vector256.Load(pb + q * 8)), mask);
    }
}

internal sealed unsafe class WideProductAdd<TOp>(int d, int a, int b, int c) : Instruction
    where TOp : struct, IWideProduct
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (uint*)(frame + a);
        var pb = (uint*)(frame + b);
        var pc = (ulong*)(frame + c);
        var pd = (ulong*)(frame + d);
        for (var q = 0; q < 4; q++)
            Lanes.Store(pd, q, TOp.Apply(Vector256.Load(pa + q * 8), Vector256.Load(pb + q * 8)) + Vector512.Load(pc + q * 8), mask);
    }
}

internal sealed unsafe class Shift64<TOp>(int d, int a, int b) : Instruction
    where TOp : struct, IShift64
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var pa = (ulong*)(frame + a);
        var pb = (uint*)(frame + b);
        var pd = (ulong*)(frame + d);
        for (var q = 0; q < 4; q++)
        {
            var (low, high) = Vector256.Widen(Vector256.Load(pb + q * 8));
            Lanes.Store(pd, q, TOp.Apply(Vector512.Load(pa + q * 8), Vector512.Create(low, high)), mask);
        }
    }
}
