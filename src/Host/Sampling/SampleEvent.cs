namespace Kernels.Sampling;

/// <summary>Something that has happened in a job.</summary>
/// <param name="First">Index of the first image of the batch that it happened to.</param>
/// <param name="Count">Images of the batch.</param>
public abstract record SampleEvent(long First, int Count);

/// <summary>A step is over.</summary>
/// <param name="First">Index of the first image of the batch.</param>
/// <param name="Count">Images of the batch.</param>
/// <param name="Step">Steps executed before this one.</param>
/// <param name="Steps">Steps in all.</param>
/// <param name="Timestep">The timestep of the original process that the models saw.</param>
/// <param name="PredXstart">The prediction of the images, <c>[Count, H, W, C]</c>, where it was asked for; the receiver's to keep.</param>
public sealed record StepEvent(long First, int Count, int Step, int Steps, double Timestep, float[]? PredXstart) : SampleEvent(First, Count);

/// <summary>A batch is finished.</summary>
/// <param name="Images">Its images.</param>
public sealed record ImagesEvent(SampledImages Images) : SampleEvent(Images.First, Images.Count);

/// <summary>How far a job is.</summary>
/// <param name="ImagesDone">Finished images.</param>
/// <param name="Images">Images of the job.</param>
/// <param name="StepsDone">Steps executed of the batch at work.</param>
/// <param name="Steps">Steps of a batch.</param>
/// <param name="Elapsed">Time since the job began.</param>
public readonly record struct SampleProgress(long ImagesDone, long Images, int StepsDone, int Steps, TimeSpan Elapsed);

/// <summary>How a job is watched.</summary>
public sealed record SampleWatch
{
    /// <summary>Whether every step is reported (<see cref="StepEvent"/>), or finished batches alone.</summary>
    public bool Steps { get; init; } = true;

    /// <summary>Every how many steps <see cref="StepEvent.PredXstart"/> is there, the last step always; 0 for never. Each one is copied from the device.</summary>
    public int PreviewEvery { get; init; }

    /// <summary>Told after every step, on the thread that samples.</summary>
    public IProgress<SampleProgress>? Progress { get; init; }
}
