using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Emulation.Checking;
using Kernels.Measurement;
using Kernels.Tests.Cli;
using Kernels.Tests.PtxEmulator;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary>The ledger of the demo pair's step on the CPU, and everything that is written of it.</summary>
public sealed class StepProfileTests
{
    private static readonly Lazy<StepProfile> s_profile = new(() =>
    {
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        using MeasuredDevice device = new(new CpuBackend(threads: 2), "cpu");
        ProfileOptions options = new() { Repeats = 1, TimeLimit = TimeSpan.FromMilliseconds(1) };
        return StepProfiler.Run(device, pair, options, "kernels profile", TestContext.Current.CancellationToken);
    });

    internal static StepProfile Profile => s_profile.Value;

    [Fact]
    public void Every_launch_stands_in_the_ledger_once_and_the_sums_are_the_graphs()
    {
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        Graph step = Rewrites.Apply(GuidedWorkload.BuildGraph(pair, 1)).Step;
        Node[] launches = [.. step.Nodes.Where(n => !n.Op.IsView)];
        Assert.Equal(Enumerable.Range(0, launches.Length), Profile.Ledger.Select(l => l.Index).Order());
        Assert.All(Profile.Ledger, l => Assert.Equal((launches[l.Index].Name, launches[l.Index].Cost.Bytes, launches[l.Index].Cost.Flops), (l.Name, l.Bytes, l.Flops)));
        Assert.Equal((step.Cost.Bytes, step.Cost.Flops), (Profile.Totals.Bytes, Profile.Totals.Flops));
        Assert.Equal((Profile.Totals.GraphBytes, Profile.Totals.GraphFlops), (Profile.Totals.Bytes, Profile.Totals.Flops));
        Assert.Equal(Profile.Ledger.Sum(l => l.Ms!.Value), Profile.Totals.Ms!.Value, 1e-9);
        // Of one run, the medians are the run.
        Assert.Equal(Profile.Totals.Ms.Value, Profile.Totals.RunMs!.Value, 1e-9);
        Assert.True(Profile.Totals.WholeMs > 0);
        Assert.Equal(StepParts.All.Order(), Profile.Ledger.Select(l => l.Part).Distinct().Order());
    }

    [Fact]
    public void The_gap_is_the_time_beyond_the_roofline_and_sorts_the_ledger()
    {
        Roofline roofline = Profile.Roofline!;
        foreach (LedgerLine line in Profile.Ledger)
        {
            double memory = line.Bytes / (roofline.CopyGBPerSecond * 1e6), arithmetic = line.Flops / (roofline.Tflops * 1e9);
            Assert.Equal(Math.Max(memory, arithmetic), line.LimitMs!.Value, 1e-12);
            Assert.Equal(line.Ms!.Value - line.LimitMs.Value, line.GapMs!.Value, 1e-12);
            Assert.Equal(arithmetic > memory ? "arithmetic" : "memory", line.Bound);
        }

        Assert.Equal(Profile.Ledger.Select(l => l.GapMs).OrderDescending(), Profile.Ledger.Select(l => l.GapMs));
    }

    [Fact]
    public void Every_rewrite_has_its_worth_in_launches_and_bytes()
    {
        Assert.Equal([.. Rewrites.All.Select(r => r.Name), "all"], Profile.Fusions.Select(f => f.Name));
        Assert.All(Profile.Fusions, f => Assert.Null(f.Ms));
        Assert.All(Profile.Fusions, f => Assert.Null(f.Kernels));
        FusionPrice all = Profile.Fusions[^1], silu = Profile.Fusions.Single(f => f.Name == "group_norm_silu");
        Assert.Equal((Profile.Unfused.Count, Profile.Totals.Launches), (all.Launches, Profile.Fused.Count));
        Assert.True(silu.Applied > 0 && silu.Launches > Profile.Totals.Launches && silu.Bytes > Profile.Totals.Bytes);
        Assert.Equal(Profile.Fusions.Max(f => f.Launches), all.Launches);
    }

