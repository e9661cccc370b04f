using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>
/// Data distributed as N(mu, s²) have a noise prediction in closed form, linear in x, and so is every update with it: the exact mean
/// and variance of what a sampler makes follow from three probes per step. They must be those of the data, and closer the more steps
/// are taken.
/// </summary>
public class GaussianDataTests
{
    private const double Mu = 0.4;
    private const double Deviation = 0.3;

    // DDIM carries the mean of Gaussian data exactly, whatever the step: what is left is float32 rounding over a thousand steps.
    private const double Rounding = 1e-5;

    // After guidance towards a class: p(y | x) proportional to exp(-(x - a)² / (2 b²)).
    private const double ClassCentre = -0.5;
    private const double ClassWidth = 0.4;

    public static TheoryData<SamplerKind, ModelVarType, double> Samplers() => new()
    {
        { SamplerKind.Ddpm, ModelVarType.FixedSmall, 0 },
        { SamplerKind.Ddpm, ModelVarType.FixedLarge, 0 },
        { SamplerKind.Ddpm, ModelVarType.LearnedRange, 0 },
        { SamplerKind.Ddim, ModelVarType.FixedLarge, 0 },
        { SamplerKind.Ddim, ModelVarType.FixedLarge, 0.5 },
        { SamplerKind.Ddim, ModelVarType.LearnedRange, 1 },
    };

    [Theory]
    [MemberData(nameof(Samplers))]
    public void Sampling_converges_to_the_data(SamplerKind sampler, ModelVarType varType, double eta)
    {
        (double coarseMean, double coarseDeviation) = Sample(sampler, varType, eta, "100", guided: false);
        (double mean, double deviation) = Sample(sampler, varType, eta, "", guided: false);
        Assert.InRange(Math.Abs(mean - Mu), 0, 1e-3);
        Assert.InRange(Math.Abs(deviation - Deviation), 0, 3e-3);
        Assert.True(Math.Abs(deviation - Deviation) < Math.Abs(coarseDeviation - Deviation) / 3);
        Assert.InRange(Math.Abs(coarseMean - Mu), 0, 1e-2);
    }

    [Theory]
    [MemberData(nameof(Samplers))]
    public void Guidance_with_the_exact_gradient_converges_to_the_class(SamplerKind sampler, ModelVarType varType, double eta)
    {
        double precision = Math.Pow(Deviation, -2) + Math.Pow(ClassWidth, -2);
        double expectedMean = ((Mu * Math.Pow(Deviation, -2)) + (ClassCentre * Math.Pow(ClassWidth, -2))) / precision;
        double expectedDeviation = 1 / Math.Sqrt(precision);
        (double coarseMean, double coarseDeviation) = Sample(sampler, varType, eta, "100", guided: true);
        (double mean, double deviation) = Sample(sampler, varType, eta, "", guided: true);

        // First order in the step: a small variance also weighs the gradient too little over the last steps.
        Assert.InRange(Math.Abs(mean - expectedMean), 0, 6e-3);
        Assert.InRange(Math.Abs(deviation - expectedDeviation), 0, 3e-3);
        Assert.InRange(Math.Abs(mean - expectedMean), 0, Rounding + (Math.Abs(coarseMean - expectedMean) / 3));
        Assert.InRange(Math.Abs(deviation - expectedDeviation), 0, Rounding + (Math.Abs(coarseDeviation - expectedDeviation) / 3));
    }

    [Fact]
    public void Inversion_and_sampling_undo_each_other_as_steps_shrink()
    {
        double coarse = RoundTripError("100");
        double fine = RoundTripError("");
        Assert.InRange(fine, 0, 5e-3);
        Assert.InRange(fine, 0, coarse / 5);
    }

