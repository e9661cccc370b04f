using Kernels.Diffusion;

namespace Kernels.Tests.Diffusion;

/// <summary>
/// The samplers of one number in float64, as their papers and k-diffusion write them, each in its own variable: x̄ = x sqrt(1 + σ²) or x, with x_0 or eps. They know nothing of the
/// project's coefficients.
/// </summary>
internal static class ReferenceSolvers
{
    /// <summary>Runs a sampler over noise levels.</summary>
    /// <param name="sampler">The sampler.</param>
    /// <param name="sigmas">The levels, falling; the last step leads from the last of them to 0.</param>
    /// <param name="x">x at the first level.</param>
    /// <param name="eps">The model: eps of (x, σ).</param>
    /// <param name="noise">Standard normal value of each step.</param>
    public static double Run(SamplerKind sampler, double[] sigmas, double x, Func<double, double, double> eps, Func<int, double> noise)
    {
        List<double> epsilons = [];
        double lastXStart = double.NaN, lastLambda = double.NaN;
        for (int i = 0; i < sigmas.Length; i++)
        {
            double sigma = sigmas[i], next = i + 1 < sigmas.Length ? sigmas[i + 1] : 0;
            double e = eps(x, sigma), bar = x / Alpha(sigma), xStart = bar - (sigma * e);
            switch (sampler)
            {
                case SamplerKind.Euler:
                    x = Alpha(next) * (bar + ((next - sigma) * (bar - xStart) / sigma));
                    break;
                case SamplerKind.EulerAncestral:
                    // get_ancestral_step and sample_euler_ancestral of k-diffusion, eta 1.
                    double up = Math.Min(next, Math.Sqrt(next * next * ((sigma * sigma) - (next * next)) / (sigma * sigma)));
                    double down = Math.Sqrt((next * next) - (up * up));
                    x = Alpha(next) * (bar + ((bar - xStart) / sigma * (down - sigma)) + (noise(i) * up));
                    break;
                case SamplerKind.Heun:
                    // Karras et al. 2022, algorithm 1.
                    double d = (bar - xStart) / sigma, predicted = bar + ((next - sigma) * d);
                    bar = next == 0 ? predicted : bar + ((next - sigma) * (d + eps(Alpha(next) * predicted, next)) / 2);
                    x = Alpha(next) * bar;
                    break;
                case SamplerKind.DpmSolverPlusPlus2M or SamplerKind.DpmSolverPlusPlus2MSde when next == 0:
                    x = xStart;
                    break;
                case SamplerKind.DpmSolverPlusPlus2M or SamplerKind.DpmSolverPlusPlus2MSde:
                    // Lu et al. 2022, algorithm 2 and its SDE form, in λ = log α / s.
                    double alphaNext = Alpha(next), sNext = next * alphaNext, s = sigma * Alpha(sigma), lambda = -Math.Log(sigma), h = -Math.Log(next) - lambda;
                    double slope = double.IsNaN(lastXStart) ? 0 : (xStart - lastXStart) / ((lambda - lastLambda) / h);
                    x = sampler == SamplerKind.DpmSolverPlusPlus2M
                        ? (sNext / s * x) - (alphaNext * (Math.Exp(-h) - 1) * (xStart + (slope / 2)))
                        : (sNext / s * Math.Exp(-h) * x) + (alphaNext * (1 - Math.Exp(-2 * h)) * (xStart + (slope / 2))) + (sNext * Math.Sqrt(1 - Math.Exp(-2 * h)) * noise(i));
                    (lastXStart, lastLambda) = (xStart, lambda);
                    break;
                case SamplerKind.Plms:
                    // p_sample_plms of latent-diffusion: eps' in the place of eps in DDIM, here with one evaluation in the first step.
                    double prime = epsilons switch
                    {
                        [] => e,
                        [.., double a] when epsilons.Count == 1 => ((3 * e) - a) / 2,
                        [.., double b, double a] when epsilons.Count == 2 => ((23 * e) - (16 * a) + (5 * b)) / 12,
                        [.., double c, double b, double a] => ((55 * e) - (59 * a) + (37 * b) - (9 * c)) / 24,
                        _ => throw new InvalidOperationException(),
                    };
                    epsilons.Add(e);
                    double predXstart = (x - (sigma * Alpha(sigma) * prime)) / Alpha(sigma);
                    x = (Alpha(next) * predXstart) + (next * Alpha(next) * prime);
                    break;
                default:
                    throw new ArgumentOutOfRangeException(nameof(sampler));
            }
        }

        return x;
    }

    /// <summary>α of a noise level.</summary>
    public static double Alpha(double sigma) => 1 / Math.Sqrt(1 + (sigma * sigma));
}
