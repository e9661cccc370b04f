using Kernels.Diffusion;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class BitsPerDimensionTests
{
    private static readonly DiffusionConfig Cosine = new() { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "20" };

    [Theory]
    [InlineData(0f, 0f, 0f, 0f)]
    [InlineData(0.5f, -1f, -0.25f, 0.3f)]
    [InlineData(-2f, -6f, 1f, -5f)]
    public void Normal_kl_equals_the_integral(float mean1, float logVariance1, float mean2, float logVariance2)
    {
        // Trapezoids over twenty deviations of the first Gaussian converge faster than any power of the step.
        double s1 = Math.Exp(logVariance1 / 2.0);
        double s2 = Math.Exp(logVariance2 / 2.0);
        double integral = 0;
        for (int i = -1000; i <= 1000; i++)
        {
            double z = i / 100.0;
            double x = mean1 + (s1 * z);
            double logRatio = (-z * z / 2) - Math.Log(s1) + (Math.Pow((x - mean2) / s2, 2) / 2) + Math.Log(s2);
            integral += Math.Exp(-z * z / 2) / Math.Sqrt(2 * Math.PI) * logRatio / 100;
        }

        Assert.Equal(integral, Likelihood.NormalKl(mean1, logVariance1, mean2, logVariance2), 1e-5 * Math.Max(1, integral));
    }

    [Fact]
    public void Distribution_function_is_the_normal_one_to_four_digits()
    {
        // Symmetric to rounding, and within 3.2e-4 of the true one: the known error of the tanh form with 0.044715. Quartiles and
        // quantiles are tabulated.
        (double X, double P)[] quantiles = [(0, 0.5), (0.6744897502, 0.75), (1.2815515655, 0.9), (1.9599639845, 0.975), (3.0902323062, 0.999)];
        foreach ((double x, double p) in quantiles)
        {
            Assert.Equal(p, Likelihood.ApproxStandardNormalCdf((float)x), 3.2e-4);
            Assert.Equal(1, Likelihood.ApproxStandardNormalCdf((float)x) + Likelihood.ApproxStandardNormalCdf((float)-x), 1e-6);
        }

        // The tanh form itself, in float64.
        for (float x = -4; x <= 4; x += 0.37f)
        {
            double expected = 1 / (1 + Math.Exp(-2 * Math.Sqrt(2 / Math.PI) * (x + (0.044715 * Math.Pow(x, 3)))));
            Assert.Equal(expected, Likelihood.ApproxStandardNormalCdf(x), 2e-7);
        }
    }

    [Theory]
    [InlineData(0f, -1f)]
    [InlineData(0.8f, -3f)]
    [InlineData(-1.3f, -0.5f)]
    [InlineData(0.1f, -7f)]
    public void Probabilities_of_all_pixel_values_add_to_one(float mean, float logScale)
    {
        double sum = 0;
        for (int value = 0; value < 256; value++)
        {
            sum += Math.Exp(Likelihood.DiscretizedGaussian((float)((value / 127.5) - 1), mean, logScale));
        }

        Assert.Equal(1, sum, 1e-5);
    }

    [Fact]
    public void An_impossible_pixel_is_clamped() =>
        Assert.Equal(Math.Log(1e-12), Likelihood.DiscretizedGaussian(0.5f, -0.9f, -6), 1e-4);

    [Fact]
    public void Prior_equals_the_recorded_one()
    {
        PackFile pack = new("bpd-learned");
        GaussianDiffusion diffusion = new(DiffusionConfig.FromJson(pack.Metadata("diffusion")));
        float[] x = pack.Read<float>("inputs/x");
        float[] expected = pack.Read<float>("outputs/prior_bpd");
        int dimensions = x.Length / expected.Length;
        float[] actual = [.. expected.Select((_, i) => BitsPerDimension.PriorBpd(diffusion, x.AsSpan(i * dimensions, dimensions)))];

        // About 6e-10 bits: in float32 only the mean's part of the divergence remains, exactly as in the original.
        for (int i = 0; i < expected.Length; i++)
        {
            Agreement.Close(expected[i], actual[i], 1e-5);
        }
    }

    [Fact]
    public void Prior_of_a_short_process_equals_the_closed_form()
    {
        GaussianDiffusion diffusion = new(new DiffusionConfig { DiffusionSteps = 100, TimestepRespacing = "ddim4" });
        float[] x = [-1, 0.5f, 0.25f];
        double ab = diffusion.AlphasCumprod[^1];
        double expected = x.Average(v => 0.5 * ((ab * v * v) - ab - Math.Log(1 - ab))) / Math.Log(2);
        Assert.Equal(expected, BitsPerDimension.PriorBpd(diffusion, x), 1e-6);
    }

    [Fact]
    public void A_model_that_knows_the_noise_is_left_with_the_variances()
    {
        float[] xStart = Images();
        float[] lastNoise = new float[xStart.Length];
        foreach (bool small in new[] { true, false })
        {
            GaussianDiffusion diffusion = new(Cosine with { SigmaSmall = small });
            StepTable table = new(diffusion, SamplerKind.Ddpm);
            BitsPerDimensionResult result = BitsPerDimension.CalcBpdLoop(
                table, clipDenoised: true, 2, 3, xStart, (_, _, output) => lastNoise.CopyTo(output), Noise(lastNoise));
            for (int entry = 0; entry < 2 * table.Count; entry++)
            {
                int t = table.Timesteps[entry % table.Count];

                // With the true x_0 the means agree, and small variances are the posterior's own; large ones cost their divergence from it.
                double ratio = small ? 1 : diffusion.PosteriorVariance[t] / diffusion.Betas[t];
                if (t > 0)
                {
                    // pred_xstart is the small difference of two terms as large as sqrt(1/alpha-bar): it keeps their rounding.
                    double lost = Math.Pow(2, -24) * diffusion.SqrtRecipAlphasCumprod[t];
                    double weight = diffusion.PosteriorMeanCoef1[t] * diffusion.PosteriorMeanCoef1[t] / diffusion.PosteriorVariance[t];
                    double tolerance = 1e-5 + (10 * weight * lost * lost);
                    Assert.Equal(0.5 * (ratio - 1 - Math.Log(ratio)) / Math.Log(2), result.Vb.Span[entry], tolerance);
                    Assert.InRange(result.XstartMse.Span[entry], 0, 1e-12 + (10 * lost * lost));
                    Assert.InRange(result.Mse.Span[entry], 0, 1e-11);
                }
            }

            for (int image = 0; image < 2; image++)
            {
                double sum = result.PriorBpd.Span[image];
                foreach (float term in result.Vb.Span.Slice(image * table.Count, table.Count))
                {
                    sum += term;
                }

                Assert.Equal(sum, result.TotalBpd.Span[image], 1e-5);
            }
        }
    }

    [Fact]
    public void Terms_equal_the_float64_definitions()
    {
        float[] xStart = Images();
        float[] noise = new float[xStart.Length];
        DiffusionConfig config = Cosine with { LearnSigma = true };
        GaussianDiffusion diffusion = new(config);
        StepTable table = new(diffusion, SamplerKind.Ddpm);
        ReferenceSampler reference = new(diffusion, clip: true);
        float[] xs = [];
        float[] outputs = [];
        double[,] expected = new double[2, table.Count];
        BitsPerDimensionResult result = BitsPerDimension.CalcBpdLoop(table, clipDenoised: true, 2, 3, xStart, Model, Noise(noise));
        for (int image = 0; image < 2; image++)
        {
            for (int step = 0; step < table.Count; step++)
            {
                Agreement.Close(expected[image, step], result.Vb.Span[(image * table.Count) + step], 2e-5);
            }
        }

        void Model(int step, ReadOnlySpan<float> x, Span<float> output)
        {
            int t = table.Timesteps[step];
            int dimensions = x.Length / 2;
            for (int i = 0; i < x.Length; i++)
            {
                // Noise that is nearly right, and any variance between the bounds.
                int place = (i / 3 * 6) + (i % 3);
                output[place] = noise[i] + (0.2f * MathF.Sin(i));
                output[place + 3] = MathF.Cos(i + step);
                (double mean, double variance, _) = reference.Posterior(t, x[i], output[place], output[place + 3]);
                (double trueMean, double trueVariance) = Truth(t, x[i], xStart[i]);
                double nats = t == 0
                    ? -Math.Log(Bin(xStart[i], mean, Math.Sqrt(variance)))
                    : 0.5 * (Math.Log(variance / trueVariance) - 1 + (trueVariance / variance) + (Math.Pow(trueMean - mean, 2) / variance));
                expected[i / dimensions, step] += nats / dimensions / Math.Log(2);
            }
        }

        (double Mean, double Variance) Truth(int t, double x, double x0)
        {
            double ab = diffusion.AlphasCumprod[t];
            double abPrev = t == 0 ? 1 : diffusion.AlphasCumprod[t - 1];
            double alpha = ab / abPrev;

            // Bayes' rule: the product of N(x_t; sqrt(alpha) x, 1 - alpha) and N(x; sqrt(ab') x_0, 1 - ab').
            double precision = (alpha / (1 - alpha)) + (1 / (1 - abPrev));
            return t == 0 ? (x0, 0) : (((Math.Sqrt(alpha) * x / (1 - alpha)) + (Math.Sqrt(abPrev) * x0 / (1 - abPrev))) / precision, 1 / precision);
        }

        static double Bin(double x, double mean, double deviation)
        {
            double above = x > 0.999 ? 1 : Cdf((x + (1 / 255.0) - mean) / deviation);
            double below = x < -0.999 ? 0 : Cdf((x - (1 / 255.0) - mean) / deviation);
            return Math.Max(above - below, 1e-12);
        }

        static double Cdf(double z) => 1 / (1 + Math.Exp(-2 * Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z))));
    }

    [Fact]
    public void Wrong_tables_and_sizes_are_refused_and_a_request_to_stop_is_heard()
    {
        GaussianDiffusion diffusion = new(Cosine);
        StepTable ddim = new(diffusion, SamplerKind.Ddim);
        StepTable ddpm = new(diffusion, SamplerKind.Ddpm);
        Denoiser silent = (_, _, output) => output.Clear();
        NoiseSource none = (_, noise) => noise.Clear();
        Assert.Throws<ArgumentException>(() => BitsPerDimension.CalcBpdLoop(ddim, true, 1, 3, new float[12], silent, none));
        Assert.Throws<ArgumentException>(() => BitsPerDimension.CalcBpdLoop(ddpm, true, 2, 3, new float[9], silent, none));
        using CancellationTokenSource stop = new();
        int steps = 0;
        Assert.Throws<OperationCanceledException>(() => BitsPerDimension.CalcBpdLoop(
            ddpm,
            true,
            1,
            3,
            new float[12],
            (_, _, output) =>
            {
                output.Clear();
                if (++steps == 3)
                {
                    stop.Cancel();
                }
            },
            none,
            stop.Token));
        Assert.Equal(3, steps);
    }

    // Two images of 5 x 4 pixels in 8-bit values, both extremes among them.
    private static float[] Images() =>
        [.. Enumerable.Range(0, 120).Select(i => i % 20 == 0 ? -1 : i % 20 == 1 ? 1 : (float)((i * 37 % 256 / 127.5) - 1))];

    private static NoiseSource Noise(float[] kept) => (step, noise) =>
    {
        RandomStreams.Normals(11, 0, RandomStreams.StepNoise(step), 0, noise);
        noise.CopyTo(kept);
    };
}
