using System.Globalization;

namespace Kernels.Diffusion;

/// <summary>
/// The noise levels σ = sqrt((1 - ᾱ) / ᾱ) at which guidance is applied: Stop &lt; σ ≤ Start (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval", whose σ_hi and σ_lo these
/// are). Sampling comes from high levels, so it starts at the higher. Outside, the model is asked for the label without any guidance.
/// </summary>
public readonly record struct GuidanceInterval
{
    /// <summary>An interval.</summary>
    /// <param name="start">σ from which on downwards guidance is applied; infinity for the beginning.</param>
    /// <param name="stop">σ from which on it is no longer; 0 for the end.</param>
    /// <exception cref="ConfigurationException">Negative, not a number, or empty.</exception>
    public GuidanceInterval(double start, double stop)
    {
        if (!(stop >= 0 && start > stop))
        {
            throw new ConfigurationException(string.Create(
                CultureInfo.InvariantCulture,
                $"guidance from noise level {start} down to {stop}: both are values of sigma, 0 or more, and the start is above the stop"));
        }

        (Start, Stop) = (start, stop);
    }

    /// <summary>The highest noise level that is guided.</summary>
    public double Start { get; }

    /// <summary>The noise level below all that are guided.</summary>
    public double Stop { get; }

    /// <summary>Whether a level is guided.</summary>
    /// <param name="sigma">σ.</param>
    public bool Contains(double sigma) => sigma > Stop && sigma <= Start;
}
