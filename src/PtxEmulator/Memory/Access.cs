using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Kernels.Emulation.Checking;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Memory;

/// <summary>What an access does, for the checks.</summary>
internal enum AccessKind
{
    Read,
    Write,
    Atomic,
}

/// <summary>
/// Turns the addresses of a warp's access into host addresses. Whatever the checks, no lane passes whose address is not in memory that exists:
/// such lanes are reported and left out of the access.
/// </summary>
internal static unsafe class Access
{
    // Generic addresses say by their top byte which window they are in; global memory is at its host address.
    internal const ulong SharedWindow = 1UL << 56;
    internal const ulong LocalWindow = 2UL << 56;
    internal const ulong ParamWindow = 3UL << 56;
    private const ulong WindowMask = 0xFFUL << 56;

    [ThreadStatic]
    private static Allocation? recent;

    /// <summary>Computes <see cref="Warp.Addresses"/> from a base register and an offset.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Compute(Warp warp, int baseSlot, bool wide, long offset)
    {
        var to = warp.Addresses;
        var add = Vector512.Create((ulong)offset);
        if (wide)
        {
            var from = (ulong*)(warp.Frame + baseSlot);
            for (var q = 0; q < 32; q += 8)
                (Vector512.Load(from + q) + add).Store(to + q);
        }
        else
        {
            var from = (uint*)(warp.Frame + baseSlot);
            for (var q = 0; q < 32; q += 8)
                (Integers64.ZeroExtend.Apply(Vector256.Load(from + q)) + add).Store(to + q);
        }
    }

    /// <summary>Lanes of <see cref="Warp.Addresses"/> outside [start, start + size - bytes], or misaligned.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Outside(ulong* addresses, ulong start, ulong size, uint bytes)
    {
        var first = Vector512.Create(start);
        var last = Vector512.Create(size - bytes);
        var low = Vector512.Create((ulong)bytes - 1);
        uint result = 0;
        for (var q = 0; q < 4; q++)
        {
            var a = Vector512.Load(addresses + q * 8);
            var bad = Vector512.GreaterThan(a - first, last) | ~Vector512.Equals(a & low, Vector512<ulong>.Zero);
            result |= (uint)bad.ExtractMostSignificantBits() << (q * 8);
        }
        return result;
    }

    /// <summary>Resolves and checks a warp's access.</summary>
    /// <returns>The lanes that may make it, whose host addresses are in <see cref="Warp.HostAddresses"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static uint Resolve(Warp warp, Instruction instruction, StateSpace space, uint bytes, AccessKind kind, uint mask)
    {
        switch (space)
        {
            case StateSpace.Global or StateSpace.Const:
                return Global(warp, instruction, bytes, kind, mask);
            case StateSpace.Shared:
                return Shared(warp, instruction, bytes, kind, mask);
            case StateSpace.Local:
                return Local(warp, instruction, bytes, mask);
            case StateSpace.Param:
                return Param(warp, instruction, bytes, mask);
            default:
                return Generic(warp, instruction, bytes, kind, mask);
        }
    }

    private static uint Global(Warp warp, Instruction instruction, uint bytes, AccessKind kind, uint mask)
    {
        var addresses = warp.Addresses;
        var known = recent;
        var first = addresses[BitOperations.TrailingZeroCount(mask)];
        if (known is null || known.IsFreed || first - known.Address >= (ulong)known.Bytes)
            known = warp.Block.Launch.Memory.Find(first);
        if (known is not null && (ulong)known.Bytes >= bytes && (Outside(addresses, known.Address, (ulong)known.Bytes, bytes) & mask) == 0)
        {
            recent = known;
            for (var q = 0; q < 32; q += 8)
                Vector512.Load(addresses + q).Store(warp.HostAddresses + q);
            if (known.Written != null || known.Accesses != null)
                GlobalChecks.Check(warp, instruction, known, bytes, kind, mask);
            // Constants come from a cache of their own.
            if (instruction.Class != InstructionClass.OtherMemory)
                warp.Block.Counters?.Global(kind, known, addresses, bytes, mask);
            return mask;
        }
        return GlobalByLane(warp, instruction, bytes, kind, mask);
    }

