using System.Numerics;
using System.Runtime.InteropServices;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation.Counting;

/// <summary>Counts of one worker, or of a launch when all are added.</summary>
internal sealed unsafe class WorkerCounters
{
    private readonly Launch launch;
    private readonly long[] warps;
    private readonly long[] threads;

    internal WorkerCounters(Launch launch)
    {
        this.launch = launch;
        warps = new long[launch.Program.InstructionCount];
        threads = new long[launch.Program.InstructionCount];
    }

    internal long GlobalReadBytes, GlobalWrittenBytes, GlobalReadSectors, GlobalWrittenSectors, GlobalRequests;
    internal long SharedBytes, SharedWavefronts, SharedExtraWavefronts, LocalBytes, LocalRequests, Barriers, Branches, DivergentBranches;

    internal long WarpExecutions(Instruction instruction) => warps[instruction.Id];

    internal long ThreadExecutions(Instruction instruction) => threads[instruction.Id];

    internal void Count(Instruction instruction, uint mask)
    {
        warps[instruction.Id]++;
        threads[instruction.Id] += BitOperations.PopCount(mask);
    }

    internal void Barrier() => Barriers++;

    internal void Branch(bool conditional, bool divergent)
    {
        if (!conditional)
            return;
        Branches++;
        DivergentBranches += divergent ? 1 : 0;
    }

    internal void Local(uint bytes, uint mask)
    {
        LocalRequests++;
        LocalBytes += bytes * BitOperations.PopCount(mask);
    }

    /// <summary>A warp's access to global memory moves each 32-byte sector that it touches once.</summary>
    internal void Global(AccessKind kind, Allocation? allocation, ulong* addresses, uint bytes, uint mask)
    {
        var sectors = stackalloc ulong[64];
        var count = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var address = addresses[BitOperations.TrailingZeroCount(rest)];
            for (var sector = address >> 5; sector <= (address + bytes - 1) >> 5; sector++)
            {
                var i = count - 1;
                while (i >= 0 && sectors[i] != sector)
                    i--;
                if (i < 0)
                    sectors[count++] = sector;
            }
            Touch(allocation ?? launch.Memory.Find(address)!, address, bytes, kind);
        }
        var asked = bytes * BitOperations.PopCount(mask);
        GlobalRequests++;
        if (kind == AccessKind.Read)
            (GlobalReadBytes, GlobalReadSectors) = (GlobalReadBytes + asked, GlobalReadSectors + count);
        else
            (GlobalWrittenBytes, GlobalWrittenSectors) = (GlobalWrittenBytes + asked, GlobalWrittenSectors + count);
    }

    private static void Touch(Allocation allocation, ulong address, uint bytes, AccessKind kind)
    {
        if (allocation.Touched == null)
            return;
        var at = allocation.Touched + (address - allocation.Address) + (kind == AccessKind.Read ? 0 : allocation.Bytes);
        for (uint i = 0; i < bytes; i++)
            at[i] = 1;
    }

    /// <summary>
    /// Shared memory serves 32 banks of 4 bytes in one wavefront. Accesses of 8 and 16 bytes go by half and quarter warps; each group takes as many wavefronts as
    /// the bank with the most different words needs, at least one.
    /// </summary>
    internal void Shared(ulong* addresses, uint bytes, uint mask)
    {
        SharedBytes += bytes * BitOperations.PopCount(mask);
        var lanes = bytes <= 4 ? 32 : (int)(128 / bytes);
        var words = stackalloc uint[32];
        var next = stackalloc sbyte[64];
        var heads = stackalloc sbyte[32];
        var perBank = stackalloc byte[32];
        for (var group = 0; group < 32; group += lanes)
        {
            var rest = mask >> group & (lanes == 32 ? uint.MaxValue : (1u << lanes) - 1);
            if (rest == 0)
                continue;
            new Span<sbyte>(heads, 32).Fill(-1);
            new Span<byte>(perBank, 32).Clear();
            int count = 0, most = 0;
            for (; rest != 0; rest &= rest - 1)
            {
                var address = (uint)addresses[group + BitOperations.TrailingZeroCount(rest)];
                for (var word = address >> 2; word <= (address + bytes - 1) >> 2; word++)
                {
                    var bank = word & 31;
                    int i = heads[bank];
                    while (i >= 0 && words[i] != word)
                        i = next[i];
                    if (i >= 0)
                        continue;
                    words[count] = word;
                    next[count] = heads[bank];
                    heads[bank] = (sbyte)count++;
                    most = Math.Max(most, ++perBank[bank]);
                }
            }
            SharedWavefronts += most;
            SharedExtraWavefronts += most - 1;
        }
    }

    internal void Add(WorkerCounters other)
    {
        for (var i = 0; i < warps.Length; i++)
        {
            warps[i] += other.warps[i];
            threads[i] += other.threads[i];
        }
        GlobalReadBytes += other.GlobalReadBytes;
        GlobalWrittenBytes += other.GlobalWrittenBytes;
        GlobalReadSectors += other.GlobalReadSectors;
        GlobalWrittenSectors += other.GlobalWrittenSectors;
        GlobalRequests += other.GlobalRequests;
        SharedBytes += other.SharedBytes;
        SharedWavefronts += other.SharedWavefronts;
        SharedExtraWavefronts += other.SharedExtraWavefronts;
        LocalBytes += other.LocalBytes;
        LocalRequests += other.LocalRequests;
        Barriers += other.Barriers;
        Branches += other.Branches;
        DivergentBranches += other.DivergentBranches;
    }

    /// <summary>Prepares every allocation to remember which of its bytes are read and which are written.</summary>
    internal static void ClearTouched(DeviceMemory memory)
    {
        foreach (var allocation in memory.Live)
        {
            if (allocation.Touched == null)
                allocation.Touched = (byte*)NativeMemory.Alloc((nuint)allocation.Bytes * 2);
            NativeMemory.Clear(allocation.Touched, (nuint)allocation.Bytes * 2);
        }
    }

    /// <summary>Different bytes read, and different bytes written: the least traffic that could do.</summary>
    internal static (long Read, long Written) CountTouched(DeviceMemory memory)
    {
        long read = 0, written = 0;
        foreach (var allocation in memory.Live)
        {
            for (long i = 0; i < allocation.Bytes; i++)
            {
                read += allocation.Touched[i];
                written += allocation.Touched[i + allocation.Bytes];
            }
        }
        return (read, written);
    }
}
