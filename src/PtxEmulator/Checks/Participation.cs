using System.Numerics;
using Kernels.Emulation.Execution;

namespace Kernels.Emulation.Checking;

/// <summary>Who takes part in warp operations and barriers, and who should.</summary>
internal static class Participation
{
    internal static void Check(Warp warp, WarpOperation operation, uint mask, uint named)
    {
        if ((mask & ~named) != 0)
        {
            Report(warp, operation, mask & ~named, $"lanes 0x{mask & ~named:x8} execute a warp operation whose member mask 0x{named:x8} does not name them");
            return;
        }
        var absent = named & ~mask & warp.FullMask;
        if (absent != 0)
            ReportMissing(warp, operation, mask, absent, exited: (absent & warp.Live) == 0);
    }

    internal static void ReportMissing(Warp warp, Instruction instruction, uint mask, uint absent, bool exited)
    {
        if (warp.Block.Launch.Checks.HasFlag(Checks.Participation))
            Report(warp, instruction, mask, $"lanes 0x{absent:x8} are named by the member mask but {(exited ? "have exited" : "do not take part")}");
    }

    internal static void ReportAbsentSource(Warp warp, Instruction instruction, uint lanes) =>
        Report(warp, instruction, lanes, $"lanes 0x{lanes:x8} read from a lane that does not take part in the shuffle");

    /// <summary>A block barrier must be reached by all threads of each warp at once, and one without a thread count by all threads of the block.</summary>
    internal static void CheckBarrier(Warp warp, Instruction instruction, uint mask, int expected, bool aligned)
    {
        var launch = warp.Block.Launch;
        var missing = warp.FullMask & ~mask;
        if (missing == 0)
            return;
        var exited = missing & ~warp.Live;
        if (exited == missing && expected == 0)
        {
            launch.Report(
                FindingKind.BarrierDivergence, warp, instruction, mask,
                $"{BitOperations.PopCount(exited)} threads of the warp exited before this barrier, which waits for the whole block");
        }
        else if (exited != missing && aligned)
        {
            launch.Report(
                FindingKind.BarrierDivergence, warp, instruction, mask,
                $"only {BitOperations.PopCount(mask)} of the warp's {BitOperations.PopCount(warp.Live)} threads reach this barrier together");
        }
    }

    private static void Report(Warp warp, Instruction instruction, uint lanes, string message) =>
        warp.Block.Launch.Report(FindingKind.Participation, warp, instruction, lanes, message);
}
