namespace Kernels.Measurement;

/// <summary>What is said about repeated timings.</summary>
public static class Statistics
{
    /// <summary>The middle value; of an even number, the mean of the two in the middle.</summary>
    /// <param name="values">At least one value, in any order.</param>
    public static double Median(ReadOnlySpan<double> values) => Quantile(values, 0.5);

    /// <summary>Half the distance between the quartiles over the median: how far a repeat typically strays.</summary>
    /// <param name="values">At least one value, in any order.</param>
    public static double Spread(ReadOnlySpan<double> values)
    {
        double median = Median(values);
        return median == 0 ? 0 : (Quantile(values, 0.75) - Quantile(values, 0.25)) / 2 / median;
    }

    /// <summary>The value below which a share of the values lies, by linear interpolation between neighbours (type 7 of Hyndman and Fan 1996).</summary>
    /// <param name="values">At least one value, in any order.</param>
    /// <param name="q">The share, 0 to 1.</param>
    public static double Quantile(ReadOnlySpan<double> values, double q)
    {
        ArgumentOutOfRangeException.ThrowIfZero(values.Length, nameof(values));
        double[] sorted = values.ToArray();
        Array.Sort(sorted);
        double position = q * (sorted.Length - 1);
        int below = (int)position;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((sorted[above] - sorted[below]) * (position - below));
    }
}
