using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class StepTableTests
{
    private const double Ulp = 1.0 / (1 << 24);
    private static readonly DiffusionConfig Cosine = new() { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "25", LearnSigma = true };

    [Fact]
    public void Every_column_has_its_place_in_the_row() =>
        Assert.Equal(Enumerable.Range(0, StepTable.Columns), Enum.GetValues<StepColumn>().Select(c => (int)c));

    [Theory]
    [InlineData(SamplerKind.Ddpm)]
    [InlineData(SamplerKind.Ddim)]
    [InlineData(SamplerKind.DdimReverse)]
    public void Rows_stand_in_the_order_of_execution(SamplerKind sampler)
    {
        GaussianDiffusion diffusion = new(Cosine);
        StepTable table = new(diffusion, sampler, classifierScale: 2.5, cfgScale: 0.5);
        Assert.Equal(25, table.Count);
        Assert.Equal(25 * StepTable.Columns, table.Values.Length);
        for (int step = 0; step < table.Count; step++)
        {
            int t = sampler == SamplerKind.DdimReverse ? step : 24 - step;
            StepRow row = table[step];
            Assert.Equal(t, table.Timesteps[step]);
            Assert.Equal((float)diffusion.TimestepMap[t], row[StepColumn.ModelTimestep]);
            Assert.Equal(row[StepColumn.ModelTimestep], table.ModelTimesteps[step]);
            if (sampler == SamplerKind.Ddpm)
            {
                Assert.Equal((float)diffusion.PosteriorMeanCoef1[t], row[StepColumn.XStartCoef]);
                Assert.Equal((float)diffusion.PosteriorMeanCoef2[t], row[StepColumn.XCoef]);
                Assert.Equal(t > 0 ? 1 : 0, row[StepColumn.NoiseCoef]);
            }

            Assert.Equal((float)diffusion.SqrtRecipAlphasCumprod[t], row[StepColumn.SqrtRecipAlphasCumprod]);
            Assert.Equal((float)diffusion.SqrtRecipm1AlphasCumprod[t], row[StepColumn.SqrtRecipm1AlphasCumprod]);
            Assert.Equal((float)diffusion.PosteriorLogVarianceClipped[t], row[StepColumn.MinLogVariance]);
            Assert.Equal((float)Math.Log(diffusion.Betas[t]), row[StepColumn.MaxLogVariance]);
            Assert.Equal(2.5f, row[StepColumn.ClassifierScale]);
            Assert.Equal(0.5f, row[StepColumn.CfgScale]);
        }
    }

    [Fact]
    public void Rescaled_timesteps_run_to_1000_whatever_the_length()
    {
        DiffusionConfig config = new() { DiffusionSteps = 4000, NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "5", RescaleTimesteps = true };
        StepTable table = new(new GaussianDiffusion(config), SamplerKind.Ddpm);
        Assert.Equal([999.75f, 749.75f, 500f, 250f, 0f], table.ModelTimesteps.ToArray());
        StepTable unscaled = new(new GaussianDiffusion(config with { RescaleTimesteps = false }), SamplerKind.Ddpm);
        Assert.Equal([3999f, 2999f, 2000f, 1000f, 0f], unscaled.ModelTimesteps.ToArray());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0.7)]
    [InlineData(1)]
    public void Ddim_weights_are_those_of_equation_12_to_the_digits_float32_leaves(double eta)
    {
        GaussianDiffusion diffusion = new(Cosine);
        StepTable table = new(diffusion, SamplerKind.Ddim, eta);
        for (int step = 0; step < table.Count; step++)
        {
            int t = table.Timesteps[step];
            double ab = diffusion.AlphasCumprod[t];
            double abPrev = diffusion.AlphasCumprodPrev[t];
            double sigma2 = eta * eta * (1 - abPrev) / (1 - ab) * (1 - (ab / abPrev));
            StepRow row = table[step];
            Agreement.Close(Math.Sqrt(abPrev), row[StepColumn.XStartCoef], 4 * Ulp);

            // alpha-bar is rounded to float32 before it is taken from 1, so squares are right to a few units of 2^-24, not to a few of
            // their own.
            Assert.Equal(1 - ab, Square(row[StepColumn.SqrtOneMinusAlphasCumprod]), 4 * Ulp);
            Assert.Equal(1 - abPrev - sigma2, Square(row[StepColumn.EpsCoef]), 8 * Ulp);
            Assert.Equal(sigma2, Square(row[StepColumn.NoiseCoef]), 8 * Ulp);
        }
    }

    [Fact]
    public void Inversion_weights_look_one_step_ahead()
    {
        GaussianDiffusion diffusion = new(Cosine);
        StepTable table = new(diffusion, SamplerKind.DdimReverse);
        for (int t = 0; t < 24; t++)
        {
            Assert.Equal(Math.Sqrt(diffusion.AlphasCumprod[t + 1]), table[t][StepColumn.XStartCoef], 4 * Ulp);
            Assert.Equal(1 - diffusion.AlphasCumprod[t + 1], Square(table[t][StepColumn.EpsCoef]), 4 * Ulp);
        }

        Assert.Equal(0, table[24][StepColumn.XStartCoef]);
        Assert.Equal(1, table[24][StepColumn.EpsCoef]);
    }

    [Theory]
    [InlineData(SamplerKind.Ddim, -0.1, "eta is -0.1")]
    [InlineData(SamplerKind.Ddim, double.NaN, "eta is NaN")]
    [InlineData(SamplerKind.Ddim, double.PositiveInfinity, "eta is Infinity")]
    [InlineData(SamplerKind.Ddim, 1.5, "more noise at timestep")]
    [InlineData(SamplerKind.Ddpm, 0.5, "only DDIM")]
    [InlineData(SamplerKind.DdimReverse, 0.5, "only DDIM")]
    public void An_eta_that_cannot_be_is_refused(SamplerKind sampler, double eta, string reason)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => new StepTable(new GaussianDiffusion(Cosine), sampler, eta));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Scales_must_be_finite()
    {
        GaussianDiffusion diffusion = new(Cosine);
        Assert.Throws<ConfigurationException>(() => new StepTable(diffusion, SamplerKind.Ddpm, classifierScale: double.NaN));
        Assert.Throws<ConfigurationException>(() => new StepTable(diffusion, SamplerKind.Ddpm, cfgScale: 1e60));
    }

    private static double Square(float value) => (double)value * value;
}
