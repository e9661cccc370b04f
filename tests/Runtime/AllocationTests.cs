using Kernels.Backends.Cpu;
using Kernels.Diffusion;
using Kernels.Runtime;
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
        float[] noise = new float[8 * sampler.ImageElements], x = new float[sampler.ImageElements];
        SampleBatch batch = new() { Count = 1, Labels = [3], StepNoise = noise };
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
