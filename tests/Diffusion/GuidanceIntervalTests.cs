using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>Guidance at some noise levels only: which rows that is, and that the others pay nothing and lose no bit.</summary>
public sealed class GuidanceIntervalTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private static readonly Model s_unet = PresetModels.Random(TestModels.UNet());
    private static readonly Model s_classifier = PresetModels.Random(TestModels.Classifier("attention"));
    private static readonly DiffusionConfig s_process = new() { LearnSigma = true, TimestepRespacing = "6" };

    // Even timesteps have levels of about 157, 18, 4.8, 1.8, 0.65 and 0.01, Karras's 80, 23, 5.3, 0.8, 0.09 and 0.01: guided in the middle, from the first, to the last.
    private static readonly Dictionary<string, SamplerSettings> s_settings = new()
    {
        ["DDPM, classifier"] = new() { ClassifierScale = 2, GuidanceStart = 10, GuidanceStop = 1 },
        ["DDIM, classifier-free"] = new() { Sampler = SamplerKind.Ddim, CfgScale = 1.5, NullLabel = 10, GuidanceStop = 1 },
        ["2M SDE, both"] = new() { Sampler = SamplerKind.DpmSolverPlusPlus2MSde, ClassifierScale = 1, CfgScale = 1, NullLabel = 10, GuidanceStart = 30, GuidanceStop = 0.5 },
        ["PLMS, both"] = new() { Sampler = SamplerKind.Plms, ClassifierScale = 1, CfgScale = 1, NullLabel = 10, GuidanceStart = 2 },
        ["Heun, classifier"] = new() { Sampler = SamplerKind.Heun, ClassifierScale = 2, GuidanceStart = 30, GuidanceStop = 3 },
        ["Euler, unconditional"] = new() { Sampler = SamplerKind.Euler, Spacing = StepSpacing.Linear, ClassifierScale = 2, Unconditional = true, NullLabel = 10, GuidanceStart = 10, GuidanceStop = 1 },
    };

    public static TheoryData<string> Settings => [.. s_settings.Keys];

    [Fact]
    public void An_interval_holds_its_start_and_not_its_stop()
    {
        GuidanceInterval interval = new(5.42, 0.28);
        Assert.Equal([false, true, true, false, false], new[] { 5.43, 5.42, 0.281, 0.28, 0 }.Select(interval.Contains));
        Assert.True(new GuidanceInterval(double.PositiveInfinity, 0).Contains(1e-9));
        foreach ((double start, double stop) in new[] { (1.0, 1.0), (0.5, 1), (1, -0.1), (double.NaN, 0), (1, double.NaN) })
        {
            Assert.Contains("the start is above the stop", Assert.Throws<ConfigurationException>(() => new GuidanceInterval(start, stop)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Rows_outside_have_scales_of_zero()
    {
        StepTable table = StepTable.Create(s_process, new SamplerSettings { ClassifierScale = 2, CfgScale = 0.5, GuidanceStart = 10, GuidanceStop = 1 });
        for (int row = 0; row < table.Count; row++)
        {
            bool guided = table.Sigma(row) is > 1 and <= 10;
            Assert.Equal((guided ? 2 : 0, guided ? 0.5f : 0, guided), (table[row][StepColumn.ClassifierScale], table[row][StepColumn.CfgScale], table.IsGuided(row)));
        }

        Assert.Contains(Enumerable.Range(0, table.Count), table.IsGuided);
        Assert.Contains(Enumerable.Range(0, table.Count), row => !table.IsGuided(row));
    }

    [Theory]
    [MemberData(nameof(Settings))]
    public void Steps_outside_have_the_bits_of_guided_ones_with_scales_of_zero(string name)
    {
        SampleBatch batch = new() { Count = 2, Labels = [3, 8], Seed = 7 };
        using DiffusionSampler skipping = Sampler(cpu.Backend, s_settings[name]), masking = Sampler(cpu.Backend, s_settings[name], masks: true);
        float[] image = skipping.Sample(batch);
        Assert.Equal(masking.Sample(batch), image);

        // A second batch begins anew, and so does one with noise handed over.
        Assert.Equal(image, skipping.Sample(batch));
        float[] noise = new float[skipping.Table.Count * 2 * skipping.ImageElements];
        Random random = new(3);
        Array.ForEach(Enumerable.Range(0, noise.Length).ToArray(), i => noise[i] = random.NextSingle() - 0.5f);
        Assert.Equal(masking.Sample(batch with { StepNoise = noise }), skipping.Sample(batch with { StepNoise = noise }));

        // It is neither the image without guidance nor that with guidance everywhere.
        using DiffusionSampler everywhere = Sampler(cpu.Backend, s_settings[name] with { GuidanceStart = double.PositiveInfinity, GuidanceStop = 0 });
        using DiffusionSampler nowhere = Sampler(cpu.Backend, s_settings[name] with { ClassifierScale = 0, CfgScale = 0 });
        Assert.NotEqual(everywhere.Sample(batch), image);
        Assert.NotEqual(nowhere.Sample(batch), image);
    }

    [Theory]
    [MemberData(nameof(Settings))]
    public void An_interval_without_any_step_is_no_guidance(string name)
    {
        SampleBatch batch = new() { Count = 1, Labels = [3] };
        using DiffusionSampler empty = Sampler(cpu.Backend, s_settings[name] with { GuidanceStart = 1e6, GuidanceStop = 1e5 });
        using DiffusionSampler without = Sampler(cpu.Backend, s_settings[name] with { ClassifierScale = 0, CfgScale = 0 });
        Assert.Equal(without.Sample(batch), empty.Sample(batch));
    }

    [Fact]
    public void So_they_have_on_the_emulator()
    {
        Cuda.Require();
        SampleBatch batch = new() { Count = 1, Labels = [3], Seed = 7 };
        using GpuBackend gpu = new(new OrderedDriver(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None })), new GpuOptions { Precision = Precision.Fp16 });
        using DiffusionSampler skipping = Sampler(gpu, s_settings["2M SDE, both"], steps: 3), masking = Sampler(gpu, s_settings["2M SDE, both"], masks: true, steps: 3);
        Assert.Equal([false, true, false], Enumerable.Range(0, 3).Select(skipping.Table.IsGuided));
        Assert.Equal(masking.Sample(batch), skipping.Sample(batch));
    }

    // Jumps back up cross the interval's ends again and again.
    [Fact]
    public void Inpainting_changes_kind_as_often_as_it_must()
    {
        float[] known = new float[192], mask = new float[64];
        Array.Fill(mask, 1, 0, 32);
        SampleBatch batch = new() { Count = 1, Labels = [3], Seed = 7, Known = known, Mask = mask };
        InpaintingSchedule schedule = new(JumpLength: 2, Resamples: 2);
        using DiffusionSampler skipping = new(cpu.Backend, s_unet, s_process, s_classifier, s_settings["DDPM, classifier"], inpainting: schedule);
        using DiffusionSampler masking = new(cpu.Backend, s_unet, s_process, s_classifier, s_settings["DDPM, classifier"], inpainting: schedule) { MasksGuidance = true };
        Assert.True(Enumerable.Range(1, skipping.Table.Count - 1).Count(row => skipping.Table.IsGuided(row) != skipping.Table.IsGuided(row - 1)) > 2);
        Assert.Equal(masking.Sample(batch), skipping.Sample(batch));
    }

    [Fact]
    public void Every_step_is_reported_across_a_change_of_kind()
    {
        using DiffusionSampler sampler = Sampler(cpu.Backend, s_settings["DDPM, classifier"]);
        List<float[]>[] seen = [[], []];
        foreach (bool keep in new[] { false, true })
        {
            sampler.Sample(new SampleBatch { Count = 1, Labels = [3], KeepSteps = keep }, result =>
            {
                Assert.Equal(seen[keep ? 1 : 0].Count, result.Step);
                float[] x = new float[sampler.ImageElements];
                result.ReadX(x);
                seen[keep ? 1 : 0].Add(x);
            });
        }

        Assert.Equal(6, seen[0].Count);
        Assert.Equal(seen[0], seen[1]);
    }

    [Fact]
    public void Labels_are_looked_at_before_the_first_step()
    {
        using DiffusionSampler sampler = Sampler(cpu.Backend, s_settings["Euler, unconditional"]);
        int steps = 0;
        Assert.Throws<ConfigurationException>(() => sampler.Sample(new SampleBatch { Count = 1 }, _ => steps++));
        Assert.Equal(0, steps);
    }

    [Fact]
    public void The_plan_is_that_of_a_guided_step_and_both_are_prepared()
    {
        using DiffusionSampler sampler = Sampler(cpu.Backend, s_settings["DDPM, classifier"]);
        sampler.Prepare(1);
        Assert.Contains(sampler.PlanStep(1).Graph.Weights, w => w.Name.StartsWith(GuidedStep.ClassifierPrefix, StringComparison.Ordinal));
    }

    private static DiffusionSampler Sampler(Backend backend, SamplerSettings settings, bool masks = false, int steps = 6) =>
        new(backend, s_unet, s_process with { TimestepRespacing = $"{steps}" }, s_classifier, settings) { MasksGuidance = masks };
}
