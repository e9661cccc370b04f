using System.Globalization;
using System.Text;
using Kernels.Files;

namespace Kernels.Measurement;

/// <summary>The short table of a README: every guided step of Kernels, beside the original's way to run it and the fastest rival.</summary>
public static class BenchSummary
{
    /// <summary>The line before the table.</summary>
    public const string Begin = "<!-- figures -->";

    /// <summary>The line after the table.</summary>
    public const string End = "<!-- /figures -->";

    // What guided-diffusion does: nothing but PyTorch's operators, one after the other.
    private const string Original = "pytorch eager";

    /// <summary>The table.</summary>
    /// <param name="reports">The reports, for their headers.</param>
    /// <param name="tables">What they hold.</param>
    public static string Render(IReadOnlyList<BenchReport> reports, IReadOnlyList<SideBySide> tables)
    {
        ArgumentNullException.ThrowIfNull(reports);
        ArgumentNullException.ThrowIfNull(tables);
        ReportHeader header = reports[0].Header;
        string[] circumstances = [.. new[] { header.Device, header.Driver is null ? null : $"driver {header.Driver}", header.Compiler, header.Clocks, reports.Select(r => r.Header.Libraries).FirstOrDefault(l => l is not null), header.Date[..10], header.Commit?[..Math.Min(7, header.Commit.Length)] }.OfType<string>()];
        StringBuilder text = new($"{string.Join(", ", circumstances)}. Medians, ms per guided step; ratios above 1 say that Kernels is faster.\n\n");
        text.Append("| models | batch | precision | Kernels | TFLOP/s | of the roofline | PyTorch as the original | ratio | fastest rival | ratio |\n|---|---|---|---|---|---|---|---|---|---|\n");
        foreach (SideBySideRow own in tables.SelectMany(t => t.Rows).Where(r => r.Row is { Engine: "kernels", Part: BenchRow.Step }))
        {
            BenchRow row = own.Row;
            SideBySideRow[] rivals = [.. tables.First(t => t.Rows.Contains(own)).Rows.Where(r => r.Row.Engine != "kernels" && r.Row.Precision == row.Precision && r.Row.Verified is not { Passed: false })];
            SideBySideRow? original = rivals.FirstOrDefault(r => r.Row.Engine == Original), fastest = rivals.Where(r => r.Row.MedianMs is not null).MinBy(r => r.Row.MedianMs);
            string?[] cells =
            [
                row.Model, Text(row.Batch, "0"), row.Precision, row.MedianMs is null ? row.Error ?? "wrong, not measured" : Text(row.MedianMs, "0.00"), Text(row.Tflops, "0.0"),
                row.RooflineShare is null ? null : Text(row.RooflineShare * 100, "0") + " %", Text(original?.Row.MedianMs, "0.00"), Text(original?.Ratio, "0.00"),
                fastest is null ? null : $"{Text(fastest.Row.MedianMs, "0.00")} ({fastest.Row.Engine})", Text(fastest?.Ratio, "0.00"),
            ];
            text.Append("| ").AppendJoin(" | ", cells.Select(c => (c ?? "–").ReplaceLineEndings(" ").Replace("|", "\\|", StringComparison.Ordinal))).Append(" |\n");
        }

        return text.ToString();
    }

    /// <summary>Puts the table into a file, in place of the one that is there.</summary>
    /// <param name="reports">The reports.</param>
    /// <param name="tables">What they hold.</param>
    /// <param name="path">A file with the lines <see cref="Begin"/> and <see cref="End"/>.</param>
    /// <exception cref="InvalidFileException">The file cannot be read or written, or lacks the lines.</exception>
    public static void Save(IReadOnlyList<BenchReport> reports, IReadOnlyList<SideBySide> tables, string path)
    {
        string page;
        try
        {
            page = File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", $"cannot be read: {e.Message}", e);
        }

        int begin = page.IndexOf(Begin, StringComparison.Ordinal), end = page.IndexOf(End, StringComparison.Ordinal);
        if (begin < 0 || end < begin)
        {
            throw new InvalidFileException(path, "", $"has no place for the table; put the lines {Begin} and {End} where it is to stand");
        }

        string written = $"{page[..(begin + Begin.Length)]}\n\n{Render(reports, tables)}\n{page[end..]}";
        AtomicFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(written)));
    }

    private static string? Text(double? value, string format) => value?.ToString(format, CultureInfo.InvariantCulture);
}
