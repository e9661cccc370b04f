using System.Globalization;
using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>
/// The samplers on Gaussian data, where the model is exact and the answer is known: the error against the closed form, and the order in which it falls with the number of steps. What the
/// order is measured at is x at the least noise level; the step from there to no noise at all is the same however many there are.
/// </summary>
public sealed class SolverOrderTests
{
    private const double Start = 1.3;
    private static readonly GaussianProblem s_data = new(0.4, 0.5);
    private static readonly GaussianProblem s_class = s_data.Given(-0.5, 0.4);

    // In float64 over so many steps that the leading term is alone.
    public static TheoryData<SamplerKind, NoiseSchedule, StepSpacing, double> Exact() => new()
    {
        { SamplerKind.Euler, NoiseSchedule.Linear, StepSpacing.Linear, 1 },
        { SamplerKind.Euler, NoiseSchedule.Linear, StepSpacing.Cosine, 1 },
        { SamplerKind.Euler, NoiseSchedule.Linear, StepSpacing.Karras, 1 },
        { SamplerKind.Euler, NoiseSchedule.Cosine, StepSpacing.Karras, 1 },
        { SamplerKind.Heun, NoiseSchedule.Linear, StepSpacing.Linear, 2 },
        { SamplerKind.Heun, NoiseSchedule.Linear, StepSpacing.Cosine, 2 },
        { SamplerKind.Heun, NoiseSchedule.Linear, StepSpacing.Karras, 2 },
        { SamplerKind.Heun, NoiseSchedule.Cosine, StepSpacing.Karras, 2 },
        { SamplerKind.DpmSolverPlusPlus2M, NoiseSchedule.Linear, StepSpacing.Linear, 2 },
        { SamplerKind.DpmSolverPlusPlus2M, NoiseSchedule.Linear, StepSpacing.Cosine, 2 },
        { SamplerKind.DpmSolverPlusPlus2M, NoiseSchedule.Linear, StepSpacing.Karras, 2 },
        { SamplerKind.DpmSolverPlusPlus2M, NoiseSchedule.Cosine, StepSpacing.Cosine, 2 },
        { SamplerKind.DpmSolverPlusPlus2M, NoiseSchedule.Cosine, StepSpacing.Karras, 2 },

        // Of the fourth order in steps of one length, which those of σ are not.
        { SamplerKind.Plms, NoiseSchedule.Linear, StepSpacing.Karras, 2 },
        { SamplerKind.Plms, NoiseSchedule.Cosine, StepSpacing.Karras, 2 },
    };

    [Theory]
    [MemberData(nameof(Exact))]
    public void The_error_falls_with_the_order_of_the_method(SamplerKind sampler, NoiseSchedule schedule, StepSpacing spacing, double order)
    {
        int[] counts = spacing == StepSpacing.Linear ? [64, 128, 256] : [256, 512, 1024];
        double[] errors = Array.ConvertAll(counts, n => ErrorOfCoefficients(sampler, Diffusion(schedule, spacing, n)));
        AssertOrder(order, 0.15, errors);
    }

