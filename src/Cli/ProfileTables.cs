using System.Globalization;
using Kernels.Measurement;
using Spectre.Console;

namespace Kernels.Cli;

/// <summary>Profiles as tables.</summary>
internal static class ProfileTables
{
    private const string None = "–";

    /// <summary>Writes the ledger, its sums beside the whole, and what each fusion is worth.</summary>
    /// <param name="console">Where to.</param>
    /// <param name="profile">The profile.</param>
    /// <param name="grouping">One line per <c>launch</c>, <c>op</c> and part, or op and <c>shape</c>.</param>
    /// <param name="lines">How many lines of the ledger.</param>
    public static void Write(IAnsiConsole console, StepProfile profile, string grouping, int lines)
    {
        console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{profile.Model}, batch {profile.Batch}, {profile.Precision}, {profile.Header.Device}"));
        if (profile.Roofline is Roofline r)
        {
            console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"limits: {r.CopyGBPerSecond:0.0} GB/s ({r.CopyProbe}), {r.Tflops:0.000} TFLOP/s ({r.ArithmeticProbe})"));
        }

        bool timed = profile.Totals.Ms is not null;
        Table table = NewTable(timed
            ? [grouping, ">launches", ">bytes", ">FLOP", ">ms", ">share", ">GB/s", ">GFLOP/s", ">limit, ms", "limited by", ">gap, ms"]
            : [grouping, ">launches", ">bytes", ">FLOP", ">instructions", ">bytes moved", ">bank conflicts", ">gap, bytes"]);
        IEnumerable<IGrouping<string, LedgerLine>> groups = profile.Ledger.GroupBy(l => Key(l, grouping)).OrderByDescending(g => timed ? g.Sum(l => l.GapMs!.Value) : g.Sum(l => l.GapBytes!.Value));
        foreach (IGrouping<string, LedgerLine> group in groups.Take(lines))
        {
            long bytes = group.Sum(l => l.Bytes), flops = group.Sum(l => l.Flops);
            string[] common = [group.Key, Whole(group.Count()), Whole(bytes), Whole(flops)];
            string[] row = timed ? Times(group, bytes, flops, profile.Totals.Ms!.Value) : Counts(group);
            table.AddRow([.. common.Concat(row).Select(c => new Text(c))]);
        }

        console.Write(table);
        Totals(console, profile);
        Fusions(console, profile);
    }

    private static string[] Times(IGrouping<string, LedgerLine> group, long bytes, long flops, double total)
    {
        double ms = group.Sum(l => l.Ms!.Value);
        string bound = string.Join(", ", group.Select(l => l.Bound!).Distinct());
        return
        [
            Number(ms), Number(ms / total * 100, "0.0") + " %", Number(ms > 0 ? bytes / ms / 1e6 : null, "0.0"), Number(ms > 0 ? flops / ms / 1e6 : null, "0.0"),
            Number(group.Sum(l => l.LimitMs!.Value)), bound, Number(group.Sum(l => l.GapMs!.Value)),
        ];
    }

    private static string[] Counts(IGrouping<string, LedgerLine> group)
    {
        KernelCounters sum = KernelCounters.Sum(group.Select(l => l.Counters!));
        return [Whole(sum.Instructions), Whole(sum.BytesMoved), Whole(sum.BankConflicts), Whole(group.Sum(l => l.GapBytes!.Value))];
    }

    private static void Totals(IAnsiConsole console, StepProfile profile)
    {
        LedgerTotals t = profile.Totals;
        console.WriteLine($"sum of {Whole(t.Launches)} launches: {Whole(t.Bytes)} B, {Whole(t.Flops)} FLOP; the graph: {Whole(t.GraphBytes)} B, {Whole(t.GraphFlops)} FLOP");
        if (t.Ms is double ms)
        {
            console.WriteLine($"sum of times: {Number(ms)} ms; all launches of a run: {Number(t.RunMs)} ms; the step as a whole, in turns with those: {Number(t.WholeMs)} ms, {Number(t.WholeMs / t.RunMs * 100, "0.0")} %; sum of limits: {Number(t.LimitMs)} ms");
        }

        if (t.Counters is KernelCounters c)
        {
            console.WriteLine($"counted: {Whole(c.Instructions)} instructions, {Whole(c.Flops)} FLOP, {Whole(c.TensorFlops)} tensor FLOP, {Whole(c.BytesMoved)} B moved, {Whole(c.LeastBytes)} B least, {Whole(c.BankConflicts)} bank conflicts");
        }
    }

    private static void Fusions(IAnsiConsole console, StepProfile profile)
    {
        Table table = NewTable(["without", ">applied", ">launches", ">more", ">kernels", ">more", ">bytes", ">more", ">arena, bytes", ">ms", ">with it", ">more"]);
        foreach (FusionPrice f in profile.Fusions)
        {
            string[] row =
            [
                f.Name, Whole(f.Applied), Whole(f.Launches), Whole(f.Launches - profile.Totals.Launches), Kernels(f.Kernels), Kernels(f.Kernels - profile.Totals.Kernels), Whole(f.Bytes), Whole(f.Bytes - profile.Totals.GraphBytes), Whole(f.ArenaBytes),
                Number(f.Ms), Number(f.WithMs), Number(f.Ms - f.WithMs),
            ];
            table.AddRow([.. row.Select(c => new Text(c))]);
        }

        console.Write(table);
    }

    // The CPU has none.
    private static string Kernels(int? count) => count is int kernels ? Whole(kernels) : "";

    private static string Key(LedgerLine line, string grouping) => grouping switch
    {
        "op" => $"{line.Part}: {line.Op.Split(' ')[0]}",
        "shape" => $"{line.Op} {line.Shapes}",
        _ => $"{line.Index} {line.Name}: {line.Op} {line.Shapes}{(line.Kernels is null ? "" : $" ({string.Join(", ", line.Kernels)})")}",
    };

    private static Table NewTable(IEnumerable<string> columns)
    {
        Table table = new() { Border = TableBorder.Simple };
        foreach (string column in columns)
        {
            table.AddColumn(column[0] == '>' ? new TableColumn(column[1..]).RightAligned() : new TableColumn(column));
        }

        return table;
    }

    private static string Whole(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static string Number(double? value, string format = "0.0000") => value?.ToString(format, CultureInfo.InvariantCulture) ?? None;
}
