using System.Collections.Concurrent;
using System.Globalization;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>The deterministic samplers with the trained pair, free of a classifier and guided by one: from one x_T they come to one picture, that of DDIM in many steps.</summary>
public sealed class DemoSolverTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private static readonly SampleBatch s_batch = new() { Count = 2, Labels = [2, 7], Seed = 3 };

    private static readonly ConcurrentDictionary<double, float[]> s_many = new();

    // Root mean square distance at 10, 20 and 40 steps of pictures in [-1, 1], somewhat above what was measured. A classifier makes the equation stiffer.
    [Theory]
    [InlineData(SamplerKind.Ddim, 0, 0.08, 0.04, 0.02)]
    [InlineData(SamplerKind.Euler, 0, 0.08, 0.04, 0.02)]
    [InlineData(SamplerKind.Heun, 0, 0.035, 0.01, 0.005)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2M, 0, 0.05, 0.01, 0.005)]
    [InlineData(SamplerKind.Plms, 0, 0.08, 0.025, 0.015)]
    [InlineData(SamplerKind.Ddim, 1, 0.15, 0.1, 0.035)]
    [InlineData(SamplerKind.Heun, 1, 0.035, 0.01, 0.006)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2M, 1, 0.15, 0.025, 0.005)]
    public void All_come_to_one_picture(SamplerKind sampler, double classifierScale, double at10, double at20, double at40)
    {
        SamplerSettings settings = new() { Spacing = StepSpacing.Karras, ClassifierScale = classifierScale };
        float[] many = s_many.GetOrAdd(classifierScale, _ => Sample(settings with { Sampler = SamplerKind.Ddim }, 300));
        double[] errors = Array.ConvertAll(new[] { 10, 20, 40 }, n => Distance(many, Sample(settings with { Sampler = sampler }, n)));
        string measured = string.Join(", ", errors.Select(e => e.ToString("f4", CultureInfo.InvariantCulture)));
        Assert.True(errors[0] <= at10 && errors[1] <= at20 && errors[2] <= at40, measured);
        Assert.True(errors[1] < errors[0] && errors[2] < errors[1], measured);
    }

    // Noise leads elsewhere, but to pictures that the classifier, which had no part in them, knows for what they are.
    [Theory]
    [InlineData(SamplerKind.EulerAncestral)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2MSde)]
    public void Noisy_samplers_come_to_pictures_of_the_class(SamplerKind sampler)
    {
        float[] pictures = Sample(new SamplerSettings { Sampler = sampler }, 40);
        using Executor classifier = cpu.Backend.Compile(cpu.Backend.Plan(ModelGraphs.Classifier(DemoPair.Classifier.Config, 2, 32, 32, 1)), DemoPair.Classifier.Weights);
        classifier.Write("x", pictures);
        classifier.Write("t", new float[2]);
        classifier.Write("y", [.. s_batch.Labels]);
        classifier.Run(TestContext.Current.CancellationToken);
        float[] logits = classifier.Read("logits");
        Assert.Equal(s_batch.Labels, logits.Chunk(logits.Length / 2).Select(row => row.IndexOf(row.Max())));
        Assert.All(pictures, v => Assert.InRange(v, -1, 1));
        Assert.NotEqual(pictures, Sample(new SamplerSettings { Sampler = SamplerKind.Euler }, 40));
    }

    private float[] Sample(SamplerSettings settings, int steps)
    {
        using DiffusionSampler sampler = new(cpu.Backend, DemoPair.Diffusion, DemoPair.Process($"{steps}"), DemoPair.Classifier, settings);
        return sampler.Sample(s_batch, cancellationToken: TestContext.Current.CancellationToken);
    }

    private static double Distance(float[] a, float[] b) => Math.Sqrt(a.Zip(b, (x, y) => (double)(x - y) * (x - y)).Average());
}
