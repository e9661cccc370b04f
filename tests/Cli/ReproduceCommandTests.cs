using System.Text.Json.Nodes;
using Kernels.Cli;
using Kernels.Imaging;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Cli;

public sealed class ReproduceCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a.png")]
    [InlineData("a.npz")]
    public async Task What_was_sampled_is_reproduced(string name)
    {
        await Sample("--num-samples", "5", "--batch-size", "3", "--output", _folder[name]);
        CliRun run = (await CliRun.Of("reproduce", _folder[name], "--batch-size", "2", "--threads", "2")).Expect(ExitCode.Done);
        Assert.Equal("identical: 5 images, x after each of 2 steps, and the pixels", run.Output.Trim());
    }

    [Fact]
    public async Task So_is_a_row_of_a_picture_that_compares_samplers()
    {
        await Sample("--compare", "--sampler", "ddim,dpm++2m", "--class", "1,2", "--output", _folder["a.png"]);
        Assert.Contains("--sampler: ddim, dpm++2m", (await CliRun.Of("reproduce", _folder["a.png"])).Expect(ExitCode.InvalidFile).Error, StringComparison.Ordinal);
        CliRun run = (await CliRun.Of("reproduce", _folder["a.png"], "--sampler", "dpm++2m")).Expect(ExitCode.Done);
        Assert.Contains("identical: 2 images, x after each of 2 steps, and the pixels", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_first_step_and_image_that_differ_are_named()
    {
        await Sample("--class", "1,2,3", "--output", _folder["a.npz"]);
        Edit(receipt => receipt["job"]!["request"]!["classes"]![1] = 5);
        CliRun one = (await CliRun.Of("reproduce", _folder["a.npz"])).Expect(ExitCode.VerificationFailed);
        Assert.Equal("differs: first after step 1 of 2, in image 1; no other image differs", one.Output.Trim());

        Edit(receipt => receipt["job"]!["settings"]!["classifier_scale"] = 7);
        CliRun all = (await CliRun.Of("reproduce", _folder["a.npz"])).Expect(ExitCode.VerificationFailed);
        Assert.Equal("differs: first after step 1 of 2, in image 0; 3 of 3 images differ in the end: 0, 1, 2", all.Output.Trim());
    }

    [Fact]
    public async Task Without_hashes_of_steps_the_pixels_are_compared()
    {
        await Sample("--num-samples", "2", "--step-hashes", "false", "--output", _folder["a.npz"]);
        Assert.Contains("no hashes of steps", (await CliRun.Of("reproduce", _folder["a.npz"])).Expect(ExitCode.Done).Output, StringComparison.Ordinal);
        Edit(receipt => receipt["job"]!["request"]!["seed"] = 77);
        Assert.Contains("the pixels are not the same", (await CliRun.Of("reproduce", _folder["a.npz"])).Expect(ExitCode.VerificationFailed).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pixels_that_were_changed_in_the_file_are_found()
    {
        await Sample("--num-samples", "2", "--output", _folder["a.png"]);
        Image picture = Png.Load(_folder["a.png"]);
        picture.Pixels[5000] ^= 1;
        Png.Save(_folder["a.png"], picture);
        CliRun run = (await CliRun.Of("reproduce", _folder["a.png"])).Expect(ExitCode.VerificationFailed);
        Assert.Contains("the pixels of the file are not those", run.Output, StringComparison.Ordinal);

        await Sample("--num-samples", "2", "--output", _folder["a.npz"]);
        byte[] bytes = File.ReadAllBytes(_folder["a.npz"]);
        bytes[3000] ^= 1;
        File.WriteAllBytes(_folder["a.npz"], bytes);
        Assert.Contains("is not the file that", (await CliRun.Of("reproduce", _folder["a.npz"])).Expect(ExitCode.InvalidFile).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_checkpoint_that_is_missing_or_another_is_refused()
    {
        string weights = Path.Combine(AppContext.BaseDirectory, "weights"), diffusion = _folder["d.safetensors"];
        File.Copy(Path.Combine(weights, "shapes32_diffusion.safetensors"), diffusion);
        await Sample("--num-samples", "2", "--diffusion", diffusion, "--output", _folder["a.png"]);

        byte[] bytes = File.ReadAllBytes(diffusion);
        bytes[^1] ^= 1;
        File.WriteAllBytes(diffusion, bytes);
        CliRun other = (await CliRun.Of("reproduce", _folder["a.png"])).Expect(ExitCode.InvalidFile);
        Assert.Contains($"{diffusion} is another file (SHA-256", other.Error, StringComparison.Ordinal);

        File.Delete(diffusion);
        CliRun missing = (await CliRun.Of("reproduce", _folder["a.png"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("it is not there", missing.Error, StringComparison.Ordinal);
        Assert.Contains("--diffusion", missing.Error, StringComparison.Ordinal);

        (await CliRun.Of("reproduce", _folder["a.png"], "--diffusion", Path.Combine(weights, "shapes32_classifier.safetensors"))).Expect(ExitCode.InvalidFile);
        (await CliRun.Of("reproduce", _folder["a.png"], "--diffusion", Path.Combine(weights, "shapes32_diffusion.safetensors"))).Expect(ExitCode.Done);
    }

    [Theory]
    [InlineData("--sampler", "ddim", "--eta", "0.5")]
    [InlineData("--sampler", "dpm++2m", "--guidance-start", "20", "--guidance-stop", "0.5")]
    [InlineData("--sampler", "euler-a", "--spacing", "karras")]
    [InlineData("--sampler", "plms")]
    [InlineData("--rng", "torch-cpu", "--batch-size", "2")]
    [InlineData("--interpolate", "9")]
    [InlineData("--init", "IMAGE", "--strength", "0.5")]
    [InlineData("--inpaint", "IMAGE", "--mask", "MASK")]
    [InlineData("--inpaint", "IMAGE", "--mask", "MASK", "--repaint-jumps", "1", "--repaint-resamples", "2")]
    [InlineData("--cfg-scale", "1.5", "--classifier-scale", "0")]
    public async Task Every_task_is_reproduced(params string[] task)
    {
        Picture("image.png", 3, i => (byte)(i % 251));
        Picture("mask.png", 1, i => (byte)(i % 32 < 16 ? 255 : 0));
        await Sample([.. task.Select(t => t switch { "IMAGE" => _folder["image.png"], "MASK" => _folder["mask.png"], _ => t }), "--num-samples", "3", "--output", _folder["a.npz"]]);
        (await CliRun.Of("reproduce", _folder["a.npz"], "--batch-size", "2")).Expect(ExitCode.Done);
    }

    [Fact]
    public async Task An_input_that_is_missing_or_another_is_refused()
    {
        Picture("image.png", 3, i => (byte)(i % 251));
        await Sample("--init", _folder["image.png"], "--output", _folder["a.png"]);
        File.Move(_folder["image.png"], _folder["moved.png"]);
        CliRun missing = (await CliRun.Of("reproduce", _folder["a.png"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("--input init=PATH", missing.Error, StringComparison.Ordinal);
        (await CliRun.Of("reproduce", _folder["a.png"], "--input", $"init={_folder["moved.png"]}")).Expect(ExitCode.Done);
        (await CliRun.Of("reproduce", _folder["a.png"], "--input", $"mask={_folder["moved.png"]}")).Expect(ExitCode.Usage);
        (await CliRun.Of("reproduce", _folder["a.png"], "--input", "init")).Expect(ExitCode.Usage);
        Picture("image.png", 3, i => (byte)(i % 249));
        CliRun other = (await CliRun.Of("reproduce", _folder["a.png"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("is not the input 'init'", other.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Other_versions_and_devices_are_told()
    {
        await Sample("--num-samples", "1", "--output", _folder["a.npz"]);
        Edit(receipt => receipt["job"]!["device"]!["name"] = "another machine");
        CliRun run = (await CliRun.Of("reproduce", _folder["a.npz"])).Expect(ExitCode.Done);
        Assert.Contains("kernels: device.name is \"another machine\" in the receipt and", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Kernels_of_a_folder_are_told_where_others_run_and_found_again_where_it_is_named()
    {
        Cuda.Require();
        string kernels = Directory.CreateDirectory(_folder["kernels"]).FullName;
        KernelFolder.Write(kernels);
        KernelFolder.Edit(kernels, "sampler.cu", "expf(mul(0.5f, log_variance))", "expf(mul(0.25f, log_variance))");
        string[] quick = ["--device", "emulator", "--check", "none"];
        (await CliRun.Of(["sample", .. quick, "--steps", "2", "--classifier-scale", "0", "--num-samples", "1", "--kernels-dir", kernels, "--output", _folder["a.npz"]])).Expect(ExitCode.Done);

        CliRun others = (await CliRun.Of(["reproduce", _folder["a.npz"], .. quick])).Expect(ExitCode.VerificationFailed);
        Assert.Contains("kernels: the kernels of the library are not those that made the images; --kernels-dir", others.Error, StringComparison.Ordinal);
        Assert.StartsWith("differs: first after step 1 of 2", others.Output, StringComparison.Ordinal);

        CliRun same = (await CliRun.Of(["reproduce", _folder["a.npz"], .. quick, "--kernels-dir", kernels])).Expect(ExitCode.Done);
        Assert.DoesNotContain("kernels_sha256", same.Error, StringComparison.Ordinal);
        Assert.StartsWith("identical: 1 images", same.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_no_receipt_is_refused()
    {
        Png.Save(_folder["plain.png"], new Image(4, 4, 3, new byte[48]));
        Assert.Contains("holds no receipt", (await CliRun.Of("reproduce", _folder["plain.png"])).Expect(ExitCode.InvalidFile).Error, StringComparison.Ordinal);
        File.WriteAllText(_folder["x.npz"], "");
        Assert.Contains("x.npz.json", (await CliRun.Of("reproduce", _folder["x.npz"])).Expect(ExitCode.InvalidFile).Error, StringComparison.Ordinal);
        File.WriteAllText(_folder["x.npz.json"], "{");
        (await CliRun.Of("reproduce", _folder["x.npz"])).Expect(ExitCode.InvalidFile);
        (await CliRun.Of("reproduce", _folder["x.txt"])).Expect(ExitCode.InvalidFile);
        (await CliRun.Of("reproduce", _folder["x.npz"], "--batch-size", "0")).Expect(ExitCode.Usage);
    }

    private void Picture(string name, int channels, Func<int, byte> sample) =>
        Png.Save(_folder[name], new Image(32, 32, channels, [.. Enumerable.Range(0, 32 * 32 * channels).Select(sample)]));

    private void Edit(Action<JsonNode> change)
    {
        JsonNode receipt = JsonNode.Parse(File.ReadAllText(_folder["a.npz.json"]))!;
        change(receipt);
        File.WriteAllText(_folder["a.npz.json"], receipt.ToJsonString());
    }

    private static async Task Sample(params string[] args) => (await CliRun.Of(["sample", "--device", "cpu", "--steps", "2", .. args])).Expect(ExitCode.Done);
}
