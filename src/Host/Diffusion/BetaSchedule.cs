namespace Kernels.Diffusion;

/// <summary>Variance schedules beta_t of the forward process q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I).</summary>
public static class BetaSchedule
{
    /// <summary>Upper bound of a beta derived from a cumulative product, which keeps the last step from being singular.</summary>
    public const double MaxBeta = 0.999;

    /// <summary>
    /// The betas of a named schedule for any number of steps (<c>get_named_beta_schedule</c>). Linear: from 1e-4 to 0.02 at 1000
    /// steps, both ends scaled by 1000 / steps for other lengths. Cosine: <see cref="ForAlphaBar"/> of cos²((t + 0.008) / 1.008 · π / 2).
    /// </summary>
    /// <param name="schedule">The schedule.</param>
    /// <param name="steps">Number of diffusion steps.</param>
    /// <returns>One beta per step, each in (0, 1).</returns>
    /// <exception cref="ConfigurationException">Too few steps for the schedule, or more than
    /// <see cref="DiffusionConfig.MaxDiffusionSteps"/>.</exception>
    public static double[] Create(NoiseSchedule schedule, int steps)
    {
        if (steps is < 1 or > DiffusionConfig.MaxDiffusionSteps)
        {
            throw new ConfigurationException($"diffusion_steps is {steps}; it must lie between 1 and {DiffusionConfig.MaxDiffusionSteps}");
        }

        return schedule switch
        {
            NoiseSchedule.Linear => Linear(steps),
            NoiseSchedule.Cosine => ForAlphaBar(
                steps,
                t =>
                {
                    double cos = Math.Cos((t + 0.008) / 1.008 * Math.PI / 2);
                    return cos * cos;
                }),
            _ => throw new ArgumentOutOfRangeException(nameof(schedule), schedule, "unknown noise schedule"),
        };
    }

    /// <summary>
    /// Discretises a cumulative product of (1 - beta): beta_i = min(1 - ᾱ((i+1)/steps) / ᾱ(i/steps), <see cref="MaxBeta"/>)
    /// (<c>betas_for_alpha_bar</c>).
    /// </summary>
    /// <param name="steps">Number of diffusion steps.</param>
    /// <param name="alphaBar">ᾱ(t) for t from 0 to 1: positive before t = 1, decreasing.</param>
    /// <returns>One beta per step.</returns>
    public static double[] ForAlphaBar(int steps, Func<double, double> alphaBar)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(steps);
        ArgumentNullException.ThrowIfNull(alphaBar);
        double[] betas = new double[steps];
        for (int i = 0; i < steps; i++)
        {
            double t1 = (double)i / steps;
            double t2 = (double)(i + 1) / steps;
            betas[i] = Math.Min(1 - (alphaBar(t2) / alphaBar(t1)), MaxBeta);
        }

        return betas;
    }

    /// <summary>The schedule a setting names.</summary>
    /// <param name="name"><c>linear</c> or <c>cosine</c>.</param>
    /// <exception cref="ConfigurationException">Neither.</exception>
    public static NoiseSchedule Parse(string name) => name switch
    {
        "linear" => NoiseSchedule.Linear,
        "cosine" => NoiseSchedule.Cosine,
        _ => throw new ConfigurationException($"noise_schedule '{name}' is unknown; it must be linear or cosine"),
    };

    /// <summary>The name of a schedule in settings.</summary>
    /// <param name="schedule">The schedule.</param>
    public static string NameOf(NoiseSchedule schedule) => schedule switch
    {
        NoiseSchedule.Linear => "linear",
        NoiseSchedule.Cosine => "cosine",
        _ => throw new ArgumentOutOfRangeException(nameof(schedule), schedule, "unknown noise schedule"),
    };

    private static double[] Linear(int steps)
    {
        double scale = 1000.0 / steps;
        double start = scale * 0.0001;
        double end = scale * 0.02;

        // At beta = 1 nothing of the image is left and x_0 can no longer be expressed through x_t.
        if (end >= 1)
        {
            throw new ConfigurationException(
                $"a linear schedule of diffusion_steps {steps} would end at beta {end}; take more than 20 steps, or the cosine schedule");
        }

        double[] betas = new double[steps];
        double step = (end - start) / (steps - 1);
        for (int i = 0; i < steps; i++)
        {
            betas[i] = start + (i * step);
        }

        betas[^1] = end;
        return betas;
    }
}
