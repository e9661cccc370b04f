using System.Numerics;
using Kernels.Emulation.Checking;

namespace Kernels.Emulation.Execution;

/// <summary><c>bar.sync</c>, <c>bar.arrive</c> and <c>bar.red</c> on one of the block's 16 barriers.</summary>
internal sealed unsafe class BlockBarrier(int number, int threads, bool waits, int reduction, int d, bool toPredicate, PredicateSource source, bool aligned) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        var first = BitOperations.TrailingZeroCount(mask);
        var barrier = warp.Block.Barrier(((uint*)(warp.Frame + number))[first]);
        if (warp.Resumed)
        {
            warp.Resumed = false;
            Finish(warp, mask, barrier.Result);
            return;
        }
        var expected = threads < 0 ? 0 : (int)((uint*)(warp.Frame + threads))[first];
        if (warp.Block.Launch.Checks.HasFlag(Checks.Barriers))
            Participation.CheckBarrier(warp, this, mask, expected, aligned);
        warp.Block.Counters?.Barrier();
        Races.JoinWarp(warp);
        barrier.Members.Add(warp.Number);
        uint holding = 0;
        if (reduction >= 0)
        {
            var holds = source.Read(warp.Frame) & mask;
            holding = (uint)BitOperations.PopCount(holds) | (holds == mask ? 0x10000u : 0);
        }
        // A barrier with a thread count counts a warp as 32, even if it is the partly empty last one.
        var arriving = expected > 0 && mask == warp.Live ? 32 : BitOperations.PopCount(mask);
        var completed = warp.Block.Arrive(barrier, arriving, expected, holding, reduction);
        if (!waits)
            return;
        if (completed)
            Finish(warp, mask, barrier.Result);
        else
            warp.ParkAtBarrier(barrier);
    }

    private void Finish(Warp warp, uint mask, uint result)
    {
        if (d < 0)
            return;
        if (toPredicate)
        {
            SetPredicate.Store(warp.Frame + d, result, mask);
            return;
        }
        for (var rest = mask; rest != 0; rest &= rest - 1)
            ((uint*)(warp.Frame + d))[BitOperations.TrailingZeroCount(rest)] = result;
    }
}

/// <summary><c>membar</c> and <c>fence</c>: memory here is sequentially consistent; the race check takes note.</summary>
internal sealed class Fence(bool beyondBlock) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        if (beyondBlock)
            Races.Fence(warp);
        else
            warp.Block.Races?.Fence(warp.Number);
    }
}

/// <summary>An instruction with no effect here: hints, sleeps.</summary>
internal sealed class NoOperation : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
    }
}
