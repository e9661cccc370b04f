using Kernels.Checkpoints;
using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>Checkpoints that are sound files but no sound models: each is refused with its name, the tensor and the reason, and nothing is written.</summary>
public sealed class BadModelTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private static string Diffusion => Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");

    private static string Classifier => Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_classifier.safetensors");

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public async Task A_weight_that_is_not_finite_is_named(float value)
    {
        const string Name = "middle_block.1.norm.weight";
        CliRun run = await Refused(tensors =>
        {
            float[] values = tensors[Name].ToFloat32();
            values[5] = value;
            tensors[Name] = CheckpointTensor.FromFloat32(Name, tensors[Name].Shape, values);
        });
        Assert.Contains($"{Name}: element 5 is {value}", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_missing_weight_is_named()
    {
        CliRun run = await Refused(tensors => tensors.Remove("out.2.bias"));
        Assert.Contains("out.2.bias", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_weight_too_many_is_named()
    {
        CliRun run = await Refused(tensors => tensors.Add("out.3.weight", CheckpointTensor.FromFloat32("out.3.weight", [1], [1f])));
        Assert.Contains("out.3.weight", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_misshapen_weight_is_named_with_both_shapes()
    {
        CliRun run = await Refused(tensors => tensors["out.2.bias"] = CheckpointTensor.FromFloat32("out.2.bias", [5], new float[5]));
        Assert.Contains("out.2.bias", run.Error, StringComparison.Ordinal);
        Assert.Contains("[5]", run.Error, StringComparison.Ordinal);
        Assert.Contains("[6]", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_classifier_for_another_image_size_is_refused()
    {
        string[] settings = ["--image-size", "16", "--num-head-channels", "32", "--use-new-attention-order", "--noise-schedule", "cosine"];
        string small = Path.Combine(AppContext.BaseDirectory, "packs", "checkpoint-zip.pt");
        (await CliRun.Of(["convert", small, _folder["small.safetensors"], .. settings])).Expect(ExitCode.Done);
        CliRun run = (await CliRun.Of("sample", "--diffusion", _folder["small.safetensors"], "--classifier", Classifier, "--output", _folder["out.png"])).Expect(ExitCode.Usage);
        Assert.Contains("32x32", run.Error, StringComparison.Ordinal);
        Assert.Contains("16x16", run.Error, StringComparison.Ordinal);
        Assert.Equal(["small.safetensors"], _folder.Files);
    }

    [Theory]
    [InlineData("--num-res-blocks", "2", "num-res-blocks")]
    [InlineData("--channel-mult", "1,2,4", "channel-mult")]
    [InlineData("--num-head-channels", "48", "num_head_channels")]
    [InlineData("--class-cond", "false", "class-cond")]
    [InlineData("--learn-sigma", "false", "learn-sigma")]
    public async Task A_flag_that_contradicts_the_weights_is_named(string flag, string value, string named)
    {
        CliRun run = (await CliRun.Of("sample", flag, value, "--output", _folder["out.png"])).Expect(ExitCode.Usage);
        Assert.Contains(named, run.Error, StringComparison.Ordinal);
        Assert.Empty(_folder.Files);
    }

    private async Task<CliRun> Refused(Action<OrderedDictionary<string, CheckpointTensor>> damage)
    {
        using (Checkpoint checkpoint = Checkpoint.Load(Diffusion))
        {
            OrderedDictionary<string, CheckpointTensor> tensors = new(checkpoint.Tensors);
            damage(tensors);
            SafeTensorsWriter.Write(_folder["bad.safetensors"], tensors.Values, checkpoint.Metadata);
        }

        CliRun run = (await CliRun.Of("sample", "--diffusion", _folder["bad.safetensors"], "--steps", "2", "--num-samples", "1", "--output", _folder["out.png"]))
            .Expect(ExitCode.InvalidFile);
        Assert.Contains("bad.safetensors", run.Error, StringComparison.Ordinal);
        Assert.Equal(["bad.safetensors"], _folder.Files);
        return run;
    }
}
