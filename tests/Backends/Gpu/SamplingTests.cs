using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>Whole jobs of a small pair of models on the emulator: bits that must not depend on how a job is run.</summary>
public sealed class SamplingTests
{
    private const int Steps = 3;

    private static readonly SampleBatch s_batch = new() { Count = 4, Labels = [1, 9, 4, 0], Seed = 5, FirstImage = 40 };

    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Tf32)]
    [InlineData(Precision.Fp16)]
    [InlineData(Precision.Bf16)]
    public void Four_images_at_once_have_the_bits_of_four_alone_and_a_replay_those_of_launches(Precision precision)
    {
        SamplerSettings settings = new() { ClassifierScale = 2 };
        float[] captured = Sample(precision, capture: true, settings, s_batch);
        Assert.All(captured, v => Assert.True(float.IsFinite(v)));
        Assert.Equal(captured, Sample(precision, capture: false, settings, s_batch));
        float[][] alone = [.. Enumerable.Range(0, 4).Select(i => Sample(precision, capture: true, settings, One(i)))];
        Assert.Equal(captured, alone.SelectMany(image => image));
    }

    [Fact]
    public void Both_guidances_together_do_not_depend_on_the_batch_nor_on_what_is_computed_before_the_loop()
    {
        SamplerSettings settings = new() { Sampler = SamplerKind.Ddim, Eta = 0.5, ClassifierScale = 1, CfgScale = 1.5, NullLabel = 10 };
        float[] all = Sample(Precision.Fp16, capture: true, settings, s_batch);
        Assert.Equal(all, Sample(Precision.Fp16, capture: true, settings, s_batch, tableBytes: 1));
        Assert.Equal(all[(2 * 192)..(3 * 192)], Sample(Precision.Fp16, capture: false, settings, One(2)));
    }

    private static SampleBatch One(int image) => s_batch with { Count = 1, Labels = [s_batch.Labels[image]], FirstImage = s_batch.FirstImage + image };

    private static float[] Sample(Precision precision, bool capture, SamplerSettings settings, SampleBatch batch, long tableBytes = Rewrites.DefaultTableBytes)
    {
        DiffusionConfig process = new() { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = $"{Steps}" };
        using GpuBackend backend = new(DriverUnderTest.Open(new EmulatorOptions { Checks = Checks.None }), new GpuOptions { Precision = precision, Capture = capture });
        using DiffusionSampler sampler = new(backend, PresetModels.Random(TestModels.UNet()), process, PresetModels.Random(TestModels.Classifier("attention")), settings)
        {
            TableBytes = tableBytes,
        };
        return sampler.Sample(batch, cancellationToken: TestContext.Current.CancellationToken);
    }
}
