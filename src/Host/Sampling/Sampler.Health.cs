using System.Diagnostics;
using Kernels.Diffusion;
using Microsoft.Extensions.Logging;

namespace Kernels.Sampling;

/// <summary>Whether a sampler can be used.</summary>
public enum SamplerHealth
{
    /// <summary>It can. Too little memory, a cancelled or a refused job leave it so.</summary>
    Ready,

    /// <summary>Its device is lost to this process: every further call says so at once. A new process is needed.</summary>
    Lost,

    /// <summary>It was disposed.</summary>
    Disposed,
}

/// <content>One job at a time, and what failures leave behind.</content>
public sealed partial class Sampler
{
    private readonly ILogger _logger;
    private DeviceException? _lost;
    private int _isBusy;
    private volatile bool _isDisposed;

    /// <summary>Whether it can be used; to be asked from any thread.</summary>
    public SamplerHealth Health => _isDisposed ? SamplerHealth.Disposed : Volatile.Read(ref _lost) is null ? SamplerHealth.Ready : SamplerHealth.Lost;

    /// <summary>Whether a call is at work; to be asked from any thread.</summary>
    public bool IsBusy => Volatile.Read(ref _isBusy) != 0;

    private Turn Enter()
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (_lost is DeviceException lost)
        {
            throw new DeviceException($"the device was lost to an earlier failure, and this sampler cannot be used any more; start a new process: {lost.Message}", lost) { Fault = DeviceFault.Lost };
        }

        return Interlocked.Exchange(ref _isBusy, 1) == 0 ? new Turn(this)
            : throw new InvalidOperationException("this sampler is at work: it does one job at a time; wait for it, or load another sampler on the same backend");
    }

    private void Guarded(Action work)
    {
        try
        {
            work();
        }
        catch (DeviceException e)
        {
            Note(e);
            throw;
        }
    }

    private void Note(DeviceException e)
    {
        switch (e.Fault)
        {
            case DeviceFault.Lost:
                Volatile.Write(ref _lost, e);
                SamplerLog.Lost(_logger, e.Message);
                break;
            case DeviceFault.OutOfMemory:
                SamplerLog.OutOfMemory(_logger, e.Message);
                break;
            default:
                SamplerLog.Failed(_logger, e.Message);
                break;
        }
    }

    private SampledImages SampleBatch(SampleRequest request, long first, int count, StepCallback? onStep, bool keepSteps, CancellationToken cancellationToken)
    {
        float[] images = new float[(long)count * _steps.ImageElements];
        return new SampledImages(first, SampleBatch(request, first, count, images, onStep, keepSteps, cancellationToken), images, count);
    }

    // All ways to sample come through here.
    private IReadOnlyList<int> SampleBatch(
        SampleRequest request, long first, int count, Span<float> images, StepCallback? onStep, bool keepSteps, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        using Activity? activity = SamplerTelemetry.Activities.StartActivity("kernels.sample");
        activity?.SetTag("kernels.images", count).SetTag("kernels.first", first).SetTag("kernels.steps", StepsOf(request)).SetTag("kernels.device", Backend.Name);
        SamplerLog.Sampling(_logger, first, count);
        long start = Stopwatch.GetTimestamp(), last = start;
        try
        {
            SampleBatch batch = Batch(request, first, count) with { KeepSteps = keepSteps };
            _steps.Sample(
                batch,
                images,
                result =>
                {
                    long now = Stopwatch.GetTimestamp();
                    SamplerTelemetry.Steps.Add(1);
                    SamplerTelemetry.StepDuration.Record(Stopwatch.GetElapsedTime(last, now).TotalSeconds);
                    last = now;
                    onStep?.Invoke(result);
                },
                cancellationToken);
            SamplerTelemetry.Images.Add(count);
            SamplerLog.Sampled(_logger, first, count, Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            return batch.Labels;
        }
        catch (DeviceException e)
        {
            activity?.SetStatus(ActivityStatusCode.Error, e.Message);
            Note(e);
            throw;
        }
    }

    // Gives the sampler back.
    private readonly struct Turn(Sampler sampler) : IDisposable
    {
        public void Dispose() => Volatile.Write(ref sampler._isBusy, 0);
    }
}
