using System.Numerics;
using Kernels.Emulation.Checking;

namespace Kernels.Emulation.Execution;

/// <summary>
/// An operation that the lanes of a mask do together (<c>.sync</c>). If lanes it names are on another path, this path waits for them.
/// </summary>
internal abstract unsafe class WarpOperation(int members) : Instruction
{
    /// <summary>Slot of the member mask; negative if every lane must take part.</summary>
    internal int Members => members;

    internal override void Execute(Warp warp, uint mask)
    {
        var named = members < 0 ? warp.FullMask : ((uint*)(warp.Frame + members))[BitOperations.TrailingZeroCount(mask)];
        if (!warp.Resumed)
        {
            if ((named & warp.Live & ~warp.Active) != 0)
            {
                warp.ParkAtWarpSync(named);
                return;
            }
            if (warp.Block.Launch.Checks.HasFlag(Checks.Participation))
                Participation.Check(warp, this, mask, named);
        }
        warp.Resumed = false;
        Perform(warp, mask, named);
    }

    protected abstract void Perform(Warp warp, uint mask, uint named);
}

/// <summary><c>bar.warp.sync</c>: also orders the lanes' memory accesses.</summary>
internal sealed class WarpBarrier(int members) : WarpOperation(members)
{
    protected override void Perform(Warp warp, uint mask, uint named) => Races.JoinWarp(warp);
}

/// <summary>Where a <c>shfl</c> takes its value from.</summary>
internal enum ShuffleKind
{
    Up,
    Down,
    Butterfly,
    Index,
}

/// <summary><c>shfl.sync</c>. The control operand holds the clamp in bits 0-4 and the segment mask in bits 8-12.</summary>
internal sealed unsafe class Shuffle(ShuffleKind kind, int d, int p, int a, int b, int c, int members) : WarpOperation(members)
{
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        var frame = warp.Frame;
        var values = stackalloc uint[32];
        new ReadOnlySpan<uint>(frame + a, 32).CopyTo(new Span<uint>(values, 32));
        var offsets = (uint*)(frame + b);
        var controls = (uint*)(frame + c);
        var to = (uint*)(frame + d);
        uint valid = 0, absent = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var segment = (int)(controls[lane] >> 8 & 31);
            var clamp = (int)(controls[lane] & 31);
            var maximum = (lane & segment) | (clamp & ~segment);
            var minimum = lane & segment;
            var offset = (int)(offsets[lane] & 31);
            var (source, inRange) = kind switch
            {
                ShuffleKind.Up => (lane - offset, lane - offset >= maximum),
                ShuffleKind.Down => (lane + offset, lane + offset <= maximum),
                ShuffleKind.Butterfly => (lane ^ offset, (lane ^ offset) <= maximum),
                _ => (minimum | (offset & ~segment), (minimum | (offset & ~segment)) <= maximum),
            };
            if (!inRange)
                source = lane;
            else
                valid |= 1u << lane;
            if ((mask >> source & 1) == 0)
                absent |= 1u << lane;
            to[lane] = values[source & 31];
        }
        if (p >= 0)
            SetPredicate.Store(frame + p, valid, mask);
        if (absent != 0 && warp.Block.Launch.Checks.HasFlag(Checks.Participation))
            Participation.ReportAbsentSource(warp, this, absent);
    }
}

/// <summary>What a vote yields.</summary>
internal enum VoteKind
{
    All,
    Any,
    Uniform,
    Ballot,
}

/// <summary><c>vote.sync</c>.</summary>
internal sealed unsafe class Vote(VoteKind kind, int d, PredicateSource source, int members) : WarpOperation(members)
{
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        var votes = source.Read(warp.Frame) & mask;
        if (kind == VoteKind.Ballot)
        {
            for (var rest = mask; rest != 0; rest &= rest - 1)
                ((uint*)(warp.Frame + d))[BitOperations.TrailingZeroCount(rest)] = votes;
            return;
        }
        var holds = kind switch { VoteKind.All => votes == mask, VoteKind.Any => votes != 0, _ => votes == mask || votes == 0 };
        SetPredicate.Store(warp.Frame + d, holds ? uint.MaxValue : 0, mask);
    }
}

/// <summary><c>match.sync</c>: which lanes hold the same value.</summary>
internal sealed unsafe class Match(bool all, bool wide, int d, int p, int a, int members) : WarpOperation(members)
{
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        ulong Value(int lane) => wide ? ((ulong*)(warp.Frame + a))[lane] : ((uint*)(warp.Frame + a))[lane];
        var results = stackalloc uint[32];
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            uint same = 0;
            for (var others = mask; others != 0; others &= others - 1)
            {
                var other = BitOperations.TrailingZeroCount(others);
                same |= Value(other) == Value(lane) ? 1u << other : 0;
            }
            results[lane] = all && same != mask ? 0 : same;
        }
        var agree = all && results[BitOperations.TrailingZeroCount(mask)] == mask;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            ((uint*)(warp.Frame + d))[lane] = results[lane];
        }
        if (p >= 0)
            SetPredicate.Store(warp.Frame + p, agree ? uint.MaxValue : 0, mask);
    }
}

/// <summary><c>redux.sync</c> of 32-bit integers.</summary>
internal sealed unsafe class Redux(Memory.AtomicKind kind, bool signed, int d, int a, int members) : WarpOperation(members)
{
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        var values = (uint*)(warp.Frame + a);
        var result = values[BitOperations.TrailingZeroCount(mask)];
        for (var rest = mask & (mask - 1); rest != 0; rest &= rest - 1)
        {
            var value = values[BitOperations.TrailingZeroCount(rest)];
            result = kind switch
            {
                Memory.AtomicKind.Add => result + value,
                Memory.AtomicKind.And => result & value,
                Memory.AtomicKind.Or => result | value,
                Memory.AtomicKind.Xor => result ^ value,
                Memory.AtomicKind.Min => signed ? (uint)Math.Min((int)result, (int)value) : Math.Min(result, value),
                _ => signed ? (uint)Math.Max((int)result, (int)value) : Math.Max(result, value),
            };
        }
        for (var rest = mask; rest != 0; rest &= rest - 1)
            ((uint*)(warp.Frame + d))[BitOperations.TrailingZeroCount(rest)] = result;
    }
}

/// <summary><c>elect.sync</c>: the lowest lane of the mask is the leader.</summary>
internal sealed unsafe class Elect(int d, int p, int members) : WarpOperation(members)
{
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        var leader = BitOperations.TrailingZeroCount(mask);
        if (d >= 0)
        {
            for (var rest = mask; rest != 0; rest &= rest - 1)
                ((uint*)(warp.Frame + d))[BitOperations.TrailingZeroCount(rest)] = (uint)leader;
        }
        SetPredicate.Store(warp.Frame + p, 1u << leader, mask);
    }
}

/// <summary><c>activemask</c>.</summary>
internal sealed unsafe class ActiveMask(int d) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
            ((uint*)(warp.Frame + d))[BitOperations.TrailingZeroCount(rest)] = mask;
    }
}

/// <summary><c>%clock</c>, <c>%clock64</c> and <c>%globaltimer</c>: instructions executed by the warp, or nanoseconds.</summary>
internal sealed unsafe class ReadClock(int d, bool wide, bool timer) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        var now = timer ? (ulong)(System.Diagnostics.Stopwatch.GetElapsedTime(0).Ticks * 100) : (ulong)warp.Executed;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            if (wide)
                ((ulong*)(warp.Frame + d))[lane] = now;
            else
                ((uint*)(warp.Frame + d))[lane] = (uint)now;
        }
    }
}