    // The shipped float32 update with the shipped table, over numbers of steps whose errors, 1e-2 to 1e-4, stand far above rounding.
    public static TheoryData<SamplerKind, Guidance, double> Shipped()
    {
        TheoryData<SamplerKind, Guidance, double> cases = [];
        foreach (Guidance guidance in Enum.GetValues<Guidance>())
        {
            cases.Add(SamplerKind.Ddim, guidance, 1);
            cases.Add(SamplerKind.Euler, guidance, 1);
            cases.Add(SamplerKind.Heun, guidance, 2);
            cases.Add(SamplerKind.DpmSolverPlusPlus2M, guidance, 2);
            cases.Add(SamplerKind.Plms, guidance, 2);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Shipped))]
    public void So_does_that_of_the_shipped_update_with_any_guidance(SamplerKind sampler, Guidance guidance, double order)
    {
        double[] errors = Array.ConvertAll(new[] { 32, 64, 128 }, n =>
        {
            GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Linear, StepSpacing.Karras, n);
            ShippedRun run = new(sampler, diffusion, guidance);
            double from = diffusion.SqrtRecipm1AlphasCumprod[^1], to = diffusion.SqrtRecipm1AlphasCumprod[0];
            float x = run.To(run.Table.Count - 1, (float)Start);
            return Math.Abs(x - ShippedRun.Solution(guidance).Flow((float)Start, from, to));
        });
        AssertOrder(order, 0.2, errors);
    }

    [Theory]
    [MemberData(nameof(Shipped))]
    public void The_last_step_leads_to_the_image(SamplerKind sampler, Guidance guidance, double order)
    {
        _ = order;
        GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Linear, StepSpacing.Karras, 400);
        ShippedRun run = new(sampler, diffusion, guidance);
        double expected = ShippedRun.Solution(guidance).Flow((float)Start, diffusion.SqrtRecipm1AlphasCumprod[^1], 0);

        // The methods' own error at so many steps, and that of one step from the least noise level, its square over twice that of the data.
        double own = order == 1 ? 1e-2 : 3e-4;
        Assert.Equal(expected, run.To(run.Table.Count, (float)Start), own);
    }

    // Exact moments: the updates are affine here, so that mean and covariance of x and of its history follow from probes. Noise of full strength costs an order to all but the
    // method that integrates the SDE's linear part exactly and extrapolates x_0.
    [Theory]
    [InlineData(SamplerKind.Ddpm, 0, 1)]
    [InlineData(SamplerKind.Ddim, 0.5, 1)]
    [InlineData(SamplerKind.EulerAncestral, 0, 1)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2MSde, 0, 2)]
    public void Mean_and_variance_of_a_noisy_sampler_converge_to_those_of_the_data(SamplerKind sampler, double eta, double order)
    {
        foreach (Guidance guidance in Enum.GetValues<Guidance>())
        {
            (double Mean, double Variance)[] errors = Array.ConvertAll(new[] { 64, 128, 256 }, n =>
            {
                GaussianDiffusion diffusion = Diffusion(NoiseSchedule.Linear, StepSpacing.Karras, n);
                ShippedRun run = new(sampler, diffusion, guidance, eta);
                (double mean, double variance) = run.Moments(run.Table.Count - 1);
                (double exactMean, double exactVariance) = ShippedRun.Solution(guidance).Marginal(diffusion.SqrtRecipm1AlphasCumprod[0]);
                return (Math.Abs(mean - exactMean), Math.Abs(variance - exactVariance));
            });
            AssertOrder(order, 0.2, Array.ConvertAll(errors, e => e.Variance));

            // The mean of Gaussian data is carried exactly, but by the classifier in condition_mean.
            if (sampler == SamplerKind.Ddpm && guidance is Guidance.Classifier or Guidance.Both)
            {
                AssertOrder(order, 0.2, Array.ConvertAll(errors, e => e.Mean));
            }
            else
            {
                Assert.All(errors, e => Assert.InRange(e.Mean, 0, 3e-6));
            }
        }
    }

    /// <summary>Checks slopes of log error against log steps, each doubling by itself.</summary>
    private static void AssertOrder(double order, double tolerance, double[] errors)
    {
        string measured = string.Join(", ", errors.Select(e => e.ToString("e2", CultureInfo.InvariantCulture)));
        for (int i = 1; i < errors.Length; i++)
        {
            double slope = Math.Log2(errors[i - 1] / errors[i]);
            Assert.True(Math.Abs(slope - order) <= tolerance, $"the errors {measured} fall with order {slope:f2}, not {order}");
        }
    }

    // Of 1025 timesteps every fourth, eighth, ... is a whole one, so that linear spacing is not disturbed by rounding.
    private static GaussianDiffusion Diffusion(NoiseSchedule schedule, StepSpacing spacing, int steps) =>
        new(new DiffusionConfig { NoiseSchedule = schedule, DiffusionSteps = 1025, TimestepRespacing = $"{steps + 1}" }, spacing);

    // The coefficients alone, in float64.
    private static double ErrorOfCoefficients(SamplerKind sampler, GaussianDiffusion diffusion)
    {
        double x = Start;
        double[] history = new double[3];
        LinearStep[] steps = [.. LinearSolvers.Steps(sampler, diffusion)];
        foreach (LinearStep step in steps[..^1])
        {
            double sigma = diffusion.SqrtRecipm1AlphasCumprod[step.Timestep], eps = s_data.Eps(x, sigma), xStart = (x / ReferenceSolvers.Alpha(sigma)) - (sigma * eps);
            x = (step.XStart * xStart) + (step.Eps * eps) + (step.History1 * history[0]) + (step.History2 * history[1]) + (step.History3 * history[2]);
            history = [sampler.History() == SamplerHistory.Eps ? eps : xStart, history[0], history[1]];
        }

        return Math.Abs(x - s_data.Flow(Start, diffusion.SqrtRecipm1AlphasCumprod[^1], diffusion.SqrtRecipm1AlphasCumprod[0]));
    }

    /// <summary>What guides.</summary>
    public enum Guidance
    {
        None,
        Classifier,
        ClassifierFree,
        Both,
    }

    /// <summary>The shipped table and update with exact predictions of Gaussian data.</summary>
    private sealed class ShippedRun
    {
        private const double Weight = 0.5;
        private const double UnconditionalMean = 0.1;
        private static readonly Parameterization s_parameterization = new(ModelMeanType.Epsilon, ModelVarType.FixedSmall, ClipDenoised: false);
        private readonly bool _classifier, _free;

        public ShippedRun(SamplerKind sampler, GaussianDiffusion diffusion, Guidance guidance, double eta = 0)
        {
            _classifier = guidance is Guidance.Classifier or Guidance.Both;
            _free = guidance is Guidance.ClassifierFree or Guidance.Both;
            Table = new StepTable(diffusion, sampler, eta, _classifier ? 1 : 0, _free ? Weight : 0);
        }

        public StepTable Table { get; }

        /// <summary>
        /// The problem that is solved. Of two predictions with one deviation, (1 + w) times the one less w times the other is that of data whose mean is combined likewise; the class
        /// then moves it as it moves the data themselves.
        /// </summary>
        public static GaussianProblem Solution(Guidance guidance)
        {
            GaussianProblem data = guidance is Guidance.ClassifierFree or Guidance.Both ? s_data with { Mean = ((1 + Weight) * s_data.Mean) - (Weight * UnconditionalMean) } : s_data;
            return guidance is Guidance.Classifier or Guidance.Both ? data.Given(-0.5, 0.4) : data;
        }

        public float To(int rows, float start)
        {
            float[] x = [start], kept = new float[Table.Sampler.HistoryLength()];
            for (int row = 0; row < rows; row++)
            {
                Step(row, x, kept, [0]);
            }

            return x[0];
        }

        // Everything is affine: x and its history follow from what they were and from the noise by probes, and so do their mean and covariance.
        public (double Mean, double Variance) Moments(int rows)
        {
            int n = 1 + Table.Sampler.HistoryLength();
            (double startMean, double startVariance) = Solution(_classifier ? _free ? Guidance.Both : Guidance.Classifier : _free ? Guidance.ClassifierFree : Guidance.None).Marginal(Table.Sigma(0));
            double[] mean = new double[n];
            double[,] covariance = new double[n, n];
            (mean[0], covariance[0, 0]) = (startMean, startVariance);
            for (int row = 0; row < rows; row++)
            {
                // Column k < n moves one part of the state by 1, column n the noise; the last moves nothing.
                float[] x = new float[n + 2], kept = new float[(n - 1) * (n + 2)], noise = new float[n + 2];
                for (int k = 0; k < n + 2; k++)
                {
                    x[k] = (float)(mean[0] + (k == 0 ? 1 : 0));
                    for (int h = 1; h < n; h++)
                    {
                        kept[((h - 1) * (n + 2)) + k] = (float)(mean[h] + (k == h ? 1 : 0));
                    }
                }

                noise[n] = 1;
                Step(row, x, kept, noise);
                double[] At(int k) => [x[k], .. Enumerable.Range(0, n - 1).Select(h => (double)kept[(h * (n + 2)) + k])];
                mean = At(n + 1);
                double[][] columns = [.. Enumerable.Range(0, n + 1).Select(k => At(k).Zip(mean, (a, b) => a - b).ToArray())];
                double[,] next = new double[n, n];
                for (int i = 0; i < n; i++)
                {
                    for (int j = 0; j < n; j++)
                    {
                        next[i, j] = columns[n][i] * columns[n][j];
                        for (int a = 0; a < n; a++)
                        {
                            for (int b = 0; b < n; b++)
                            {
                                next[i, j] += columns[a][i] * covariance[a, b] * columns[b][j];
                            }
                        }
                    }
                }

                covariance = next;
            }

            return (mean[0], covariance[0, 0]);
        }

        private void Step(int row, float[] x, float[] kept, float[] noise)
        {
            double sigma = Table.Sigma(row);
            float[] output = Array.ConvertAll(x, v => (float)s_data.Eps(v, sigma)), gradient = [];
            if (_free)
            {
                float[] unconditional = Array.ConvertAll(x, v => (float)(s_data with { Mean = UnconditionalMean }).Eps(v, sigma));
                SamplerMath.ClassifierFreeGuidance(Table[row], s_parameterization, 1, output, unconditional, output);
            }

            if (_classifier)
            {
                // Of the classifier that knows the data which are being sampled.
                GaussianProblem data = Solution(_free ? Guidance.ClassifierFree : Guidance.None);
                gradient = Array.ConvertAll(x, v => (float)data.GradientTowards(data.Given(-0.5, 0.4), v, sigma));
            }

            int history = Table.Sampler.HistoryLength();
            if (Table.Sampler == SamplerKind.Ddpm)
            {
                SamplerMath.DdpmUpdate(Table[row], s_parameterization, 1, x, output, gradient, noise, x, []);
            }
            else
            {
                SamplerMath.LinearUpdate(
                    Table[row], s_parameterization, 1, x, output, gradient, noise, x, [],
                    history == 0 ? default : new UpdateHistory(kept, kept, x.Length, history, Table.Sampler.History()));
            }
        }
    }
}