    /// <summary>Lanes in different allocations, or faults.</summary>
    private static uint GlobalByLane(Warp warp, Instruction instruction, uint bytes, AccessKind kind, uint mask)
    {
        var memory = warp.Block.Launch.Memory;
        uint good = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var address = warp.Addresses[lane];
            warp.HostAddresses[lane] = address;
            var allocation = memory.Find(address);
            if (allocation is null || address + bytes > allocation.End)
            {
                Faults.Global(warp, instruction, address, bytes, kind, lane);
                continue;
            }
            if ((address & (bytes - 1)) != 0)
            {
                Faults.Misaligned(warp, instruction, address, bytes, lane, allocation.ToString());
                continue;
            }
            good |= 1u << lane;
            if (allocation.Written != null || allocation.Accesses != null)
                GlobalChecks.Check(warp, instruction, allocation, bytes, kind, 1u << lane);
        }
        if (good != 0 && instruction.Class != InstructionClass.OtherMemory)
            warp.Block.Counters?.Global(kind, null, warp.Addresses, bytes, good);
        return good;
    }

    private static uint Shared(Warp warp, Instruction instruction, uint bytes, AccessKind kind, uint mask)
    {
        var block = warp.Block;
        var addresses = warp.Addresses;
        var bad = (uint)block.SharedBytes < bytes ? mask : Outside(addresses, 0, (ulong)block.SharedBytes, bytes) & mask;
        var good = mask & ~bad;
        for (; bad != 0; bad &= bad - 1)
        {
            var lane = BitOperations.TrailingZeroCount(bad);
            Faults.Window(warp, instruction, addresses[lane], bytes, lane, $"shared memory ({block.SharedBytes} bytes)", (ulong)block.SharedBytes, kind);
        }
        var start = Vector512.Create((ulong)block.Shared);
        for (var q = 0; q < 32; q += 8)
            (Vector512.Load(addresses + q) + start).Store(warp.HostAddresses + q);
        if (good != 0)
        {
            if (block.SharedWritten != null)
                SharedChecks.CheckWritten(warp, instruction, bytes, kind, good);
            block.Races?.Check(warp, instruction, bytes, kind, good);
            block.Counters?.Shared(addresses, bytes, good);
        }
        return good;
    }

    private static uint Local(Warp warp, Instruction instruction, uint bytes, uint mask)
    {
        var addresses = warp.Addresses;
        var bad = (uint)warp.LocalCapacity < bytes ? mask : Outside(addresses, 0, (ulong)warp.LocalCapacity, bytes) & mask;
        var good = mask & ~bad;
        for (; bad != 0; bad &= bad - 1)
        {
            var lane = BitOperations.TrailingZeroCount(bad);
            Faults.Window(warp, instruction, addresses[lane], bytes, lane, "local memory", (ulong)warp.LocalCapacity, AccessKind.Read);
        }
        for (var lane = 0; lane < 32; lane++)
            warp.HostAddresses[lane] = addresses[lane] + (ulong)warp.Local + (ulong)lane * (ulong)warp.LocalCapacity;
        warp.Block.Counters?.Local(bytes, good);
        return good;
    }

    private static uint Param(Warp warp, Instruction instruction, uint bytes, uint mask)
    {
        var size = (ulong)warp.Block.Launch.Function.ArgumentBytes;
        uint good = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var address = warp.Addresses[lane];
            if (address + bytes > size || address > size || (address & (bytes - 1)) != 0)
            {
                Faults.Window(warp, instruction, address, bytes, lane, $"the kernel's arguments ({size} bytes)", size, AccessKind.Read);
                continue;
            }
            warp.HostAddresses[lane] = (ulong)warp.Block.Launch.Arguments + address;
            good |= 1u << lane;
        }
        return good;
    }

    private static uint Generic(Warp warp, Instruction instruction, uint bytes, AccessKind kind, uint mask)
    {
        uint good = 0;
        var addresses = warp.Addresses;
        var keep = stackalloc ulong[32];
        // Lanes of one window at a time; nearly always there is one.
        for (var rest = mask; rest != 0;)
        {
            var window = addresses[BitOperations.TrailingZeroCount(rest)] & WindowMask;
            uint same = 0;
            for (var lanes = rest; lanes != 0; lanes &= lanes - 1)
            {
                var lane = BitOperations.TrailingZeroCount(lanes);
                if ((addresses[lane] & WindowMask) == window)
                {
                    same |= 1u << lane;
                    addresses[lane] -= window is SharedWindow or LocalWindow or ParamWindow ? window : 0;
                }
            }
            var space = window switch
            {
                SharedWindow => StateSpace.Shared,
                LocalWindow => StateSpace.Local,
                ParamWindow => StateSpace.Param,
                _ => StateSpace.Global,
            };
            if (same == mask)
                return Resolve(warp, instruction, space, bytes, kind, same);
            new Span<ulong>(warp.HostAddresses, 32).CopyTo(new Span<ulong>(keep, 32));
            good |= Resolve(warp, instruction, space, bytes, kind, same);
            for (var lane = 0; lane < 32; lane++)
            {
                if ((same >> lane & 1) == 0)
                    warp.HostAddresses[lane] = keep[lane];
            }
            rest &= ~same;
        }
        return good;
    }
}
