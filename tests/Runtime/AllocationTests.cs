using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Runtime;
using Kernels.Tests.Backends.Gpu;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Runtime;

/// <summary>Runs alone: what other tests allocate meanwhile would be counted too.</summary>
[CollectionDefinition(nameof(AllocationTests), DisableParallelization = true)]
public sealed class AllocationCollection;

/// <summary>The host allocates nothing per step.</summary>
[Collection(nameof(AllocationTests))]
public sealed class AllocationTests
{
    private const int Steps = 4;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_guided_step_allocates_nothing_on_any_thread(int threads)
    {
        // The tables hold two of the four steps, so that they are made twice.
        StepGraphs graphs = Rewrites.Apply(DemoPair.GuidedStep(1), tableBytes: DemoPair.TableBytesPerStep * 2);
        Assert.Equal(2, graphs.Steps);
        Weights weights = Weights.Combine([(GuidedStep.DiffusionPrefix, DemoPair.Diffusion.Weights), (GuidedStep.ClassifierPrefix, DemoPair.Classifier.Weights)]);
        StepTable table = new(new GaussianDiffusion(DemoPair.Process($"{Steps}")), SamplerKind.Ddpm, classifierScale: 4);
        using CpuBackend backend = new(threads);
        using StepExecutor executor = new(backend, graphs, weights);
        executor.WriteTable(table);
        executor.Step.Write("image_index", [0, 0]);
        float[] x = new float[32 * 32 * 3];
        int[] zero = [0];
        NoAllocation(() =>
        {
            executor.Step.Write("step", zero);
            executor.Step.Write("x", x);
            for (int i = 0; i < Steps; i++)
            {
                executor.Run(i);
                executor.Step.Read("pred_xstart", x);
            }
        });
    }

    [Theory]
    [InlineData(SamplerKind.Ddim, 1)]
    [InlineData(SamplerKind.Plms, 0)]
    public void A_step_of_the_sampler_allocates_nothing(SamplerKind kind, double eta)
    {
        using CpuBackend backend = new(2);
        using DiffusionSampler sampler = new(
            backend, DemoPair.Diffusion, DemoPair.Process("8"), null, new SamplerSettings { Sampler = kind, Eta = eta });
        StepsAllocateNothing(sampler, new SampleBatch { Count = 1, Labels = [3], StepNoise = new float[8 * sampler.ImageElements] });
    }

    [Fact]
    public void A_step_of_inpainting_with_noise_from_a_source_allocates_nothing()
    {
        using CpuBackend backend = new(2);
        using DiffusionSampler sampler = new(backend, DemoPair.Diffusion, DemoPair.Process("8"), null, new SamplerSettings(), inpainting: new InpaintingSchedule());
        StepsAllocateNothing(sampler, new SampleBatch
        {
            Count = 1, Labels = [3], Known = new float[sampler.ImageElements], Mask = [.. Enumerable.Repeat(0.5f, 32 * 32)],
            NoiseSource = (step, z) => RandomStreams.Normals(1, 2, (uint)step, 0, z),
        });
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_guided_step_on_a_GPU_allocates_nothing_captured_or_launched_by_the_host(bool capture)
    {
        // The driver is that of a real device; the library behind it does nothing.
        StepGraphs graphs = Rewrites.Apply(DemoPair.GuidedStep(1), tableBytes: DemoPair.TableBytesPerStep * 2);
        Weights weights = Weights.Combine([(GuidedStep.DiffusionPrefix, DemoPair.Diffusion.Weights), (GuidedStep.ClassifierPrefix, DemoPair.Classifier.Weights)]);
        StepTable table = new(new GaussianDiffusion(DemoPair.Process($"{Steps}")), SamplerKind.Ddpm, classifierScale: 4);
        using IdleDevice device = new(new GpuOptions { Capture = capture }, backend => new StepExecutor(backend, graphs, weights).Dispose());
        using StepExecutor executor = new(device.Backend, graphs, weights);
        executor.WriteTable(table);
        executor.Step.Write("image_index", [0, 0]);
        float[] x = new float[32 * 32 * 3];
        int[] zero = [0];
        NoAllocation(() =>
        {
            executor.Step.Write("step", zero);
            executor.Step.Write("x", x);
            for (int i = 0; i < Steps; i++)
            {
                executor.Run(i);
                executor.Step.Read("pred_xstart", x);
            }
        });
        Assert.Equal(capture ? 2 : 0, device.Graphs);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_step_of_the_sampler_on_a_GPU_allocates_nothing(bool capture)
    {
        using IdleDevice device = new(new GpuOptions { Precision = Precision.Fp16, Capture = capture }, backend =>
        {
            using DiffusionSampler sampler = Guided(backend);
            sampler.Prepare(1);
        });
        using DiffusionSampler sampler = Guided(device.Backend);
        StepsAllocateNothing(sampler, new SampleBatch { Count = 1, Labels = [3] });
    }

    private static void StepsAllocateNothing(DiffusionSampler sampler, SampleBatch batch)
    {
        float[] x = new float[sampler.ImageElements];
        long[] before = new long[8];
        sampler.Sample(batch);

        // From the callback of one step to that of the next lies one step, with its noise handed over and its result read; the least of several tries,
        // because the runtime's own threads may allocate at any time, but do not always.
        long least = long.MaxValue;
        for (int k = 0; k < 5; k++)
        {
            sampler.Sample(batch, result =>
            {
                result.ReadX(x);
                before[result.Step] = GC.GetTotalAllocatedBytes(precise: true);
            });
            for (int step = 2; step < before.Length; step++)
            {
                least = Math.Min(least, before[step] - before[step - 1]);
            }
        }

        Assert.Equal(0, least);
    }

    private static DiffusionSampler Guided(Backend backend) => new(backend, DemoPair.Diffusion, DemoPair.Process("8"), DemoPair.Classifier, new SamplerSettings { ClassifierScale = 4 });

    private static void NoAllocation(Action steps)
    {
        steps();
        steps();
        long leastHere = long.MaxValue, leastAnywhere = long.MaxValue;
        for (int k = 0; k < 5; k++)
        {
            long anywhere = GC.GetTotalAllocatedBytes(precise: true), here = GC.GetAllocatedBytesForCurrentThread();
            steps();
            leastHere = Math.Min(leastHere, GC.GetAllocatedBytesForCurrentThread() - here);
            leastAnywhere = Math.Min(leastAnywhere, GC.GetTotalAllocatedBytes(precise: true) - anywhere);
        }

        Assert.Equal((0, 0), (leastHere, leastAnywhere));
    }
}
