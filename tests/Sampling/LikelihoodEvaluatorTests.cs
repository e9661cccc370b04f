using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Sampling;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Sampling;

public sealed class LikelihoodEvaluatorTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Elements = 32 * 32 * 3;
    private static readonly string s_diffusion = Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");
    private static readonly float[] s_images = Images();

    [Fact]
    public void Bits_are_those_of_the_loop_and_do_not_depend_on_the_batch()
    {
        using LikelihoodEvaluator evaluator = Load();
        BitsPerDimensionResult both = evaluator.Evaluate(s_images, [3, 7], 2, seed: 5, first: 40);
        BitsPerDimensionResult second = evaluator.Evaluate(s_images[Elements..], [7], 1, seed: 5, first: 41);
        Assert.Equal(both.TotalBpd.Span[1], second.TotalBpd.Span[0]);
        Assert.Equal(both.Vb.ToArray()[both.Steps..], second.Vb.ToArray());

        // The loop with a graph of its own, unfused, and noise drawn here.
        using LoadedModel model = ModelLoader.Load(s_diffusion, new ModelOverrides { TimestepRespacing = "5" });
        StepTable table = new(new GaussianDiffusion(model.Process!), SamplerKind.Ddpm);
        using Executor executor = cpu.Backend.Compile(Plan.Create(ModelGraphs.UNet(model.Model.Config, 2, 32, 32)), model.Model.Weights);
        executor.Write("y", [3, 7]);
        BitsPerDimensionResult expected = BitsPerDimension.CalcBpdLoop(
            table,
            clipDenoised: true,
            2,
            3,
            s_images,
            (step, x, output) =>
            {
                executor.Write("x", x);
                executor.Write("t", [table.ModelTimesteps[step], table.ModelTimesteps[step]]);
                executor.Run();
                executor.Read("out", output);
            },
            (step, noise) =>
            {
                RandomStreams.Normals(5, 40, RandomStreams.StepNoise(step), 0, noise[..Elements]);
                RandomStreams.Normals(5, 41, RandomStreams.StepNoise(step), 0, noise[Elements..]);
            },
            TestContext.Current.CancellationToken);
        Assert.Equal(5, both.Steps);
        foreach ((float e, float a) in expected.TotalBpd.ToArray().Concat(expected.Mse.ToArray()).Zip(both.TotalBpd.ToArray().Concat(both.Mse.ToArray())))
        {
            Assert.Equal(e, a, 1e-3 * Math.Abs(e));
        }
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using LikelihoodEvaluator evaluator = Load();
        Assert.Throws<ConfigurationException>(() => evaluator.Evaluate(s_images, [3], 2));
        Assert.Throws<ConfigurationException>(() => evaluator.Evaluate(s_images, [3, 11], 2));
        Assert.Throws<ConfigurationException>(() => evaluator.Evaluate(s_images[1..], [3, 7], 2));
        using LikelihoodEvaluator unconditional = Load(new SamplerSettings { Unconditional = true });
        Assert.Equal((0, 10), (unconditional.Classes, unconditional.NullLabel));
        Assert.NotEqual(evaluator.Evaluate(s_images, [3, 7], 2).TotalBpd.ToArray(), unconditional.Evaluate(s_images, [], 2).TotalBpd.ToArray());
        string classifier = Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_classifier.safetensors");
        Assert.Throws<ConfigurationException>(() => LikelihoodEvaluator.Load(new SamplerOptions { Diffusion = new ModelSource(classifier) }, cpu.Backend));
    }

    private static float[] Images()
    {
        float[] images = new float[2 * Elements];
        Kernels.Imaging.Images.FromBytes([.. Enumerable.Range(0, images.Length).Select(i => (byte)(i * 37 % 251))], images);
        return images;
    }

    private LikelihoodEvaluator Load(SamplerSettings? settings = null) => LikelihoodEvaluator.Load(
        new SamplerOptions { Diffusion = new ModelSource(s_diffusion) { Overrides = new ModelOverrides { TimestepRespacing = "5" } }, Settings = settings ?? new SamplerSettings() }, cpu.Backend);
}
