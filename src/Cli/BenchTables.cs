using System.Globalization;
using Kernels.Measurement;
using Spectre.Console;

namespace Kernels.Cli;

/// <summary>Reports of <c>kernels bench</c> as tables.</summary>
internal static class BenchTables
{
    private const string None = "–";

    public static void Write(IAnsiConsole console, BenchReport report)
    {
        ReportHeader header = report.Header;
        console.WriteLine(string.Join(", ", new[] { header.Device, header.Processor, header.Architecture, header.Driver, header.Clocks, header.Compiler, header.Load is double load ? string.Create(CultureInfo.InvariantCulture, $"load {load:0.0}") : null, header.Runtime, header.Date, header.Commit?[..Math.Min(7, header.Commit.Length)] }.OfType<string>()));
        foreach (Roofline r in report.Rooflines)
        {
            console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"limits, {r.Precision}: {r.CopyGBPerSecond:0.0} GB/s ({r.CopyProbe}), {r.Tflops:0.000} TFLOP/s ({r.ArithmeticProbe})"));
        }

        WriteTimes(console, [.. report.Rows.Where(r => r.Counters is null)]);
        WriteCounters(console, [.. report.Rows.Where(r => r.Counters is not null)]);
        WriteParts(console, report.Rows);
    }

    public static void Write(IAnsiConsole console, IReadOnlyList<ComparedRow> rows)
    {
        Table table = New("model", "batch", "precision", "what", ">before", ">after", ">ratio", "verdict");
        foreach (ComparedRow row in rows)
        {
            Color color = row.Verdict switch { "faster" => Color.Green, "slower" => Color.Red, _ => Color.Default };
            table.AddRow([.. Key(row.Row), Measure(row.Before), Measure(row.After), new Text(Number(row.Ratio, "0.000")), new Text(row.Verdict, new Style(color))]);
        }

        console.Write(table);

        static Text Measure(BenchRow? row) => new(
            row is null ? None
            : row.Error is not null || row.Verified is { Passed: false } ? "failed"
            : row.MedianMs is double ms ? $"{Number(ms, "0.0000")} ms ±{Number(row.Spread * 100, "0.0")} %"
            : $"{Number(row.Counters?.BytesMoved, "N0")} B moved");
    }

    public static void Write(IAnsiConsole console, IReadOnlyList<SideBySide> tables)
    {
        foreach (SideBySide side in tables)
        {
            Table table = New("precision", "engine", ">median ms", ">least ms", ">spread", ">TFLOP/s", ">of kernels' median", ">of its least", "verified");
            table.Title = new TableTitle(Markup.Escape(side.Title));
            foreach (SideBySideRow row in side.Rows)
            {
                BenchRow r = row.Row;
                Style style = new(row.Ratio < 1 ? Color.Red : Color.Default);
                table.AddRow(
                    new Text(r.Precision), new Text(r.Engine), new Text(Number(r.MedianMs, "0.0000")), new Text(Number(r.MinMs, "0.0000")),
                    new Text(Number(r.Spread * 100, "0.0") + (r.Spread is null ? "" : " %")), new Text(Number(r.Tflops, "0.000")),
                    new Text(Number(row.Ratio, "0.00"), style), new Text(Number(row.RatioOfLeast, "0.00"), style), Verified(r));
            }

            console.Write(table);
        }
    }

    private static void WriteTimes(IAnsiConsole console, IReadOnlyList<BenchRow> rows)
    {
        if (rows.Count == 0)
        {
            return;
        }

        Table table = New("model", "batch", "precision", "what", ">uses", ">median ms", "quartiles", ">repeats", ">TFLOP/s", ">GB/s", ">of limit", ">launches", ">arena, bytes", "verified");
        foreach (BenchRow row in rows)
        {
            table.AddRow(
            [
                .. Key(row), new Text(Number(row.Uses, "0")), new Text(Number(row.MedianMs, "0.0000")),
                new Text(row.MedianMs is null ? None : $"{Number(row.LowerQuartileMs, "0.0000")}..{Number(row.UpperQuartileMs, "0.0000")}"), new Text(Number(row.Repeats, "0")),
                new Text(Number(row.Tflops, "0.000")), new Text(Number(row.GBPerSecond, "0.0")), new Text(Number(row.RooflineShare * 100, "0") + (row.RooflineShare is null ? "" : " %")),
                new Text(Number(row.Kernels ?? row.Launches, "0")), new Text(Number(row.ArenaBytes, "N0")), Verified(row),
            ]);
        }

        console.Write(table);
    }

    private static void WriteCounters(IAnsiConsole console, IReadOnlyList<BenchRow> rows)
    {
        if (rows.Count == 0)
        {
            return;
        }

        Table table = New("model", "batch", "precision", "what", ">uses", ">instructions", ">FLOP", ">tensor FLOP", ">bytes asked", ">bytes moved", ">least bytes", ">bank conflicts", "verified");
        foreach (BenchRow row in rows)
        {
            table.AddRow([.. Key(row), new Text(Number(row.Uses ?? row.Kernels, "0")), .. Counters(row.Counters!), Verified(row)]);
        }

        console.Write(table);
    }

    private static void WriteParts(IAnsiConsole console, IReadOnlyList<BenchRow> rows)
    {
        foreach (BenchRow row in rows.Where(r => r.SplitMs is not null || r.SplitCounters is not null))
        {
            string[] columns = row.SplitMs is not null ? ["part", ">ms"] : ["part", ">instructions", ">FLOP", ">tensor FLOP", ">bytes asked", ">bytes moved", ">least bytes", ">bank conflicts"];
            Table table = New(columns);
            table.Title = new TableTitle(Markup.Escape(string.Create(CultureInfo.InvariantCulture, $"{row.Model}, batch {row.Batch}, {row.Precision}")));
            foreach (string part in StepParts.All)
            {
                table.AddRow(row.SplitMs is not null ? [new Text(part), new Text(Number(row.SplitMs[part], "0.000"))] : [new Text(part), .. Counters(row.SplitCounters![part])]);
            }

            console.Write(table);
        }
    }

    private static IEnumerable<Text> Key(BenchRow row) =>
        [new(row.Model), new(row.Batch.ToString(CultureInfo.InvariantCulture)), new(row.Precision), new(row.Op is null ? row.Part : $"{row.Op} {row.Shapes}".TrimEnd())];

    private static IEnumerable<Text> Counters(KernelCounters c) =>
        new[] { c.Instructions, c.Flops, c.TensorFlops, c.BytesAsked, c.BytesMoved, c.LeastBytes, c.BankConflicts }.Select(v => new Text(Number(v, "N0")));

    private static Text Verified(BenchRow row) =>
        row.Error is not null ? new Text(row.Error, new Style(Color.Red))
        : row.Verified is not Verdict verdict ? new Text(None)
        : verdict.Passed ? new Text($"{verdict.RelativeL2!.Value.ToString("0.0e+0", CultureInfo.InvariantCulture)} of {verdict.Against}")
        : new Text($"FAILED: {verdict.RelativeL2?.ToString("0.0e+0", CultureInfo.InvariantCulture) ?? "not finite"} of {verdict.Against}, allowed {verdict.Tolerance.ToString("0.0e+0", CultureInfo.InvariantCulture)}", new Style(Color.Red));

    // A column whose name begins with > is set to the right.
    private static Table New(params string[] columns)
    {
        Table table = new() { Border = TableBorder.Simple };
        foreach (string column in columns)
        {
            table.AddColumn(column[0] == '>' ? new TableColumn(column[1..]).RightAligned() : new TableColumn(column));
        }

        return table;
    }

    private static string Number(double? value, string format) => value?.ToString(format, CultureInfo.InvariantCulture) ?? None;
}
