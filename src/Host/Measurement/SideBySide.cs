using System.Globalization;
using System.Text;
using Kernels.Files;

namespace Kernels.Measurement;

/// <summary>One engine's row beside that of Kernels at the same precision.</summary>
/// <param name="Row">The row.</param>
/// <param name="Ratio">Its median time over that of Kernels: below 1 Kernels is slower. Null where either has none.</param>
/// <param name="RatioOfLeast">The same of the least times.</param>
public sealed record SideBySideRow(BenchRow Row, double? Ratio, double? RatioOfLeast);

/// <summary>The same work by several engines at several precisions.</summary>
/// <param name="Title">Model, batch and what was run.</param>
/// <param name="Rows">Precision by precision, the fastest first, what could not be measured last.</param>
public sealed record SideBySide(string Title, IReadOnlyList<SideBySideRow> Rows)
{
    /// <summary>The rule, for people.</summary>
    public const string Rule =
        "A ratio is an engine's time over that of Kernels for the same work at the same precision, in the same file if both are there: above 1 Kernels is faster, below 1 slower. "
        + "On a machine that others use, the ratio of the least times says more.";

    private static readonly string[] s_precisions = ["fp32", "tf32", "fp16", "bf16"];

    /// <summary>Puts rows of the same work together, in the order in which it comes first.</summary>
    /// <param name="reports">The reports; the later ones win where several have a row of Kernels that a rival could be held against.</param>
    public static IReadOnlyList<SideBySide> Of(IReadOnlyList<BenchReport> reports)
    {
        ArgumentNullException.ThrowIfNull(reports);
        (BenchRow Row, int Report)[] all = [.. reports.SelectMany((report, i) => report.Rows.Where(r => r.Counters is null).Select(row => (row, i)))];
        return
        [
            .. all.GroupBy(r => (r.Row.Model, r.Row.Batch, r.Row.Part, r.Row.Op, r.Row.Shapes)).Select(group => new SideBySide(
                string.Create(CultureInfo.InvariantCulture, $"{group.Key.Model}, batch {group.Key.Batch}, {group.Key.Op ?? group.Key.Part} {group.Key.Shapes}").TrimEnd(),
                [
                    .. group.OrderBy(r => Array.IndexOf(s_precisions, r.Row.Precision)).ThenBy(r => Time(r.Row) ?? double.PositiveInfinity).Select(r =>
                    {
                        BenchRow? own = group.Where(o => o.Row.Engine == "kernels" && o.Row.Precision == r.Row.Precision && Time(o.Row) is not null)
                            .OrderBy(o => o.Report == r.Report ? 1 : 0).ThenBy(o => o.Report).Select(o => o.Row).LastOrDefault();
                        return new SideBySideRow(r.Row, Time(r.Row) / Time(own), r.Row.MinMs / own?.MinMs);
                    }),
                ])),
        ];
    }

    /// <summary>Writes tables as Markdown.</summary>
    /// <param name="tables">The tables.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void SaveMarkdown(IReadOnlyList<SideBySide> tables, string path)
    {
        ArgumentNullException.ThrowIfNull(tables);
        StringBuilder text = new();
        foreach (SideBySide table in tables)
        {
            text.Append(CultureInfo.InvariantCulture, $"### {table.Title}\n\n| precision | engine | median, ms | least, ms | spread | TFLOP/s | of Kernels' median | of its least | |\n|---|---|---|---|---|---|---|---|---|\n");
            foreach (SideBySideRow row in table.Rows)
            {
                BenchRow r = row.Row;
                string?[] cells =
                [
                    r.Precision, r.Engine, Number(r.MedianMs, "0.000"), Number(r.MinMs, "0.000"), r.Spread is null ? null : Number(r.Spread * 100, "0.0") + " %",
                    Number(r.Tflops, "0.00"), Number(row.Ratio, "0.00"), Number(row.RatioOfLeast, "0.00"), Remark(r),
                ];
                text.Append("| ").AppendJoin(" | ", cells.Select(c => (c ?? "–").ReplaceLineEndings(" ").Replace("|", "\\|", StringComparison.Ordinal))).Append(" |\n");
            }

            text.Append('\n');
        }

        AtomicFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text.ToString())));
    }

    private static double? Time(BenchRow? row) => row?.MedianMs;

    private static string? Number(double? value, string format) => value?.ToString(format, CultureInfo.InvariantCulture);

    // What failed is told with its reason, not left out.
    private static string Remark(BenchRow row) =>
        row.Error is not null ? row.Error
        : row.Verified is { Passed: false } wrong ? $"WRONG: differs from {wrong.Against} by {wrong.RelativeL2?.ToString("0.0e+0", CultureInfo.InvariantCulture) ?? "what is not finite"}"
        : "";
}