    // In half precision, so that the emulator has less to do.
    [Fact]
    public void On_the_emulator_traffic_takes_the_place_of_time()
    {
        Cuda.Require();
        EmulatorDriver driver = new(new EmulatorOptions { Checks = Checks.None, Counters = true });
        GpuBackend backend = new(driver, new GpuOptions { Precision = Precision.Fp16 });
        int kernels = 0;
        using MeasuredDevice device = new(backend, "emulator", () =>
        {
            kernels++;
            LaunchCounters last = driver.LastCounters!;
            return new KernelCounters { Instructions = last.ThreadInstructions, Sectors = last.GlobalReadSectors + last.GlobalWrittenSectors };
        });
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        StepProfile profile = StepProfiler.Run(device, pair, new ProfileOptions { DisabledFusions = ["label_gradient"] }, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(kernels, profile.Ledger.Sum(l => l.Kernels!.Count));
        Assert.Equal(profile.Totals.Bytes, profile.Totals.GraphBytes);
        Assert.Equal(profile.Ledger.Sum(l => l.Counters!.Instructions), profile.Totals.Counters!.Instructions);
        Assert.All(profile.Ledger, l => Assert.Equal((32 * l.Counters!.Sectors) - l.Bytes, l.GapBytes));
        Assert.Equal(profile.Ledger.Select(l => l.GapBytes).OrderDescending(), profile.Ledger.Select(l => l.GapBytes));
        Assert.DoesNotContain(profile.Fusions, f => f.Name == "label_gradient");

        // Fusions between kernels change their number, or what they read, but not the graph.
        Assert.Equal(GpuOptions.Fusions.Select(f => f.Name), profile.Fusions.TakeLast(GpuOptions.Fusions.Count).Select(f => f.Name));
        FusionPrice statistics = profile.Fusions.Single(f => f.Name == GpuOptions.GroupNormStatistics), pool = profile.Fusions.Single(f => f.Name == "group_norm_pool");
        Assert.Equal((kernels, profile.Totals.Launches, profile.Totals.GraphBytes), (profile.Totals.Kernels, statistics.Launches, statistics.Bytes));
        Assert.True(statistics.Applied > 30 && pool.Kernels > kernels, $"{statistics}, {pool}");
        Assert.Null(profile.Totals.WholeMs);
        Assert.Throws<ConfigurationException>(() => ChromeTrace.Save(profile, "trace.json"));
        XElement page = XDocument.Parse(ProfilePage.Render(profile)).Root!;
        Assert.Equal(profile.Ledger.Select(l => (double)l.GapBytes!.Value), Rows(page, "ledger").Select(r => Number(r[11])));
        Assert.Equal(profile.Ledger.Select(l => (double)l.Counters!.BytesMoved), Rows(page, "ledger").Select(r => Number(r[9])));
        Assert.DoesNotContain(page.Descendants(), e => e.Attribute("id")?.Value == "roofline");
    }

    [Fact]
    public void The_trace_holds_the_launches_end_to_end()
    {
        using TemporaryFolder folder = new();
        ChromeTrace.Save(Profile, folder["trace.json"]);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(folder["trace.json"]));
        JsonElement[] events = [.. json.RootElement.GetProperty("traceEvents").EnumerateArray().Where(e => e.GetProperty("ph").GetString() == "X")];
        LedgerLine[] lines = [.. Profile.Ledger.OrderBy(l => l.Index)];
        Assert.Equal(lines.Select(l => l.Name), events.Select(e => e.GetProperty("name").GetString()));
        double end = 0;
        for (int i = 0; i < events.Length; i++)
        {
            Assert.Equal(end, events[i].GetProperty("ts").GetDouble(), 1e-6);
            Assert.Equal(lines[i].Ms!.Value * 1000, events[i].GetProperty("dur").GetDouble(), 1e-9);
            Assert.Equal(StepParts.All.ToList().IndexOf(lines[i].Part), events[i].GetProperty("tid").GetInt32());
            end += events[i].GetProperty("dur").GetDouble();
        }

        Assert.Equal(Profile.Totals.Ms!.Value * 1000, end, 1e-6);
    }

    [Fact]
    public void The_page_says_what_the_json_says()
    {
        using TemporaryFolder folder = new();
        StepProfiler.Save(Profile, folder["profile.json"]);
        ProfilePage.Save(Profile, folder["profile.html"]);
        string text = File.ReadAllText(folder["profile.html"]), file = File.ReadAllText(folder["profile.json"]);
        XElement page = XDocument.Parse(text).Root!;
        using JsonDocument document = JsonDocument.Parse(file);
        JsonElement json = document.RootElement;
        Assert.Equal(file, Find(page, "profile").Value);

        JsonElement[] ledger = [.. json.GetProperty("ledger").EnumerateArray()];
        XElement[][] rows = Rows(page, "ledger");
        Assert.Equal(ledger.Length, rows.Length);
        foreach ((JsonElement line, XElement[] row) in ledger.Zip(rows))
        {
            string[] texts = ["name", "op", "part", "shapes", "bound"], numbers = ["index", "bytes", "flops", "ms", "limit_ms", "gap_ms"];
            Assert.Equal(texts.Select(t => line.GetProperty(t).GetString()), new[] { 1, 2, 4, 5, 10 }.Select(c => row[c].Value));
            Assert.Equal(numbers.Select(n => line.GetProperty(n).GetDouble()), new[] { 0, 6, 7, 8, 9, 11 }.Select(c => Number(row[c])));
        }

        foreach ((JsonElement fusion, XElement[] row) in json.GetProperty("fusions").EnumerateArray().Zip(Rows(page, "fusions"), (f, r) => (f, r)))
        {
            Assert.Equal(fusion.GetProperty("name").GetString(), row[0].Value);
            Assert.Equal(new[] { "applied", "launches", "bytes", "arena_bytes" }.Select(n => fusion.GetProperty(n).GetDouble()), new[] { 2, 3, 7, 9 }.Select(c => Number(row[c])));
            Assert.Equal(fusion.GetProperty("launches").GetDouble() - json.GetProperty("totals").GetProperty("launches").GetDouble(), Number(row[4]));
            Assert.All(new[] { 5, 6, 10, 11 }, c => Assert.Null(row[c].Attribute("data-value")));
        }

        JsonElement totals = json.GetProperty("totals");
        double[] expected = [.. new[] { "launches", "bytes", "graph_bytes", "flops", "graph_flops" }.Select(n => totals.GetProperty(n).GetDouble())];
        Assert.Equal([.. expected, json.GetProperty("arena_bytes").GetDouble(), .. new[] { "ms", "run_ms", "whole_ms", "limit_ms" }.Select(n => totals.GetProperty(n).GetDouble())], Rows(page, "totals").Select(r => Number(r[1])));
        Assert.Equal(json.GetProperty("unfused").EnumerateArray().Select(l => l.GetString()), Find(page, "unfused").Descendants("li").Select(l => l.Value));
        Assert.Equal(json.GetProperty("fused").EnumerateArray().Select(l => l.GetString()), Find(page, "fused").Descendants("li").Select(l => l.Value));
    }

