using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Xml.Linq;
using Kernels.Files;

namespace Kernels.Measurement;

/// <summary>A profile as one HTML page that needs nothing else: no script, no style sheet, no font from elsewhere. It is well-formed XML too, so that a program can read it.</summary>
/// <remarks>Every number is shown for people and stands in <c>data-value</c> as the JSON has it; the JSON itself is in the element <c>profile</c>.</remarks>
public static class ProfilePage
{
    private const string Style = """
        body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 110rem; padding: 0 1rem; color: #1b1f24; background: #fff; }
        table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
        th, td { border-bottom: 1px solid #d5dae0; padding: .2rem .6rem; text-align: left; vertical-align: top; }
        th { position: sticky; top: 0; background: #f3f5f7; }
        td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
        svg { width: 100%; max-width: 70rem; height: auto; font-size: 12px; }
        .grid { stroke: #e3e7eb; } .roof { stroke: #1b1f24; stroke-width: 2; fill: none; }
        circle { fill-opacity: .65; } .p0 { fill: #0969da; } .p1 { fill: #1a7f37; } .p2 { fill: #bc4c00; } .p3 { fill: #8250df; }
        ol { font: 12px/1.4 ui-monospace, monospace; } summary { cursor: pointer; }
        """;

    /// <summary>Writes the page.</summary>
    /// <param name="profile">The profile.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void Save(StepProfile profile, string path)
    {
        string page = Render(profile);
        AtomicFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(page)));
    }

    /// <summary>The page's text.</summary>
    /// <param name="profile">The profile.</param>
    public static string Render(StepProfile profile)
    {
        ArgumentNullException.ThrowIfNull(profile);
        string title = string.Create(CultureInfo.InvariantCulture, $"Guided step of {profile.Model}, batch {profile.Batch}, {profile.Precision}");
        XElement page = new(
            "html",
            new XAttribute("lang", "en"),
            new XElement(
                "head",
                new XElement("meta", new XAttribute("charset", "utf-8")),
                new XElement("title", title),
                new XElement("style", Style)),
            new XElement(
                "body",
                new XElement("h1", title),
                Header(profile.Header),
                Totals(profile),
                Roofline(profile),
                Ledger(profile),
                Fusions(profile),
                Graph("unfused", "The graph before fusion", profile.Unfused),
                Graph("fused", "The graph after fusion", profile.Fused),

                // The serializer escapes <, > and & within strings, so this is text in XML and in HTML alike.
                new XElement("script", new XAttribute("type", "application/json"), new XAttribute("id", "profile"), JsonSerializer.Serialize(profile, ReportJson.Default.StepProfile))));
        return $"<!DOCTYPE html>\n{page.ToString(SaveOptions.DisableFormatting)}\n";
    }

    private static XElement Header(ReportHeader header) => Table(
        "header",
        [],
        new (string, string?)[]
        {
            ("device", header.Device), ("architecture", header.Architecture), ("driver", header.Driver), ("clocks", header.Clocks), ("compiler", header.Compiler),
            ("processor", header.Processor), ("load", header.Load?.ToString("0.00", CultureInfo.InvariantCulture)), ("threads", header.Threads?.ToString(CultureInfo.InvariantCulture)), ("runtime", header.Runtime), ("system", header.Os),
            ("version", header.Version), ("commit", header.Commit), ("date", header.Date), ("command", header.Command),
        }.Where(f => f.Item2 is not null).Select(f => new[] { Cell(f.Item1), Cell(f.Item2!) }));

    private static XElement[] Totals(StepProfile profile)
    {
        LedgerTotals t = profile.Totals;
        List<XElement[]> rows =
        [
            [Cell("launches"), Number(t.Launches), Cell("")],
            [Cell("least bytes, sum of the ledger"), Number(t.Bytes), Cell("")],
            [Cell("least bytes of the graph"), Number(t.GraphBytes), Cell(t.Bytes == t.GraphBytes ? "the same" : "DIFFERS from the sum")],
            [Cell("FLOP, sum of the ledger"), Number(t.Flops), Cell("")],
            [Cell("FLOP of the graph"), Number(t.GraphFlops), Cell(t.Flops == t.GraphFlops ? "the same" : "DIFFERS from the sum")],
            [Cell("arena, bytes"), Number(profile.ArenaBytes), Cell("")],
        ];
        if (t.Ms is double ms)
        {
            rows.Add([Cell("ms, sum of the ledger"), Number(ms), Cell("")]);
            rows.Add([Cell("ms, all launches of a run"), Number(t.RunMs), Cell("median over the runs")]);
            rows.Add([Cell("ms of the step as a whole"), Number(t.WholeMs), Cell(string.Create(CultureInfo.InvariantCulture, $"{t.WholeMs / t.RunMs:P1} of all launches of a run, in turns with those"))]);
            rows.Add([Cell("ms that the roofline allows"), Number(t.LimitMs), Cell("")]);
        }

        if (t.Counters is KernelCounters c)
        {
            rows.Add([Cell("thread instructions"), Number(c.Instructions), Cell("")]);
            rows.Add([Cell("bytes moved"), Number(c.BytesMoved), Cell("32-byte sectors, each once per warp access")]);
            rows.Add([Cell("bank conflicts"), Number(c.BankConflicts), Cell("")]);
        }

        return [new XElement("h2", "The whole and the sum"), Table("totals", [], rows)];
    }

    private static XElement[] Roofline(StepProfile profile) => profile.Roofline is not Roofline roofline
        ? [new XElement("p", "This device counts and tells no time, so there is no roofline plot.")]
        :
        [
            new XElement("h2", "Roofline"),
            new XElement("p", string.Create(CultureInfo.InvariantCulture, $"Measured in the same run: {roofline.CopyGBPerSecond:0.0} GB/s ({roofline.CopyProbe}), {roofline.Tflops:0.000} TFLOP/s ({roofline.ArithmeticProbe}). One point per launch; its colour is its part of the step:")),
            new XElement("p", StepParts.All.Select((part, i) => new XElement("span", new XAttribute("style", "margin-right:1.5rem"), Dot(i), $" {part}"))),
            RooflinePlot.Draw(roofline, profile.Ledger),
        ];

    private static XElement Dot(int part) =>
        new("svg", new XAttribute("style", "width:12px;height:12px"), new XAttribute("viewBox", "0 0 12 12"), new XElement("circle", new XAttribute("cx", 6), new XAttribute("cy", 6), new XAttribute("r", 5), new XAttribute("class", $"p{part}")));

    private static XElement[] Ledger(StepProfile profile)
    {
        bool timed = profile.Totals.Ms is not null;
        string[] columns = timed
            ? ["#", "name", "op", "kernels", "part", "shapes", ">bytes", ">FLOP", ">ms", ">limit, ms", "limited by", ">gap, ms"]
            : ["#", "name", "op", "kernels", "part", "shapes", ">bytes", ">FLOP", ">instructions", ">bytes moved", ">bank conflicts", ">gap, bytes"];
        IEnumerable<XElement[]> rows = profile.Ledger.Select(l => new XElement[]
        {
            Number(l.Index), Cell(l.Name), Cell(l.Op), Cell(string.Join(", ", l.Kernels ?? [])), Cell(l.Part), Cell(l.Shapes), Number(l.Bytes), Number(l.Flops),
            timed ? Number(l.Ms) : Number(l.Counters!.Instructions),
            timed ? Number(l.LimitMs) : Number(l.Counters!.BytesMoved),
            timed ? Cell(l.Bound!) : Number(l.Counters!.BankConflicts),
            timed ? Number(l.GapMs) : Number(l.GapBytes),
        });
        return [new XElement("h2", "Ledger, by what could be gained"), Table("ledger", columns, rows)];
    }

    private static XElement[] Fusions(StepProfile profile)
    {
        string[] columns = ["fusion", "does", ">applied", ">launches without", ">more", ">kernels without", ">more", ">bytes without", ">more", ">arena without", ">ms without", ">ms with", ">more"];
        int? kernels = profile.Totals.Kernels;
        IEnumerable<XElement[]> rows = profile.Fusions.Select(f => new XElement[]
        {
            Cell(f.Name), Cell(f.Description), Number(f.Applied), Number(f.Launches), Number(f.Launches - profile.Totals.Launches), Number(f.Kernels), Number(f.Kernels - kernels), Number(f.Bytes),
            Number(f.Bytes - profile.Totals.GraphBytes), Number(f.ArenaBytes), Number(f.Ms), Number(f.WithMs), Number(f.Ms - f.WithMs),
        });
        return [new XElement("h2", "What each fusion is worth"), Table("fusions", columns, rows)];
    }

    private static XElement Graph(string id, string title, IReadOnlyList<string> lines) => new(
        "details",
        new XAttribute("id", id),
        new XElement("summary", string.Create(CultureInfo.InvariantCulture, $"{title}: {lines.Count} launches")),
        new XElement("ol", lines.Select(l => new XElement("li", l))));

    // A column whose name begins with > is set to the right.
    private static XElement Table(string id, string[] columns, IEnumerable<XElement[]> rows)
    {
        XElement table = new("table", new XAttribute("id", id));
        if (columns.Length > 0)
        {
            table.Add(new XElement("thead", new XElement("tr", columns.Select(c => c[0] == '>' ? new XElement("th", new XAttribute("class", "n"), c[1..]) : new XElement("th", c)))));
        }

        table.Add(new XElement("tbody", rows.Select(r => new XElement("tr", r.AsEnumerable()))));
        return table;
    }

    private static XElement Cell(string text) => new("td", text);

    private static XElement Number(long value) => Number(value.ToString(CultureInfo.InvariantCulture), value.ToString("N0", CultureInfo.InvariantCulture));

    private static XElement Number(long? value) => value is long number ? Number(number) : Number(null, "–");

    private static XElement Number(double? value) =>
        value is double number ? Number(number.ToString("R", CultureInfo.InvariantCulture), number.ToString("0.0000", CultureInfo.InvariantCulture)) : Number(null, "–");

    private static XElement Number(string? value, string text) => new("td", new XAttribute("class", "n"), value is null ? null : new XAttribute("data-value", value), text);
}
