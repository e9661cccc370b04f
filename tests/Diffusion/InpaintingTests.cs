using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Tests.Backends.Gpu;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Diffusion;

public sealed class InpaintingTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Steps = 6, Pixels = 8 * 8, Elements = 3 * Pixels;
    private static readonly Model s_unet = PresetModels.Random(TestModels.UNet(classes: null));
    private static readonly DiffusionConfig s_process = new() { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = $"{Steps}" };
    private static readonly Weights s_none = Weights.FromArrays(new Dictionary<string, (Shape, float[])>());

    public static TheoryData<InpaintingSchedule> Schedules => [new InpaintingSchedule(), new InpaintingSchedule(2, 3)];

    [Theory]
    [MemberData(nameof(Schedules))]
    public void Where_all_is_known_the_image_is_what_was_given(InpaintingSchedule schedule)
    {
        using DiffusionSampler sampler = Sampler(schedule);
        float[] known = Values(2 * Elements, 3);
        Assert.Equal(known, sampler.Sample(Batch(known, mask: 1)));
    }

    [Fact]
    public void Where_nothing_is_known_it_is_plain_sampling()
    {
        using DiffusionSampler plain = Sampler(null), inpaints = Sampler(new InpaintingSchedule());
        Assert.Equal(plain.Sample(new SampleBatch { Count = 2, Seed = 5 }), inpaints.Sample(Batch(Values(2 * Elements, 3), mask: 0)));
    }

    [Theory]
    [MemberData(nameof(Schedules))]
    public void A_known_pixel_stays_and_what_lies_under_the_others_does_not_matter(InpaintingSchedule schedule)
    {
        using DiffusionSampler sampler = Sampler(schedule);
        float[] known = Values(2 * Elements, 3), mask = [.. Enumerable.Range(0, 2 * Pixels).Select(i => i % 3 == 0 ? 1f : 0)];
        float[] x = sampler.Sample(Batch(known, 0) with { Mask = mask });
        float[] hidden = [.. known.Select((v, i) => mask[i / 3] == 1 ? v : 7)];
        Assert.Equal(x, sampler.Sample(Batch(hidden, 0) with { Mask = mask }));
        Assert.All(Enumerable.Range(0, x.Length).Where(i => mask[i / 3] == 1), i => Assert.Equal(known[i], x[i]));
        Assert.NotEqual(x, sampler.Sample(Batch(known, 0)));
        foreach (int i in new[] { 0, 1 })
        {
            SampleBatch one = new()
            {
                Count = 1, Seed = 5, FirstImage = i, Known = known[(i * Elements)..((i + 1) * Elements)], Mask = mask[(i * Pixels)..((i + 1) * Pixels)],
            };
            Assert.Equal(x[(i * Elements)..((i + 1) * Elements)], sampler.Sample(one));
        }
    }

    [Fact]
    public void The_kernel_has_the_bits_of_the_host()
    {
        using CountedRun run = new();
        using CpuBackend host = new(threads: 1);
        foreach (int width in new[] { 4, 5 })
        {
            Shape x = [2, 4, width, 3];
            float[] levels = InpaintingSchedule.Levels(new GaussianDiffusion(s_process), new InpaintingSchedule(2, 2).Order(Steps));
            foreach (int step in new[] { 0, 1, 3, (levels.Length / 4) - 1 })
            {
                (Shape Shape, Array Values)[] inputs =
                [
                    (x, Values(x.Elements, 1)), (x, Values(x.Elements, 2)), (x.With(3, 1), Enumerable.Range(0, x.Elements / 3).Select(i => i % 5 / 4f).ToArray()), ([levels.Length / 4, 4], levels),
                    ([1], new[] { step }), ([2], new[] { -3, 7 }), ([2, 2], new[] { 5, 0, -1, -1 }),
                ];
                float[] actual = run.Run(new KnownRegion(), inputs).Outputs[0];
                GraphBuilder builder = new();
                Tensor[] tensors = [.. inputs.Select((input, i) => builder.Input($"i{i}", input.Shape, input.Values is int[] ? DType.I32 : DType.F32))];
                builder.Output("y", builder.Add("op", new KnownRegion(), tensors));
                using Executor executor = host.Compile(Plan.Create(builder.Build()), s_none);
                foreach ((int i, (_, Array values)) in inputs.Index())
                {
                    if (values is int[] whole)
                    {
                        executor.Write($"i{i}", whole);
                    }
                    else
                    {
                        executor.Write($"i{i}", (float[])values);
                    }
                }

                executor.Run();
                Assert.Equal(executor.Read("y"), actual);
            }
        }
    }

    [Fact]
    public void A_job_on_the_emulator_keeps_what_is_known_and_does_not_depend_on_its_batch()
    {
        Cuda.Require();
        using GpuBackend gpu = new(new OrderedDriver(new EmulatorDriver(new EmulatorOptions { Checks = Kernels.Emulation.Checks.None })));
        using DiffusionSampler sampler = Sampler(new InpaintingSchedule(3, 2), gpu);
        float[] known = Values(2 * Elements, 3), mask = [.. Enumerable.Range(0, 2 * Pixels).Select(i => i % Pixels < 20 ? 1f : 0)];
        float[] x = sampler.Sample(Batch(known, 0) with { Mask = mask });
        Assert.All(Enumerable.Range(0, x.Length).Where(i => mask[i / 3] == 1), i => Assert.Equal(known[i], x[i]));
        Assert.Equal(x[Elements..], sampler.Sample(new SampleBatch { Count = 1, Seed = 5, FirstImage = 1, Known = known[Elements..], Mask = mask[Pixels..] }));
        using DiffusionSampler host = Sampler(new InpaintingSchedule(3, 2));
        float[] expected = host.Sample(Batch(known, 0) with { Mask = mask });
        Assert.InRange(CpuRun.RelativeError(x, Array.ConvertAll(expected, v => (double)v)), 0, 1e-4);
    }

    // The paper's figure of the times that are visited, written anew: down one at a time, and up again from every multiple of the length, so often.
    [Theory]
    [InlineData(10, 1, 1)]
    [InlineData(10, 5, 1)]
    [InlineData(10, 3, 2)]
    [InlineData(11, 10, 4)]
    [InlineData(20, 4, 3)]
    [InlineData(7, 1, 5)]
    public void Steps_come_in_the_order_of_repaint(int timesteps, int jump, int resamples)
    {
        List<int> visited = [timesteps];
        Dictionary<int, int> jumps = Enumerable.Range(0, timesteps).Where(t => t % jump == 0 && t < timesteps - jump).ToDictionary(t => t, _ => resamples - 1);
        for (int t = timesteps; t >= 1;)
        {
            visited.Add(--t);
            if (jumps.GetValueOrDefault(t) > 0)
            {
                jumps[t]--;
                for (int k = 0; k < jump; k++)
                {
                    visited.Add(++t);
                }
            }
        }

        // Each pair that goes down is a step, from the later time; the last one goes to the image itself.
        int[] times = [.. visited.Skip(1), -1];
        int[] expected = [.. times.Zip(times.Skip(1)).Where(p => p.Second < p.First).Select(p => p.First)];
        int[] order = new InpaintingSchedule(jump, resamples).Order(timesteps);
        Assert.Equal(expected, order);
        Assert.Equal(timesteps + (resamples == 1 ? 0 : (resamples - 1) * jump * ((timesteps - 1) / jump)), order.Length);

        // Signal and noise keep the variance 1 of the process: down by the level reached, up by the ratio.
        GaussianDiffusion diffusion = new(s_process with { TimestepRespacing = $"{timesteps}" });
        float[] levels = InpaintingSchedule.Levels(diffusion, order);
        for (int i = 0; i < order.Length; i++)
        {
            double reached = order[i] == 0 ? 1 : diffusion.AlphasCumprod[order[i] - 1];
            double next = i + 1 < order.Length ? diffusion.AlphasCumprod[order[i + 1]] : 1;
            Assert.Equal(Math.Sqrt(reached), levels[4 * i], 1e-6);
            Assert.Equal(1, (levels[4 * i] * levels[4 * i]) + (levels[(4 * i) + 1] * levels[(4 * i) + 1]), 1e-6);
            Assert.Equal(Math.Sqrt(next / reached), levels[(4 * i) + 2], 1e-6);
            Assert.Equal(1, (levels[(4 * i) + 2] * levels[(4 * i) + 2]) + (levels[(4 * i) + 3] * levels[(4 * i) + 3]), 1e-6);
        }
    }

    // Two pixels of correlated normal data with the exact noise prediction; the first is known. Its noised copies alone leave the second short of what the first says about it, and resampling
    // makes good for it.
    [Fact]
    public void The_unknown_pixel_of_correlated_data_has_its_conditional_mean_once_resampled()
    {
        const double Mu = 0.2, Correlation = 0.9, Deviation = 0.5, Known = 0.8;
        double conditional = Mu + (Correlation * (Known - Mu));
        double plain = Mean(new InpaintingSchedule()), resampled = Mean(new InpaintingSchedule(4, 8));
        Assert.InRange(Math.Abs(resampled - conditional), 0, 0.04);
        Assert.True(Math.Abs(plain - conditional) > 3 * Math.Abs(resampled - conditional), $"{plain} and {resampled}, exact {conditional}");

        double Mean(InpaintingSchedule schedule)
        {
            const int Images = 6000;
            DiffusionConfig config = new() { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "40", SigmaSmall = true };
            GaussianDiffusion diffusion = new(config);
            int[] order = schedule.Order(diffusion.NumTimesteps);
            StepTable table = new StepTable(diffusion, SamplerKind.Ddpm).InOrder(order);
            Parameterization parameterization = Parameterization.Of(config, clipDenoised: false);
            GraphBuilder builder = new();
            Tensor Input(string name, Shape shape, DType type = DType.F32) => builder.Input(name, shape, type);
            builder.Output("y", builder.Add("op", new KnownRegion(), Input("x", [Images, 1, 2, 1]), Input("known", [Images, 1, 2, 1]), Input("mask", [Images, 1, 2, 1]), Input("levels", [order.Length, 4]), Input("step", [1], DType.I32), Input("seed", [2], DType.I32), Input("images", [Images, 2], DType.I32)));
            using Executor executor = cpu.Backend.Compile(Plan.Create(builder.Build()), s_none);
            executor.Write("known", [.. Enumerable.Range(0, 2 * Images).Select(i => i % 2 == 0 ? (float)Known : 0)]);
            executor.Write("mask", [.. Enumerable.Range(0, 2 * Images).Select(i => i % 2 == 0 ? 1f : 0)]);
            executor.Write("levels", InpaintingSchedule.Levels(diffusion, order));
            executor.Write("seed", [1, 0]);
            executor.Write("images", [.. Enumerable.Range(0, Images).SelectMany(i => new[] { i, 0 })]);
            float[] x = new float[2 * Images], eps = new float[x.Length], noise = new float[x.Length];
            Draw(RandomStreams.InitialNoise, x);
            for (int step = 0; step < order.Length; step++)
            {
                // E[eps | x] of N(mu, S): sqrt(1 - ab) (ab S + (1 - ab) I)^-1 (x - sqrt(ab) mu), with S = s² [[1, r], [r, 1]].
                double ab = diffusion.AlphasCumprod[order[step]], diagonal = (ab * Deviation * Deviation) + 1 - ab, off = ab * Deviation * Deviation * Correlation;
                double scale = Math.Sqrt(1 - ab) / ((diagonal * diagonal) - (off * off));
                for (int i = 0; i < x.Length; i += 2)
                {
                    double a = x[i] - (Math.Sqrt(ab) * Mu), b = x[i + 1] - (Math.Sqrt(ab) * Mu);
                    eps[i] = (float)(scale * ((diagonal * a) - (off * b)));
                    eps[i + 1] = (float)(scale * ((diagonal * b) - (off * a)));
                }

                Draw(RandomStreams.StepNoise(step), noise);
                SamplerMath.DdpmUpdate(table[step], parameterization, 1, x, eps, [], noise, x, []);
                executor.Write("x", x);
                executor.Write("step", [step]);
                executor.Run();
                executor.Read("y", x);
            }

            return Enumerable.Range(0, Images).Average(i => (double)x[(2 * i) + 1]);

            static void Draw(uint draw, float[] values)
            {
                for (int i = 0; i < Images; i++)
                {
                    RandomStreams.Normals(1, (ulong)i, draw, 0, values.AsSpan(2 * i, 2));
                }
            }
        }
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using DiffusionSampler plain = Sampler(null), inpaints = Sampler(new InpaintingSchedule());
        float[] known = Values(2 * Elements, 3);
        SampleBatch batch = Batch(known, 1);
        Refused("this sampler was not made for inpainting", () => plain.Sample(batch));
        Refused("the known images: 0 elements were given", () => inpaints.Sample(batch with { Known = null }));
        Refused($"the mask: 3 elements were given, {2 * Pixels} are needed", () => inpaints.Sample(batch with { Mask = new float[3] }));
        Refused("the mask must lie between 0 and 1", () => inpaints.Sample(batch with { Mask = [.. batch.Mask!.Select(_ => 1.5f)] }));
        Refused("the mask must lie between 0 and 1", () => inpaints.Sample(batch with { Mask = [.. batch.Mask!.Select(_ => float.NaN)] }));
        Refused("must be finite", () => inpaints.Sample(batch with { Known = [.. known.Select(_ => float.NaN)] }));
        Refused("inpainting needs a sampler that keeps nothing of earlier steps; heun does", () => new DiffusionSampler(
            cpu.Backend, s_unet, s_process, null, new SamplerSettings { Sampler = SamplerKind.Heun }, inpainting: new InpaintingSchedule()).Dispose());
        Refused("jumps of 6 steps are as long as the process", () => Sampler(new InpaintingSchedule(6, 2)).Dispose());
        Refused("both must be 1 or more", () => Sampler(new InpaintingSchedule(0, 2)).Dispose());
        Refused("both must be 1 or more", () => Sampler(new InpaintingSchedule(1, 0)).Dispose());
        Refused("more than 1000000 steps", () => Sampler(new InpaintingSchedule(1, 1_000_000_000)).Dispose());

        static void Refused(string message, Action action) => Assert.Contains(message, Assert.Throws<ConfigurationException>(action).Message, StringComparison.Ordinal);
    }

    private static SampleBatch Batch(float[] known, float mask) => new() { Count = 2, Seed = 5, Known = known, Mask = [.. Enumerable.Repeat(mask, 2 * Pixels)] };

    private static float[] Values(int count, int seed) => Array.ConvertAll(TestModels.Normals(new Random(seed), count, 0.5), v => (float)v);

    private DiffusionSampler Sampler(InpaintingSchedule? schedule, Backend? backend = null) => new(backend ?? cpu.Backend, s_unet, s_process, null, new SamplerSettings(), inpainting: schedule);
}
