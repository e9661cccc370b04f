using System.Diagnostics;

namespace Kernels.Diffusion;

/// <content>What a step costs.</content>
public sealed partial class DiffusionSampler
{
    /// <summary>Runs the first step of a batch a few times, and says how long it takes, so that nothing of a later batch of this size is done for the first time.</summary>
    /// <param name="batch">Labels and images as for <see cref="Sample(SampleBatch, StepCallback, CancellationToken)"/>.</param>
    /// <param name="runs">How often each kind of step is timed, at least once.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <exception cref="ConfigurationException">Labels or images do not fit.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public StepCost WarmUp(SampleBatch batch, int runs = 2, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentOutOfRangeException.ThrowIfLessThan(runs, 1);
        _inputs.CheckGivenImages(batch);
        double step = 0, begin = 0;
        float[] x = _inputs.InitialNoise(batch);
        foreach (bool guided in Kinds())
        {
            StepExecutor steps = ExecutorFor(batch, guided);
            double least = double.PositiveInfinity;
            for (int run = 0; run <= runs; run++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                long start = Stopwatch.GetTimestamp();
                _inputs.Write(steps, batch, guided);
                int row = Enumerable.Range(0, Table.Count).First(i => IsGuided(i) == guided);
                WriteState(steps, x, row);
                steps.Prepare(row, cancellationToken);
                double prepared = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
                double ms = steps.Step.Time(cancellationToken);

                // The first run of all compiles, captures, and fills caches.
                if (run > 0)
                {
                    (least, begin) = (Math.Min(least, ms), Math.Max(begin, prepared));
                }
            }

            step = Math.Max(step, least);
        }

        return new StepCost(step, begin);
    }
}

/// <summary>How long sampling a batch takes.</summary>
/// <param name="StepMilliseconds">One step, the slowest kind there is.</param>
/// <param name="BeginMilliseconds">What comes before the first step and after the last.</param>
public readonly record struct StepCost(double StepMilliseconds, double BeginMilliseconds);
