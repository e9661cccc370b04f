using Kernels.Diffusion;

namespace Kernels.Tests.Diffusion;

/// <summary>
/// Data distributed as N(mean, deviation²): the noise prediction is linear in x, the probability-flow ODE has a closed solution, and guidance towards a class with
/// p(y | x_0) proportional to exp(-(x_0 - a)² / 2b²) makes it the same problem with another mean and deviation.
/// </summary>
/// <param name="Mean">Mean of the data.</param>
/// <param name="Deviation">Standard deviation of the data.</param>
internal sealed record GaussianProblem(double Mean, double Deviation)
{
    /// <summary>E[eps | x].</summary>
    public double Eps(double x, double sigma)
    {
        double alpha = ReferenceSolvers.Alpha(sigma);
        return sigma * ((x / alpha) - Mean) / ((Deviation * Deviation) + (sigma * sigma));
    }

    /// <summary>Where the probability-flow ODE leads a point: x̄ - mean is proportional to sqrt(deviation² + σ²).</summary>
    public double Flow(double x, double from, double to) =>
        ReferenceSolvers.Alpha(to) * (Mean + (((x / ReferenceSolvers.Alpha(from)) - Mean) * Spread(to) / Spread(from)));

    /// <summary>Mean and variance of x at a noise level.</summary>
    public (double Mean, double Variance) Marginal(double sigma)
    {
        double alpha = ReferenceSolvers.Alpha(sigma);
        return (alpha * Mean, alpha * alpha * Spread(sigma) * Spread(sigma));
    }

    /// <summary>The data of one class.</summary>
    public GaussianProblem Given(double centre, double width)
    {
        double precision = Math.Pow(Deviation, -2) + Math.Pow(width, -2);
        return new(((Mean * Math.Pow(Deviation, -2)) + (centre * Math.Pow(width, -2))) / precision, 1 / Math.Sqrt(precision));
    }

    /// <summary>∇ log p(y | x) for the data of a class: the scores' difference, a score being -eps / s.</summary>
    public double GradientTowards(GaussianProblem ofClass, double x, double sigma) =>
        (Eps(x, sigma) - ofClass.Eps(x, sigma)) / (sigma * ReferenceSolvers.Alpha(sigma));

    private double Spread(double sigma) => Math.Sqrt((Deviation * Deviation) + (sigma * sigma));
}
