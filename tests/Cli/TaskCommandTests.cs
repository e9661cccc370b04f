using System.Globalization;
using Kernels.Checkpoints;
using Kernels.Cli;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Tests.Models;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>Tasks on the command line: images in, images or numbers out.</summary>
public sealed class TaskCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Inpainting_keeps_the_white_of_the_mask()
    {
        Image image = Save("image.png", 32, 3, i => (byte)(i * 7 % 256));
        Save("mask.png", 32, 1, i => i % 32 < 20 ? (byte)255 : (byte)0);
        (await Sample("--inpaint", _folder["image.png"], "--mask", _folder["mask.png"], "--repaint-jumps", "2", "--repaint-resamples", "2", "--num-samples", "2", "--class", "1")).Expect(ExitCode.Done);
        using Npz npz = Npz.Open(_folder["out.npz"]);
        byte[] made = npz.Read("arr_0").ToBytes();
        Assert.Equal([2, 32, 32, 3], npz.Read("arr_0").Dims);

        // Bytes go to [-1, 1] and back as the original's do, which may cut one level off.
        Assert.All(Enumerable.Range(0, made.Length).Where(i => i / 3 % 32 < 20), i => Assert.InRange(image.Pixels[i % (32 * 32 * 3)] - made[i], 0, 1));
        Assert.Contains(Enumerable.Range(0, made.Length), i => i / 3 % 32 >= 20 && Math.Abs(image.Pixels[i % (32 * 32 * 3)] - made[i]) > 20);
    }

    [Fact]
    public async Task An_image_to_begin_with_and_two_seeds_make_as_many_images_as_they_are()
    {
        Save("image.png", 32, 3, i => (byte)(i % 256));
        CliRun run = (await Sample("--init", _folder["image.png"], "--strength", "0.5", "--class", "star")).Expect(ExitCode.Done);
        Assert.Contains("1 images of 32x32, 2 steps of ddpm", run.Error, StringComparison.Ordinal);
        Assert.Equal(1, Dims()[0]);
        (await Sample("--interpolate", "9", "--num-samples", "3", "--class", "star", "--output", _folder["three.npz"])).Expect(ExitCode.Done);
        using Npz npz = Npz.Open(_folder["three.npz"]);
        Assert.Equal([3L, 3, 3], npz.Read("arr_1").ToInt64());
    }

    [Fact]
    public async Task Inversion_leaves_latents_that_sample_takes()
    {
        Save("image.png", 32, 3, i => (byte)(120 + (i % 7)));
        CliRun run = (await CliRun.Of("invert", _folder["image.png"], "--class", "disk", "--steps", "10", "--output", _folder["latents.npz"], "--reconstruction", _folder["back.npz"])).Expect(ExitCode.Done);
        Assert.Contains("reconstruction error", run.Output, StringComparison.Ordinal);
        (await Sample("--latents", _folder["latents.npz"], "--sampler", "ddim", "--steps", "10", "--classifier-scale", "0")).Expect(ExitCode.Done);
        using Npz back = Npz.Open(_folder["back.npz"]), again = Npz.Open(_folder["out.npz"]);
        Assert.Equal(back.Read("arr_0").ToBytes(), again.Read("arr_0").ToBytes());
        Assert.Equal(back.Read("arr_1").ToInt64(), again.Read("arr_1").ToInt64());
    }

    [Fact]
    public async Task Bits_per_dimension_come_with_their_terms()
    {
        (await Sample("--class", "1,2,3")).Expect(ExitCode.Done);
        CliRun run = (await CliRun.Of("nll", _folder["out.npz"], "--steps", "6", "--batch-size", "2", "--terms", _folder["terms"])).Expect(ExitCode.Done);
        Assert.Matches(@"^-?\d+\.\d{5} ± \d+\.\d{5} bits per dimension, of which 0\.\d{5} are the prior's; 3 images, 6 steps", run.Output);
        using Npz npz = Npz.Open(_folder["terms/vb_terms.npz"]);
        float[] vb = npz.Read("arr_0").ToFloat32();
        Assert.Equal(6, vb.Length);
        Assert.Equal(["terms/mse_terms.npz", "terms/vb_terms.npz", "terms/xstart_mse_terms.npz"], _folder.Files.Where(f => f.StartsWith("terms", StringComparison.Ordinal)));

        // The bound is the sum of its terms and the prior.
        double[] numbers = [.. System.Text.RegularExpressions.Regex.Matches(run.Output, @"-?\d+\.\d{5}").Select(m => double.Parse(m.Value, CultureInfo.InvariantCulture))];
        Assert.Equal(numbers[0], vb.Sum(v => (double)v) + numbers[2], 1e-3);
        CliRun again = (await CliRun.Of("nll", _folder["out.npz"], "--steps", "6", "--batch-size", "1")).Expect(ExitCode.Done);
        Assert.Equal(run.Output, again.Output);
    }

    [Fact]
    public async Task Super_resolution_takes_images_and_classes_from_an_archive()
    {
        ModelConfig config = TestModels.UNet() with { Kind = ModelKind.SuperRes };
        Dictionary<string, string> metadata;
        using (LoadedModel described = SyntheticCheckpoint.Load(config, new ModelOverrides { ImageSize = 8, NumHeadChannels = 32, UseNewAttentionOrder = true, LearnSigma = true, NoiseSchedule = Kernels.Diffusion.NoiseSchedule.Linear, UseScaleShiftNorm = true, ResblockUpdown = true }))
        {
            metadata = ModelMetadata.Of(described);
        }

        Weights(_folder["upsampler.safetensors"], config, metadata);
        Npz.Write(_folder["small.npz"], [new("arr_0", NpyArray.Of([.. Enumerable.Range(0, 2 * 48).Select(i => (byte)i)], 2, 4, 4, 3)), new("arr_1", NpyArray.Of([7L, 2], 2))]);
        string[] job = ["--diffusion", _folder["upsampler.safetensors"], "--steps", "2"];
        (await Sample([.. job, "--low-res", _folder["small.npz"]])).Expect(ExitCode.Done);
        Assert.Equal([2, 8, 8, 3], Dims());
        using (Npz npz = Npz.Open(_folder["out.npz"]))
        {
            Assert.Equal([7L, 2], npz.Read("arr_1").ToInt64());
        }

        byte[] two = File.ReadAllBytes(_folder["out.npz"]);
        (await Sample([.. job, "--base_samples", _folder["small.npz"], "--batch-size", "1"])).Expect(ExitCode.Done);
        Assert.Equal(two, File.ReadAllBytes(_folder["out.npz"]));
        Assert.Contains("needs low-resolution images", (await Sample(job)).Expect(ExitCode.Usage).Error, StringComparison.Ordinal);
        Save("grey.png", 4, 1, i => 9);
        Assert.Contains("grey.png: the image is grey, the model takes RGB", (await Sample([.. job, "--low-res", _folder["grey.png"]])).Expect(ExitCode.InvalidFile).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_deadline_is_met_or_refused()
    {
        (await Sample("--deadline", "100000000", "--num-samples", "1", "--class", "1")).Expect(ExitCode.Done);
        Assert.Contains("cannot be met: 2 steps take", (await Sample("--deadline", "0.0001")).Expect(ExitCode.Usage).Error, StringComparison.Ordinal);
        Assert.Contains("--deadline is -1", (await Sample("--deadline", "-1")).Expect(ExitCode.Usage).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("star\n# a comment\n\n7\nheart", "3,7,4")]
    [InlineData("image,class\n1,star\n0, 5", "5,3")]
    [InlineData("0,disk", "0")]
    public void A_file_names_classes(string text, string expected)
    {
        File.WriteAllText(_folder["classes.txt"], text);
        Assert.Equal(expected, string.Join(',', ClassFile.Read(_folder["classes.txt"], 10, ["disk", "square", "triangle", "star", "heart"])));
    }

    [Theory]
    [InlineData("star\nmoon", "line 2: 'moon' is no class: there are 0 to 9 (disk, star)")]
    [InlineData("12", "line 1: '12' is no class")]
    [InlineData("0,1\n2", "line 2: '2' is neither a class nor image,class")]
    [InlineData("1\n0,2", "line 2: '0,2' is neither")]
    [InlineData("0,1\n0,2", "line 2: image 0 has its class in line 1 already")]
    [InlineData("0,1\n5,2", "image 1 has no line, image 5 has one")]
    [InlineData("x,1", "line 1: 'x' is not the number of an image")]
    [InlineData("\n# nothing\n", "names no class")]
    public void A_wrong_line_is_named(string text, string message)
    {
        File.WriteAllText(_folder["classes.txt"], text);
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => ClassFile.Read(_folder["classes.txt"], 10, ["disk", "star"]));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Classes_from_a_file_are_those_of_the_images()
    {
        File.WriteAllText(_folder["classes.csv"], "image,class\n2,star\n1,0\n0,heart\n");
        (await Sample("--classes-file", _folder["classes.csv"])).Expect(ExitCode.Done);
        using Npz npz = Npz.Open(_folder["out.npz"]);
        Assert.Equal([4L, 0, 3], npz.Read("arr_1").ToInt64());
    }

    [Fact]
    public async Task Wrong_input_is_refused_before_anything_is_sampled()
    {
        Save("small.png", 16, 3, i => 9);
        Save("image.png", 32, 3, i => 9);
        Save("mask.png", 16, 1, i => 9);
        Save("rgba.png", 32, 4, i => 9);
        await File.WriteAllTextAsync(_folder["text.png"], "no image", TestContext.Current.CancellationToken);
        string small = _folder["small.png"], image = _folder["image.png"], mask = _folder["mask.png"];
        await Refused(ExitCode.InvalidFile, "small.png: the image has 16x16 pixels (height x width), 32x32 are needed; scale or crop it", "--init", small);
        await Refused(ExitCode.InvalidFile, "rgba.png: the image has an opacity channel", "--init", _folder["rgba.png"]);
        await Refused(ExitCode.InvalidFile, "mask.png: the image has 16x16", "--inpaint", image, "--mask", mask);
        await Refused(ExitCode.InvalidFile, "text.png", "--inpaint", image, "--mask", _folder["text.png"]);
        await Refused(ExitCode.InvalidFile, "missing.png", "--low-res", _folder["missing.png"]);
        await Refused(ExitCode.Usage, "--inpaint and --mask need each other", "--mask", mask);
        await Refused(ExitCode.Usage, "belong to --inpaint", "--repaint-jumps", "3");
        await Refused(ExitCode.Usage, "--strength belongs to --init", "--strength", "0.3");
        await Refused(ExitCode.Usage, "strength is 0;", "--init", image, "--strength", "0");
        await Refused(ExitCode.Usage, "only a super-resolution model", "--low-res", image);
        await Refused(ExitCode.Usage, "two images at least", "--interpolate", "3", "--num-samples", "1");
        await Refused(ExitCode.Usage, "give one of them", "--class", "3", "--classes-file", mask);
        await Refused(ExitCode.InvalidFile, "missing.txt", "--classes-file", _folder["missing.txt"]);
        CliRun unnamed = (await CliRun.Of("nll", image, "--steps", "4")).Expect(ExitCode.Usage);
        Assert.Contains("names no classes; give --class", unnamed.Error, StringComparison.Ordinal);

        async Task Refused(int code, string message, params string[] args)
        {
            CliRun run = (await Sample(args)).Expect(code);
            Assert.Contains(message, run.Error, StringComparison.Ordinal);
            Assert.DoesNotContain("out.npz", _folder.Files);
        }
    }

    private static void Weights(string path, ModelConfig config, Dictionary<string, string> metadata)
    {
        Model model = PresetModels.Random(config);
        SafeTensorsWriter.Write(path, [.. SyntheticCheckpoint.ShapesOf(config).Select(w => CheckpointTensorOf(model, w.Key, w.Value))], metadata);
    }

    private static CheckpointTensor CheckpointTensorOf(Model model, string name, Shape shape)
    {
        float[] values = new float[shape.Elements];
        model.Weights.CopyTo(name, values);
        return CheckpointTensor.FromFloat32(name, shape, values);
    }

    private Image Save(string name, int size, int channels, Func<int, byte> value)
    {
        Image image = new(size, size, channels, [.. Enumerable.Range(0, size * size * channels).Select(value)]);
        Png.Save(_folder[name], image);
        return image;
    }

    private IReadOnlyList<long> Dims()
    {
        using Npz npz = Npz.Open(_folder["out.npz"]);
        return npz.Read("arr_0").Dims;
    }

    private Task<CliRun> Sample(params string[] args) =>
        CliRun.Of(["sample", .. args, .. args.Contains("--steps") ? Array.Empty<string>() : ["--steps", "4"], .. args.Contains("--output") ? Array.Empty<string>() : ["--output", _folder["out.npz"]]]);
}
