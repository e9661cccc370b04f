using System.Runtime.InteropServices;
using Kernels.Emulation.Checking;
using Kernels.Emulation.Counting;

namespace Kernels.Emulation.Execution;

/// <summary>
/// A block being executed, and the state that its worker keeps from block to block. One OS thread runs all its warps in turn: a warp runs until
/// it waits, and the worker takes the next.
/// </summary>
internal sealed unsafe class Block : IDisposable
{
    // Long enough that switching costs nothing, short enough that a warp spinning on a flag lets the others set it.
    private const long Slice = 1 << 16;

    private readonly Warp[] warps;
    private readonly NamedBarrier[] barriers = new NamedBarrier[16];

    internal Block(Launch launch)
    {
        Launch = launch;
        SharedBytes = launch.SharedBytes;
        Shared = (byte*)NativeMemory.AlignedAlloc((nuint)SharedBytes + 64, 128);
        Counters = launch.Counting ? new WorkerCounters(launch) : null;
        Races = launch.Checks.HasFlag(Checks.Races) && SharedBytes > 0 ? new SharedRaces(this) : null;
        SharedWritten = launch.Checks.HasFlag(Checks.Uninitialized) ? (byte*)NativeMemory.AllocZeroed((nuint)SharedBytes + 64) : null;
        warps = new Warp[(launch.ThreadsPerBlock + 31) / 32];
        for (var i = 0; i < warps.Length; i++)
            warps[i] = new Warp(this, i);
        for (var i = 0; i < barriers.Length; i++)
            barriers[i] = new NamedBarrier();
    }

    internal Launch Launch { get; }

    internal byte* Shared { get; }

    internal int SharedBytes { get; }

    /// <summary>One byte per byte of shared memory: 0 never written, 1 written, 2 a copy is under way.</summary>
    internal byte* SharedWritten { get; }

    internal SharedRaces? Races { get; }

    internal WorkerCounters? Counters { get; }

    internal int Number { get; private set; }

    internal Index3 Index { get; private set; }

    internal Warp[] Warps => warps;

    internal Dictionary<uint, MemoryBarrier> MemoryBarriers { get; } = [];

    internal NamedBarrier Barrier(uint number) => barriers[number & 15];

    /// <summary>Runs one block to its end.</summary>
    internal void Run(int number)
    {
        Number = number;
        var grid = Launch.Grid;
        Index = new Index3(number % grid.X, number / grid.X % grid.Y, number / (grid.X * grid.Y));
        // Shared memory starts with NaNs, so that a kernel that relies on zeros fails without checks too.
        new Span<byte>(Shared, SharedBytes).Fill(0xFF);
        if (SharedWritten != null)
            new Span<byte>(SharedWritten, SharedBytes).Clear();
        Races?.Reset();
        MemoryBarriers.Clear();
        foreach (var barrier in barriers)
            barrier.Reset();
        foreach (var warp in warps)
            warp.Start();
        while (true)
        {
            var (running, progress) = (false, false);
            foreach (var warp in warps)
            {
                if (warp.IsDone)
                    continue;
                running = true;
                progress |= warp.Run(Slice);
                if (Launch.IsStopped)
                    return;
            }
            if (!running)
                return;
            if (!progress && !ReleaseBarriers())
            {
                ReportDeadlock();
                return;
            }
        }
    }

    /// <summary>Counts a warp's threads at a barrier, and lets everybody go when the last has come.</summary>
    /// <returns>Whether the barrier was completed by this arrival.</returns>
    internal bool Arrive(NamedBarrier barrier, int threads, int expected, uint holding, int reduction)
    {
        barrier.Arrived += threads;
        barrier.Expected = expected;
        barrier.Accumulate(holding, reduction);
        if (barrier.Arrived < ThreadsExpected(expected))
            return false;
        Complete(barrier);
        return true;
    }

    private int ThreadsExpected(int expected)
    {
        if (expected > 0)
            return expected;
        // Threads that have exited are not waited for, as on the hardware.
        var alive = 0;
        foreach (var warp in warps)
            alive += warp.LiveCount;
        return alive;
    }

    private void Complete(NamedBarrier barrier)
    {
        Races?.Join(barrier.Members);
        barrier.Complete();
    }

    /// <summary>Completes barriers whose missing threads have exited since the others arrived.</summary>
    private bool ReleaseBarriers()
    {
        var released = false;
        foreach (var barrier in barriers)
        {
            if (barrier.Arrived == 0 || barrier.Arrived < ThreadsExpected(barrier.Expected))
                continue;
            Complete(barrier);
            released = true;
        }
        return released;
    }

    private void ReportDeadlock()
    {
        foreach (var warp in warps)
        {
            if (!warp.IsDone)
                warp.ReportDeadlock();
        }
        Launch.Stop();
    }

    public void Dispose()
    {
        foreach (var warp in warps)
            warp.Dispose();
        Races?.Dispose();
        NativeMemory.AlignedFree(Shared);
        NativeMemory.Free(SharedWritten);
    }
}

/// <summary>One of a block's 16 barriers.</summary>
internal sealed class NamedBarrier
{
    internal int Arrived { get; set; }

    internal int Expected { get; set; }

    /// <summary>How often it completed: a waiting warp watches for the next.</summary>
    internal int Phase { get; private set; }

    /// <summary>Result of the reduction of the completed phase: count, and or, all.</summary>
    internal uint Result { get; private set; }

    /// <summary>Warps that took part in the running phase, by number.</summary>
    internal List<int> Members { get; } = [];

    private uint count;
    private bool all = true;
    private int reduction;

    internal void Accumulate(uint holding, int kind)
    {
        count += holding & 0xFFFF;
        all &= (holding & 0x10000) != 0;
        reduction = kind;
    }

    internal void Complete()
    {
        Result = reduction switch { 0 => count, 1 => all ? uint.MaxValue : 0, _ => count > 0 ? uint.MaxValue : 0 };
        Phase++;
        (Arrived, count, all) = (0, 0, true);
        Members.Clear();
    }

    internal void Reset()
    {
        Complete();
        Expected = 0;
    }
}

/// <summary>An <c>mbarrier</c> object in shared memory.</summary>
internal sealed class MemoryBarrier
{
    internal int Expected { get; set; }

    internal int Pending { get; set; }

    /// <summary>Bytes that asynchronous copies have still to bring in this phase.</summary>
    internal long PendingBytes { get; set; }

    internal int Phase { get; set; }

}
