using System.Text.Json;
using Kernels.Cli;
using Kernels.Measurement;
using Kernels.Models;
using Kernels.Tests.Cli;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary>Several engines' reports in one table.</summary>
public sealed class SideBySideTests
{
    private static readonly BenchRow s_own = ReportComparisonTests.Timed(10, 9, 11), s_rival = s_own with { Engine = "pytorch eager", MedianMs = 25, MinMs = 18 };

    [Fact]
    public void Every_engine_is_held_against_kernels_at_its_precision()
    {
        BenchRow half = s_own with { Precision = "fp16", MedianMs = 4, MinMs = 4 }, faster = s_rival with { Precision = "fp16", MedianMs = 3, MinMs = 2 }, alone = s_rival with { Precision = "bf16" };
        BenchRow failed = s_rival with { Engine = "pytorch compile", MedianMs = null, MinMs = null, Error = "no compiler" }, other = s_own with { Batch = 4 };
        IReadOnlyList<SideBySide> tables = SideBySide.Of([ReportComparisonTests.Report(s_own, other, half), ReportComparisonTests.Report(faster, failed, s_rival, alone)]);
        Assert.Equal(["adm64, batch 1, guided step", "adm64, batch 4, guided step"], tables.Select(t => t.Title));
        Assert.Equal([s_own, s_rival, failed, faster, half, alone], tables[0].Rows.Select(r => r.Row));
        Assert.Equal([1, 2.5, null, 0.75, 1, null], tables[0].Rows.Select(r => r.Ratio));
        Assert.Equal([1, 2, null, 0.5, 1, null], tables[0].Rows.Select(r => r.RatioOfLeast));
    }

    [Fact]
    public void Of_several_rows_of_kernels_the_one_of_the_same_run_counts()
    {
        BenchRow later = s_own with { MedianMs = 100 };
        IReadOnlyList<SideBySide> tables = SideBySide.Of([ReportComparisonTests.Report(s_own, s_rival), ReportComparisonTests.Report(later), ReportComparisonTests.Report(s_rival with { MedianMs = 50 })]);
        Assert.Equal([1, 2.5, 0.5, 1], Assert.Single(tables).Rows.Select(r => r.Ratio));
    }

    [Fact]
    public async Task The_table_is_written_with_what_failed_in_it()
    {
        using TemporaryFolder folder = new();
        ReportComparisonTests.Report(s_own).Save(folder["own.json"]);
        BenchRow wrong = s_rival with { Engine = "pytorch sdpa", Verified = new Verdict("pytorch eager fp32", 0.5, 1e-4) };
        ReportComparisonTests.Report(s_rival, wrong, s_rival with { Engine = "pytorch compile", MedianMs = null, Error = "a | b\nc" }).Save(folder["rivals.json"]);
        CliRun run = (await CliRun.Of("bench", "table", folder["own.json"], folder["rivals.json"], "--markdown", folder["t.md"])).Expect(ExitCode.Done);
        Assert.Contains("pytorch eager", run.Output, StringComparison.Ordinal);
        string[] lines = File.ReadAllLines(folder["t.md"]);
        Assert.Equal("### adm64, batch 1, guided step", lines[0]);
        Assert.Contains("| fp32 | kernels | 10.000 | 9.000 | 10.0 % | – | 1.00 | 1.00 |  |", lines);
        Assert.Contains("| fp32 | pytorch eager | 25.000 | 18.000 | 10.0 % | – | 2.50 | 2.00 |  |", lines);
        Assert.Contains(lines, l => l.Contains("WRONG: differs from pytorch eager fp32 by 5.0e-1", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.EndsWith("| a \\| b c |", StringComparison.Ordinal));
        (await CliRun.Of("bench", "table", folder["t.md"])).Expect(ExitCode.InvalidFile);
    }

    [Fact]
    public async Task The_short_table_takes_the_place_of_the_last()
    {
        using TemporaryFolder folder = new();
        BenchRow slow = s_own with { Precision = "fp16", MedianMs = 10, RooflineShare = 0.25, Tflops = 12.34 }, failed = s_own with { Model = "adm512", MedianMs = null, Error = "no memory" };
        BenchRow eager = s_rival with { Precision = "fp16", MedianMs = 30 }, graph = eager with { Engine = "pytorch cuda graph", MedianMs = 8 };
        BenchRow wrong = eager with { Engine = "pytorch compile", MedianMs = 1, Verified = new Verdict("pytorch eager fp32", null, 1) };
        ReportComparisonTests.Report(slow, failed).Save(folder["own.json"]);
        ReportComparisonTests.Report(eager, graph, wrong).Save(folder["rivals.json"]);
        File.WriteAllText(folder["page.md"], $"before\n{BenchSummary.Begin}\nold\n{BenchSummary.End}\nafter\n");
        for (int i = 0; i < 2; i++)
        {
            (await CliRun.Of("bench", "table", folder["own.json"], folder["rivals.json"], "--summary", folder["page.md"])).Expect(ExitCode.Done);
        }

        string[] lines = File.ReadAllLines(folder["page.md"]);
        Assert.Equal(("before", "after"), (lines[0], lines[^1]));
        Assert.DoesNotContain("old", lines);
        Assert.Contains("| adm64 | 1 | fp16 | 10.00 | 12.3 | 25 % | 30.00 | 3.00 | 8.00 (pytorch cuda graph) | 0.80 |", lines);
        Assert.Contains("| adm512 | 1 | fp32 | no memory | – | – | – | – | – | – |", lines);
        File.WriteAllText(folder["page.md"], "no place");
        CliRun run = (await CliRun.Of("bench", "table", folder["own.json"], "--summary", folder["page.md"])).Expect(ExitCode.InvalidFile);
        Assert.Contains(BenchSummary.Begin, run.Error, StringComparison.Ordinal);
    }

    // A rival builds the models from this.
    [Fact]
    public void A_report_says_what_models_were_measured()
    {
        using TemporaryFolder folder = new();
        using ModelPair pair = ModelPair.OfPreset("adm64"), alone = ModelPair.OfPreset("lsun256");
        (ReportComparisonTests.Report(s_own) with { Models = new Dictionary<string, MeasuredModel> { ["adm64"] = MeasuredModel.Of(pair), ["lsun256"] = MeasuredModel.Of(alone) } }).Save(folder["a.json"]);
        MeasuredModel read = BenchReport.Load(folder["a.json"]).Models!["adm64"];
        Assert.Equal(pair.Unet, ModelConfigJson.Read(read.Config.GetRawText(), ModelKind.UNet));
        Assert.Equal(pair.Classifier, ModelConfigJson.Read(read.ClassifierConfig!.Value.GetRawText(), ModelKind.Encoder));
        Assert.Equal((1.0, 125), (read.ClassifierScale, read.Step));
        Assert.Equal(JsonValueKind.Object, read.Diffusion.ValueKind);
        Assert.Null(BenchReport.Load(folder["a.json"]).Models!["lsun256"].ClassifierConfig);
    }
}
