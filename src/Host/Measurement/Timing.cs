using System.Diagnostics;

namespace Kernels.Measurement;

/// <summary>Repeated timings of one thing, in milliseconds.</summary>
/// <param name="Repeats">How many there were.</param>
/// <param name="MedianMs">The middle one.</param>
/// <param name="LowerQuartileMs">A quarter of them were shorter.</param>
/// <param name="UpperQuartileMs">A quarter of them were longer.</param>
/// <param name="MinMs">The shortest.</param>
public sealed record Timing(int Repeats, double MedianMs, double LowerQuartileMs, double UpperQuartileMs, double MinMs)
{
    /// <summary>Half the distance between the quartiles over the median.</summary>
    public double Spread => MedianMs == 0 ? 0 : (UpperQuartileMs - LowerQuartileMs) / 2 / MedianMs;

    /// <summary>Sums up timings.</summary>
    /// <param name="milliseconds">At least one.</param>
    public static Timing Of(ReadOnlySpan<double> milliseconds)
    {
        double min = Statistics.Quantile(milliseconds, 0);
        return new Timing(milliseconds.Length, Statistics.Median(milliseconds), Statistics.Quantile(milliseconds, 0.25), Statistics.Quantile(milliseconds, 0.75), min);
    }
}

/// <summary>When enough is measured.</summary>
/// <param name="TimeLimit">How long one thing may be measured for, warm-up included. The least number of repeats is made however long they take.</param>
/// <param name="Spread">The spread that is small enough.</param>
/// <param name="LeastRepeats">Repeats that there are in any case.</param>
/// <param name="MostRepeats">Repeats after which no more are made.</param>
/// <param name="WarmUps">Runs before the first repeat, at least.</param>
/// <param name="WarmUpMs">How long they last, at least, together or with what goes on around them: what the runtime compiles anew after a tenth of a second is then compiled.</param>
public sealed record RepeatRule(TimeSpan TimeLimit, double Spread = 0.01, int LeastRepeats = 5, int MostRepeats = 100, int WarmUps = 2, double WarmUpMs = 250)
{
    /// <summary>Measures until the spread is small, or the time is up.</summary>
    /// <param name="measure">Runs the thing once and returns how long it took in milliseconds.</param>
    /// <param name="cancellationToken">Looked at before every run.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Timing Measure(Func<double> measure, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(measure);
        Stopwatch watch = Stopwatch.StartNew();
        WarmUp(measure, watch, cancellationToken);
        return Timing.Of(Repeat(measure, watch, cancellationToken));
    }

    /// <summary>Measures two things in turns, so that whatever else the machine does hits both.</summary>
    /// <param name="first">Runs the one and returns how long it took in milliseconds.</param>
    /// <param name="second">Runs the other.</param>
    /// <param name="cancellationToken">Looked at before every run.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public (Timing First, Timing Second) MeasureInTurns(Func<double> first, Func<double> second, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(first);
        ArgumentNullException.ThrowIfNull(second);
        Stopwatch watch = Stopwatch.StartNew();
        List<double> others = [];
        double InTurns()
        {
            others.Add(second());
            return first();
        }

        WarmUp(InTurns, watch, cancellationToken);
        others.Clear();
        return (Timing.Of(Repeat(InTurns, watch, cancellationToken)), Timing.Of([.. others]));
    }

    private void WarmUp(Func<double> measure, Stopwatch watch, CancellationToken cancellationToken)
    {
        double most = Math.Min(WarmUpMs, TimeLimit.TotalMilliseconds), measured = 0;
        for (int i = 0; i < WarmUps || (measured < most && watch.Elapsed.TotalMilliseconds < most); i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            measured += measure();
        }
    }

    private double[] Repeat(Func<double> measure, Stopwatch watch, CancellationToken cancellationToken)
    {
        List<double> times = [];
        do
        {
            cancellationToken.ThrowIfCancellationRequested();
            times.Add(measure());
        }
        while (GoesOn(times, watch));
        return [.. times];
    }

    private bool GoesOn(List<double> times, Stopwatch watch) =>
        times.Count < LeastRepeats || (times.Count < MostRepeats && watch.Elapsed < TimeLimit && Statistics.Spread([.. times]) > Spread);
}
