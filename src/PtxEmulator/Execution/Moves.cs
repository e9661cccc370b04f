using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary><c>selp</c> of 32 bits.</summary>
internal sealed unsafe class Select32(int d, int a, int b, PredicateSource predicate) : Instruction
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var p = predicate.Read(frame);
        var pa = (uint*)(frame + a);
        var pb = (uint*)(frame + b);
        var low = Vector512.ConditionalSelect(Lanes.Expand(p), Vector512.Load(pa), Vector512.Load(pb));
        var high = Vector512.ConditionalSelect(Lanes.Expand(p >> 16), Vector512.Load(pa + 16), Vector512.Load(pb + 16));
        Lanes.Store((uint*)(frame + d), low, high, mask);
    }
}

/// <summary><c>selp</c> of 64 bits.</summary>
internal sealed unsafe class Select64(int d, int a, int b, PredicateSource predicate) : Instruction
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        var p = predicate.Read(frame);
        var pa = (ulong*)(frame + a);
        var pb = (ulong*)(frame + b);
        for (var q = 0; q < 4; q++)
        {
            var chosen = Vector512.ConditionalSelect(Lanes.Expand64(p >> (q * 8)), Vector512.Load(pa + q * 8), Vector512.Load(pb + q * 8));
            Lanes.Store((ulong*)(frame + d), q, chosen, mask);
        }
    }
}

/// <summary>Operations on predicates.</summary>
internal enum PredicateOperation
{
    Move,
    Not,
    And,
    Or,
    Xor,
}

/// <summary><c>and.pred</c> and its kin.</summary>
internal sealed unsafe class PredicateLogic(PredicateOperation operation, int d, PredicateSource a, PredicateSource b) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        var x = a.Read(warp.Frame);
        var y = operation >= PredicateOperation.And ? b.Read(warp.Frame) : 0;
        var value = operation switch
        {
            PredicateOperation.Move => x,
            PredicateOperation.Not => ~x,
            PredicateOperation.And => x & y,
            PredicateOperation.Or => x | y,
            _ => x ^ y,
        };
        SetPredicate.Store(warp.Frame + d, value, mask);
    }
}

/// <summary><c>mov</c> between a register and a vector of narrower ones: joins if there is one destination, splits otherwise.</summary>
internal sealed unsafe class PackMove(Memory.ElementSlot[] to, Memory.ElementSlot[] from, int toBytes, int fromBytes) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            UInt128 bits = 0;
            for (var i = from.Length - 1; i >= 0; i--)
            {
                ulong value = from[i].Wide ? ((ulong*)(warp.Frame + from[i].Slot))[lane] : ((uint*)(warp.Frame + from[i].Slot))[lane];
                value &= ulong.MaxValue >> (64 - 8 * fromBytes);
                bits = bits << (8 * fromBytes) | value;
            }
            foreach (var slot in to)
            {
                if (slot.Slot >= 0 && slot.Wide)
                    ((ulong*)(warp.Frame + slot.Slot))[lane] = (ulong)bits & (ulong.MaxValue >> (64 - 8 * toBytes));
                else if (slot.Slot >= 0)
                    ((uint*)(warp.Frame + slot.Slot))[lane] = (uint)bits & (uint.MaxValue >> (32 - 8 * toBytes));
                bits >>= 8 * toBytes;
            }
        }
    }
}

/// <summary><c>bfi</c>: inserts the low bits of a into b.</summary>
internal sealed unsafe class InsertBits(bool wide, int d, int a, int b, int position, int length) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var at = (int)(((uint*)(frame + position))[lane] & 255);
            var count = (int)(((uint*)(frame + length))[lane] & 255);
            var width = wide ? 64 : 32;
            var field = at >= width || count == 0 ? 0 : (count >= 64 ? ulong.MaxValue : (1UL << count) - 1) << at;
            if (wide)
            {
                var to = (ulong*)(frame + d);
                to[lane] = (((ulong*)(frame + b))[lane] & ~field) | (((ulong*)(frame + a))[lane] << (at & 63) & field);
            }
            else
            {
                var value = (ulong)((uint*)(frame + a))[lane] << (at & 63) & field;
                ((uint*)(frame + d))[lane] = (((uint*)(frame + b))[lane] & ~(uint)field) | (uint)value;
            }
        }
    }
}

/// <summary><c>lop3</c>: any function of three bits, by its truth table.</summary>
internal sealed unsafe class LogicTable(int d, int a, int b, int c, int table) : Instruction
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        var frame = warp.Frame;
        Lanes.Store((uint*)(frame + d), Half(frame, 0), Half(frame, 16), mask);
    }

    private Vector512<uint> Half(byte* frame, int from)
    {
        var x = Vector512.Load((uint*)(frame + a) + from);
        var y = Vector512.Load((uint*)(frame + b) + from);
        var z = Vector512.Load((uint*)(frame + c) + from);
        var result = Vector512<uint>.Zero;
        for (var row = 0; row < 8; row++)
        {
            if ((table >> row & 1) != 0)
                result |= ((row & 4) != 0 ? x : ~x) & ((row & 2) != 0 ? y : ~y) & ((row & 1) != 0 ? z : ~z);
        }
        return result;
    }
}

/// <summary>Additions, subtractions and multiply-adds with carry (<c>.cc</c>, <c>addc</c>, <c>subc</c>, <c>madc</c>).</summary>
internal sealed unsafe class CarryArithmetic(bool wide, bool subtract, bool takes, bool gives, int product, int d, int a, int b, int c) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var carry = takes ? (UInt128)(warp.Carry >> lane & 1) : 0;
            var x = Read(warp, a, lane);
            var y = Read(warp, b, lane);
            if (product != 0)
            {
                var full = x * y;
                (x, y) = (product > 0 ? full >> (wide ? 64 : 32) : full & (wide ? ulong.MaxValue : uint.MaxValue), Read(warp, c, lane));
            }
            var sum = subtract ? x - y - carry : x + y + carry;
            if (wide)
                ((ulong*)(warp.Frame + d))[lane] = (ulong)sum;
            else
                ((uint*)(warp.Frame + d))[lane] = (uint)sum;
            if (gives)
                warp.Carry = (warp.Carry & ~(1UL << lane)) | ((ulong)(sum >> (wide ? 64 : 32)) & 1) << lane;
        }
    }

    private UInt128 Read(Warp warp, int slot, int lane) => wide ? ((ulong*)(warp.Frame + slot))[lane] : ((uint*)(warp.Frame + slot))[lane];
}

/// <summary><c>bfe</c> of 64 bits.</summary>
internal sealed unsafe class ExtractBits64(bool signed, int d, int a, int position, int length) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var value = ((ulong*)(warp.Frame + a))[lane];
            var at = (int)(((uint*)(warp.Frame + position))[lane] & 255);
            var count = (int)(((uint*)(warp.Frame + length))[lane] & 255);
            ((ulong*)(warp.Frame + d))[lane] = Extract(value, at, count);
        }
    }

    private ulong Extract(ulong value, int at, int count)
    {
        if (count == 0)
            return 0;
        if (at > 63)
            return signed ? (ulong)((long)value >> 63) : 0;
        var top = Math.Min(at + count - 1, 63);
        var aligned = value << (63 - top);
        return signed ? (ulong)((long)aligned >> (63 - top + at)) : aligned >> (63 - top + at);
    }
}
