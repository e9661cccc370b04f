namespace Kernels.Diffusion;

/// <summary>How the noise levels of a job's steps are spaced between the least and the greatest that <c>timestep_respacing</c> keeps of its process.</summary>
public enum StepSpacing
{
    /// <summary>Evenly in timesteps of the process, at whole ones: <c>timestep_respacing</c> as it stands (Nichol and Dhariwal 2021). Written <c>linear</c>.</summary>
    Linear,

    /// <summary>Evenly in the angle φ = arctan σ, so that ᾱ = cos² φ as in the cosine schedule, whatever the schedule of the process (Nichol and Dhariwal 2021, equation 17; Salimans and
    /// Ho 2022). Written <c>cosine</c>.</summary>
    Cosine,

    /// <summary>
    /// Evenly in σ^(1/ρ), ρ = 7 (Karras et al. 2022, equation 5), from no more than σ = 80, their greatest level: a cosine schedule ends at 20000, and more than half of the steps would
    /// be spent where nothing can be told from noise. Written <c>karras</c>.
    /// </summary>
    Karras,
}

/// <summary>
/// The noise levels σ_t = sqrt((1 - ᾱ_t) / ᾱ_t) of a process, as a function of a real timestep: log σ is linear between whole ones (<c>DiscreteSchedule</c> of k-diffusion, not
/// quantised). A model that was trained at whole timesteps is then asked at real ones, which its embedding takes as they are.
/// </summary>
public sealed class NoiseLevels
{
    /// <summary>ρ of <see cref="StepSpacing.Karras"/>.</summary>
    public const double KarrasRho = 7;

    /// <summary>The greatest σ of <see cref="StepSpacing.Karras"/> (Karras et al. 2022, table 1).</summary>
    public const double KarrasSigmaMax = 80;

    private readonly double[] _logSigmas;

    /// <summary>The levels of a process without respacing.</summary>
    /// <param name="alphasCumprod">ᾱ_t of every timestep, falling.</param>
    public NoiseLevels(ReadOnlySpan<double> alphasCumprod)
    {
        _logSigmas = new double[alphasCumprod.Length];
        for (int t = 0; t < _logSigmas.Length; t++)
        {
            _logSigmas[t] = Math.Log((1 - alphasCumprod[t]) / alphasCumprod[t]) / 2;
        }
    }

    /// <summary>σ at a timestep.</summary>
    /// <param name="timestep">A real timestep, 0 to the last.</param>
    public double Sigma(double timestep)
    {
        int low = Math.Clamp((int)timestep, 0, _logSigmas.Length - 2);
        double fraction = timestep - low;
        return Math.Exp(((1 - fraction) * _logSigmas[low]) + (fraction * _logSigmas[low + 1]));
    }

    /// <summary>The timestep at which the process has a noise level.</summary>
    /// <param name="sigma">σ; levels beyond the ends of the process have the timestep of the end.</param>
    /// <returns>A real timestep.</returns>
    public double Timestep(double sigma)
    {
        double log = Math.Log(sigma);
        int found = Array.BinarySearch(_logSigmas, log);
        int low = Math.Clamp(found >= 0 ? found : ~found - 1, 0, _logSigmas.Length - 2);
        return low + Math.Clamp((log - _logSigmas[low]) / (_logSigmas[low + 1] - _logSigmas[low]), 0, 1);
    }

    /// <summary>Timesteps whose noise levels are spaced between those of two timesteps, both included.</summary>
    /// <param name="spacing">How.</param>
    /// <param name="first">The least timestep.</param>
    /// <param name="last">The greatest; for <see cref="StepSpacing.Karras"/> no later than <see cref="KarrasSigmaMax"/>.</param>
    /// <param name="count">How many, two at least.</param>
    /// <returns>Real timesteps, rising.</returns>
    public double[] Space(StepSpacing spacing, double first, double last, int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 2);
        last = spacing == StepSpacing.Karras ? Math.Max(Math.Min(last, Timestep(KarrasSigmaMax)), first) : last;
        (double low, double high) = (ToScale(spacing, first), ToScale(spacing, last));
        double[] timesteps = new double[count];
        for (int i = 0; i < count; i++)
        {
            double fraction = (double)i / (count - 1);
            timesteps[i] = i == 0 ? first : i == count - 1 ? last : FromScale(spacing, low + (fraction * (high - low)));
        }

        return timesteps;
    }

    /// <summary>The spacing of a name.</summary>
    /// <param name="name"><c>linear</c>, <c>cosine</c> or <c>karras</c>.</param>
    /// <exception cref="ConfigurationException">There is none of this name.</exception>
    public static StepSpacing ParseSpacing(string name) => name switch
    {
        "linear" => StepSpacing.Linear,
        "cosine" => StepSpacing.Cosine,
        "karras" => StepSpacing.Karras,
        _ => throw new ConfigurationException($"there is no spacing '{name}'; there are linear, cosine and karras"),
    };

    /// <summary>The name of a spacing.</summary>
    /// <param name="spacing">The spacing.</param>
    public static string NameOf(StepSpacing spacing) => spacing switch
    {
        StepSpacing.Cosine => "cosine",
        StepSpacing.Karras => "karras",
        _ => "linear",
    };

    private double ToScale(StepSpacing spacing, double timestep) => spacing switch
    {
        StepSpacing.Linear => timestep,
        StepSpacing.Cosine => Math.Atan(Sigma(timestep)),
        StepSpacing.Karras => Math.Pow(Sigma(timestep), 1 / KarrasRho),
        _ => throw new ArgumentOutOfRangeException(nameof(spacing), spacing, "unknown spacing"),
    };

    private double FromScale(StepSpacing spacing, double value) => spacing switch
    {
        StepSpacing.Linear => value,
        StepSpacing.Cosine => Timestep(Math.Tan(value)),
        _ => Timestep(Math.Pow(value, KarrasRho)),
    };
}
