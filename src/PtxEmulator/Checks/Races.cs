using System.Numerics;
using System.Runtime.InteropServices;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation.Checking;

/// <summary>Events that order memory accesses, told to whichever race checks are on.</summary>
internal static class Races
{
    /// <summary>The warp's lanes synchronise with one another.</summary>
    internal static void JoinWarp(Warp warp) => warp.Block.Races?.Tick(warp.Number);

    /// <summary>A fence beyond the block, or acquire and release semantics of an access.</summary>
    internal static void Fence(Warp warp)
    {
        warp.Block.Races?.Fence(warp.Number);
        warp.Block.Launch.GlobalRaces.Fence(warp.Block.Number);
    }

    /// <summary>
    /// An atomic access is about to be made: it carries what was fenced before it to whoever reads it. Told before the access, as <see cref="Acquire"/> is after it: blocks run
    /// beside each other, and one that reads what another has written must find it told.
    /// </summary>
    internal static void Release(Warp warp, uint mask, bool fences)
    {
        if (mask == 0 || !warp.Block.Launch.Checks.HasFlag(Checks.Races))
            return;
        if (fences)
            Fence(warp);
        warp.Block.Launch.GlobalRaces.Release(warp.Block.Number);
    }

    /// <summary>An atomic access has been made: what others released before it is ordered before what follows.</summary>
    internal static void Acquire(Warp warp, uint mask, bool fences)
    {
        if (mask == 0 || !warp.Block.Launch.Checks.HasFlag(Checks.Races))
            return;
        if (fences)
            Fence(warp);
        warp.Block.Launch.GlobalRaces.Acquire(warp.Block.Number);
    }
}

/// <summary>
/// Races between threads of a block on shared memory. Each warp keeps a vector clock; a barrier joins the clocks of those who took part, so two
/// accesses are ordered exactly if the earlier one's time is in the later one's clock (the epochs of FastTrack, Flanagan and Freund 2009).
/// </summary>
internal sealed unsafe class SharedRaces : IDisposable
{
    private struct Cell
    {
        internal int WriteTime;
        internal int WriteInstruction;
        internal int ReadTime;
        internal int ReadInstruction;
        internal int EarlierReadTime;
        internal int EarlierReadInstruction;
        internal ushort WriteThread;
        internal ushort ReadThread;
        internal ushort EarlierReadThread;
        internal byte WriteBytes;
        internal byte ReadBytes;
        internal byte EarlierReadBytes;
        internal byte WriteIsAtomic;
    }

    private readonly Block block;
    private readonly Cell* cells;
    private readonly int[][] clocks;
    private readonly int[] fenced;

    internal SharedRaces(Block block)
    {
        this.block = block;
        cells = (Cell*)NativeMemory.AllocZeroed((nuint)(block.SharedBytes + 15) / 4, (nuint)sizeof(Cell));
        var warps = (block.Launch.ThreadsPerBlock + 31) / 32;
        clocks = new int[warps][];
        for (var i = 0; i < warps; i++)
        {
            clocks[i] = new int[warps];
            clocks[i][i] = 1;
        }
        fenced = new int[warps];
    }

    /// <summary>A new block: everything before is over.</summary>
    internal void Reset() => Join([.. Enumerable.Range(0, clocks.Length)]);

    /// <summary>The lanes of a warp are ordered among themselves.</summary>
    internal void Tick(int warp) => clocks[warp][warp]++;

    /// <summary>What each of the warps did before is ordered before what any of them does from now on.</summary>
    internal void Join(List<int> members)
    {
        if (members.Count == 0)
            return;
        var joined = (int[])clocks[members[0]].Clone();
        foreach (var member in members)
            Raise(joined, clocks[member]);
        foreach (var member in members)
        {
            joined.CopyTo(clocks[member], 0);
            clocks[member][member]++;
        }
    }

    /// <summary>A fence publishes what its warp did and takes in what others published.</summary>
    internal void Fence(int warp)
    {
        Raise(fenced, clocks[warp]);
        Raise(clocks[warp], fenced);
        clocks[warp][warp]++;
    }

    private static void Raise(int[] to, int[] from)
    {
        for (var i = 0; i < to.Length; i++)
            to[i] = Math.Max(to[i], from[i]);
    }

