namespace Kernels.Measurement;

/// <summary>A row of the second of two reports beside the same row of the first.</summary>
/// <param name="Before">The row of the first report; null if it has none.</param>
/// <param name="After">The row of the second report; null if it has none.</param>
/// <param name="Verdict">One of <see cref="ReportComparison.Verdicts"/>, or which report alone has the row.</param>
/// <param name="Ratio">Median time of the first over that of the second, or bytes moved: above 1 the second is better. Null where there is nothing to compare.</param>
public sealed record ComparedRow(BenchRow? Before, BenchRow? After, string Verdict, double? Ratio)
{
    /// <summary>Either row.</summary>
    public BenchRow Row => After ?? Before!;
}

/// <summary>Compares two reports row by row.</summary>
public static class ReportComparison
{
    /// <summary>A spread that calls two times the same, where their intervals overlap.</summary>
    public const double SameSpread = 0.05;

    /// <summary>A difference of medians that is too small to matter, whatever the intervals say.</summary>
    public const double LeastDifference = 0.01;

    /// <summary>The rule, for people.</summary>
    public const string Rule =
        "A time stands for the interval between its quartiles. Intervals that do not overlap, with medians more than 1 % apart, say faster or slower. "
        + "Otherwise the row is the same if both spreads are at most 5 %, and undecided if not. "
        + "Counters are exact: the same if instructions, sectors and bank conflicts are equal; faster (slower) if none is larger (smaller); undecided if some are larger and some smaller. "
        + "A row that failed on either side, or has nothing to compare, is undecided.";

    /// <summary>What may be said of a row that both reports have.</summary>
    public static IReadOnlyList<string> Verdicts { get; } = ["faster", "slower", "same", "undecided"];

    /// <summary>Compares.</summary>
    /// <param name="before">The first report.</param>
    /// <param name="after">The second report.</param>
    /// <returns>The rows of the second, then those that only the first has.</returns>
    public static IReadOnlyList<ComparedRow> Compare(BenchReport before, BenchReport after)
    {
        ArgumentNullException.ThrowIfNull(before);
        ArgumentNullException.ThrowIfNull(after);
        Dictionary<object, Queue<BenchRow>> rest = before.Rows.GroupBy(Key).ToDictionary(g => g.Key, g => new Queue<BenchRow>(g));
        List<ComparedRow> rows = [];
        foreach (BenchRow row in after.Rows)
        {
            rows.Add(rest.TryGetValue(Key(row), out Queue<BenchRow>? queue) && queue.TryDequeue(out BenchRow? old) ? Compare(old, row) : new ComparedRow(null, row, "only in the second", null));
        }

        rows.AddRange(rest.Values.SelectMany(q => q).Select(old => new ComparedRow(old, null, "only in the first", null)));
        return rows;
    }

    /// <summary>Compares two measurements of the same thing.</summary>
    /// <param name="before">The first.</param>
    /// <param name="after">The second.</param>
    public static ComparedRow Compare(BenchRow before, BenchRow after)
    {
        ArgumentNullException.ThrowIfNull(before);
        ArgumentNullException.ThrowIfNull(after);
        if (Failed(before) || Failed(after))
        {
            return new ComparedRow(before, after, "undecided", null);
        }

        if (before is { MedianMs: double a, LowerQuartileMs: double aLow, UpperQuartileMs: double aHigh } && after is { MedianMs: double b, LowerQuartileMs: double bLow, UpperQuartileMs: double bHigh })
        {
            bool apart = aHigh < bLow || bHigh < aLow;
            string verdict = apart && Math.Abs(a - b) > LeastDifference * Math.Max(a, b) ? (b < a ? "faster" : "slower")
                : Math.Max(before.Spread ?? 0, after.Spread ?? 0) <= SameSpread ? "same"
                : "undecided";
            return new ComparedRow(before, after, verdict, b > 0 ? a / b : null);
        }

        return before.Counters is KernelCounters x && after.Counters is KernelCounters y
            ? new ComparedRow(before, after, Compare(x, y), y.Sectors > 0 ? (double)x.Sectors / y.Sectors : null)
            : new ComparedRow(before, after, "undecided", null);
    }

    private static string Compare(KernelCounters before, KernelCounters after)
    {
        int[] signs = [after.Instructions.CompareTo(before.Instructions), after.Sectors.CompareTo(before.Sectors), after.BankConflicts.CompareTo(before.BankConflicts)];
        return signs.All(s => s == 0) ? "same" : signs.All(s => s <= 0) ? "faster" : signs.All(s => s >= 0) ? "slower" : "undecided";
    }

    private static bool Failed(BenchRow row) => row.Error is not null || row.Verified is { Passed: false };

    private static object Key(BenchRow row) => (row.Engine, row.Model, row.Batch, row.Precision, row.Part, row.Op, row.Shapes);
}
