using Kernels.Backends.Cpu;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Diffusion;

public sealed class DiffusionSamplerTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Steps = 4;
    private const int Pixels = 8 * 8 * 3;
    private static readonly Model s_unet = PresetModels.Random(TestModels.UNet());
    private static readonly Model s_classifier = PresetModels.Random(TestModels.Classifier("attention"));
    private static readonly DiffusionConfig s_process = new() { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = $"{Steps}" };

    private static readonly Dictionary<string, SamplerSettings> s_settings = new()
    {
        ["DDPM, classifier"] = new() { ClassifierScale = 2 },
        ["DDIM, eta 0.6"] = new() { Sampler = SamplerKind.Ddim, Eta = 0.6 },
        ["classifier-free"] = new() { CfgScale = 1.5, NullLabel = 10 },
        ["both, DDIM"] = new() { Sampler = SamplerKind.Ddim, ClassifierScale = 1, CfgScale = 1, NullLabel = 10 },
        ["both, 2M SDE"] = new() { Sampler = SamplerKind.DpmSolverPlusPlus2MSde, ClassifierScale = 1, CfgScale = 1, NullLabel = 10 },
        ["both, PLMS, cosine"] = new() { Sampler = SamplerKind.Plms, Spacing = StepSpacing.Cosine, ClassifierScale = 1, CfgScale = 1, NullLabel = 10 },
        ["Heun, classifier"] = new() { Sampler = SamplerKind.Heun, ClassifierScale = 1 },
        ["unconditional, classifier"] = new() { ClassifierScale = 2, Unconditional = true, NullLabel = 10 },
    };

    public static TheoryData<string> Settings => [.. s_settings.Keys];

    [Theory]
    [MemberData(nameof(Settings))]
    public void An_image_does_not_depend_on_its_batch(string name)
    {
        using DiffusionSampler sampler = Sampler(s_settings[name]);
        int[] labels = [3, 0, 9, 5];
        float[] four = sampler.Sample(new SampleBatch { Count = 4, Labels = labels, Seed = 7, FirstImage = 100 });
        for (int i = 0; i < 4; i++)
        {
            float[] one = sampler.Sample(new SampleBatch { Count = 1, Labels = [labels[i]], Seed = 7, FirstImage = 100 + i });
            Assert.True(four.AsSpan(i * Pixels, Pixels).SequenceEqual(one), $"image {i}");
        }

        Assert.DoesNotContain(four, v => !float.IsFinite(v));
    }

    [Theory]
    [MemberData(nameof(Settings))]
    public void A_seed_gives_an_image_on_any_number_of_threads(string name)
    {
        using CpuBackend one = new(1), two = new(2);
        using DiffusionSampler first = Sampler(s_settings[name], one), second = Sampler(s_settings[name], two);
        SampleBatch batch = new() { Count = 2, Labels = [1, 2], Seed = 0x1_0000_0007 };
        float[] image = first.Sample(batch);
        Assert.Equal(image, first.Sample(batch));
        Assert.Equal(image, second.Sample(batch));
        Assert.NotEqual(image, first.Sample(batch with { Seed = 0x2_0000_0007 }));
        Assert.NotEqual(image, first.Sample(batch with { Seed = 8 }));
        Assert.NotEqual(image, first.Sample(batch with { Labels = [1, 3] }));
        Assert.NotEqual(image, first.Sample(batch with { FirstImage = 1L << 32 }));
    }

    [Fact]
    public void A_batch_remembers_nothing_of_the_last()
    {
        using DiffusionSampler sampler = Sampler(s_settings["both, PLMS, cosine"]);
        SampleBatch batch = new() { Count = 1, Labels = [4], Seed = 2 };
        float[] image = sampler.Sample(batch), broken = new float[Pixels];
        Array.Fill(broken, float.NaN);
        Assert.All(sampler.Sample(batch with { Initial = broken }), v => Assert.True(float.IsNaN(v)));
        Assert.Equal(image, sampler.Sample(batch));
    }

    [Fact]
    public void Noise_handed_over_replaces_the_seed()
    {
        using DiffusionSampler sampler = Sampler(s_settings["DDPM, classifier"]);
        const ulong Seed = 0x5_0000_0003, First = 0x7_0000_0009;
        SampleBatch drawn = new() { Count = 2, Labels = [1, 2], Seed = Seed, FirstImage = (long)First };
        float[] initial = new float[2 * Pixels], noise = new float[Steps * 2 * Pixels];
        for (uint i = 0; i < 2; i++)
        {
            RandomStreams.Normals(Seed, First + i, RandomStreams.InitialNoise, 0, initial.AsSpan((int)i * Pixels, Pixels));
            for (int step = 0; step < Steps; step++)
            {
                RandomStreams.Normals(Seed, First + i, RandomStreams.StepNoise(step), 0, noise.AsSpan(((step * 2) + (int)i) * Pixels, Pixels));
            }
        }

        float[] expected = sampler.Sample(drawn);
        Assert.Equal(expected, sampler.Sample(drawn with { Initial = initial }));
        Assert.Equal(expected, sampler.Sample(drawn with { Initial = initial, StepNoise = noise, Seed = 99, FirstImage = 0 }));
        noise[5] += 1;
        Assert.NotEqual(expected, sampler.Sample(drawn with { StepNoise = noise }));
    }

    [Fact]
    public void Scale_zero_leaves_the_classifier_out()
    {
        SampleBatch batch = new() { Count = 1, Labels = [4] };
        using DiffusionSampler without = Sampler(new SamplerSettings(), classifier: null), zero = Sampler(new SamplerSettings { ClassifierScale = 0 });
        Assert.Equal(without.Sample(batch), zero.Sample(batch));
        using DiffusionSampler guided = Sampler(new SamplerSettings { ClassifierScale = 1 });
        Assert.NotEqual(without.Sample(batch), guided.Sample(batch));
    }

    [Fact]
    public void An_unconditional_model_needs_no_labels()
    {
        using DiffusionSampler sampler = new(cpu.Backend, PresetModels.Random(TestModels.UNet(classes: null)), s_process, null, new SamplerSettings());
        Assert.Equal(sampler.Sample(new SampleBatch { Count = 1 }), sampler.Sample(new SampleBatch { Count = 1, Labels = [7] }));
    }

    [Fact]
    public void Unconditional_sampling_feeds_the_null_label()
    {
        using DiffusionSampler fed = Sampler(new SamplerSettings()), unconditional = Sampler(new SamplerSettings { Unconditional = true, NullLabel = 10 });
        Assert.Equal(fed.Sample(new SampleBatch { Count = 1, Labels = [10] }), unconditional.Sample(new SampleBatch { Count = 1 }));
    }

    [Fact]
    public void Guidance_weight_zero_is_the_conditional_model_and_minus_one_the_unconditional()
    {
        SampleBatch batch = new() { Count = 1, Labels = [4], Seed = 2 };
        using DiffusionSampler minusOne = Sampler(new SamplerSettings { Sampler = SamplerKind.Ddim, CfgScale = -1, NullLabel = 10 });
        using DiffusionSampler unconditional = Sampler(new SamplerSettings { Sampler = SamplerKind.Ddim, Unconditional = true, NullLabel = 10 });

        // (1 + w) eps(y) - w eps(null) at w = -1 is eps(null) to the last bit; DDIM without noise does not see the variances.
        Assert.Equal(unconditional.Sample(batch), minusOne.Sample(batch));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_step_is_reported_with_its_result(bool keepSteps)
    {
        using DiffusionSampler sampler = Sampler(s_settings["DDPM, classifier"]);
        List<float[]> xs = [], starts = [];
        float[] image = sampler.Sample(new SampleBatch { Count = 1, Labels = [1], KeepSteps = keepSteps }, result =>
        {
            Assert.Equal((xs.Count, Steps), (result.Step, result.Steps));
            xs.Add(new float[Pixels]);
            starts.Add(new float[Pixels]);
            result.ReadX(xs[^1]);
            result.ReadPredXstart(starts[^1]);
        });
        Assert.Equal(Steps, xs.Count);
        Assert.Equal(image, xs[^1]);
        Assert.All(starts.SelectMany(s => s), v => Assert.InRange(v, -1, 1));
        Assert.NotEqual(xs[0], xs[1]);
    }

    [Fact]
    public void Cancellation_ends_the_work_and_leaves_the_sampler_usable()
    {
        using DiffusionSampler sampler = Sampler(s_settings["DDPM, classifier"]);
        SampleBatch batch = new() { Count = 1, Labels = [1] };
        float[] image = sampler.Sample(batch);
        using CancellationTokenSource source = new();
        int steps = 0;
        Assert.ThrowsAny<OperationCanceledException>(() => sampler.Sample(
            batch,
            result =>
            {
                if (++steps == 2)
                {
                    source.Cancel();
                }
            },
            source.Token));
        Assert.Equal(2, steps);
        Assert.ThrowsAny<OperationCanceledException>(() => sampler.Sample(batch, _ => steps++, new CancellationToken(canceled: true)));
        Assert.Equal(2, steps);
        Assert.Equal(image, sampler.Sample(batch));
    }

    [Fact]
    public void Labels_that_do_not_fit_are_refused()
    {
        using DiffusionSampler guided = Sampler(s_settings["DDPM, classifier"]), plain = Sampler(new SamplerSettings());
        Refused("class 10 is out of range: the classifier has classes 0 to 9", guided, new SampleBatch { Count = 2, Labels = [1, 10] });
        Refused("class -1 is out of range: the classifier has classes 0 to 9", guided, new SampleBatch { Count = 1, Labels = [-1] });
        Refused("class 11 is out of range: the diffusion model has classes 0 to 10", plain, new SampleBatch { Count = 1, Labels = [11] });
        Refused("1 labels were given for 2 images", plain, new SampleBatch { Count = 2, Labels = [1] });
        Refused("0 labels were given for 1 images", guided, new SampleBatch { Count = 1 });
    }

    [Fact]
    public void Batches_that_do_not_fit_are_refused()
    {
        using DiffusionSampler sampler = Sampler(new SamplerSettings());
        SampleBatch batch = new() { Count = 2, Labels = [1, 2] };
        Refused($"the initial images: {Pixels} elements were given, {2 * Pixels} are needed", sampler, batch with { Initial = new float[Pixels] });
        Refused($"the noise of the steps: 5 elements were given, {Steps * 2 * Pixels} are needed", sampler, batch with { StepNoise = new float[5] });
        Refused("this model takes no low-resolution images", sampler, batch with { LowRes = new float[96] });
        Refused("a batch of 0 images cannot be sampled", sampler, new SampleBatch { Count = 0 });
        Refused("a batch of -2 images cannot be sampled", sampler, new SampleBatch { Count = -2 });
    }

    [Fact]
    public void A_super_resolution_model_reads_its_low_resolution_images()
    {
        Model model = PresetModels.Random(TestModels.UNet() with { Kind = ModelKind.SuperRes });
        using DiffusionSampler sampler = new(cpu.Backend, model, s_process, null, new SamplerSettings(), lowRes: (4, 4));
        float[] low = [.. Enumerable.Range(0, 48).Select(i => i / 48f)];
        SampleBatch batch = new() { Count = 1, Labels = [1], LowRes = low };
        float[] image = sampler.Sample(batch);
        Assert.Equal(image, sampler.Sample(batch));
        Assert.NotEqual(image, sampler.Sample(batch with { LowRes = [.. low.Reverse()] }));
        Refused("the low-resolution images: 0 elements were given, 48 are needed", sampler, batch with { LowRes = null });
        Refused("the low-resolution images: 12 elements were given, 48 are needed", sampler, batch with { LowRes = new float[12] });
    }

    [Fact]
    public void The_plan_of_a_step_is_that_of_its_batch()
    {
        using DiffusionSampler sampler = Sampler(s_settings["DDPM, classifier"]);
        Assert.Equal([3, 8, 8, 3], sampler.PlanStep(3).Graph.Output("x_next").Shape);
        Assert.Equal((8, 8, Pixels), (sampler.Height, sampler.Width, sampler.ImageElements));
    }

    private static void Refused(string message, DiffusionSampler sampler, SampleBatch batch) =>
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => sampler.Sample(batch)).Message, StringComparison.Ordinal);

    private DiffusionSampler Sampler(SamplerSettings settings, CpuBackend? backend = null) => Sampler(settings, s_classifier, backend);

    private DiffusionSampler Sampler(SamplerSettings settings, Model? classifier, CpuBackend? backend = null) =>
        new(backend ?? cpu.Backend, s_unet, s_process, classifier, settings);
}
