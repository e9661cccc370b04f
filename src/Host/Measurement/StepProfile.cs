namespace Kernels.Measurement;

/// <summary>One launch of a step in the ledger.</summary>
public sealed record LedgerLine
{
    /// <summary>Position in the plan.</summary>
    public required int Index { get; init; }

    /// <summary>The node's name: the module path.</summary>
    public required string Name { get; init; }

    /// <summary>The op with its attributes.</summary>
    public required string Op { get; init; }

    /// <summary>The kernels it takes on a GPU.</summary>
    public IReadOnlyList<string>? Kernels { get; init; }

    /// <summary>The part of the step (<see cref="StepParts"/>).</summary>
    public required string Part { get; init; }

    /// <summary>The shapes of its operands.</summary>
    public required string Shapes { get; init; }

    /// <summary>Least bytes: every operand read or written once.</summary>
    public required long Bytes { get; init; }

    /// <summary>Least operations.</summary>
    public required long Flops { get; init; }

    /// <summary>The time, on a device that tells it.</summary>
    public double? Ms { get; init; }

    /// <summary>The least time that the roofline allows.</summary>
    public double? LimitMs { get; init; }

    /// <summary>What sets the limit: <c>memory</c> or <c>arithmetic</c>.</summary>
    public string? Bound { get; init; }

    /// <summary>Time beyond the limit: what could be gained.</summary>
    public double? GapMs { get; init; }

    /// <summary>What was counted, on a device that counts.</summary>
    public KernelCounters? Counters { get; init; }

    /// <summary>Bytes moved beyond the least: what could be gained.</summary>
    public long? GapBytes { get; init; }
}

/// <summary>Sums over a ledger beside the same of the whole step, so that it can be seen whether anything is missing.</summary>
public sealed record LedgerTotals
{
    /// <summary>Launches in the ledger.</summary>
    public required int Launches { get; init; }

    /// <summary>Kernels that a GPU runs for them; null on the CPU.</summary>
    public int? Kernels { get; init; }

    /// <summary>Least bytes of all lines.</summary>
    public required long Bytes { get; init; }

    /// <summary>Least bytes of the step's graph.</summary>
    public required long GraphBytes { get; init; }

    /// <summary>Least operations of all lines.</summary>
    public required long Flops { get; init; }

    /// <summary>Least operations of the step's graph.</summary>
    public required long GraphFlops { get; init; }

    /// <summary>Sum of the lines' times.</summary>
    public double? Ms { get; init; }

    /// <summary>Median over the runs of all launches' times together. Where a machine now and then does something else, it is more than the sum of the lines' medians.</summary>
    public double? RunMs { get; init; }

    /// <summary>
    /// Median time of the step as a whole, run in turns with the others. On a GPU parts run side by side and launches follow each other without events between them, so it is shorter.
    /// </summary>
    public double? WholeMs { get; init; }

    /// <summary>Sum of the lines' limits.</summary>
    public double? LimitMs { get; init; }

    /// <summary>Sum of the lines' counters.</summary>
    public KernelCounters? Counters { get; init; }
}

/// <summary>A step without one fusion: a rewrite of the graph or, on a GPU, a fusion between kernels, which leaves the graph as it is.</summary>
/// <param name="Name">The fusion.</param>
/// <param name="Description">What it does.</param>
/// <param name="Applied">How often it was applied with all others on.</param>
/// <param name="Launches">Launches of the step's plan without it.</param>
/// <param name="Kernels">Kernels that a GPU runs for them; null on the CPU.</param>
/// <param name="Bytes">Least bytes of the step without it.</param>
/// <param name="ArenaBytes">Memory for activations without it.</param>
/// <param name="Ms">Median time of the step without it, if it was measured.</param>
/// <param name="WithMs">Median time of the step with it, measured in turns with the other.</param>
public sealed record FusionPrice(string Name, string Description, int Applied, int Launches, int? Kernels, long Bytes, long ArenaBytes, double? Ms, double? WithMs);

/// <summary>What <c>kernels profile</c> found out about one guided step.</summary>
public sealed record StepProfile
{
    /// <summary>The only value of <see cref="Format"/>.</summary>
    public const string CurrentFormat = "kernels-profile-1";

    /// <summary>Names the layout of the file.</summary>
    public required string Format { get; init; }

    /// <summary>Under what circumstances.</summary>
    public required ReportHeader Header { get; init; }

    /// <summary>The models.</summary>
    public required string Model { get; init; }

    /// <summary>Number of images.</summary>
    public required int Batch { get; init; }

    /// <summary>How products were made.</summary>
    public required string Precision { get; init; }

    /// <summary>The device's limits, if it tells time.</summary>
    public Roofline? Roofline { get; init; }

    /// <summary>Memory for activations.</summary>
    public required long ArenaBytes { get; init; }

    /// <summary>The sums.</summary>
    public required LedgerTotals Totals { get; init; }

    /// <summary>The launches, first those of which most could be gained.</summary>
    public required IReadOnlyList<LedgerLine> Ledger { get; init; }

    /// <summary>Every rewrite switched off by itself; <c>all</c> last.</summary>
    public required IReadOnlyList<FusionPrice> Fusions { get; init; }

    /// <summary>The launches before fusion, one line each.</summary>
    public required IReadOnlyList<string> Unfused { get; init; }

    /// <summary>The launches after fusion, one line each.</summary>
    public required IReadOnlyList<string> Fused { get; init; }
}
