using System.Text.Json;
using System.Text.Json.Nodes;
using Kernels.Backends.Cpu;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Sampling;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Sampling;

public sealed class ReceiptTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_weights_of_the_demo_pair_have_the_hashes_of_their_manifest()
    {
        using JsonDocument manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "weights", "manifest.json")));
        foreach (JsonElement entry in manifest.RootElement.EnumerateArray())
        {
            Assert.Equal(entry.GetProperty("sha256").GetString(), FileHash.Sha256(Path.Combine(AppContext.BaseDirectory, "weights", entry.GetProperty("file").GetString()!)));
        }
    }

    [Fact]
    public void A_picture_carries_the_same_bytes_whatever_batch_and_threads()
    {
        using DemoSampler one = new(threads: 1), two = new(threads: 2);
        Run(one.Sampler, DemoSampler.Request(5, 5), _folder["a.png"]);
        Run(two.Sampler, DemoSampler.Request(5, 2), _folder["b.png"]);
        Assert.Equal(File.ReadAllBytes(_folder["a.png"]), File.ReadAllBytes(_folder["b.png"]));

        Receipt receipt = ReceiptFile.Read(_folder["a.png"], out Image? picture);
        Assert.Equal((0L, 5, 0, 3), (receipt.Images.First, receipt.Images.Count, receipt.Images.Columns!.Value, receipt.StepHashes!.Steps.Count));
        Assert.Equal("weights/shapes32_diffusion.safetensors", receipt.Job.Diffusion.File);
        Assert.True(Reproduction.Run(receipt, receipt.Job.Request.ToRequest(_folder["a.png"]), picture, one.Sampler, 3).IsIdentical);
        Assert.Empty(Reproduction.Circumstances(receipt, two.Sampler));
    }

    [Fact]
    public void Every_picture_of_a_folder_reproduces_by_itself()
    {
        using DemoSampler demo = new();
        Run(demo.Sampler, DemoSampler.Request(3, 2), _folder["pictures"]);
        string[] files = [.. Directory.GetFiles(_folder["pictures"]).Order(StringComparer.Ordinal)];
        Assert.Equal(3, files.Length);
        for (int i = 0; i < 3; i++)
        {
            Receipt receipt = ReceiptFile.Read(files[i], out Image? picture);
            Assert.Equal((i, 1, (int?)null, (string?)null), (receipt.Images.First, receipt.Images.Count, receipt.Images.Columns, receipt.StepHashes!.Fingerprints));
            Assert.True(Reproduction.Run(receipt, receipt.Job.Request.ToRequest(files[i]), picture, demo.Sampler, 1).IsIdentical);
        }
    }

    [Fact]
    public void A_receipt_says_every_setting_so_that_the_model_opens_without_flags_or_presets()
    {
        using DemoSampler demo = new(classifierScale: 2.5);
        JobIdentity job = JobIdentity.Of(demo.Sampler, DemoSampler.Request(1, 1) with { Classes = [3] });
        string json = new JobSettings(job, new ReceiptImages(0, 1, 32, 32, 3), null).ToJson();
        JobIdentity read = JsonSerializer.Deserialize(json, ReceiptJson.Default.JobSettings)!.Job;

        // Away from its name, which would choose a preset.
        File.Copy(DemoSampler.Weights("diffusion"), _folder["x"]);
        File.Copy(DemoSampler.Weights("classifier"), _folder["y"]);
        using CpuBackend backend = new(1);
        using Sampler again = Sampler.Load(read.ToOptions(_folder["x"], _folder["y"]), backend);
        JobIdentity same = JobIdentity.Of(again, read.Request.ToRequest(_folder["x"]));
        Assert.Equal(json, new JobSettings(same with { Diffusion = same.Diffusion with { File = job.Diffusion.File }, Classifier = same.Classifier! with { File = job.Classifier!.File } }, new ReceiptImages(0, 1, 32, 32, 3), null).ToJson());
    }

    [Theory]
    [InlineData("adm64")]
    [InlineData("upsampler64-256")]
    [InlineData("lsun256")]
    [InlineData("classifier64")]
    [InlineData("shapes32")]
    public void The_settings_of_every_kind_of_model_survive(string preset)
    {
        Preset p = Presets.Find(preset);
        ModelConfig config = p.Model;
        ReceiptModel model = new()
        {
            File = "x",
            Sha256 = "",
            Config = JsonDocument.Parse(ModelConfigJson.Write(config)).RootElement,
            Process = p.Process is null ? null : JsonDocument.Parse(p.Process.ToJson()).RootElement,
        };
        ModelOverrides said = model.ToSource("x", "--").Overrides;
        Assert.Equal(
            (config.ImageSize, config.ModelChannels, config.OutChannels, config.NumResBlocks, config.NumHeads, config.NumHeadChannels, config.NumHeadsUpsample),
            (said.ImageSize, said.ModelChannels, said.OutChannels, said.NumResBlocks, said.NumHeads, said.NumHeadChannels, said.NumHeadsUpsample));
        Assert.Equal((config.UseScaleShiftNorm, config.ResblockUpdown, config.ConvResample, config.UseNewAttentionOrder), (said.UseScaleShiftNorm!.Value, said.ResblockUpdown!.Value, said.ConvResample!.Value, said.UseNewAttentionOrder!.Value));
        Assert.Equal(config.ChannelMult, said.ChannelMult);
        Assert.Equal(config.AttentionResolutions, said.AttentionFactors);
        Assert.Equal((p.Process?.NoiseSchedule, p.Process?.DiffusionSteps, p.Process?.LearnSigma), (said.NoiseSchedule, said.DiffusionSteps, said.LearnSigma));
    }

    [Theory]
    [InlineData("format", "\"kernels-receipt-9\"", "kernels-receipt-9")]
    [InlineData("job", "null", "job")]
    [InlineData("job.request.count", "2", "3 images")]
    [InlineData("job.settings.sampler", "\"euler-nonsense\"", "sampler")]
    [InlineData("job.settings.sampler", "17", "sampler")]
    [InlineData("job.request.batch_size", "0", "batches of 0")]
    [InlineData("job.request.inputs", "[null]", "null in place")]
    [InlineData("job.disabled_fusions", "[null]", "null in place")]
    [InlineData("images.count", "2000000000", "2000000000 images")]
    [InlineData("images.height", "2000000000", "2000000000x")]
    [InlineData("images.count", "-1", "-1 images")]
    [InlineData("step_hashes.images", "[]", "0 images")]
    [InlineData("step_hashes.fingerprints", "\"====\"", "do not fit")]
    [InlineData("pixels_sha256", "null", "pixels_sha256")]
    [InlineData("job.diffusion", "[]", "diffusion")]
    public void A_receipt_that_cannot_be_is_refused(string path, string value, string word)
    {
        using DemoSampler demo = new(steps: 2);
        Run(demo.Sampler, DemoSampler.Request(3, 3), _folder["a.npz"]);
        JsonNode root = JsonNode.Parse(File.ReadAllText(_folder["a.npz.json"]))!;
        string[] names = path.Split('.');
        JsonNode node = root;
        foreach (string name in names[..^1])
        {
            node = node[name]!;
        }

        node[names[^1]] = JsonNode.Parse(value);
        File.WriteAllText(_folder["a.npz.json"], root.ToJsonString());
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => ReceiptFile.Read(_folder["a.npz"], out _));
        Assert.Contains(word, error.Message, StringComparison.Ordinal);
        Assert.Equal(_folder["a.npz.json"], error.File);
    }

    [Fact]
    public void What_has_changed_since_is_told()
    {
        using DemoSampler demo = new(steps: 2);
        Run(demo.Sampler, DemoSampler.Request(1, 1), _folder["a.png"]);
        Receipt receipt = ReceiptFile.Read(_folder["a.png"], out _);
        Receipt elsewhere = receipt with
        {
            Job = receipt.Job with
            {
                Versions = receipt.Job.Versions with { Runtime = ".NET 9.9.9" },
                Device = receipt.Job.Device with { Kind = "cuda", Name = "A GPU", Precision = Kernels.Backends.Gpu.Precision.Fp16 },
            },
        };
        string[] lines = [.. Reproduction.Circumstances(elsewhere, demo.Sampler)];
        Assert.Equal(4, lines.Length);
        Assert.Contains(lines, l => l.Contains("versions.runtime is \".NET 9.9.9\" in the receipt", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.Contains("device.kind is \"cuda\" in the receipt and \"cpu\" now", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.Contains("device.precision is \"fp16\" in the receipt and \"fp32\" now", StringComparison.Ordinal));
    }

    private static void Run(Sampler sampler, SampleRequest request, string path) =>
        SampleJob.Open(sampler, request, SampleOutput.Of(path, null, request.Count)).Run(cancellationToken: TestContext.Current.CancellationToken);
}
