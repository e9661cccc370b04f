using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;

namespace Kernels.Sampling;

/// <summary>What a sampler tells a program that watches: an <see cref="ActivitySource"/> and a <see cref="Meter"/>, both of the name <see cref="Name"/>.</summary>
/// <remarks>
/// Activity <c>kernels.sample</c> per batch, with the tags <c>kernels.images</c>, <c>kernels.first</c>, <c>kernels.steps</c> and <c>kernels.device</c>. Instruments: <c>kernels.steps</c> and
/// <c>kernels.images</c> count; <c>kernels.step.duration</c> is the time from step to step in seconds as the host sees it: a device works behind the host, which waits for it where results are
/// read.
/// </remarks>
public static class SamplerTelemetry
{
    /// <summary>Name of the source and of the meter.</summary>
    public const string Name = "Kernels";

    internal static ActivitySource Activities { get; } = new(Name);

    internal static Meter Meter { get; } = new(Name);

    internal static Counter<long> Steps { get; } = Meter.CreateCounter<long>("kernels.steps", "{step}", "Steps executed, each for a batch.");

    internal static Counter<long> Images { get; } = Meter.CreateCounter<long>("kernels.images", "{image}", "Images finished.");

    internal static Histogram<double> StepDuration { get; } = Meter.CreateHistogram<double>("kernels.step.duration", "s", "Time from step to step as the host sees it.");
}

/// <summary>What a sampler logs.</summary>
internal static partial class SamplerLog
{
    [LoggerMessage(1, LogLevel.Information, "Opened {Checkpoint}: {Height}x{Width}, {Steps} steps, on {Device}")]
    public static partial void Loaded(ILogger logger, string checkpoint, int height, int width, int steps, string device);

    [LoggerMessage(2, LogLevel.Debug, "Sampling {Count} images from {First} on")]
    public static partial void Sampling(ILogger logger, long first, int count);

    [LoggerMessage(3, LogLevel.Information, "Sampled {Count} images from {First} on in {Milliseconds:0.0} ms")]
    public static partial void Sampled(ILogger logger, long first, int count, double milliseconds);

    [LoggerMessage(4, LogLevel.Warning, "Too little memory: {Reason}")]
    public static partial void OutOfMemory(ILogger logger, string reason);

    [LoggerMessage(5, LogLevel.Error, "The device failed: {Reason}")]
    public static partial void Failed(ILogger logger, string reason);

    [LoggerMessage(6, LogLevel.Critical, "The device is lost: {Reason}")]
    public static partial void Lost(ILogger logger, string reason);

    [LoggerMessage(7, LogLevel.Information, "A step of {Batch} images takes {Milliseconds:0.000} ms: {Steps} of {Asked} steps meet {Deadline:0.0} ms")]
    public static partial void Deadline(ILogger logger, int batch, double milliseconds, int steps, int asked, double deadline);
}
