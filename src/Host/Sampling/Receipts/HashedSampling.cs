using Kernels.Backends.Gpu;
using Kernels.Diffusion;

namespace Kernels.Sampling;

/// <summary>Sampling with an eye on every step.</summary>
public static class HashedSampling
{
    /// <summary>Samples some images of a request as one batch and hashes what x is after every step; on a GPU while it is at work on the next (<see cref="SampleBatch.KeepSteps"/>).</summary>
    /// <param name="sampler">The sampler.</param>
    /// <param name="request">The job.</param>
    /// <param name="first">Index of the first image.</param>
    /// <param name="count">Number of images.</param>
    /// <param name="hashes">Receives the hashes; null for none.</param>
    /// <param name="at">Where the images begin in <paramref name="hashes"/>.</param>
    /// <param name="onStep">Called after every step, after its hashes are taken.</param>
    /// <param name="keepSteps">Whether <paramref name="onStep"/> looks at every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <exception cref="ConfigurationException">A label is out of range.</exception>
    /// <exception cref="DeviceException">The device lacks memory or failed.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static SampledImages Sample(
        this Sampler sampler,
        SampleRequest request,
        long first,
        int count,
        StepHashes? hashes,
        int at = 0,
        StepCallback? onStep = null,
        bool keepSteps = false,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(sampler);
        if (hashes is null)
        {
            return sampler.Sample(request, first, count, onStep, keepSteps, cancellationToken);
        }

        float[] x = new float[count * sampler.Height * sampler.Width * sampler.Channels];
        return sampler.Sample(
            request,
            first,
            count,
            result =>
            {
                result.ReadX(x);
                hashes.Record(at, count, result.Step, x);
                onStep?.Invoke(result);
            },
            keepSteps || sampler.Backend is GpuBackend,
            cancellationToken);
    }
}
