using System.Numerics;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation.Checking;

/// <summary>Checks of global memory: was it written, and does another block use it.</summary>
internal static unsafe class GlobalChecks
{
    // A word's record: launch (14 bits), whether the write was atomic (1), writer (24), reader (24); blocks count from 1.
    private const int Several = 0xFFFFFF;

    internal static void Check(Warp warp, Instruction instruction, Allocation allocation, uint bytes, AccessKind kind, uint mask)
    {
        var launch = warp.Block.Launch;
        if (allocation.Written != null)
            Written(warp, instruction, allocation, bytes, kind, mask);
        if (allocation.Accesses != null && launch.Checks.HasFlag(Checks.Races))
            Record(warp, instruction, allocation, bytes, kind, mask);
    }

    private static void Written(Warp warp, Instruction instruction, Allocation allocation, uint bytes, AccessKind kind, uint mask)
    {
        var check = warp.Block.Launch.Checks.HasFlag(Checks.Uninitialized) && kind != AccessKind.Write;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var shadow = allocation.Written + (warp.Addresses[lane] - allocation.Address);
            if (check && !AllSet(shadow, bytes))
            {
                var offset = warp.Addresses[lane] - allocation.Address;
                warp.Block.Launch.Report(
                    FindingKind.Uninitialized, warp, instruction, 1u << lane,
                    $"reads {bytes} bytes at offset {offset} of {allocation} that were never written", warp.Addresses[lane], allocation.ToString());
            }
            if (kind != AccessKind.Read)
                Set(shadow, bytes);
        }
    }

    internal static bool AllSet(byte* shadow, uint bytes) => bytes switch
    {
        1 => *shadow == 1,
        2 => *(ushort*)shadow == 0x0101,
        4 => *(uint*)shadow == 0x01010101,
        8 => *(ulong*)shadow == 0x0101010101010101,
        _ => AllSet(shadow, 8) && AllSet(shadow + 8, bytes - 8),
    };

    internal static void Set(byte* shadow, uint bytes)
    {
        switch (bytes)
        {
            case 1:
                *shadow = 1;
                break;
            case 2:
                *(ushort*)shadow = 0x0101;
                break;
            case 4:
                *(uint*)shadow = 0x01010101;
                break;
            default:
                for (uint i = 0; i < bytes; i += 8)
                    *(ulong*)(shadow + i) = 0x0101010101010101;
                break;
        }
    }

    private static void Record(Warp warp, Instruction instruction, Allocation allocation, uint bytes, AccessKind kind, uint mask)
    {
        var launch = warp.Block.Launch;
        var epoch = (launch.Epoch & 0x3FFF) << 49;
        var me = (ulong)(warp.Block.Number % (Several - 1)) + 1;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var first = (warp.Addresses[lane] - allocation.Address) >> 2;
            var last = (warp.Addresses[lane] - allocation.Address + bytes - 1) >> 2;
            for (var word = first; word <= last; word++)
            {
                var record = allocation.Accesses[word];
                if (record >> 49 != epoch >> 49)
                    record = epoch;
                var (writer, reader) = (record >> 24 & Several, record & Several);
                var atomic = (record >> 48 & 1) != 0;
                if (writer != 0 && writer != me && !(atomic && kind == AccessKind.Atomic) && bytes >= 4)
                    Report(warp, instruction, allocation, word, kind, lane, (int)writer - 1, atomic ? "atomically changes" : "writes");
                if (kind == AccessKind.Read)
                {
                    reader = reader == 0 || reader == me ? me : Several;
                }
                else
                {
                    if (reader != 0 && reader != me && bytes >= 4)
                        Report(warp, instruction, allocation, word, kind, lane, reader == Several ? -1 : (int)reader - 1, "reads");
                    (writer, atomic) = (me, kind == AccessKind.Atomic);
                }
                allocation.Accesses[word] = epoch | (atomic ? 1UL << 48 : 0) | writer << 24 | reader;
            }
        }
    }

    private static void Report(Warp warp, Instruction instruction, Allocation allocation, ulong word, AccessKind kind, int lane, int other, string verb)
    {
        var launch = warp.Block.Launch;
        if (other >= 0 && launch.GlobalRaces.Ordered(other, warp.Block.Number))
            return;
        // Several readers are no longer known one by one: the last block is ordered after all there can be, and a block that orders itself again and again is believed.
        if (other < 0 && (launch.GlobalRaces.OrderedAfterAll(warp.Block.Number, launch.Blocks) || launch.GlobalRaces.AcquiresAgain(warp.Block.Number)))
            return;
        var grid = launch.Grid;
        var who = other < 0 ? "other blocks" : $"block {new Index3(other % grid.X, other / grid.X % grid.Y, other / (grid.X * grid.Y))}";
        var what = kind switch { AccessKind.Read => "reads", AccessKind.Write => "writes", _ => "atomically changes" };
        launch.Report(
            FindingKind.GlobalRace, warp, instruction, 1u << lane,
            $"{what} offset {word * 4} of {allocation}, which {who} {(other < 0 ? "read" : verb)} in the same launch with nothing to order them",
            allocation.Address + word * 4, allocation.ToString());
    }
}

/// <summary>Reads of shared memory that was never written, or that an asynchronous copy is still on its way to.</summary>
internal static unsafe class SharedChecks
{
    internal const byte Pending = 2;

    internal static void CheckWritten(Warp warp, Instruction instruction, uint bytes, AccessKind kind, uint mask)
    {
        var block = warp.Block;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var address = warp.Addresses[lane];
            var shadow = block.SharedWritten + address;
            if (kind != AccessKind.Write && !GlobalChecks.AllSet(shadow, bytes))
            {
                var pending = new ReadOnlySpan<byte>(shadow, (int)bytes).Contains(Pending);
                var reason = pending ? "to which an asynchronous copy is under way that nobody has waited for" : "that no thread of the block has written";
                block.Launch.Report(
                    FindingKind.Uninitialized, warp, instruction, 1u << lane, $"reads {bytes} bytes of shared memory at byte {address}, {reason}", address, "shared memory");
            }
            if (kind != AccessKind.Read)
                GlobalChecks.Set(shadow, bytes);
        }
    }
}
