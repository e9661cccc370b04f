namespace Kernels.Measurement;

/// <summary>Whether what is measured computes the right thing.</summary>
/// <param name="Against">What it was held against.</param>
/// <param name="RelativeL2">||actual − expected|| / ||expected||; null if a value is not finite that should be, or the other way about.</param>
/// <param name="Tolerance">The bound.</param>
public sealed record Verdict(string Against, double? RelativeL2, double Tolerance)
{
    /// <summary>Whether the error is within the bound.</summary>
    public bool Passed => RelativeL2 <= Tolerance;

    /// <summary>Compares.</summary>
    /// <param name="against">What is compared with.</param>
    /// <param name="expected">Its values.</param>
    /// <param name="actual">The values to check.</param>
    /// <param name="tolerance">The bound.</param>
    public static Verdict Of(string against, ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double tolerance)
    {
        double error = 0, norm = 0;
        bool comparable = expected.Length == actual.Length;
        for (int i = 0; comparable && i < expected.Length; i++)
        {
            // What is infinite or no number must be that on both sides.
            if (!float.IsFinite(expected[i]) || !float.IsFinite(actual[i]))
            {
                comparable = expected[i].Equals(actual[i]);
                continue;
            }

            error += Math.Pow((double)actual[i] - expected[i], 2);
            norm += Math.Pow(expected[i], 2);
        }

        double relative = error == 0 ? 0 : norm == 0 ? Math.Sqrt(error) : Math.Sqrt(error / norm);
        return new Verdict(against, comparable ? relative : null, tolerance);
    }
}