    // What is shown to people is the number beside it, rounded.
    [Fact]
    public void What_the_page_shows_is_what_it_holds()
    {
        XElement page = XDocument.Parse(ProfilePage.Render(Profile)).Root!;
        XElement[] cells = [.. page.Descendants("td").Where(c => c.Attribute("data-value") is not null)];
        Assert.True(cells.Length > 6 * Profile.Ledger.Count);
        Assert.All(cells, cell => Assert.Equal(Number(cell), double.Parse(cell.Value, NumberStyles.Float | NumberStyles.AllowThousands, CultureInfo.InvariantCulture), 0.00005));
    }

    [Fact]
    public void The_page_needs_nothing_from_elsewhere()
    {
        string text = ProfilePage.Render(Profile);
        Assert.StartsWith("<!DOCTYPE html>", text, StringComparison.Ordinal);
        XElement page = XDocument.Parse(text).Root!;
        Assert.DoesNotContain(page.DescendantsAndSelf(), e => e.Attributes().Any(a => a.Name.LocalName is "src" or "href" or "srcset" or "data"));
        Assert.DoesNotContain("url(", text, StringComparison.Ordinal);
        Assert.DoesNotContain("@import", text, StringComparison.Ordinal);
        Assert.All(page.Descendants("script"), s => Assert.Equal("application/json", s.Attribute("type")?.Value));

        // A browser does not know <td/> and the like: outside of SVG, only elements without an end tag may stand without one.
        Assert.DoesNotContain(page.Descendants(), e => e.IsEmpty && e.Name.LocalName != "meta" && !e.Ancestors("svg").Any());
    }

    [Fact]
    public void The_plot_has_a_point_for_every_launch_that_computes()
    {
        XElement plot = Find(XDocument.Parse(ProfilePage.Render(Profile)).Root!, "roofline");
        Dictionary<int, LedgerLine> lines = Profile.Ledger.Where(l => l.Flops > 0 && l.Ms > 0).ToDictionary(l => l.Index);
        XElement[] points = [.. plot.Descendants("circle")];
        Assert.Equal(lines.Keys.Order(), points.Select(p => int.Parse(p.Attribute("data-index")!.Value, CultureInfo.InvariantCulture)).Order());
        double[] roof = [.. plot.Element("polyline")!.Attribute("points")!.Value.Split(' ', ',').Select(v => double.Parse(v, CultureInfo.InvariantCulture))];
        foreach (XElement point in points)
        {
            LedgerLine line = lines[int.Parse(point.Attribute("data-index")!.Value, CultureInfo.InvariantCulture)];
            Assert.Equal((double)line.Flops / line.Bytes, Value(point, "data-intensity"), 1e-9);
            Assert.Equal(line.Flops / line.Ms!.Value / 1e6, Value(point, "data-gflops"), 1e-6);

            // Upwards is faster: a launch within its limit lies on or under the roof.
            if (line.Ms > line.LimitMs * 1.01 && Value(point, "cx") >= roof[2])
            {
                Assert.True(Value(point, "cy") >= roof[3] - 0.01);
            }
        }
    }

    private static double Value(XElement element, string attribute) => double.Parse(element.Attribute(attribute)!.Value, CultureInfo.InvariantCulture);

    private static double Number(XElement cell) => Value(cell, "data-value");

    private static XElement Find(XElement page, string id) => page.Descendants().Single(e => e.Attribute("id")?.Value == id);

    private static XElement[][] Rows(XElement page, string id) => [.. Find(page, id).Element("tbody")!.Elements("tr").Select(r => r.Elements("td").ToArray())];
}
