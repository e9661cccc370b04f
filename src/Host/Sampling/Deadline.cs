using System.Globalization;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Microsoft.Extensions.Logging;

namespace Kernels.Sampling;

/// <summary>How many steps a batch may take to be finished in time.</summary>
public static class Deadline
{
    // A process of one step has no second variance to borrow from.
    private const int FewestSteps = 2;

    /// <summary>The most steps, no more than were asked for, with begin + steps · evaluations · step ≤ deadline.</summary>
    /// <param name="asked">Steps asked for.</param>
    /// <param name="evaluationsPerStep">Evaluations of the models per step.</param>
    /// <param name="cost">What an evaluation takes, and what comes before and after them.</param>
    /// <param name="deadline">Time for a batch.</param>
    /// <exception cref="ConfigurationException">Not even two steps are fast enough; the message says how long they take.</exception>
    public static int Steps(int asked, double evaluationsPerStep, StepCost cost, TimeSpan deadline)
    {
        double step = cost.StepMilliseconds * evaluationsPerStep, left = deadline.TotalMilliseconds - cost.BeginMilliseconds;
        double fits = step > 0 ? Math.Floor(left / step) : left >= 0 ? asked : 0;
        return asked <= fits ? asked
            : fits >= FewestSteps ? (int)fits
            : throw new ConfigurationException(string.Create(
                CultureInfo.InvariantCulture,
                $"the deadline of {deadline.TotalMilliseconds:0.#} ms cannot be met: {FewestSteps} steps take {cost.BeginMilliseconds + (FewestSteps * step):0.#} ms; take a smaller batch, a faster device or a later deadline"));
    }

    /// <summary>The respacing of a process to so many steps, or as few fewer as <c>ddimN</c> admits.</summary>
    /// <param name="process">The process, respaced or not.</param>
    /// <param name="steps">The most steps.</param>
    internal static string Respacing(DiffusionConfig process, int steps)
    {
        if (!process.TimestepRespacing.StartsWith("ddim", StringComparison.Ordinal))
        {
            return steps.ToString(CultureInfo.InvariantCulture);
        }

        for (int n = steps; n > FewestSteps; n--)
        {
            string respacing = string.Create(CultureInfo.InvariantCulture, $"ddim{n}");
            try
            {
                _ = Kernels.Diffusion.Respacing.SpaceTimesteps(process.DiffusionSteps, respacing);
                return respacing;
            }
            catch (ConfigurationException)
            {
                // Not every number of steps has an integer stride.
            }
        }

        return string.Create(CultureInfo.InvariantCulture, $"ddim{FewestSteps}");
    }
}

/// <content>Samplers that are finished in time.</content>
public sealed partial class Sampler
{
    /// <summary>Opens a sampler whose batches are finished in time, with as many of the steps asked for as that takes: a step is measured, and the process respaced.</summary>
    /// <param name="options">What to sample with; its respacing says how many steps are wanted.</param>
    /// <param name="backend">Where to compute; it stays the caller's.</param>
    /// <param name="request">Makes the job for a sampler; it is asked twice if steps have to be left out.</param>
    /// <param name="deadline">Time for a batch.</param>
    /// <param name="logger">Told of what is opened, sampled and lost; null for nobody.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>A sampler, warmed up for the job.</returns>
    /// <exception cref="InvalidFileException">A checkpoint cannot be used.</exception>
    /// <exception cref="ConfigurationException">The deadline cannot be met, or settings contradict each other.</exception>
    public static Sampler LoadForDeadline(
        SamplerOptions options, Backend backend, Func<Sampler, SampleRequest> request, TimeSpan deadline, ILogger? logger = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(request);
        Sampler sampler = Load(options, backend, logger);
        try
        {
            SampleRequest job = request(sampler);
            sampler.Check(job);
            StepCost cost = sampler.WarmUp(job, cancellationToken);
            int asked = sampler.Table.Diffusion.NumTimesteps;
            double executed = sampler.StepsOf(job) / (double)asked;
            int steps = Deadline.Steps(asked, executed, cost, deadline);
            SamplerLog.Deadline(sampler._logger, Math.Min(job.Count, job.BatchSize), cost.StepMilliseconds, steps, asked, deadline.TotalMilliseconds);
            if (steps == asked)
            {
                return sampler;
            }

            string respacing = Deadline.Respacing(sampler.Table.Diffusion.Config, steps);
            sampler.Dispose();
            ModelOverrides overrides = options.Diffusion.Overrides with { TimestepRespacing = respacing };
            sampler = Load(options with { Diffusion = options.Diffusion with { Overrides = overrides } }, backend, logger);
            _ = sampler.WarmUp(request(sampler), cancellationToken);
            return sampler;
        }
        catch
        {
            sampler.Dispose();
            throw;
        }
    }
}
