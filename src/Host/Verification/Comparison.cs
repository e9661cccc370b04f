namespace Kernels.Verification;

/// <summary>How one output compares with what was recorded.</summary>
/// <param name="Pack">The pack's file name.</param>
/// <param name="Output">The output's name.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="MaxAbsError">max |a − b|.</param>
/// <param name="RelativeL2">‖a − b‖ / ‖b‖, b being the record.</param>
/// <param name="Measure">Which of the two the tolerance bounds.</param>
/// <param name="Tolerance">The bound.</param>
public sealed record Comparison(string Pack, string Output, Shape Shape, double MaxAbsError, double RelativeL2, ErrorMeasure Measure, double Tolerance)
{
    /// <summary>Whether the error is within the tolerance; an error that is not a number is not.</summary>
    public bool Passed => (Measure == ErrorMeasure.RelativeL2 ? RelativeL2 : MaxAbsError) <= Tolerance;

    /// <summary>Compares values.</summary>
    /// <param name="pack">The pack's file name.</param>
    /// <param name="output">The output's name.</param>
    /// <param name="shape">Its shape.</param>
    /// <param name="actual">What was computed.</param>
    /// <param name="expected">What was recorded.</param>
    /// <param name="tolerance">The bound.</param>
    /// <param name="measure">What it bounds.</param>
    public static Comparison Of(
        string pack, string output, Shape shape, ReadOnlySpan<double> actual, ReadOnlySpan<double> expected, double tolerance, ErrorMeasure measure = ErrorMeasure.RelativeL2)
    {
        double max = actual.Length == expected.Length ? 0 : double.NaN;
        double difference = max;
        double norm = 0;
        for (int i = 0; i < Math.Min(actual.Length, expected.Length); i++)
        {
            // Equal infinities are no error; their difference would be.
            double d = actual[i].Equals(expected[i]) ? 0 : actual[i] - expected[i];
            max = double.IsNaN(d) ? d : Math.Max(max, Math.Abs(d));
            difference += d * d;
            norm += double.IsFinite(expected[i]) ? expected[i] * expected[i] : 0;
        }

        double relative = difference == 0 ? 0 : Math.Sqrt(difference / norm);
        return new Comparison(pack, output, shape, max, relative, measure, tolerance);
    }
}

/// <summary>What a tolerance bounds.</summary>
public enum ErrorMeasure
{
    /// <summary>‖a − b‖ / ‖b‖.</summary>
    RelativeL2,

    /// <summary>max |a − b|.</summary>
    MaxAbs,
}
