using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Kernels.Measurement;
using Kernels.Tests.Cli;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary>The page of <c>kernels profile --html</c> as a real browser shows it, beside the JSON of <c>--json</c>.</summary>
public sealed class ProfileInBrowserTests
{
    // What is to be seen: text as it is laid out, and where on the screen. What is hidden has no height.
    private const string Seen = """
        (() => {
          const table = id => [...document.querySelectorAll(`#${id} tbody tr`)].filter(r => r.getBoundingClientRect().height > 0).map(r => [...r.cells].map(c => c.innerText));
          const center = e => { const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
          const plot = document.querySelector('#roofline');
          const labels = [...plot.querySelectorAll('text')].map(t => ({ text: t.textContent, anchor: t.getAttribute('text-anchor'), at: center(t) }));
          return {
            title: document.title, mode: document.compatMode, headings: [...document.querySelectorAll('h1, h2')].map(h => h.innerText),
            ledger: table('ledger'), totals: table('totals'), fusions: table('fusions'), header: table('header'), labels,
            points: [...plot.querySelectorAll('circle')].map(c => ({ index: +c.dataset.index, at: center(c), color: getComputedStyle(c).fill })),
            legend: [...document.querySelectorAll('span > svg circle')].map(c => [c.closest('span').innerText.trim(), getComputedStyle(c).fill]),
            lists: ['unfused', 'fused'].map(id => [...document.querySelectorAll(`#${id} li`)].filter(l => l.checkVisibility()).map(l => l.innerText)),
            data: document.querySelector('#profile').textContent, width: [document.documentElement.scrollWidth, document.body.scrollWidth],
          };
        })()
        """;

    [Fact]
    public async Task A_browser_shows_what_the_json_says()
    {
        using TemporaryFolder folder = new();
        StepProfile profile = StepProfileTests.Profile;
        StepProfiler.Save(profile, folder["profile.json"]);
        ProfilePage.Save(profile, folder["profile.html"]);
        string file = File.ReadAllText(folder["profile.json"]);
        JsonNode json = JsonNode.Parse(file)!;
        await using Browser browser = await Browser.Open(folder["profile.html"]);
        JsonNode seen = (await browser.Evaluate(Seen))!;

        Assert.Equal("CSS1Compat", seen["mode"]!.GetValue<string>());
        Assert.Equal(file, seen["data"]!.GetValue<string>());
        Assert.Contains(json["model"]!.GetValue<string>(), seen["title"]!.GetValue<string>(), StringComparison.Ordinal);
        Tables(seen, json);
        Plot(seen, json);

        // The graphs are folded, and unfold at a click.
        Assert.All(seen["lists"]!.AsArray(), list => Assert.Empty(list!.AsArray()));
        await browser.Evaluate("document.querySelectorAll('summary').forEach(s => s.click())");
        seen = (await browser.Evaluate(Seen))!;
        string[] names = ["unfused", "fused"];
        foreach ((string name, JsonNode? list) in names.Zip(seen["lists"]!.AsArray()))
        {
            Assert.Equal(Texts(json[name]!), Texts(list!));
        }

        Assert.Empty(browser.Messages);
    }

