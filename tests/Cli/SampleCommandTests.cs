using Kernels.Cli;
using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.Cli;

public sealed class SampleCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_png_shows_all_images_in_rows_of_the_classes()
    {
        CliRun run = (await Sample("--class", "star,0-2", "--num-samples", "8", "--steps", "2")).Expect(ExitCode.Done);
        Assert.Equal(_folder["out.png"], run.Output.Trim());
        Image image = Png.Load(_folder["out.png"]);
        Assert.Equal((2 + (4 * 34), 2 + (2 * 34), 3), (image.Width, image.Height, image.Channels));
        Assert.Equal(["out.png"], _folder.Files);
    }

    [Fact]
    public async Task An_npz_holds_what_guided_diffusion_writes()
    {
        (await Sample("--class", "7", "--class", "heart", "--num-samples", "3", "--steps", "2", "--output", _folder["a.npz"])).Expect(ExitCode.Done);
        using Npz npz = Npz.Open(_folder["a.npz"]);
        Assert.Equal(["arr_0", "arr_1"], npz.Names);
        Assert.Equal((DType.U8, "3,32,32,3"), (npz.Read("arr_0").DType, string.Join(',', npz.Read("arr_0").Dims)));
        Assert.Equal([7L, 4L, 7L], npz.Read("arr_1").ToInt64());
    }

    [Fact]
    public async Task A_folder_gets_one_picture_per_image()
    {
        (await Sample("--class", "1,2", "--steps", "2", "--output", _folder["pictures"])).Expect(ExitCode.Done);
        Assert.Equal(["pictures/000000-class1.png", "pictures/000001-class2.png"], _folder.Files);
    }

    [Fact]
    public async Task The_images_do_not_depend_on_batch_size_or_threads()
    {
        string[] job = ["--num-samples", "5", "--steps", "3", "--seed", "11"];
        (await Sample([.. job, "--output", _folder["a.npz"], "--batch-size", "5"])).Expect(ExitCode.Done);
        (await Sample([.. job, "--output", _folder["b.npz"], "--batch-size", "2", "--threads", "1"])).Expect(ExitCode.Done);
        (await Sample([.. job, "--output", _folder["c.npz"], "--seed", "12"])).Expect(ExitCode.Usage);
        (await Sample("--num-samples", "5", "--steps", "3", "--seed", "12", "--output", _folder["c.npz"])).Expect(ExitCode.Done);
        Assert.Equal(File.ReadAllBytes(_folder["a.npz"]), File.ReadAllBytes(_folder["b.npz"]));
        Assert.NotEqual(File.ReadAllBytes(_folder["a.npz"]), File.ReadAllBytes(_folder["c.npz"]));
    }

    [Fact]
    public async Task The_flags_of_the_original_are_understood()
    {
        string weights = Path.Combine(AppContext.BaseDirectory, "weights");
        string[] original =
        [
            "sample", "--attention_resolutions", "8", "--class_cond", "True", "--diffusion_steps", "1000", "--dropout", "0.1", "--image_size", "32", "--learn_sigma", "True",
            "--noise_schedule", "cosine", "--num_channels", "32", "--num_head_channels", "32", "--num_res_blocks", "1", "--resblock_updown", "True",
            "--use_new_attention_order", "True", "--use_fp16", "True", "--use_scale_shift_norm", "True", "--classifier_scale", "2.0", "--classifier_depth", "1",
            "--classifier_path", Path.Combine(weights, "shapes32_classifier.safetensors"), "--model_path", Path.Combine(weights, "shapes32_diffusion.safetensors"),
            "--batch_size", "2", "--num_samples", "2", "--timestep_respacing", "ddim3", "--use_ddim", "True", "--output",
        ];
        (await CliRun.Of([.. original, _folder["a.npz"]])).Expect(ExitCode.Done);
        (await Sample("--classifier-scale", "2", "--sampler", "ddim", "--steps", "3", "--num-samples", "2", "--output", _folder["b.npz"], "--class", "0-9")).Expect(ExitCode.Done);
        using Npz npz = Npz.Open(_folder["a.npz"]);
        Assert.Equal("2,32,32,3", string.Join(',', npz.Read("arr_0").Dims));
        Assert.Equal(2, npz.Read("arr_1").Dims[0]);
    }

    [Fact]
    public async Task Intermediates_are_pictures_of_every_step()
    {
        (await Sample("--class", "1,2", "--steps", "3", "--intermediates", _folder["steps"])).Expect(ExitCode.Done);
        Assert.Equal(["out.png", "steps/000000-step0001.png", "steps/000000-step0002.png", "steps/000000-step0003.png"], _folder.Files);
    }

    [Fact]
    public async Task An_interrupted_job_keeps_what_is_finished()
    {
        using CancellationTokenSource source = new();
        Task<CliRun> running = CliRun.Of(
            ["sample", "--steps", "5", "--num-samples", "100000", "--batch-size", "1", "--output", _folder["pictures"], "--format", "png"], source.Token);
        while (!running.IsCompleted && !_folder.Files.Any(f => f.EndsWith(".png", StringComparison.Ordinal)))
        {
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }

        await source.CancelAsync();
        CliRun run = (await running).Expect(ExitCode.Interrupted);
        Assert.Contains("finished images are in", run.Error, StringComparison.Ordinal);
        Assert.All(_folder.Files, f => Assert.Equal(32, Png.Load(_folder[f]).Width));
    }

    [Theory]
    [InlineData("classes 0 to 9", "--class", "10")]
    [InlineData("classes 0 to 9", "--class", "5-12")]
    [InlineData("is not a class", "--class", "dragon")]
    [InlineData("runs backwards", "--class", "5-3")]
    [InlineData("must be positive", "--num-samples", "0")]
    [InlineData("must be positive", "--batch-size", "0")]
    [InlineData("one of them", "--steps", "5", "--timestep-respacing", "5")]
    [InlineData("contradict", "--sampler", "ddpm", "--use-ddim")]
    [InlineData("eta", "--eta", "0.5")]
    [InlineData("there is no sampler 'lms'; there are ddpm, ddim,", "--sampler", "lms")]
    [InlineData("side by side with --compare", "--sampler", "ddim,heun")]
    [InlineData("names one twice", "--sampler", "ddim,heun,ddim", "--compare")]
    [InlineData("a comparison is one picture", "--compare", "--output", "all.npz")]
    [InlineData("--intermediates goes with one sampler", "--compare", "--intermediates", "steps")]
    [InlineData("the start is above the stop", "--guidance-start", "1", "--guidance-stop", "2")]
    [InlineData("the start is above the stop", "--guidance-stop", "-1")]
    [InlineData("'exponential' not recognized", "--spacing", "exponential")]
    [InlineData("respacing", "--timestep-respacing", "ddim999")]
    [InlineData("respacing", "--timestep-respacing", "many")]
    [InlineData("null label", "--cfg-scale", "1", "--null-label", "99")]
    [InlineData("exclude each other", "--cfg-scale", "1", "--unconditional")]
    [InlineData("there is no fusion 'nothing'", "--disable-fusion", "nothing")]
    [InlineData("give a .png, a .npz or a folder", "--output", "picture.jpeg")]
    [InlineData("--threads", "--threads", "0")]
    public async Task A_wrong_setting_is_explained(string reason, params string[] args)
    {
        CliRun run = (await Sample(args)).Expect(ExitCode.Usage);
        Assert.Contains(reason, run.Error, StringComparison.Ordinal);
        Assert.Empty(_folder.Files);
    }

    [Fact]
    public async Task Samplers_are_compared_in_rows_of_one_picture()
    {
        string[] job = ["--class", "1,4,6", "--steps", "3", "--seed", "5"];
        CliRun run = (await Sample([.. job, "--compare", "--sampler", "ddim,heun,dpm++2m-sde"])).Expect(ExitCode.Done);
        Assert.EndsWith(_folder["out.png"], run.Output.Trim(), StringComparison.Ordinal);
        string[][] rows = [.. run.Output.Split('\n').Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Where(w => w.Length == 6 && w[0] != "sampler")];
        Assert.Equal(["ddim linear 3 3", "heun karras 3 5", "dpm++2m-sde karras 3 3"], rows.Select(w => string.Join(' ', w[..4])));
        Assert.All(rows, w => Assert.True(double.Parse(w[4], System.Globalization.CultureInfo.InvariantCulture) > 0));

        // A row is what the sampler makes by itself.
        Image all = Png.Load(_folder["out.png"]);
        Assert.Equal((2 + (3 * 34), 2 + (3 * 34)), (all.Width, all.Height));
        (await Sample([.. job, "--sampler", "heun", "--output", _folder["heun.png"]])).Expect(ExitCode.Done);
        Image heun = Png.Load(_folder["heun.png"]);
        int row = heun.Width * heun.Channels;
        Assert.Equal(heun.Pixels.AsSpan(2 * row, 32 * row).ToArray(), all.Pixels.AsSpan((2 + 34) * row, 32 * row).ToArray());
    }

    [Fact]
    public async Task Spacing_and_guidance_interval_reach_the_sampler()
    {
        string[] job = ["--class", "1", "--steps", "4", "--sampler", "dpm++2m"];
        string[][] variants = [[], ["--spacing", "cosine"], ["--guidance-start", "5"], ["--guidance-stop", "0.5"], ["--classifier-scale", "0"]];
        List<string> seen = [];
        foreach ((int i, string[] variant) in variants.Index())
        {
            (await Sample([.. job, .. variant, "--output", _folder[$"{i}.npz"]])).Expect(ExitCode.Done);
            using Npz npz = Npz.Open(_folder[$"{i}.npz"]);
            seen.Add(Convert.ToHexString(npz.Read("arr_0").ToBytes()));
        }

        Assert.Equal(variants.Length, seen.Distinct().Count());
    }

    [Fact]
    public async Task A_file_that_is_not_there_or_no_checkpoint_is_refused()
    {
        await File.WriteAllTextAsync(_folder["text.pt"], "not a checkpoint", TestContext.Current.CancellationToken);
        CliRun missing = (await Sample("--diffusion", _folder["missing.pt"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("missing.pt", missing.Error, StringComparison.Ordinal);
        CliRun text = (await Sample("--diffusion", _folder["text.pt"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("text.pt", text.Error, StringComparison.Ordinal);
        Assert.Equal(["text.pt"], _folder.Files);
    }

    [Fact]
    public async Task A_classifier_in_the_place_of_the_diffusion_model_is_refused()
    {
        CliRun run = await Sample("--diffusion", Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_classifier.safetensors"));
        Assert.NotEqual(ExitCode.Done, run.ExitCode);
        Assert.Contains("classifier", run.Error, StringComparison.Ordinal);
    }

    private Task<CliRun> Sample(params string[] args) =>
        CliRun.Of(["sample", .. args.Contains("--output") ? args : [.. args, "--output", _folder["out.png"]]]);
}