    private static double RoundTripError(string respacing)
    {
        DiffusionConfig config = new() { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = respacing };
        GaussianDiffusion diffusion = new(config);
        Parameterization parameterization = Parameterization.Of(config, clipDenoised: false);
        float[] start = [-0.4f, 0.1f, 0.4f, 0.9f];
        float[] x = [.. start];
        float[] eps = new float[x.Length];
        foreach (SamplerKind sampler in new[] { SamplerKind.DdimReverse, SamplerKind.Ddim })
        {
            StepTable table = new(diffusion, sampler);
            for (int step = 0; step < table.Count; step++)
            {
                for (int i = 0; i < x.Length; i++)
                {
                    eps[i] = (float)Eps(diffusion.AlphasCumprod[table.Timesteps[step]], x[i], Mu, Deviation);
                }

                SamplerMath.LinearUpdate(table[step], parameterization, 1, x, eps, [], [], x, []);
            }

            if (sampler == SamplerKind.DdimReverse)
            {
                // The latent of a point k deviations from the mean is about k.
                Assert.Equal((0.9 - Mu) / Deviation, x[3], 0.1);
            }
        }

        return x.Zip(start).Max(p => Math.Abs(p.First - p.Second));
    }

    private static (double Mean, double Deviation) Sample(SamplerKind sampler, ModelVarType varType, double eta, string respacing, bool guided)
    {
        DiffusionConfig config = new()
        {
            NoiseSchedule = NoiseSchedule.Cosine,
            TimestepRespacing = respacing,
            LearnSigma = varType == ModelVarType.LearnedRange,
            SigmaSmall = varType == ModelVarType.FixedSmall,
        };
        GaussianDiffusion diffusion = new(config);
        StepTable table = new(diffusion, sampler, eta, guided ? 1 : 0);
        Parameterization parameterization = Parameterization.Of(config, clipDenoised: false);

        double mean = 0;
        double variance = 1;
        float[] output = new float[3 * parameterization.OutputsPerChannel];
        float[] gradient = new float[guided ? 3 : 0];
        float[] next = new float[3];
        for (int step = 0; step < table.Count; step++)
        {
            double ab = diffusion.AlphasCumprod[table.Timesteps[step]];
            float[] x = [(float)mean, (float)(mean + 1), (float)mean];
            for (int i = 0; i < 3; i++)
            {
                output[i * parameterization.OutputsPerChannel] = (float)Eps(ab, x[i], Mu, Deviation);
                if (guided)
                {
                    gradient[i] = (float)ClassGradient(ab, x[i]);
                }
            }

            float[] noise = [0, 0, 1];
            if (sampler == SamplerKind.Ddpm)
            {
                SamplerMath.DdpmUpdate(table[step], parameterization, 1, x, output, gradient, noise, next, []);
            }
            else
            {
                SamplerMath.LinearUpdate(table[step], parameterization, 1, x, output, gradient, noise, next, []);
            }

            double slope = next[1] - next[0];
            double added = next[2] - next[0];
            mean = next[0];
            variance = (slope * slope * variance) + (added * added);
        }

        return (mean, Math.Sqrt(variance));
    }

    // E[eps | x_t] for x_0 ~ N(mu, s²).
    private static double Eps(double ab, double x, double mu, double s) =>
        Math.Sqrt(1 - ab) * (x - (Math.Sqrt(ab) * mu)) / ((ab * s * s) + 1 - ab);

    // grad log p(y | x_t) = grad log p(x_t | y) - grad log p(x_t), and grad log p = -eps / sqrt(1 - ab).
    private static double ClassGradient(double ab, double x)
    {
        double precision = Math.Pow(Deviation, -2) + Math.Pow(ClassWidth, -2);
        double mean = ((Mu * Math.Pow(Deviation, -2)) + (ClassCentre * Math.Pow(ClassWidth, -2))) / precision;
        return (Eps(ab, x, Mu, Deviation) - Eps(ab, x, mean, 1 / Math.Sqrt(precision))) / Math.Sqrt(1 - ab);
    }
}
