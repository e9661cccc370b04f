using System.Numerics;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Execution;

/// <summary>What is done to an <c>mbarrier</c>.</summary>
internal enum MemoryBarrierAction
{
    Initialize,
    Invalidate,
    Arrive,
    ArriveExpectBytes,
    ExpectBytes,

    /// <summary><c>cp.async.mbarrier.arrive</c>: arrive when the thread's copies are done.</summary>
    ArriveAfterCopies,
    Test,
    Try,
}

/// <summary><c>mbarrier</c> operations. The object's state is kept beside shared memory; its token is the number of the phase.</summary>
internal sealed unsafe class MemoryBarrierOperation(
    MemoryBarrierAction action, StateSpace space, AddressSource address, ElementSlot token, int p, int operand, bool operandWide, bool increments) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        address.Compute(warp);
        var good = Access.Resolve(warp, this, space, 8, action == MemoryBarrierAction.Initialize ? AccessKind.Write : AccessKind.Atomic, mask);
        if (action is MemoryBarrierAction.Test or MemoryBarrierAction.Try)
        {
            Wait(warp, good);
            return;
        }
        for (var rest = good; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var at = (uint)(warp.HostAddresses[lane] - (ulong)warp.Block.Shared);
            if (action == MemoryBarrierAction.Initialize)
            {
                var count = (int)Value(warp, lane);
                warp.Block.MemoryBarriers[at] = new MemoryBarrier { Expected = count, Pending = count };
                continue;
            }
            if (action == MemoryBarrierAction.Invalidate)
            {
                warp.Block.MemoryBarriers.Remove(at);
                continue;
            }
            if (Find(warp, at, lane) is not { } barrier)
                return;
            if (token.Slot >= 0)
                ((ulong*)(warp.Frame + token.Slot))[lane] = (ulong)barrier.Phase;
            Arrive(warp, barrier, lane);
        }
    }

    private void Arrive(Warp warp, MemoryBarrier barrier, int lane)
    {
        warp.Block.Races?.Fence(warp.Number);
        switch (action)
        {
            case MemoryBarrierAction.Arrive:
                barrier.Pending -= operand < 0 ? 1 : (int)Value(warp, lane);
                break;
            case MemoryBarrierAction.ArriveExpectBytes:
                barrier.PendingBytes += (long)Value(warp, lane);
                barrier.Pending--;
                break;
            case MemoryBarrierAction.ExpectBytes:
                barrier.PendingBytes += (long)Value(warp, lane);
                break;
            default:
                warp.Copies.WaitAll(warp.Block, 1u << lane);
                barrier.Pending += increments ? 0 : -1;
                break;
        }
        if (barrier is { Pending: 0, PendingBytes: 0 })
        {
            barrier.Phase++;
            barrier.Pending = barrier.Expected;
        }
        else if (barrier.Pending < 0)
        {
            warp.Block.Launch.Report(FindingKind.Participation, warp, this, 1u << lane, $"more arrivals at an mbarrier than the {barrier.Expected} it expects");
            warp.Block.Launch.Stop();
            warp.Switching = true;
        }
    }

    private void Wait(Warp warp, uint mask)
    {
        uint done = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var at = (uint)(warp.HostAddresses[lane] - (ulong)warp.Block.Shared);
            if (Find(warp, at, lane) is not { } barrier)
                return;
            // A token is the phase's number, of which the parity is enough: nobody can be two phases behind.
            var parity = (int)(Value(warp, lane) & 1);
            if ((barrier.Phase & 1) != parity)
            {
                done |= 1u << lane;
            }
            else if (action == MemoryBarrierAction.Try)
            {
                warp.ParkAtMemoryBarrier(barrier, parity);
                return;
            }
        }
        warp.Resumed = false;
        warp.Block.Races?.Fence(warp.Number);
        SetPredicate.Store(warp.Frame + p, done, mask);
    }

    private ulong Value(Warp warp, int lane) =>
        operandWide ? ((ulong*)(warp.Frame + operand))[lane] : ((uint*)(warp.Frame + operand))[lane];

    private MemoryBarrier? Find(Warp warp, uint at, int lane)
    {
        if (warp.Block.MemoryBarriers.TryGetValue(at, out var barrier))
            return barrier;
        warp.Block.Launch.Report(FindingKind.Uninitialized, warp, this, 1u << lane, $"the mbarrier at byte {at} of shared memory was not initialised", at, "shared memory");
        warp.Block.Launch.Stop();
        warp.Switching = true;
        return null;
    }
}