    [Fact]
    public async Task A_page_that_fails_is_seen_to_fail()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["bad.html"], "<!DOCTYPE html><img src='missing.png'><script>console.log('said'); missing()</script>");
        await using Browser browser = await Browser.Open(folder["bad.html"]);
        await browser.Evaluate("1");
        Assert.Contains(browser.Messages, m => m.Contains("ReferenceError", StringComparison.Ordinal));
        Assert.Contains(browser.Messages, m => m.Contains("said", StringComparison.Ordinal));
        Assert.Contains(browser.Messages, m => m.Contains("ERR_FILE_NOT_FOUND", StringComparison.Ordinal));
    }

    private static void Tables(JsonNode seen, JsonNode json)
    {
        JsonArray ledger = json["ledger"]!.AsArray(), rows = seen["ledger"]!.AsArray();
        Assert.Equal(ledger.Count, rows.Count);
        string[] texts = ["name", "op", "part", "shapes", "bound"], whole = ["index", "bytes", "flops"], times = ["ms", "limit_ms", "gap_ms"];
        foreach ((JsonNode? line, JsonNode? row) in ledger.Zip(rows))
        {
            Assert.Equal(texts.Select(t => line![t]!.GetValue<string>()), new[] { 1, 2, 4, 5, 10 }.Select(c => Text(row!, c)));
            Assert.Equal(whole.Select(n => line![n]!.GetValue<double>()), new[] { 0, 6, 7 }.Select(c => Number(row!, c)));
            foreach ((double expected, double shown) in times.Select(n => line![n]!.GetValue<double>()).Zip(new[] { 8, 9, 11 }.Select(c => Number(row!, c))))
            {
                Assert.Equal(expected, shown, 0.00005);
            }
        }

        // The sums are those of the rows that are to be seen, as far as these are rounded, and say so themselves.
        JsonArray totals = seen["totals"]!.AsArray();
        Assert.Equal(
            new[] { "launches", "bytes", "graph_bytes", "flops", "graph_flops" }.Select(n => json["totals"]![n]!.GetValue<double>()), totals.Take(5).Select(r => Number(r!, 1)));
        Assert.Equal((rows.Count, rows.Sum(r => Number(r!, 6)), rows.Sum(r => Number(r!, 7))), ((int)Number(totals[0]!, 1), Number(totals[1]!, 1), Number(totals[3]!, 1)));
        Assert.Equal(["the same", "the same"], new[] { 2, 4 }.Select(i => Text(totals[i]!, 2)));
        Assert.Equal(rows.Sum(r => Number(r!, 8)), Number(totals[6]!, 1), 0.00005 * (rows.Count + 1));
        Assert.Equal(rows.Sum(r => Number(r!, 9)), Number(totals[9]!, 1), 0.00005 * (rows.Count + 1));

        JsonArray fusions = seen["fusions"]!.AsArray();
        Assert.Equal(json["fusions"]!.AsArray().Select(f => (f!["name"]!.GetValue<string>(), f["launches"]!.GetValue<double>(), f["bytes"]!.GetValue<double>())), fusions.Select(r => (Text(r!, 0), Number(r!, 3), Number(r!, 7))));
        Assert.Equal(json["header"]!["device"]!.GetValue<string>(), Text(seen["header"]![0]!, 1));
    }

    // Where a point lies says what it means: between the ticks that are written at the axes, and in the colour of its part.
    private static void Plot(JsonNode seen, JsonNode json)
    {
        Dictionary<int, JsonNode> lines = json["ledger"]!.AsArray().Where(l => l!["flops"]!.GetValue<double>() > 0 && l["ms"]!.GetValue<double>() > 0).ToDictionary(l => l!["index"]!.GetValue<int>(), l => l!);
        JsonArray points = seen["points"]!.AsArray();
        Assert.Equal(lines.Keys.Order(), points.Select(p => p!["index"]!.GetValue<int>()).Order());
        (double Value, double At)[] x = Ticks("middle", 0), y = Ticks("end", 1);
        Dictionary<string, string> colors = seen["legend"]!.AsArray().ToDictionary(l => l![0]!.GetValue<string>(), l => l![1]!.GetValue<string>());
        Assert.Equal(StepParts.All, colors.Keys);
        Assert.Equal(colors.Count, colors.Values.Distinct().Count());
        foreach (JsonNode? point in points)
        {
            JsonNode line = lines[point!["index"]!.GetValue<int>()];
            double flops = line["flops"]!.GetValue<double>(), intensity = flops / line["bytes"]!.GetValue<double>(), rate = flops / line["ms"]!.GetValue<double>() / 1e6;
            Assert.Equal(Math.Log10(intensity), Read(x, point["at"]![0]!.GetValue<double>()), 0.02);
            Assert.Equal(Math.Log10(rate), Read(y, point["at"]![1]!.GetValue<double>()), 0.04);
            Assert.Equal(colors[line["part"]!.GetValue<string>()], point["color"]!.GetValue<string>());
        }

        (double, double)[] Ticks(string anchor, int axis) =>
        [
            .. seen["labels"]!.AsArray().Where(l => l!["anchor"]!.GetValue<string>() == anchor && double.TryParse(l["text"]!.GetValue<string>(), CultureInfo.InvariantCulture, out _))
                .Select(l => (Math.Log10(double.Parse(l!["text"]!.GetValue<string>(), CultureInfo.InvariantCulture)), l["at"]![axis]!.GetValue<double>())),
        ];

        // The line through the first and the last tick.
        static double Read((double Value, double At)[] ticks, double at) =>
            ticks[0].Value + ((at - ticks[0].At) / (ticks[^1].At - ticks[0].At) * (ticks[^1].Value - ticks[0].Value));
    }

    private static IEnumerable<string> Texts(JsonNode list) => list.AsArray().Select(l => l!.GetValue<string>());

    private static string Text(JsonNode row, int cell) => row[cell]!.GetValue<string>();

    private static double Number(JsonNode row, int cell) => double.Parse(Text(row, cell), NumberStyles.Float | NumberStyles.AllowThousands, CultureInfo.InvariantCulture);
}
