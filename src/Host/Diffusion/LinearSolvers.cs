namespace Kernels.Diffusion;

/// <summary>
/// One evaluation of the model and what it makes of x: x' = B x_0 + E eps + S z + Σ H_k history_k, where x_0 and eps are the guided predictions at x, and x = α x_0 + s eps.
/// </summary>
/// <param name="Timestep">The respaced timestep at which the model is asked.</param>
/// <param name="XStart">B.</param>
/// <param name="Eps">E.</param>
/// <param name="Noise">S.</param>
/// <param name="History1">H_1, weight of what the last evaluation left.</param>
/// <param name="History2">H_2.</param>
/// <param name="History3">H_3.</param>
internal readonly record struct LinearStep(int Timestep, double XStart, double Eps, double Noise = 0, double History1 = 0, double History2 = 0, double History3 = 0);

/// <summary>
/// The samplers whose updates are linear in what is known, as coefficients in float64. Notation: α = sqrt(ᾱ), s = sqrt(1 - ᾱ), σ = s / α, q = σ' / σ; a prime is the noise level that a
/// step leads to, and after the last step that is none: α' = 1, s' = σ' = 0, so that x' = x_0.
/// </summary>
/// <remarks>
/// The probability-flow ODE is dx̄ = eps dσ for x̄ = x / α (Song et al. 2021; Karras et al. 2022). Every method is written in x_0 and eps rather than in x: then the numbers stay of
/// order 1 where σ is a thousand, and a method that reduces to DDIM has DDIM's coefficients.
/// </remarks>
internal static class LinearSolvers
{
    /// <summary>The evaluations of a job in the order of execution.</summary>
    /// <param name="sampler">One of the linear samplers but DDIM, whose coefficients are the original's.</param>
    /// <param name="diffusion">The process.</param>
    public static IEnumerable<LinearStep> Steps(SamplerKind sampler, GaussianDiffusion diffusion)
    {
        for (int t = diffusion.NumTimesteps - 1; t >= 0; t--)
        {
            Levels step = new(diffusion, t);
            switch (sampler)
            {
                case SamplerKind.Euler:
                    yield return step.Euler;
                    break;
                case SamplerKind.EulerAncestral:
                    yield return step.EulerAncestral;
                    break;
                case SamplerKind.DpmSolverPlusPlus2M:
                    yield return DpmSolverPlusPlus2M(step);
                    break;
                case SamplerKind.DpmSolverPlusPlus2MSde:
                    yield return DpmSolverPlusPlus2MSde(step);
                    break;
                case SamplerKind.Plms:
                    yield return Plms(step);
                    break;
                case SamplerKind.Heun:
                    yield return step.Euler;
                    if (t > 0)
                    {
                        yield return HeunCorrector(step);
                    }

                    break;
                default:
                    throw new ArgumentOutOfRangeException(nameof(sampler), sampler, "not a sampler with coefficients of its own");
            }
        }
    }

    // x̄'' = x̄' + (σ' - σ) / 2 (eps' - eps), where eps' is the prediction at x', the result of Euler's step: the model is asked at the noise level that the step leads to, and x' is
    // what it is asked about, α' x_0' + s' eps'.
    private static LinearStep HeunCorrector(Levels step)
    {
        double half = step.NextAlpha * (step.NextSigma - step.Sigma) / 2;
        return new LinearStep(step.Timestep - 1, step.NextAlpha, step.NextS + half, History1: -half);
    }

    // x' = (s' / s) x + α' (1 - q) D with D = x_0 + (x_0 - last x_0) / 2r and r = last h / h, h = log(σ / σ'): algorithm 2. The first step knows no other x_0, and the last, of infinite
    // h, can extrapolate to nothing: they are of first order.
    private static LinearStep DpmSolverPlusPlus2M(Levels step)
    {
        double difference = step.NextAlpha * (1 - step.Ratio) * step.Extrapolation;
        return new LinearStep(step.Timestep, step.NextAlpha + difference, step.NextS, History1: -difference);
    }

    // x' = (s' / s) q x + α' (1 - q²) D + s' sqrt(1 - q²) z.
    private static LinearStep DpmSolverPlusPlus2MSde(Levels step)
    {
        LinearStep first = step.EulerAncestral;
        double difference = step.NextAlpha * (1 - (step.Ratio * step.Ratio)) * step.Extrapolation;
        return first with { XStart = first.XStart + difference, History1 = -difference };
    }

    // x̄' = x̄ + (σ' - σ) Σ c_k eps_k with the coefficients of Adams and Bashforth for steps of one length; with fewer at the start, where fewer are known (PNDM starts with
    // runs of Runge and Kutta instead, of more evaluations and, steps of σ being uneven, of no higher order).
    private static LinearStep Plms(Levels step)
    {
        (double now, double last, double second, double third) = step.Known switch
        {
            0 => (1, 0, 0, 0),
            1 => (3 / 2.0, -1 / 2.0, 0, 0),
            2 => (23 / 12.0, -16 / 12.0, 5 / 12.0, 0),
            _ => (55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0),
        };
        double length = step.NextAlpha * (step.NextSigma - step.Sigma);
        return new LinearStep(step.Timestep, step.NextAlpha, step.NextS + (length * (now - 1)), History1: length * last, History2: length * second, History3: length * third);
    }

    /// <summary>The noise levels around one step.</summary>
    private readonly struct Levels(GaussianDiffusion diffusion, int t)
    {
        public int Timestep => t;

        /// <summary>Steps before this one.</summary>
        public int Known => diffusion.NumTimesteps - 1 - t;

        public double Sigma => diffusion.SqrtRecipm1AlphasCumprod[t];

        public double NextAlpha => t == 0 ? 1 : diffusion.SqrtAlphasCumprod[t - 1];

        public double NextS => t == 0 ? 0 : diffusion.SqrtOneMinusAlphasCumprod[t - 1];

        public double NextSigma => t == 0 ? 0 : diffusion.SqrtRecipm1AlphasCumprod[t - 1];

        public double Ratio => NextSigma / Sigma;

        /// <summary>1 / 2r, the weight of the difference of two predictions; 0 where one is not there or says nothing.</summary>
        public double Extrapolation =>
            t == 0 || Known == 0 ? 0 : Math.Log(Sigma / NextSigma) / Math.Log(diffusion.SqrtRecipm1AlphasCumprod[t + 1] / Sigma) / 2;

        /// <summary>x̄' = x̄ + (σ' - σ) eps.</summary>
        public LinearStep Euler => new(t, NextAlpha, NextS);

        /// <summary>x̄' = x̄ + (σ'²/σ - σ) eps + sqrt(σ'² - (σ'²/σ)²) z.</summary>
        public LinearStep EulerAncestral => new(t, NextAlpha, NextS * Ratio, NextS * Math.Sqrt(1 - (Ratio * Ratio)));
    }
}
