using System.Text.Json;
using Kernels.Cli;
using Kernels.Diffusion;
using Kernels.Measurement;
using Kernels.Tests.Measurement;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary><c>kernels bench</c> and <c>kernels profile</c>: what they write, and what they refuse. Never how fast anything is.</summary>
public sealed class MeasuringCommandTests : IDisposable
{
    private const string Fast = "--time-limit=0.001";
    private readonly TemporaryFolder _folder = new();

    private static string Pair => string.Join('+', new[] { "diffusion", "classifier" }.Select(m => Path.Combine(AppContext.BaseDirectory, "weights", $"shapes32_{m}.safetensors")));

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Bench_verifies_and_times_a_step()
    {
        CliRun run = (await CliRun.Of("bench", "--device", "cpu", "--threads", "2", "--batch", "1,2", Fast, "--json", _folder["a.json"])).Expect(ExitCode.Done);
        Assert.Contains("cpu, unfused", run.Output, StringComparison.Ordinal);
        BenchReport report = BenchReport.Load(_folder["a.json"]);
        Assert.Equal(("cpu", 2), (report.Header.Kind, report.Header.Threads));
        Assert.StartsWith("kernels bench --device cpu", report.Header.Command, StringComparison.Ordinal);
        Roofline roofline = Assert.Single(report.Rooflines);
        Assert.True(roofline.CopyGBPerSecond > 0 && roofline.Tflops > 0);
        Assert.Equal([1, 2], report.Rows.Select(r => r.Batch));
        foreach (BenchRow row in report.Rows)
        {
            using ModelPair pair = ModelPair.OfPreset("shapes32");
            Graph step = Rewrites.Apply(GuidedWorkload.BuildGraph(pair, row.Batch)).Step;
            Assert.Equal(("kernels", "shapes32", "fp32", BenchRow.Step), (row.Engine, row.Model, row.Precision, row.Part));
            Assert.Equal((step.Cost.Flops, step.Cost.Bytes, step.Nodes.Count(n => !n.Op.IsView)), (row.Flops, row.Bytes, row.Launches));
            Assert.True(row.Verified!.Passed && row.Verified.RelativeL2 > 0);
            Assert.True(row.MinMs <= row.LowerQuartileMs && row.LowerQuartileMs <= row.MedianMs && row.MedianMs <= row.UpperQuartileMs);
            Assert.True(row.Repeats >= 5);
            Assert.Equal(row.Flops!.Value / (row.MedianMs!.Value * 1e9), row.Tflops!.Value, 1e-9);
            Assert.Equal(row.Bytes!.Value / (row.MedianMs.Value * 1e6), row.GBPerSecond!.Value, 1e-9);
            Assert.Equal(StepParts.All, row.SplitMs!.Keys);
        }

        // A report does not differ from itself.
        CliRun compared = (await CliRun.Of("bench", "compare", _folder["a.json"], _folder["a.json"])).Expect(ExitCode.Done);
        Assert.DoesNotContain("faster", compared.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("slower", compared.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bench_takes_files()
    {
        (await CliRun.Of("bench", "--device", "cpu", "--threads", "2", "--model", Pair, Fast, "--json", _folder["a.json"])).Expect(ExitCode.Done);
        BenchRow row = Assert.Single(BenchReport.Load(_folder["a.json"]).Rows);
        Assert.Equal("shapes32_diffusion+shapes32_classifier", row.Model);
        Assert.True(row.Verified!.Passed);
    }

    [Fact]
    public async Task Bench_measures_ops_by_themselves()
    {
        (await CliRun.Of("bench", "--device", "cpu", "--threads", "2", "--model", "shapes32", "--kernels", "attention", Fast, "--json", _folder["a.json"])).Expect(ExitCode.Done);
        BenchReport report = BenchReport.Load(_folder["a.json"]);
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        OpUse[] uses = [.. OpCatalog.Of(pair, 1, "attention")];
        Assert.NotEmpty(uses);
        Assert.Equal(uses.Select(u => (u.Op, u.Shapes, u.Uses)), report.Rows.Select(r => (r.Op!, r.Shapes!, r.Uses!.Value)));
        Assert.All(report.Rows, r => Assert.True(r.Verified!.Passed && r.MedianMs > 0 && r.Part == "op"));
    }

    // The gradient needs the result of the forward direction: with anything else in its place the two devices differ.
    [Fact]
    public async Task Gradients_of_attention_are_verified_on_operands_that_belong_together()
    {
        Cuda.Require();
        string[] command = ["bench", "--device", "emulator", "--check", "none", "--model", "shapes32", "--kernels", "AttentionGradient", "--precision", "fp16", "--json", _folder["a.json"]];
        (await CliRun.Of(command)).Expect(ExitCode.Done);
        Assert.All(BenchReport.Load(_folder["a.json"]).Rows, r => Assert.True(r.Verified!.Passed && r.Counters!.TensorFlops > 0));
    }

    // The attention pool of the classifier adds a vector of 64 channels to each of 8 x 8 tokens and their mean: one addition per element, and each is read twice and written once.
    [Fact]
    public async Task The_emulators_counters_are_those_of_the_op()
    {
        Cuda.Require();
        const int Elements = 64 * 65;
        (await CliRun.Of("bench", "--device", "emulator", "--model", "shapes32", "--kernels", "AddPositional", "--json", _folder["a.json"])).Expect(ExitCode.Done);
        BenchRow row = Assert.Single(BenchReport.Load(_folder["a.json"]).Rows);
        Assert.Equal(("op", "AddPositional", "[1,65,64] w[64,65] -> [1,65,64]", 1), (row.Part, row.Op, row.Shapes, row.Uses));
        Assert.Equal((Elements, 3 * 4 * Elements, 1, 1), (row.Flops, row.Bytes, row.Launches, row.Kernels));
        Assert.Equal((Elements, 0, 3 * 4 * Elements, 3 * 4 * Elements, 0), (row.Counters!.Flops, row.Counters.TensorFlops, row.Counters.BytesAsked, row.Counters.LeastBytes, row.Counters.BankConflicts));

        // A warp reads 32 channels of one token at a time: 4 sectors of a and of y, and 32 of the table, which lies the other way about.
        Assert.Equal(Elements / 32 * (4 + 4 + 32), row.Counters.Sectors);
        Assert.Equal(0, row.Verified!.RelativeL2);
    }

    [Fact]
    public async Task A_kernel_that_computes_something_else_is_not_measured()
    {
        Cuda.Require();
        const string Right = "to_float(a[i]) + to_float(b[i % C";
        KernelFolder.Write(_folder.Path);
        KernelFolder.Edit(_folder.Path, "elementwise.cu", Right, Right.Replace("+", "-", StringComparison.Ordinal));
        CliRun run = (await CliRun.Of(
            "bench", "--device", "emulator", "--model", "shapes32", "--kernels", "AddPositional", "--kernels-dir", _folder.Path, "--json", _folder["a.json"])).Expect(ExitCode.VerificationFailed);
        Assert.Contains("FAILED", run.Output, StringComparison.Ordinal);
        BenchRow row = Assert.Single(BenchReport.Load(_folder["a.json"]).Rows);
        Assert.False(row.Verified!.Passed);
        Assert.Null(row.Counters);
    }

    // Every kernel of the emulator counts the same each time.
    [Fact]
    public async Task The_emulator_counts()
    {
        Cuda.Require();
        string[] command = ["bench", "--device", "emulator", "--check", "none", "--model", "shapes32", "--kernels", "groupnorm", "--precision", "fp32,fp16"];
        (await CliRun.Of([.. command, "--json", _folder["a.json"]])).Expect(ExitCode.Done);
        BenchReport report = BenchReport.Load(_folder["a.json"]);
        Assert.Empty(report.Rooflines);
        Assert.StartsWith("NVRTC", report.Header.Compiler, StringComparison.Ordinal);
        foreach (BenchRow row in report.Rows)
        {
            Assert.Null(row.MedianMs);
            Assert.True(row.Verified!.Passed);

            // A kernel reads every input once at least, and writes every output; what a thread asks for is never less than what there is.
            Assert.True(row.Counters!.LeastBytes >= row.Bytes && row.Counters.BytesAsked >= row.Counters.LeastBytes);
            Assert.True(row.Counters.Instructions > 0 && row.Counters.Sectors > 0);
        }

        BenchRow[][] precisions = [.. report.Rows.GroupBy(r => r.Precision).Select(g => g.ToArray())];
        Assert.Equal(["fp32", "fp16"], precisions.Select(p => p[0].Precision));
        Assert.All(precisions[0].Zip(precisions[1]), pair => Assert.True(pair.Second.Bytes < pair.First.Bytes));
    }

    [Fact]
    public async Task Profile_writes_a_ledger_a_trace_and_a_page()
    {
        CliRun run = (await CliRun.Of(
            "profile", "--device", "cpu", "--threads", "2", "--repeats", "1", Fast, "--by", "op", "--json", _folder["p.json"], "--trace", _folder["t.json"], "--html", _folder["p.html"])).Expect(ExitCode.Done);
        Assert.Contains("unet: Convolution", run.Output, StringComparison.Ordinal);
        Assert.Equal(["p.html", "p.json", "t.json"], _folder.Files);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(_folder["p.json"]));
        Assert.Equal("kernels-profile-1", json.RootElement.GetProperty("format").GetString());
        double sum = json.RootElement.GetProperty("ledger").EnumerateArray().Sum(l => l.GetProperty("ms").GetDouble());
        Assert.Equal(sum, json.RootElement.GetProperty("totals").GetProperty("ms").GetDouble(), 1e-9);
    }

    [Theory]
    [InlineData(ExitCode.Usage, "there is no model 'adm65'", "bench", "--model", "adm65")]
    [InlineData(ExitCode.Usage, "there is no model 'classifier64'", "profile", "--model", "classifier64")]
    [InlineData(ExitCode.Usage, "--batch 1,x: 'x' is not a number", "bench", "--batch", "1,x")]
    [InlineData(ExitCode.Usage, "--batch 1,,2: '' is not a number", "bench", "--batch", "1,,2")]
    [InlineData(ExitCode.Usage, "--batch 0: '0' is not a number", "bench", "--batch", "0")]
    [InlineData(ExitCode.Usage, "--precision fp32,fp8: 'fp8' is not fp32", "bench", "--precision", "fp32,fp8")]
    [InlineData(ExitCode.Usage, "--precision 3: '3' is not fp32", "bench", "--precision", "3")]
    [InlineData(ExitCode.Usage, "the CPU computes in fp32", "bench", "--device", "cpu", "--precision", "fp16")]
    [InlineData(ExitCode.Usage, "--precision bf16 needs a GPU", "bench", "--device", "cpu", "--precision", "fp32,bf16")]
    [InlineData(ExitCode.Usage, "--time-limit is 0", "bench", "--time-limit", "0")]
    [InlineData(ExitCode.Usage, "there is no fusion 'everything'", "profile", "--device", "cpu", "--disable-fusion", "everything", "--time-limit", "0.001")]
    [InlineData(ExitCode.Usage, "a profile is of one step", "profile", "--batch", "1,2")]
    [InlineData(ExitCode.Usage, "the emulator only counts", "profile", "--device", "emulator", "--trace", "t.json")]
    [InlineData(ExitCode.InvalidFile, "no-such.safetensors", "bench", "--model", "no-such.safetensors")]
    [InlineData(ExitCode.InvalidFile, "no-such.json", "bench", "compare", "no-such.json", "no-such.json")]
    public async Task Bad_input_is_refused(int exitCode, string message, params string[] command)
    {
        CliRun run = (await CliRun.Of(command)).Expect(exitCode);
        Assert.Contains(message, run.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "is no report")]
    [InlineData("null", "null in place of a report")]
    [InlineData("[]", "is no report")]
    [InlineData("{\"format\": \"kernels-bench-1\"}", "is no report")]
    [InlineData("{\"format\": \"kernels-bench-1\", \"header\": null, \"rows\": []}", "$.header")]
    [InlineData("{\"format\": \"kernels-bench-1\", \"header\": {\"date\": \"\", \"version\": \"\", \"kind\": \"\", \"device\": \"\", \"runtime\": \"\", \"os\": \"\"}, \"rows\": [null]}", "null in place of a measurement")]
    [InlineData("{\"format\": \"kernels-bench-9\", \"header\": {\"date\": \"\", \"version\": \"\", \"kind\": \"\", \"device\": \"\", \"runtime\": \"\", \"os\": \"\"}, \"rows\": []}", "kernels-bench-9")]
    [InlineData("{\"format\": \"kernels-bench-1\", \"header\": {\"date\": \"\", \"version\": \"\", \"kind\": \"\", \"device\": \"\", \"runtime\": \"\", \"os\": \"\"}, \"rows\": [{\"model\": 3}]}", "$.rows[0].model")]
    public async Task Compare_refuses_what_is_no_report(string content, string message)
    {
        File.WriteAllText(_folder["a.json"], content);
        CliRun run = (await CliRun.Of("bench", "compare", _folder["a.json"], _folder["a.json"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("a.json", run.Error, StringComparison.Ordinal);
        Assert.Contains(message, run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compare_says_what_changed()
    {
        ReportComparisonTests.Report(ReportComparisonTests.Timed(10, 9.9, 10.1)).Save(_folder["a.json"]);
        ReportComparisonTests.Report(ReportComparisonTests.Timed(8, 7.9, 8.1)).Save(_folder["b.json"]);
        CliRun faster = (await CliRun.Of("bench", "compare", _folder["a.json"], _folder["b.json"])).Expect(ExitCode.Done);
        Assert.Contains("1.250", faster.Output, StringComparison.Ordinal);
        Assert.Contains("faster", faster.Output, StringComparison.Ordinal);
        CliRun slower = (await CliRun.Of("bench", "compare", _folder["b.json"], _folder["a.json"])).Expect(ExitCode.Done);
        Assert.Contains("slower", slower.Output, StringComparison.Ordinal);
    }
}
