using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Memory;

/// <summary>An address operand: a register or a constant slot, and an offset.</summary>
internal readonly record struct AddressSource(int Slot, bool Wide, long Offset)
{
    internal void Compute(Warp warp) => Access.Compute(warp, Slot, Wide, Offset);
}

/// <summary>One element's place in the frame: its slot and whether the slot is 64 bits wide; a negative slot is the sink <c>_</c>.</summary>
internal readonly record struct ElementSlot(int Slot, bool Wide);

/// <summary>How a loaded element is extended to its register.</summary>
internal enum Extension
{
    Zero,
    Sign16,
    Sign32,
    Sign64,
}

/// <summary><c>ld</c>: one, two, four or eight elements per thread.</summary>
internal sealed unsafe class Load(StateSpace space, AddressSource address, int elementBytes, Extension extension, ElementSlot[] to) : Instruction
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        address.Compute(warp);
        var good = Access.Resolve(warp, this, space, (uint)(elementBytes * to.Length), AccessKind.Read, mask);
        if (good == 0)
            return;
        var hosts = warp.HostAddresses;
        if (good == Lanes.All && elementBytes == 4 && to.Length == 1 && !to[0].Wide && to[0].Slot >= 0)
        {
            LoadWords(hosts, (uint*)(warp.Frame + to[0].Slot));
            return;
        }
        for (var i = 0; i < to.Length; i++)
        {
            if (to[i].Slot >= 0)
                LoadElement(hosts, i * elementBytes, warp.Frame + to[i].Slot, to[i].Wide, good);
        }
    }

    /// <summary>32 words of 4 bytes: in a row, all the same, or gathered.</summary>
    private static void LoadWords(ulong* hosts, uint* to)
    {
        var first = hosts[0];
        var lanes = Vector512.Create(0ul, 4, 8, 12, 16, 20, 24, 28);
        var inRow = true;
        for (var q = 0; q < 4 && inRow; q++)
            inRow = Vector512.EqualsAll(Vector512.Load(hosts + q * 8), lanes + Vector512.Create(first + (ulong)q * 32));
        if (inRow)
        {
            Vector512.Load((uint*)first).Store(to);
            Vector512.Load((uint*)first + 16).Store(to + 16);
            return;
        }
        for (var lane = 0; lane < 32; lane += 4)
        {
            to[lane] = *(uint*)hosts[lane];
            to[lane + 1] = *(uint*)hosts[lane + 1];
            to[lane + 2] = *(uint*)hosts[lane + 2];
            to[lane + 3] = *(uint*)hosts[lane + 3];
        }
    }

    private void LoadElement(ulong* hosts, int offset, byte* to, bool wide, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var from = (byte*)hosts[lane] + offset;
            var value = elementBytes switch
            {
                1 => *from,
                2 => *(ushort*)from,
                4 => *(uint*)from,
                _ => *(ulong*)from,
            };
            if (extension != Extension.Zero)
            {
                var shift = 64 - 8 * elementBytes;
                value = (ulong)((long)(value << shift) >> shift);
                value &= extension switch { Extension.Sign16 => 0xFFFF, Extension.Sign32 => uint.MaxValue, _ => ulong.MaxValue };
            }
            if (wide)
                ((ulong*)to)[lane] = value;
            else
                ((uint*)to)[lane] = (uint)value;
        }
    }
}

/// <summary><c>st</c>: one, two, four or eight elements per thread.</summary>
internal sealed unsafe class Store(StateSpace space, AddressSource address, int elementBytes, ElementSlot[] from) : Instruction
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Execute(Warp warp, uint mask)
    {
        address.Compute(warp);
        var good = Access.Resolve(warp, this, space, (uint)(elementBytes * from.Length), AccessKind.Write, mask);
        var hosts = warp.HostAddresses;
        for (var i = 0; i < from.Length; i++)
        {
            var values = warp.Frame + from[i].Slot;
            var offset = i * elementBytes;
            for (var rest = good; rest != 0; rest &= rest - 1)
            {
                var lane = BitOperations.TrailingZeroCount(rest);
                var to = (byte*)hosts[lane] + offset;
                var value = from[i].Wide ? ((ulong*)values)[lane] : ((uint*)values)[lane];
                switch (elementBytes)
                {
                    case 1:
                        *to = (byte)value;
                        break;
                    case 2:
                        *(ushort*)to = (ushort)value;
                        break;
                    case 4:
                        *(uint*)to = (uint)value;
                        break;
                    default:
                        *(ulong*)to = value;
                        break;
                }
            }
        }
    }
}

/// <summary><c>ld.param</c> of a kernel's argument at a constant offset: the same for all threads.</summary>
internal sealed unsafe class LoadArgument(int offset, int elementBytes, Extension extension, ElementSlot[] to) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var i = 0; i < to.Length; i++)
        {
            if (to[i].Slot < 0)
                continue;
            var from = warp.Block.Launch.Arguments + offset + i * elementBytes;
            var value = elementBytes switch { 1 => *from, 2 => *(ushort*)from, 4 => *(uint*)from, _ => *(ulong*)from };
            if (extension != Extension.Zero)
            {
                var shift = 64 - 8 * elementBytes;
                value = (ulong)((long)(value << shift) >> shift);
                value &= extension == Extension.Sign16 ? 0xFFFF : ulong.MaxValue;
            }
            if (to[i].Wide)
            {
                for (var q = 0; q < 4; q++)
                    Lanes.Store((ulong*)(warp.Frame + to[i].Slot), q, Vector512.Create(value), mask);
            }
            else
            {
                Lanes.Store((uint*)(warp.Frame + to[i].Slot), Vector512.Create((uint)value), Vector512.Create((uint)value), mask);
            }
        }
    }
}

/// <summary><c>ld.param</c> and <c>st.param</c> of a call's arguments and results, which lie in the frame, 32 lanes of the variable's bytes.</summary>
internal sealed unsafe class CallParameter(bool store, int area, int stride, int offset, int elementBytes, Extension extension, ElementSlot[] slots) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var i = 0; i < slots.Length; i++)
        {
            if (slots[i].Slot < 0)
                continue;
            var register = warp.Frame + slots[i].Slot;
            for (var rest = mask; rest != 0; rest &= rest - 1)
            {
                var lane = BitOperations.TrailingZeroCount(rest);
                var at = warp.Frame + area + lane * stride + offset + i * elementBytes;
                if (store)
                {
                    var value = slots[i].Wide ? ((ulong*)register)[lane] : ((uint*)register)[lane];
                    new ReadOnlySpan<byte>(&value, elementBytes).CopyTo(new Span<byte>(at, elementBytes));
                }
                else
                {
                    ulong value = 0;
                    new ReadOnlySpan<byte>(at, elementBytes).CopyTo(new Span<byte>(&value, elementBytes));
                    if (extension != Extension.Zero)
                    {
                        var shift = 64 - 8 * elementBytes;
                        value = (ulong)((long)(value << shift) >> shift);
                        value &= extension == Extension.Sign16 ? 0xFFFF : ulong.MaxValue;
                    }
                    if (slots[i].Wide)
                        ((ulong*)register)[lane] = value;
                    else
                        ((uint*)register)[lane] = (uint)value;
                }
            }
        }
    }
}
