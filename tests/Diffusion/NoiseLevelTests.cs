using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public sealed class NoiseLevelTests
{
    [Theory]
    [InlineData(NoiseSchedule.Linear)]
    [InlineData(NoiseSchedule.Cosine)]
    public void Levels_between_timesteps_are_interpolated_in_the_logarithm_and_found_again(NoiseSchedule schedule)
    {
        GaussianDiffusion process = new(new DiffusionConfig { NoiseSchedule = schedule });
        NoiseLevels levels = new(process.AlphasCumprod);
        for (int t = 0; t < 1000; t++)
        {
            Agreement.Close(process.SqrtRecipm1AlphasCumprod[t], levels.Sigma(t), 1e-12);
            Assert.Equal(t, levels.Timestep(process.SqrtRecipm1AlphasCumprod[t]), 1e-8);
        }

        Agreement.Close(Math.Sqrt(levels.Sigma(500) * levels.Sigma(501)), levels.Sigma(500.5), 1e-12);
        Assert.Equal(123.25, levels.Timestep(levels.Sigma(123.25)), 1e-8);
        Assert.Equal(0, levels.Timestep(levels.Sigma(0) / 2));
        Assert.Equal(999, levels.Timestep(levels.Sigma(999) * 2));
    }

    [Theory]
    [InlineData(NoiseSchedule.Linear, StepSpacing.Cosine)]
    [InlineData(NoiseSchedule.Linear, StepSpacing.Karras)]
    [InlineData(NoiseSchedule.Cosine, StepSpacing.Cosine)]
    [InlineData(NoiseSchedule.Cosine, StepSpacing.Karras)]
    public void Levels_are_evenly_spaced_in_the_scale_of_the_spacing(NoiseSchedule schedule, StepSpacing spacing)
    {
        DiffusionConfig config = new() { NoiseSchedule = schedule, TimestepRespacing = "20" };
        GaussianDiffusion whole = new(config with { TimestepRespacing = "" }), spaced = new(config, spacing);
        double[] scale = Array.ConvertAll(spaced.SqrtRecipm1AlphasCumprod.ToArray(), s => spacing == StepSpacing.Cosine ? Math.Atan(s) : Math.Pow(s, 1.0 / 7));
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(scale[0] + (i * (scale[19] - scale[0]) / 19), scale[i], 1e-9);
        }

        // Between the ends of the process, Karras's own end among them.
        double highest = spacing == StepSpacing.Karras ? 80 : whole.SqrtRecipm1AlphasCumprod[999];
        Agreement.Close(whole.SqrtRecipm1AlphasCumprod[0], spaced.SqrtRecipm1AlphasCumprod[0], 1e-9);
        Agreement.Close(highest, spaced.SqrtRecipm1AlphasCumprod[19], 1e-9);
        Assert.Equal(0, spaced.TimestepMap[0]);
        Assert.Equal(spaced.TimestepMap.ToArray().Order(), spaced.TimestepMap.ToArray());

        // A model is asked at real timesteps, those of its levels.
        NoiseLevels levels = new(whole.AlphasCumprod);
        StepTable table = new(spaced, SamplerKind.Ddim);
        Assert.Equal((float)levels.Timestep(spaced.SqrtRecipm1AlphasCumprod[7]), table.ModelTimesteps[12], 1e-3f);
        Assert.NotEqual(Math.Round(spaced.TimestepMap[7]), spaced.TimestepMap[7]);
    }

    [Fact]
    public void A_process_that_ends_below_the_greatest_level_of_karras_is_spaced_to_its_own_end()
    {
        // The first section alone has levels up to 1.
        GaussianDiffusion spaced = new(new DiffusionConfig { TimestepRespacing = "5,0,0,0" }, StepSpacing.Karras), linear = new(new DiffusionConfig { TimestepRespacing = "5,0,0,0" });
        Assert.Equal(249, spaced.TimestepMap[4]);
        Agreement.Close(linear.SqrtRecipm1AlphasCumprod[4], spaced.SqrtRecipm1AlphasCumprod[4], 1e-9);
    }

    [Theory]
    [InlineData(SamplerKind.Ddim, null, StepSpacing.Linear)]
    [InlineData(SamplerKind.Plms, null, StepSpacing.Karras)]
    [InlineData(SamplerKind.Ddim, StepSpacing.Cosine, StepSpacing.Cosine)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2M, StepSpacing.Linear, StepSpacing.Linear)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2M, null, StepSpacing.Karras)]
    [InlineData(SamplerKind.Heun, null, StepSpacing.Karras)]
    public void A_sampler_brings_its_spacing_unless_told_otherwise(SamplerKind sampler, StepSpacing? spacing, StepSpacing expected)
    {
        DiffusionConfig process = new() { TimestepRespacing = "5" };
        StepTable table = StepTable.Create(process, new SamplerSettings { Sampler = sampler, Spacing = spacing });
        Assert.Equal(new GaussianDiffusion(process, expected).AlphasCumprod.ToArray(), table.Diffusion.AlphasCumprod.ToArray());
        Assert.Equal(expected, table.Diffusion.Spacing);
    }

    [Fact]
    public void Cosine_spacing_of_a_linear_process_has_the_alphas_of_a_cosine()
    {
        GaussianDiffusion spaced = new(new DiffusionConfig { TimestepRespacing = "11" }, StepSpacing.Cosine);
        double first = Math.Acos(spaced.SqrtAlphasCumprod[0]), last = Math.Acos(spaced.SqrtAlphasCumprod[10]);
        Assert.Equal(Math.Pow(Math.Cos((first + last) / 2), 2), spaced.AlphasCumprod[5], 1e-12);
    }

    [Fact]
    public void The_posterior_is_that_of_the_spaced_levels()
    {
        GaussianDiffusion spaced = new(new DiffusionConfig { TimestepRespacing = "9", SigmaSmall = true }, StepSpacing.Karras);
        for (int t = 1; t < 9; t++)
        {
            // q(x_{t-1} | x_t, x_0) has the mean of x_{t-1} where x_t has its own, and the variances add up.
            double alpha = Math.Sqrt(1 - spaced.Betas[t]), coef2 = spaced.PosteriorMeanCoef2[t];
            Agreement.Close(spaced.SqrtAlphasCumprod[t - 1], spaced.PosteriorMeanCoef1[t] + (coef2 * spaced.SqrtAlphasCumprod[t]), 1e-12);
            Agreement.Close(1 - spaced.AlphasCumprod[t - 1], spaced.PosteriorVariance[t] + (coef2 * coef2 * (1 - spaced.AlphasCumprod[t])), 1e-12);
            Agreement.Close(spaced.SqrtAlphasCumprod[t], alpha * spaced.SqrtAlphasCumprod[t - 1], 1e-12);
        }
    }

    [Fact]
    public void Rescaled_timesteps_are_real_ones_too()
    {
        DiffusionConfig config = new() { DiffusionSteps = 4000, NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "8", RescaleTimesteps = true };
        GaussianDiffusion rescaled = new(config, StepSpacing.Karras), plain = new(config with { RescaleTimesteps = false }, StepSpacing.Karras);
        for (int t = 0; t < 8; t++)
        {
            Assert.Equal(plain.ModelTimestep(t) / 4, rescaled.ModelTimestep(t), 1e-4f);
        }
    }

    [Theory]
    [InlineData("linear", StepSpacing.Linear)]
    [InlineData("cosine", StepSpacing.Cosine)]
    [InlineData("karras", StepSpacing.Karras)]
    public void Spacings_have_names(string name, StepSpacing spacing)
    {
        Assert.Equal((spacing, name), (NoiseLevels.ParseSpacing(name), NoiseLevels.NameOf(spacing)));
        Assert.Contains("'exponential'; there are linear, cosine and karras", Assert.Throws<ConfigurationException>(() => NoiseLevels.ParseSpacing("exponential")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Samplers_have_names()
    {
        Assert.All(SamplerKinds.Names, name => Assert.Equal(name, SamplerKinds.NameOf(SamplerKinds.Parse(name))));
        Assert.Equal(Enum.GetValues<SamplerKind>().Length - 1, SamplerKinds.Names.Count);
        Assert.Contains("no sampler 'lms'; there are ddpm, ddim,", Assert.Throws<ConfigurationException>(() => SamplerKinds.Parse("lms")).Message, StringComparison.Ordinal);
    }
}