    /// <summary>Checks and records a warp's access; addresses are offsets in shared memory.</summary>
    internal void Check(Warp warp, Instruction instruction, uint bytes, AccessKind kind, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var address = (uint)warp.Addresses[lane];
            var end = address + bytes;
            for (var word = address >> 2; word << 2 < end; word++)
            {
                var from = Math.Max(address, word << 2) & 3;
                var count = Math.Min(end, (word + 1) << 2) - Math.Max(address, word << 2);
                Check(warp, instruction, word, (byte)(((1 << (int)count) - 1) << (int)from), kind, lane);
            }
        }
    }

    private void Check(Warp warp, Instruction instruction, uint word, byte part, AccessKind kind, int lane)
    {
        ref var cell = ref cells[word];
        var clock = clocks[warp.Number];
        var me = (ushort)(warp.Number << 5 | lane);
        if ((cell.WriteBytes & part) != 0 && !(kind == AccessKind.Atomic && cell.WriteIsAtomic != 0) && !Ordered(clock, warp.Number, me, cell.WriteThread, cell.WriteTime))
            Report(warp, instruction, word, kind, lane, cell.WriteThread, cell.WriteInstruction, "written");
        if (kind == AccessKind.Read)
        {
            if (cell.ReadThread >> 5 != warp.Number && cell.ReadBytes != 0)
            {
                (cell.EarlierReadTime, cell.EarlierReadThread) = (cell.ReadTime, cell.ReadThread);
                (cell.EarlierReadInstruction, cell.EarlierReadBytes) = (cell.ReadInstruction, cell.ReadBytes);
            }
            (cell.ReadTime, cell.ReadThread, cell.ReadInstruction) = (clock[warp.Number], me, instruction.Id);
            cell.ReadBytes = part;
            return;
        }
        if ((cell.ReadBytes & part) != 0 && !Ordered(clock, warp.Number, me, cell.ReadThread, cell.ReadTime))
            Report(warp, instruction, word, kind, lane, cell.ReadThread, cell.ReadInstruction, "read");
        else if ((cell.EarlierReadBytes & part) != 0 && !Ordered(clock, warp.Number, me, cell.EarlierReadThread, cell.EarlierReadTime))
            Report(warp, instruction, word, kind, lane, cell.EarlierReadThread, cell.EarlierReadInstruction, "read");
        cell.ReadBytes = cell.EarlierReadBytes = 0;
        (cell.WriteTime, cell.WriteThread, cell.WriteInstruction) = (clock[warp.Number], me, instruction.Id);
        cell.WriteBytes = part;
        cell.WriteIsAtomic = kind == AccessKind.Atomic ? (byte)1 : (byte)0;
    }

    private static bool Ordered(int[] clock, int warp, ushort me, ushort other, int time) =>
        me == other || (other >> 5 == warp ? time < clock[warp] : time <= clock[other >> 5]);

    private void Report(Warp warp, Instruction instruction, uint word, AccessKind kind, int lane, ushort other, int otherInstruction, string verb)
    {
        var before = block.Launch.Program.Instruction(otherInstruction);
        var thread = block.Warps[other >> 5].ThreadOf(other & 31);
        var what = kind switch { AccessKind.Read => "reads", AccessKind.Write => "writes", _ => "atomically changes" };
        warp.Block.Launch.Report(
            FindingKind.SharedRace, warp, instruction, 1u << lane,
            $"{what} shared memory at byte {word << 2}, which thread {thread} has {verb} at {before.Source} with no barrier between", word << 2, "shared memory", before.Source);
    }

    public void Dispose() => NativeMemory.Free(cells);
}

/// <summary>What orders blocks of a launch: a fence, an atomic, and another block's later atomic.</summary>
internal sealed class GlobalRaces
{
    private readonly Lock gate = new();
    private readonly Dictionary<int, long> firstRelease = [];
    private readonly Dictionary<int, long> lastAcquire = [];
    private readonly HashSet<int> acquiredAgain = [];
    private readonly HashSet<int> fencing = [];
    private long sequence;

    internal void Fence(int block)
    {
        lock (gate)
            fencing.Add(block);
    }

    internal void Release(int block)
    {
        lock (gate)
        {
            if (fencing.Contains(block))
                firstRelease.TryAdd(block, ++sequence);
        }
    }

    internal void Acquire(int block)
    {
        lock (gate)
        {
            if (!fencing.Contains(block))
                return;
            if (lastAcquire.ContainsKey(block))
                acquiredAgain.Add(block);
            lastAcquire[block] = ++sequence;
        }
    }

    /// <summary>Whether the block has acquired more than once, as one does that waits for others in a loop.</summary>
    internal bool AcquiresAgain(int block)
    {
        lock (gate)
            return acquiredAgain.Contains(block);
    }

    /// <summary>Whether what the earlier block did may be relied on by the later one. Errs toward yes: a block's accesses after its first release count as before it.</summary>
    internal bool Ordered(int earlier, int later)
    {
        lock (gate)
            return firstRelease.TryGetValue(earlier, out var release) && lastAcquire.TryGetValue(later, out var acquire) && acquire > release;
    }

    /// <summary>Whether what all other blocks of the launch did may be relied on by the later one: each has released, and it has acquired after the last of them.</summary>
    internal bool OrderedAfterAll(int later, int blocks)
    {
        lock (gate)
            return firstRelease.Count == blocks && lastAcquire.TryGetValue(later, out var acquire) && firstRelease.Values.All(release => release <= acquire);
    }
}
