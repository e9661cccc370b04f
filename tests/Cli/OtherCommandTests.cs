using System.Text.Json;
using Kernels.Checkpoints;
using Kernels.Cli;
using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.Cli;

public sealed class OtherCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private static string Weights => Path.Combine(AppContext.BaseDirectory, "weights");

    private static string Packs => Path.Combine(AppContext.BaseDirectory, "packs");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Verify_prints_a_row_per_output()
    {
        CliRun run = (await CliRun.Of("verify", Path.Combine(Packs, "classifier-attention.safetensors"), Path.Combine(Packs, "schedule-cosine-25.safetensors"))).Expect(ExitCode.Done);
        foreach (string output in new[] { "logits", "log_probs", "grad", "timestep_map", "betas" })
        {
            Assert.Contains(output, run.Output, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Verify_writes_json_and_fails_beyond_the_tolerance()
    {
        CliRun run = (await CliRun.Of("verify", Path.Combine(Packs, "unet-adm.safetensors"), "--json", "--tolerance", "1e-12")).Expect(ExitCode.VerificationFailed);
        using JsonDocument json = JsonDocument.Parse(run.Output);
        JsonElement row = json.RootElement[0];
        Assert.False(row.GetProperty("passed").GetBoolean());
        Assert.InRange(row.GetProperty("relative_l2").GetDouble(), 1e-12, 1e-5);
    }

    [Fact]
    public async Task Verify_compares_a_checkpoint_with_its_record()
    {
        string pack = Path.Combine(Packs, "checkpoint-expected.safetensors");
        (await CliRun.Of("verify", pack, "--against", Path.Combine(Packs, "checkpoint-half.pt"))).Expect(ExitCode.Done);
        Assert.Contains("--against", (await CliRun.Of("verify", pack)).Expect(ExitCode.Usage).Error, StringComparison.Ordinal);
        (await CliRun.Of("verify", pack, "--against", Path.Combine(Packs, "unet-adm.safetensors"))).Expect(ExitCode.InvalidFile);
        (await CliRun.Of("verify", Path.Combine(Weights, "shapes32_diffusion.safetensors"))).Expect(ExitCode.InvalidFile);
    }

    [Fact]
    public async Task Inspect_tells_the_configuration_and_where_it_comes_from()
    {
        CliRun run = (await CliRun.Of("inspect", Path.Combine(Weights, "shapes32_diffusion.safetensors"))).Expect(ExitCode.Done);
        Assert.Contains("1,373,382", run.Output, StringComparison.Ordinal);
        Assert.Contains("channel_mult", run.Output, StringComparison.Ordinal);
        Assert.Contains("GFLOP", run.Output, StringComparison.Ordinal);
        CliRun unknown = (await CliRun.Of("inspect", Path.Combine(Packs, "checkpoint-zip.pt"))).Expect(ExitCode.Done);
        Assert.Contains("--num-head-channels", unknown.Output, StringComparison.Ordinal);
        CliRun json = (await CliRun.Of("inspect", Path.Combine(Weights, "shapes32_classifier.safetensors"), "--json")).Expect(ExitCode.Done);
        using JsonDocument document = JsonDocument.Parse(json.Output);
        Assert.Equal("safetensors", document.RootElement.GetProperty("format").GetString());
        Assert.True(document.RootElement.GetProperty("flops_per_image").GetInt64() < document.RootElement.GetProperty("flops_per_image_with_gradient").GetInt64());
    }

    [Theory]
    [InlineData("--dot", "digraph")]
    [InlineData("--mermaid", "flowchart")]
    [InlineData("--text", "SamplerUpdate")]
    [InlineData("--batch-size=2", "After fusion")]
    public async Task Plan_shows_the_step(string option, string expected)
    {
        CliRun run = await CliRun.Of(
            "plan", Path.Combine(Weights, "shapes32_diffusion.safetensors"), "--classifier", Path.Combine(Weights, "shapes32_classifier.safetensors"), option);
        Assert.Contains(expected, run.Expect(ExitCode.Done).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Plan_counts_on_the_emulator_what_the_kernels_of_a_step_do()
    {
        PtxEmulator.Cuda.Require();

        CliRun run = await CliRun.Of("plan", Path.Combine(Weights, "shapes32_classifier.safetensors"), "--counters", "--precision", "fp16");
        string[] rows = [.. run.Expect(ExitCode.Done).Output.Split('\n').SkipWhile(line => !line.Contains("counted on PTX emulator", StringComparison.Ordinal)).Select(line => line.Trim())];
        Assert.Contains(rows, row => row.StartsWith("kernel ", StringComparison.Ordinal) && row.Contains("moved / least", StringComparison.Ordinal) && row.Contains("bank conflicts", StringComparison.Ordinal));
        string[] Cells(string name) => Assert.Single(rows, row => row.StartsWith(name + " ", StringComparison.Ordinal)).Split("  ", StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        string[] all = Cells("all"), convolution = Cells("convolution (convolution.cu)");
        Assert.Equal(9, all.Length);
        long Number(string cell) => long.Parse(cell, System.Globalization.NumberStyles.AllowThousands, System.Globalization.CultureInfo.InvariantCulture);
        Assert.True(Number(convolution[1]) > 10);
        Assert.True(Number(convolution[2]) >= Number(convolution[3]) && Number(convolution[3]) > 0);
        Assert.InRange(double.Parse(all[5], System.Globalization.CultureInfo.InvariantCulture), 50, 100);
        Assert.True(Number(all[8]) > Number(convolution[8]) && Number(convolution[8]) > 0);
    }

    [Fact]
    public async Task A_library_of_products_needs_a_GPU_and_is_counted_in_the_plan()
    {
        (await CliRun.Of("sample", "--device", "cpu", "--gemm", "cublas")).Expect(ExitCode.Usage);
        string model = Path.Combine(Weights, "shapes32_classifier.safetensors");
        Assert.DoesNotContain("gemm (cuBLAS)", (await CliRun.Of("plan", model)).Expect(ExitCode.Done).Output, StringComparison.Ordinal);
        Assert.Contains("gemm (cuBLAS)", (await CliRun.Of("plan", model, "--gemm", "cublas")).Expect(ExitCode.Done).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Convert_keeps_the_weights_and_writes_the_configuration()
    {
        string source = Path.Combine(Packs, "checkpoint-legacy.pt");
        string[] settings = ["--image-size", "16", "--num-head-channels", "32", "--use-new-attention-order", "--noise-schedule", "cosine"];
        (await CliRun.Of(["convert", source, _folder["a.safetensors"], .. settings])).Expect(ExitCode.Done);
        (await CliRun.Of("verify", Path.Combine(Packs, "checkpoint-expected.safetensors"), "--against", _folder["a.safetensors"])).Expect(ExitCode.Done);

        // The converted file needs no flags.
        (await CliRun.Of("sample", "--diffusion", _folder["a.safetensors"], "--num-samples", "1", "--steps", "2", "--output", _folder["a.png"])).Expect(ExitCode.Done);
        Assert.Equal(16, Png.Load(_folder["a.png"]).Width);

        (await CliRun.Of(["convert", source, _folder["half.safetensors"], "--dtype", "bf16", .. settings])).Expect(ExitCode.Done);
        using Checkpoint half = Checkpoint.Load(_folder["half.safetensors"]);
        Assert.All(half.Tensors.Values, t => Assert.Equal(DType.BF16, t.DType));
    }

    [Fact]
    public async Task Convert_refuses_what_it_cannot_know_or_write()
    {
        string source = Path.Combine(Packs, "checkpoint-zip.pt");
        CliRun run = (await CliRun.Of("convert", source, _folder["a.safetensors"])).Expect(ExitCode.Usage);
        Assert.Contains("--image-size", run.Error, StringComparison.Ordinal);
        (await CliRun.Of("convert", source, _folder["a.pt"])).Expect(ExitCode.Usage);
        Assert.Empty(_folder.Files);
    }

    [Fact]
    public async Task Help_names_every_command_and_an_unknown_one_is_a_usage_error()
    {
        CliRun help = (await CliRun.Of("--help")).Expect(ExitCode.Done);
        foreach (string command in new[] { "sample", "verify", "inspect", "plan", "convert" })
        {
            Assert.Contains(command, help.Output, StringComparison.Ordinal);
            (await CliRun.Of(command, "--help")).Expect(ExitCode.Done);
        }

        (await CliRun.Of("paint")).Expect(ExitCode.Usage);
        (await CliRun.Of("sample", "--colour", "red")).Expect(ExitCode.Usage);
    }

    [Fact]
    public async Task The_fusion_of_a_GPU_is_switched_off_by_name_or_with_all()
    {
        string[] job = ["compile", "--list", "--batch-size", "1", "--precision", "fp16"];
        Assert.Contains("-DSTATISTICS=1", (await CliRun.Of(job)).Expect(ExitCode.Done).Output, StringComparison.Ordinal);
        foreach (string name in new[] { "group_norm_statistics", "all" })
        {
            Assert.DoesNotContain("-DSTATISTICS=1", (await CliRun.Of([.. job, "--disable-fusion", name])).Expect(ExitCode.Done).Output, StringComparison.Ordinal);
        }

        (await CliRun.Of([.. job, "--disable-fusion", "group_norm"])).Expect(ExitCode.Usage);
    }
}
