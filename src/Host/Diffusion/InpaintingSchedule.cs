namespace Kernels.Diffusion;

/// <summary>
/// Which steps inpainting takes, in which order, and at which noise levels. Without resampling they are those of the process; with it, sampling goes <see cref="JumpLength"/> steps
/// back up whenever it has come down as many, and takes them again, so that what is made fits what is known (Lugmayr et al. 2022, algorithm 1 and appendix).
/// </summary>
/// <param name="JumpLength">Steps of a jump back up (j of the paper); read only with more than one resampling.</param>
/// <param name="Resamples">How often each stretch of that many steps is taken (r of the paper); 1 for no jumps.</param>
public sealed record InpaintingSchedule(int JumpLength = 1, int Resamples = 1)
{
    /// <summary>Values per row of <see cref="Levels"/>.</summary>
    public const int Columns = 4;

    /// <summary>The longest order that is accepted: it is a table on the device.</summary>
    public const int MaxSteps = 1_000_000;

    /// <summary>The respaced timesteps in the order of execution.</summary>
    /// <param name="timesteps">Number of respaced timesteps T.</param>
    /// <returns>From T - 1 to 0, some stretches repeated; a timestep that is larger than the one before it less 1 is reached by adding noise.</returns>
    /// <exception cref="ConfigurationException">A jump is as long as the process, a number is not positive, or the steps are too many.</exception>
    public int[] Order(int timesteps)
    {
        if (JumpLength < 1 || Resamples < 1)
        {
            throw new ConfigurationException($"resampling {Resamples} times by jumps of {JumpLength} steps is none; both must be 1 or more");
        }

        if (Resamples > 1 && JumpLength >= timesteps)
        {
            throw new ConfigurationException($"jumps of {JumpLength} steps are as long as the process of {timesteps}; take shorter jumps or more steps");
        }

        long jumps = Resamples == 1 ? 0 : (timesteps - 1L) / JumpLength;
        if (timesteps + (jumps * JumpLength * (Resamples - 1)) > MaxSteps)
        {
            throw new ConfigurationException($"resampling {Resamples} times makes more than {MaxSteps} steps; resample less often");
        }

        int[] left = new int[timesteps];
        for (int t = 0; Resamples > 1 && t < timesteps - JumpLength; t += JumpLength)
        {
            left[t] = Resamples - 1;
        }

        List<int> order = [];
        for (int t = timesteps - 1; t >= 0;)
        {
            if (left[t] > 0)
            {
                left[t]--;
                t += JumpLength;
            }

            order.Add(t--);
        }

        return [.. order];
    }

    /// <summary>
    /// The row that <see cref="Steps.KnownRegion"/> reads after each step, t being its timestep and u the next one's: sqrt(ᾱ_{t-1}) and sqrt(1 - ᾱ_{t-1}), with which the known image is
    /// noised; sqrt(r) and sqrt(1 - r) with r = ᾱ_u / ᾱ_{t-1}, the forward process from t - 1 to u, which is 1 and 0 where u = t - 1.
    /// </summary>
    /// <param name="diffusion">The process.</param>
    /// <param name="order">Timesteps in the order of execution (<see cref="Order"/>).</param>
    /// <returns><c>[order.Length, Columns]</c>.</returns>
    public static float[] Levels(GaussianDiffusion diffusion, ReadOnlySpan<int> order)
    {
        ArgumentNullException.ThrowIfNull(diffusion);
        float[] levels = new float[order.Length * Columns];
        for (int i = 0; i < order.Length; i++)
        {
            double reached = diffusion.AlphasCumprodPrev[order[i]];
            double ratio = i + 1 < order.Length && order[i + 1] >= order[i] ? diffusion.AlphasCumprod[order[i + 1]] / reached : 1;
            Span<float> row = levels.AsSpan(i * Columns, Columns);
            row[0] = (float)Math.Sqrt(reached);
            row[1] = (float)Math.Sqrt(1 - reached);
            row[2] = (float)Math.Sqrt(ratio);
            row[3] = (float)Math.Sqrt(1 - ratio);
        }

        return levels;
    }
}
