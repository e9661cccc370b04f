using System.Numerics;
using Kernels.Emulation.Checking;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Execution;

/// <summary>
/// A warp's asynchronous copies under way. The data moves when somebody waits for it and not before, which is the latest the hardware may take and so
/// what a kernel must be right with.
/// </summary>
internal sealed unsafe class AsyncCopies
{
    private readonly record struct Copy(int Lane, int Group, nint From, nint To, int Bytes, int FromBytes, uint SharedAddress);

    private readonly List<Copy> pending = [];
    private readonly int[] groups = new int[32];

    internal void Clear()
    {
        pending.Clear();
        Array.Clear(groups);
    }

    internal void Add(int lane, ulong from, ulong to, int bytes, int fromBytes, uint sharedAddress) =>
        pending.Add(new Copy(lane, groups[lane], (nint)from, (nint)to, bytes, fromBytes, sharedAddress));

    /// <summary>What was issued since the last commit becomes one group.</summary>
    internal void Commit(uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
            groups[BitOperations.TrailingZeroCount(rest)]++;
    }

    /// <summary>Completes all but the latest <paramref name="keep"/> groups of the lanes.</summary>
    internal void Wait(Block block, uint mask, int keep)
    {
        var left = 0;
        for (var i = 0; i < pending.Count; i++)
        {
            var copy = pending[i];
            if ((mask >> copy.Lane & 1) != 0 && copy.Group < groups[copy.Lane] - keep)
                Complete(block, copy);
            else
                pending[left++] = copy;
        }
        pending.RemoveRange(left, pending.Count - left);
    }

    /// <summary>Completes everything the lanes issued, committed or not.</summary>
    internal void WaitAll(Block block, uint mask)
    {
        Commit(mask);
        Wait(block, mask, 0);
    }

    private static void Complete(Block block, Copy copy)
    {
        var to = new Span<byte>((void*)copy.To, copy.Bytes);
        new ReadOnlySpan<byte>((void*)copy.From, copy.FromBytes).CopyTo(to);
        to[copy.FromBytes..].Clear();
        if (block.SharedWritten != null)
            GlobalChecks.Set(block.SharedWritten + copy.SharedAddress, (uint)copy.Bytes);
    }
}

/// <summary><c>cp.async</c>: 4, 8 or 16 bytes per thread from global to shared memory; fewer if a source size says so, the rest being zero.</summary>
internal sealed unsafe class CopyAsync(AddressSource to, AddressSource from, int bytes, int sourceBytes) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        to.Compute(warp);
        var good = Access.Resolve(warp, this, StateSpace.Shared, (uint)bytes, AccessKind.Write, mask);
        var targets = stackalloc ulong[32];
        var offsets = stackalloc uint[32];
        for (var lane = 0; lane < 32; lane++)
            (targets[lane], offsets[lane]) = (warp.HostAddresses[lane], (uint)warp.Addresses[lane]);

        // Lanes whose source size is zero do not look at their source.
        var sizes = sourceBytes < 0 ? null : (uint*)(warp.Frame + sourceBytes);
        uint reading = good, partial = 0;
        for (var rest = good; rest != 0 && sizes != null; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            if (sizes[lane] == 0)
                reading &= ~(1u << lane);
            else if (sizes[lane] < bytes)
                partial |= 1u << lane;
        }
        from.Compute(warp);
        var resolved = reading & ~partial;
        if (resolved != 0)
            resolved = Access.Resolve(warp, this, StateSpace.Global, (uint)bytes, AccessKind.Read, resolved);
        if (partial != 0)
        {
            var kept = stackalloc ulong[32];
            new Span<ulong>(warp.HostAddresses, 32).CopyTo(new Span<ulong>(kept, 32));
            // A partial source is checked by its first byte and its last.
            partial = Access.Resolve(warp, this, StateSpace.Global, 1, AccessKind.Read, partial);
            for (var rest = partial; rest != 0; rest &= rest - 1)
            {
                var lane = BitOperations.TrailingZeroCount(rest);
                kept[lane] = warp.HostAddresses[lane];
                warp.Addresses[lane] += sizes[lane] - 1;
            }
            if (partial != 0)
                partial = Access.Resolve(warp, this, StateSpace.Global, 1, AccessKind.Read, partial);
            new Span<ulong>(kept, 32).CopyTo(new Span<ulong>(warp.HostAddresses, 32));
        }
        for (var rest = good; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var bit = 1u << lane;
            if ((reading & bit) != 0 && ((resolved | partial) & bit) == 0)
                continue;
            var read = (reading & bit) == 0 ? 0 : sizes == null ? bytes : (int)Math.Min(sizes[lane], (uint)bytes);
            warp.Copies.Add(lane, warp.HostAddresses[lane], targets[lane], bytes, read, offsets[lane]);
            if (warp.Block.SharedWritten != null)
                new Span<byte>(warp.Block.SharedWritten + offsets[lane], bytes).Fill(SharedChecks.Pending);
        }
    }
}

/// <summary><c>cp.async.commit_group</c>, <c>cp.async.wait_group</c> and <c>cp.async.wait_all</c>.</summary>
internal sealed class CopyGroup(bool commit, int keep) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        if (commit)
            warp.Copies.Commit(mask);
        else if (keep < 0)
            warp.Copies.WaitAll(warp.Block, mask);
        else
            warp.Copies.Wait(warp.Block, mask, keep);
    }
}
