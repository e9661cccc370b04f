using System.Text.Json;
using Kernels.Cli;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Sampling;
using Kernels.Tests.Cli;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Kernels.Verification;
using Xunit;

namespace Kernels.Tests.Sampling;

public sealed class TorchDrawsTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Elements = 32 * 32 * 3;
    private static readonly string s_diffusion = Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");

    // Recorded with torch 1.13 on a CPU: manual_seed(seed), then for every batch randint(0, classes, (batch,)) if there are classes, randn(batch, C, H, W) and randn_like of it for every step. Of every
    // draw the first and last three values, their sum and the sum of each times its index.
    [Fact]
    public void A_job_draws_what_torch_draws()
    {
        using JsonDocument recorded = JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Sampling", "fixtures", "torch-sampling-draws.json")));
        int draws = 0;
        foreach (JsonElement job in recorded.RootElement.GetProperty("jobs").EnumerateArray())
        {
            int steps = Int(job, "steps"), channels = Int(job, "channels"), pixels = Int(job, "height") * Int(job, "width");
            TorchDraws drawn = new(new RandomSource(RandomKind.TorchCpu), job.GetProperty("seed").GetUInt64(), [Int(job, "batch"), Int(job, "height"), Int(job, "width"), channels], steps, Int(job, "classes"));

            // In order, then the second batch again, for which the first must be drawn anew.
            JsonElement[] batches = [.. job.GetProperty("batches").EnumerateArray()];
            foreach (int batch in new[] { 0, 1, 1, 0 })
            {
                (int[] labels, float[] initial) = drawn.Begin(batch);
                Assert.Equal(batches[batch].GetProperty("labels").EnumerateArray().Select(l => l.GetInt32()), labels);
                JsonElement[] expected = [.. batches[batch].GetProperty("draws").EnumerateArray()];
                Check(expected[0], initial);
                float[] noise = new float[initial.Length];
                for (int step = 0; step < steps; step++)
                {
                    drawn.Step(noise);
                    Check(expected[step + 1], noise);
                }
            }

            void Check(JsonElement expected, float[] channelsLast)
            {
                float[] values = new float[channelsLast.Length];
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = channelsLast[new ChannelsLast(channels, pixels).Index(i)];
                }

                Near(expected.GetProperty("first"), values[..3]);
                Near(expected.GetProperty("last"), values[^3..]);
                Assert.Equal(expected.GetProperty("sum").GetDouble(), values.Sum(v => (double)v), 1e-6 * values.Length);
                Assert.Equal(expected.GetProperty("weighted").GetDouble(), values.Index().Sum(v => (double)v.Item * v.Index), 1e-6 * values.Length * values.Length);
                draws++;
            }
        }

        Assert.Equal(4 * (4 + 3 + 3), draws);

        static int Int(JsonElement job, string name) => job.GetProperty(name).GetInt32();

        static void Near(JsonElement expected, float[] values)
        {
            foreach ((JsonElement e, float v) in expected.EnumerateArray().Zip(values))
            {
                Assert.Equal(e.GetDouble(), v, 2e-6);
            }
        }
    }

    // The noise of the recordings of the original was drawn after torch.manual_seed of these seeds: x_T, then that of every step.
    [Theory]
    [InlineData("sample-ddpm-guided", 42)]
    [InlineData("sample-ddim-eta", 44)]
    [InlineData("sample-fixed-large", 48)]
    [InlineData("demo-ddpm-guided", 100)]
    [InlineData("demo-ddim-cfg", 101)]
    public void Recordings_have_the_noise_of_their_seeds(string name, int seed)
    {
        using Pack pack = Pack.Open(Path.Combine(AppContext.BaseDirectory, "packs", $"{name}.safetensors"));
        Shape shape = pack.Tensor("inputs/noise").Shape, steps = pack.Tensor("inputs/step_noise").Shape;
        TorchDraws draws = new(new RandomSource(RandomKind.TorchCpu), (ulong)seed, [shape[0], shape[2], shape[3], shape[1]], steps[0], classes: 0);
        float[] expected = pack.Images("inputs/step_noise"), noise = new float[shape.Elements];
        AssertNear(pack.Images("inputs/noise"), draws.Begin(0).Initial);
        for (int step = 0; step < steps[0]; step++)
        {
            draws.Step(noise);
            AssertNear(expected.AsSpan(step * noise.Length, noise.Length).ToArray(), noise);
        }

        static void AssertNear(float[] expected, float[] actual) => Assert.InRange(expected.Zip(actual, (e, a) => Math.Abs(e - a)).Max(), 0, 3e-6);
    }

    // From the seed to the images: what the original made after torch.manual_seed(100).
    [Fact]
    public void A_run_of_the_original_is_repeated_from_its_seed()
    {
        using Pack pack = Pack.Open(Path.Combine(AppContext.BaseDirectory, "packs", "demo-ddpm-guided.safetensors"));
        string weights = Path.Combine(AppContext.BaseDirectory, "weights");
        using Sampler sampler = Sampler.Load(
            new SamplerOptions
            {
                Diffusion = new ModelSource(s_diffusion) { Overrides = new ModelOverrides { TimestepRespacing = DiffusionConfig.FromJson(pack.Text("diffusion")).TimestepRespacing } },
                Classifier = new ModelSource(Path.Combine(weights, "shapes32_classifier.safetensors")),
                Settings = new SamplerSettings { ClassifierScale = pack.Number("classifier_scale") },
            },
            cpu.Backend);
        SampleRequest request = new() { Count = 4, BatchSize = 4, Seed = 100, Classes = pack.Labels("inputs/y"), Random = new RandomSource(RandomKind.TorchCpu) };
        float[] expected = pack.Images("outputs/sample");
        Assert.InRange(CpuRun.RelativeError(sampler.Sample(request, 0, 4).Images, Array.ConvertAll(expected, v => (double)v)), 0, 1e-3);
        Assert.InRange(CpuRun.RelativeError(sampler.Sample(request with { Seed = 101 }, 0, 4).Images, Array.ConvertAll(expected, v => (double)v)), 0.05, 10);
    }

    [Theory]
    [InlineData("torch-cpu", false)]
    [InlineData("torch-cuda:v100", false)]
    [InlineData("torch-cpu", true)]
    public void A_job_is_that_of_the_original_with_the_same_noise(string name, bool ddim)
    {
        const int Steps = 3, Batch = 2;
        RandomSource source = RandomSource.Parse(name);
        ModelSource model = new(s_diffusion) { Overrides = new ModelOverrides { TimestepRespacing = ddim ? $"ddim{Steps}" : $"{Steps}" } };
        SamplerSettings settings = new() { Sampler = ddim ? SamplerKind.Ddim : SamplerKind.Ddpm };
        using Sampler sampler = Sampler.Load(new SamplerOptions { Diffusion = model, Settings = settings }, cpu.Backend);
        using LoadedModel loaded = ModelLoader.Load(s_diffusion, model.Overrides);
        using DiffusionSampler plain = new(cpu.Backend, loaded.Model, loaded.Process!, null, settings with { NullLabel = 10 });
        SampleRequest request = new() { Count = 3, BatchSize = Batch, Seed = 11, Random = source };
        ITorchGenerator generator = source.Create(11);
        for (int batch = 0; batch < 2; batch++)
        {
            int count = batch == 0 ? 2 : 1;
            int[] labels = new int[Batch];
            generator.RandInt(10, labels);
            float[] initial = new float[Batch * Elements], noise = new float[Steps * Batch * Elements];
            generator.RandnChannelsLast(3, 32 * 32, initial);
            for (int step = 0; step < Steps; step++)
            {
                generator.RandnChannelsLast(3, 32 * 32, noise.AsSpan(step * initial.Length, initial.Length));
            }

            float[] expected = plain.Sample(new SampleBatch { Count = Batch, Labels = labels, Initial = initial, StepNoise = noise });
            SampledImages actual = sampler.Sample(request, batch * Batch, count);
            Assert.Equal(labels[..count], actual.Labels);
            Assert.Equal(labels[..count], sampler.LabelsOf(request, batch * Batch, count));
            Assert.Equal(expected[..(count * Elements)], actual.Images);
        }

        using Sampler heun = Sampler.Load(new SamplerOptions { Diffusion = model, Settings = settings with { Sampler = SamplerKind.Heun } }, cpu.Backend);
        Assert.Contains("no sampler heun; take ddpm or ddim", Assert.Throws<ConfigurationException>(() => heun.Check(request)).Message, StringComparison.Ordinal);
        Assert.Throws<ConfigurationException>(() => sampler.Sample(request, 1, 1));
        Assert.Throws<ConfigurationException>(() => sampler.Sample(request, 0, 3));
        Assert.Equal(3, sampler.LabelsOf(request, 0, 3).Length);
    }

    [Fact]
    public void A_batch_that_was_given_up_is_drawn_anew()
    {
        ModelSource model = new(s_diffusion) { Overrides = new ModelOverrides { TimestepRespacing = "3" } };
        using Sampler sampler = Sampler.Load(new SamplerOptions { Diffusion = model }, cpu.Backend);
        SampleRequest request = new() { Count = 2, BatchSize = 1, Seed = 11, Random = new RandomSource(RandomKind.TorchCpu) };
        float[] image = sampler.Sample(request, 1, 1).Images;
        using CancellationTokenSource stop = new();
        Assert.ThrowsAny<OperationCanceledException>(() => sampler.Sample(request, 0, 1, _ => stop.Cancel(), cancellationToken: stop.Token));
        Assert.Equal(image, sampler.Sample(request, 1, 1).Images);
    }

    [Theory]
    [InlineData("philox", "philox")]
    [InlineData("torch-cpu", "torch-cpu")]
    [InlineData("torch-cuda", "torch-cuda:108x2048")]
    [InlineData("torch-cuda:v100", "torch-cuda:80x2048")]
    [InlineData("torch-cuda:28x1536", "torch-cuda:28x1536")]
    public void A_source_has_a_name(string text, string name)
    {
        Assert.Equal(name, RandomSource.Parse(text).ToString());
        Assert.Equal(RandomSource.Parse(text), RandomSource.Parse(name));
    }

    [Theory]
    [InlineData("there is no random source 'mersenne'; there are philox, torch-cpu", "--rng", "mersenne")]
    [InlineData("no random source 'torch-cuda:k80'", "--rng", "torch-cuda:k80")]
    [InlineData("a GPU of 0x2048 is none", "--rng", "torch-cuda:0x2048")]
    [InlineData("start from noise alone", "--rng", "torch-cpu", "--interpolate", "4", "--num-samples", "2")]
    public async Task A_source_that_cannot_be_is_refused(string message, params string[] args)
    {
        using TemporaryFolder folder = new();
        CliRun run = (await CliRun.Of(["sample", "--output", folder["a.npz"], .. args])).Expect(ExitCode.Usage);
        Assert.Contains(message, run.Error, StringComparison.Ordinal);
        Assert.Empty(folder.Files);
    }
}
