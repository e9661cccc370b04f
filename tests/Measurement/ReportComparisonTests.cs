using Kernels.Measurement;
using Kernels.Tests.Cli;
using Xunit;

namespace Kernels.Tests.Measurement;

public sealed class ReportComparisonTests
{
    [Theory]
    [InlineData(10, 9.9, 10.1, 8, 7.9, 8.1, "faster")]
    [InlineData(8, 7.9, 8.1, 10, 9.9, 10.1, "slower")]
    [InlineData(10, 9.8, 10.2, 10.1, 9.9, 10.3, "same")]
    [InlineData(10, 8, 12, 11, 9, 13, "undecided")]
    [InlineData(10, 8, 12, 20, 18, 22, "slower")]
    // Apart, but by less than one per cent.
    [InlineData(10, 9.999, 10.001, 10.05, 10.049, 10.051, "same")]
    // They touch at 11.
    [InlineData(10, 9, 11, 12, 11, 13, "undecided")]
    public void Times_are_compared_by_their_quartiles(double a, double aLow, double aHigh, double b, double bLow, double bHigh, string verdict)
    {
        ComparedRow row = ReportComparison.Compare(Timed(a, aLow, aHigh), Timed(b, bLow, bHigh));
        Assert.Equal(verdict, row.Verdict);
        Assert.Contains(row.Verdict, ReportComparison.Verdicts);
        Assert.Equal(a / b, row.Ratio);
    }

    [Theory]
    [InlineData(100, 10, 0, "same")]
    [InlineData(100, 9, 0, "faster")]
    [InlineData(101, 10, 0, "slower")]
    [InlineData(90, 11, 0, "undecided")]
    [InlineData(100, 10, 1, "slower")]
    public void Counters_are_compared_exactly(long instructions, long sectors, long conflicts, string verdict)
    {
        BenchRow before = Row() with { Counters = new KernelCounters { Instructions = 100, Sectors = 10 } };
        BenchRow after = Row() with { Counters = new KernelCounters { Instructions = instructions, Sectors = sectors, BankConflicts = conflicts } };
        Assert.Equal(verdict, ReportComparison.Compare(before, after).Verdict);
    }

    [Fact]
    public void What_failed_is_undecided()
    {
        BenchRow good = Timed(10, 9.9, 10.1);
        Assert.Equal("undecided", ReportComparison.Compare(good, Row() with { Error = "no memory" }).Verdict);
        Assert.Equal("undecided", ReportComparison.Compare(good with { Verified = new Verdict("cpu", 1, 0.1) }, Timed(5, 4, 6)).Verdict);
        Assert.Equal("undecided", ReportComparison.Compare(good, Row() with { Counters = new KernelCounters() }).Verdict);
    }

    [Fact]
    public void Rows_are_matched_by_what_they_measure()
    {
        BenchRow step = Timed(10, 9.9, 10.1), other = step with { Batch = 2 }, fp16 = step with { Precision = "fp16" };
        IReadOnlyList<ComparedRow> rows = ReportComparison.Compare(Report(step, other), Report(fp16, step with { MedianMs = 5, LowerQuartileMs = 5, UpperQuartileMs = 5 }));
        Assert.Equal(["only in the second", "faster", "only in the first"], rows.Select(r => r.Verdict));
        Assert.Equal([fp16, step with { MedianMs = 5, LowerQuartileMs = 5, UpperQuartileMs = 5 }, other], rows.Select(r => r.Row));
    }

    [Fact]
    public void A_report_survives_its_file()
    {
        using TemporaryFolder folder = new();
        BenchReport report = Report(
            Timed(1.0 / 3, 0.25, 0.5) with
            {
                Verified = new Verdict("cpu fp32", null, Math.ScaleB(1, -9)),
                SplitMs = StepParts.All.ToDictionary(p => p, p => 1.5),
                Tflops = 0.1,
            },
            Row() with { Counters = new KernelCounters { Instructions = 1L << 60, Sectors = 3 }, Op = "Convolution { Stride = 1 }", Shapes = "[1,2] -> [3]" });
        report = report with { Rooflines = [new Roofline("fp32", 12.5, "128 MiB", 0.25, "Convolution")] };
        report.Save(folder["a.json"]);
        BenchReport read = BenchReport.Load(folder["a.json"]);
        Assert.Equal(report.Header, read.Header);
        Assert.Equal(report.Rooflines, read.Rooflines);
        Assert.Equal(report.Rows[1], read.Rows[1]);
        Assert.Equal(report.Rows[0].SplitMs, read.Rows[0].SplitMs);
        Assert.Equal(report.Rows[0] with { SplitMs = null }, read.Rows[0] with { SplitMs = null });
    }

    internal static BenchReport Report(params BenchRow[] rows) => new()
    {
        Format = BenchReport.CurrentFormat,
        Header = new ReportHeader { Date = "2026-01-02T03:04:05Z", Version = "0.1.0", Kind = "cpu", Device = "cpu (X64)", Runtime = ".NET", Os = "Linux", Threads = 2 },
        Rows = rows,
    };

    internal static BenchRow Timed(double median, double lower, double upper) => Row() with
    {
        Repeats = 9, MedianMs = median, LowerQuartileMs = lower, UpperQuartileMs = upper, MinMs = lower, Spread = (upper - lower) / 2 / median,
    };

    private static BenchRow Row() => new() { Model = "adm64", Batch = 1, Precision = "fp32", Part = BenchRow.Step };
}
