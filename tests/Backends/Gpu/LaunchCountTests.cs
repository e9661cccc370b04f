using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class LaunchCountTests
{
    [Theory]
    [InlineData("demo pair", Precision.Fp32)]
    [InlineData("demo pair", Precision.Fp16)]
    [InlineData("64x64", Precision.Fp32)]
    [InlineData("64x64", Precision.Fp16)]
    public void A_fused_step_launches_at_most_two_fifths_of_the_unfused_ops(string models, Precision precision)
    {
        Graph graph = models == "demo pair" ? DemoPair.GuidedStep(16) : Published64(4);
        using DryRunBackend backend = new(new GpuOptions { Precision = precision });
        Plan plan = backend.Plan(Rewrites.Apply(graph).Step);
        using Executor executor = backend.Compile(plan, Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        foreach (IGrouping<string, KernelCall> kernel in backend.Calls.GroupBy(c => c.Kernel.Entry).OrderByDescending(g => g.Count()))
        {
            TestContext.Current.TestOutputHelper?.WriteLine($"{kernel.Count(),4} {kernel.Key}");
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{plan.Launches.Count} launches of the plan, {backend.Calls.Count} kernels, {graph.Launches} ops unfused: {(double)graph.Launches / backend.Calls.Count:f2}");
        Assert.True(5 * backend.Calls.Count <= 2 * graph.Launches, $"{backend.Calls.Count} kernels for {graph.Launches} ops");
    }

    private static Graph Published64(int batch) => GuidedStep.Build(
        Presets.Find("adm64").Model,
        Presets.Find("classifier64").Model,
        new StepTable(new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true }), SamplerKind.Ddpm, classifierScale: 1),
        new SamplerSettings { ClassifierScale = 1 },
        batch,
        64,
        64);
}
