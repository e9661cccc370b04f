using Kernels.Diffusion;

namespace Kernels.Tests.Diffusion;

/// <summary>
/// The sampler updates of one element in float64, written from the papers and not from the tables: everything follows from ᾱ alone.
/// </summary>
internal sealed class ReferenceSampler(GaussianDiffusion diffusion, bool clip)
{
    public (double Mean, double Variance, double XStart) Posterior(int t, double x, double prediction, double v)
    {
        (double ab, double abPrev, double beta) = Levels(t);
        double xStart = diffusion.Config.MeanType == ModelMeanType.XStart ? prediction : (x - (Math.Sqrt(1 - ab) * prediction)) / Math.Sqrt(ab);
        xStart = clip ? Math.Clamp(xStart, -1, 1) : xStart;
        return (PosteriorMean(t, xStart, x), Variance(t, abPrev, ab, beta, v), xStart);
    }

    public (double Next, double XStart) Ddpm(int t, double x, double prediction, double v, double? gradient, double noise)
    {
        (double mean, double variance, double xStart) = Posterior(t, x, prediction, v);

        // guided-diffusion guides the last step with the unclipped variance of 0 when it is fixed and small.
        double guidance = t == 0 && diffusion.Config.VarType == ModelVarType.FixedSmall ? 0 : variance;
        mean += guidance * (gradient ?? 0);
        return (t == 0 ? mean : mean + (Math.Sqrt(variance) * noise), xStart);
    }

    /// <summary>
    /// Equation 12 with the row's own weights: the original computes them in float32, where they lose digits to cancellation, and
    /// <see cref="StepTableTests"/> accounts for that loss.
    /// </summary>
    public (double Next, double XStart) Ddim(int t, double x, double prediction, double? gradient, double noise, StepRow row)
    {
        (double eps, double xStart) = EpsAndXStart(t, x, prediction, gradient);
        double next = (row[StepColumn.XStartCoef] * xStart) + (row[StepColumn.EpsCoef] * eps);
        return (t == 0 ? next : next + (row[StepColumn.NoiseCoef] * noise), xStart);
    }

    private (double Eps, double XStart) EpsAndXStart(int t, double x, double prediction, double? gradient)
    {
        (double ab, _, _) = Levels(t);
        double xStart = Posterior(t, x, prediction, 0).XStart;
        double eps = (x - (Math.Sqrt(ab) * xStart)) / Math.Sqrt(1 - ab);
        if (gradient is double g)
        {
            eps -= Math.Sqrt(1 - ab) * g;
            xStart = (x - (Math.Sqrt(1 - ab) * eps)) / Math.Sqrt(ab);
        }

        return (eps, xStart);
    }

    private (double AlphaBar, double AlphaBarPrev, double Beta) Levels(int t)
    {
        double ab = diffusion.AlphasCumprod[t];
        double abPrev = t == 0 ? 1 : diffusion.AlphasCumprod[t - 1];
        return (ab, abPrev, 1 - (ab / abPrev));
    }

    private double PosteriorMean(int t, double xStart, double x)
    {
        (double ab, double abPrev, double beta) = Levels(t);
        return ((beta * Math.Sqrt(abPrev) * xStart) + ((1 - abPrev) * Math.Sqrt(1 - beta) * x)) / (1 - ab);
    }

    private double Variance(int t, double abPrev, double ab, double beta, double v)
    {
        // The first step has no variance of its own and borrows the second's.
        double posterior = t > 0 ? beta * (1 - abPrev) / (1 - ab) : Variance1();
        return diffusion.Config.VarType switch
        {
            ModelVarType.FixedSmall => posterior,
            ModelVarType.FixedLarge => t > 0 ? beta : posterior,
            _ => Math.Pow(beta, (v + 1) / 2) * Math.Pow(posterior, 1 - ((v + 1) / 2)),
        };
    }

    private double Variance1()
    {
        (double ab, double abPrev, double beta) = Levels(1);
        return beta * (1 - abPrev) / (1 - ab);
    }
}
