using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>The coefficients of the samplers against the papers' own updates, and against each other where two samplers are one.</summary>
public sealed class LinearSolverTests
{
    public static TheoryData<SamplerKind, StepSpacing> Cases()
    {
        TheoryData<SamplerKind, StepSpacing> cases = [];
        foreach (SamplerKind sampler in Enum.GetValues<SamplerKind>().Where(s => s is not (SamplerKind.Ddpm or SamplerKind.Ddim or SamplerKind.DdimReverse)))
        {
            foreach (StepSpacing spacing in Enum.GetValues<StepSpacing>())
            {
                cases.Add(sampler, spacing);
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Coefficients_are_the_updates_of_the_papers(SamplerKind sampler, StepSpacing spacing)
    {
        foreach (NoiseSchedule schedule in Enum.GetValues<NoiseSchedule>())
        {
            foreach (int count in new[] { 2, 3, 12 })
            {
                GaussianDiffusion diffusion = Diffusion(schedule, spacing, count);
                double[] sigmas = [.. diffusion.SqrtRecipm1AlphasCumprod.ToArray().Reverse()];
                double expected = ReferenceSolvers.Run(sampler, sigmas, 0.7, Model, i => Math.Sin(i + 1));

                // The largest level of the cosine schedule is 2e4; the papers' forms multiply and divide by it, and Heun weighs a difference of two such with it.
                Agreement.Close(expected, Run(sampler, diffusion, 0.7), 1e-8);
            }
        }
    }

    [Fact]
    public void An_evaluation_is_a_row_and_heun_has_two_in_every_step_but_the_last()
    {
        GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Linear, StepSpacing.Karras, 5);
        foreach (SamplerKind sampler in Enum.GetValues<SamplerKind>())
        {
            Assert.Equal(sampler == SamplerKind.Heun ? 9 : 5, new StepTable(diffusion, sampler).Count);
        }

        Assert.Equal([4, 3, 3, 2, 2, 1, 1, 0, 0], new StepTable(diffusion, SamplerKind.Heun).Timesteps.ToArray());
    }

    [Theory]
    [InlineData(SamplerKind.Euler, 0)]
    [InlineData(SamplerKind.EulerAncestral, 1)]
    public void Euler_in_sigma_is_ddim(SamplerKind euler, double eta)
    {
        foreach (StepSpacing spacing in Enum.GetValues<StepSpacing>())
        {
            GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Linear, spacing, 25);
            StepTable table = new(diffusion, euler), ddim = new(diffusion, SamplerKind.Ddim, eta);
            for (int row = 0; row < table.Count; row++)
            {
                // The original takes 1 - alpha-bar in float32: its squares are right to some units of 2^-24.
                Assert.Equal(ddim[row][StepColumn.XStartCoef], table[row][StepColumn.XStartCoef], 3e-7);
                Assert.Equal(Square(ddim[row][StepColumn.EpsCoef]), Square(table[row][StepColumn.EpsCoef]), 6e-7);
                Assert.Equal(Square(ddim[row][StepColumn.NoiseCoef]), Square(table[row][StepColumn.NoiseCoef]), 6e-7);
            }
        }
    }

    [Fact]
    public void Euler_ancestral_is_ddpm_with_the_variance_of_the_posterior()
    {
        GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Cosine, StepSpacing.Linear, 25);
        foreach (LinearStep step in LinearSolvers.Steps(SamplerKind.EulerAncestral, diffusion))
        {
            // coef1 x_0 + coef2 (alpha x_0 + s eps).
            int t = step.Timestep;
            double coef2 = diffusion.PosteriorMeanCoef2[t];
            Assert.Equal(diffusion.PosteriorMeanCoef1[t] + (coef2 * diffusion.SqrtAlphasCumprod[t]), step.XStart, 1e-12);
            Assert.Equal(coef2 * diffusion.SqrtOneMinusAlphasCumprod[t], step.Eps, 1e-12);
            Assert.Equal(Math.Sqrt(diffusion.PosteriorVariance[t]), step.Noise, 1e-12);
        }
    }

    [Fact]
    public void A_multistep_method_begins_with_a_step_of_its_first_order()
    {
        GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Cosine, StepSpacing.Karras, 10);
        Assert.Equal(First(SamplerKind.Euler), First(SamplerKind.DpmSolverPlusPlus2M));
        Assert.Equal(First(SamplerKind.Euler), First(SamplerKind.Plms));
        Assert.Equal(First(SamplerKind.Euler), First(SamplerKind.Heun));
        Assert.Equal(First(SamplerKind.EulerAncestral), First(SamplerKind.DpmSolverPlusPlus2MSde));

        LinearStep First(SamplerKind sampler)
        {
            LinearStep step = LinearSolvers.Steps(sampler, diffusion).First();
            return step with { History1 = step.History1 + 0.0 };
        }
    }

    [Fact]
    public void The_last_step_takes_the_predicted_image()
    {
        foreach (SamplerKind sampler in Enum.GetValues<SamplerKind>().Where(s => s is not (SamplerKind.DdimReverse or SamplerKind.Plms)))
        {
            StepTable table = new(Diffusion(NoiseSchedule.Linear, StepSpacing.Cosine, 10), sampler);
            StepRow last = table[table.Count - 1];
            Assert.Equal((1, 0, 0, 0), (last[StepColumn.XStartCoef], last[StepColumn.EpsCoef], last[StepColumn.NoiseCoef], last[StepColumn.History1Coef]));
        }
    }

    // A model with a curved answer, so that nothing cancels by being linear.
    private static double Model(double x, double sigma)
    {
        double bar = x / ReferenceSolvers.Alpha(sigma);
        return (bar - Math.Tanh((bar / (1 + sigma)) + 0.3)) / sigma;
    }

    private static double Run(SamplerKind sampler, GaussianDiffusion diffusion, double x)
    {
        double[] history = new double[3];
        int step = 0;
        foreach (LinearStep row in LinearSolvers.Steps(sampler, diffusion))
        {
            double sigma = diffusion.SqrtRecipm1AlphasCumprod[row.Timestep], eps = Model(x, sigma), xStart = (x / ReferenceSolvers.Alpha(sigma)) - (sigma * eps);
            x = (row.XStart * xStart) + (row.Eps * eps) + (row.Noise * Math.Sin(++step)) + (row.History1 * history[0]) + (row.History2 * history[1]) + (row.History3 * history[2]);
            history = [sampler.History() == SamplerHistory.Eps ? eps : xStart, history[0], history[1]];
        }

        return x;
    }

    private static GaussianDiffusion Diffusion(NoiseSchedule schedule, StepSpacing spacing, int steps) =>
        new(new DiffusionConfig { NoiseSchedule = schedule, TimestepRespacing = $"{steps}" }, spacing);

    private static double Square(float value) => (double)value * value;
}
