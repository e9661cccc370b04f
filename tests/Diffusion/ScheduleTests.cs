using FsCheck;
using FsCheck.Fluent;
using Kernels.Diffusion;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class ScheduleTests
{
    // Everything but cos and log is exact IEEE arithmetic in the original's order; those two may differ by a rounding between C libraries.
    private const double TableTolerance = 1e-12;

    [Theory]
    [InlineData("schedule-cosine-10-15-20")]
    [InlineData("schedule-cosine-25")]
    [InlineData("schedule-cosine-full")]
    [InlineData("schedule-linear-250")]
    [InlineData("schedule-linear-ddim50")]
    [InlineData("schedule-linear-full")]
    public void Tables_equal_the_recorded_ones(string name)
    {
        PackFile pack = new(name);
        GaussianDiffusion diffusion = new(DiffusionConfig.FromJson(pack.Metadata("diffusion")));
        Assert.Equal(pack.Read<long>("outputs/timestep_map"), diffusion.TimestepMap.ToArray().Select(t => (long)t));
        Check("betas", diffusion.Betas);
        Check("alphas_cumprod", diffusion.AlphasCumprod);
        Check("alphas_cumprod_prev", diffusion.AlphasCumprodPrev);
        Check("sqrt_recip_alphas_cumprod", diffusion.SqrtRecipAlphasCumprod);
        Check("sqrt_recipm1_alphas_cumprod", diffusion.SqrtRecipm1AlphasCumprod);
        Check("posterior_variance", diffusion.PosteriorVariance);
        Check("posterior_log_variance_clipped", diffusion.PosteriorLogVarianceClipped);
        Check("posterior_mean_coef1", diffusion.PosteriorMeanCoef1);
        Check("posterior_mean_coef2", diffusion.PosteriorMeanCoef2);

        void Check(string table, ReadOnlySpan<double> actual)
        {
            double[] expected = pack.Read<double>("outputs/" + table);
            Assert.Equal(expected.Length, actual.Length);
            for (int t = 0; t < expected.Length; t++)
            {
                Agreement.Close(expected[t], actual[t], TableTolerance);
            }
        }
    }

    [Fact]
    public void Linear_schedule_keeps_its_ends_at_1000_steps_and_scales_them_otherwise()
    {
        double[] thousand = BetaSchedule.Create(NoiseSchedule.Linear, 1000);
        Assert.Equal(1e-4, thousand[0]);
        Assert.Equal(0.02, thousand[^1]);
        double[] four = BetaSchedule.Create(NoiseSchedule.Linear, 4000);
        Agreement.Close(0.25e-4, four[0], 1e-15);
        Agreement.Close(0.005, four[^1], 1e-15);
    }

    [Fact]
    public void Betas_of_an_alpha_bar_multiply_back_to_it()
    {
        double[] betas = BetaSchedule.ForAlphaBar(50, t => Math.Exp(-3 * t));
        double product = 1;
        foreach (double beta in betas)
        {
            product *= 1 - beta;
        }

        Agreement.Close(Math.Exp(-3), product, 1e-13);
        Assert.Equal(BetaSchedule.MaxBeta, BetaSchedule.ForAlphaBar(2, t => 1 - t)[1]);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    [InlineData(int.MaxValue)]
    public void A_length_out_of_range_is_refused(int steps)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => BetaSchedule.Create(NoiseSchedule.Cosine, steps));
        Assert.Contains("diffusion_steps", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_linear_schedule_too_short_for_its_end_is_refused()
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => BetaSchedule.Create(NoiseSchedule.Linear, 20));
        Assert.Contains("cosine", e.Message, StringComparison.Ordinal);
        Assert.Equal(21, BetaSchedule.Create(NoiseSchedule.Linear, 21).Length);
    }

    [Fact]
    public void One_step_is_refused_where_the_posterior_needs_a_second() =>
        Assert.Throws<ConfigurationException>(() => new GaussianDiffusion(new DiffusionConfig { TimestepRespacing = "1" }));

    [Fact]
    public void Large_variance_borrows_its_first_value_from_the_posterior()
    {
        GaussianDiffusion large = new(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "10" });
        GaussianDiffusion small = new(large.Config with { SigmaSmall = true });
        Assert.Equal(large.PosteriorVariance[1], large.FixedVariance[0]);
        Assert.Equal(large.Betas[1..].ToArray(), large.FixedVariance[1..].ToArray());
        Assert.Equal(Math.Log(large.FixedVariance[3]), large.FixedLogVariance[3]);
        Assert.Equal(0, small.FixedVariance[0]);
        Assert.Equal(small.PosteriorLogVarianceClipped.ToArray(), small.FixedLogVariance.ToArray());
    }

    [Fact]
    public void Every_process_is_monotone_and_keeps_the_original_products()
    {
        Gen<DiffusionConfig> configs =
            from steps in Gen.Choose(30, 1500)
            from count in Gen.Choose(2, 30)
            from cosine in Gen.Elements(NoiseSchedule.Cosine, NoiseSchedule.Linear)
            select new DiffusionConfig { DiffusionSteps = steps, NoiseSchedule = cosine, TimestepRespacing = $"{count}" };
        Prop.ForAll(configs.ToArbitrary(), config =>
        {
            GaussianDiffusion full = new(config with { TimestepRespacing = "" });
            GaussianDiffusion spaced = new(config);
            double tolerance = 1e-12;
            for (int t = 0; t < spaced.NumTimesteps; t++)
            {
                // A beta close to 1 keeps few digits of 1 - beta: one rounding of beta is worth 2^-53 / (1 - beta) of the product.
                tolerance += Math.Pow(2, -52) / (1 - spaced.Betas[t]);
                int original = (int)spaced.TimestepMap[t];
                Agreement.Close(full.AlphasCumprod[original], spaced.AlphasCumprod[t], tolerance);
                Assert.InRange(spaced.Betas[t], double.Epsilon, 1);
                Assert.True(spaced.AlphasCumprod[t] < spaced.AlphasCumprodPrev[t]);
                Assert.True(spaced.AlphasCumprodNext[t] < spaced.AlphasCumprod[t]);
                Assert.True(spaced.PosteriorVariance[t] < spaced.Betas[t]);

                // The posterior mean of a noiseless x_t = sqrt(alpha-bar_t) x_0 is sqrt(alpha-bar_{t-1}) x_0.
                double mean = spaced.PosteriorMeanCoef1[t] + (spaced.PosteriorMeanCoef2[t] * spaced.SqrtAlphasCumprod[t]);
                Agreement.Close(Math.Sqrt(spaced.AlphasCumprodPrev[t]), mean, tolerance);
            }

            return true;
        }).QuickCheckThrowOnFailure();
    }
}
