using Kernels.Runtime;

namespace Kernels.Diffusion;

/// <summary>What is known after a step; valid during the call that receives it.</summary>
/// <param name="step">Steps executed before this one.</param>
/// <param name="steps">Steps in all.</param>
/// <param name="executor">Where the results lie.</param>
/// <param name="snapshots">Copies of x and of the prediction that were taken after the step; null if the results still lie where they were made.</param>
public readonly ref struct StepResult(int step, int steps, Executor executor, StepSnapshots? snapshots = null)
{
    /// <summary>Steps executed before this one.</summary>
    public int Step { get; } = step;

    /// <summary>Steps in all.</summary>
    public int Steps { get; } = steps;

    /// <summary>Copies x after this step.</summary>
    /// <param name="destination"><c>[N, H, W, C]</c>.</param>
    public void ReadX(Span<float> destination)
    {
        if (snapshots is null)
        {
            executor.Read("x_next", destination);
        }
        else
        {
            snapshots.X.Read(destination);
        }
    }

    /// <summary>Copies the prediction of x_0.</summary>
    /// <param name="destination"><c>[N, H, W, C]</c>.</param>
    public void ReadPredXstart(Span<float> destination)
    {
        if (snapshots is null)
        {
            executor.Read("pred_xstart", destination);
        }
        else
        {
            snapshots.PredXstart.Read(destination);
        }
    }
}

/// <summary>Receives the result of a step.</summary>
/// <param name="result">The result; not to be kept.</param>
public delegate void StepCallback(StepResult result);

/// <summary>The images of one batch: labels, and where x_T and the noise come from.</summary>
public sealed record SampleBatch
{
    /// <summary>Label per image, for the classifier and a class-conditional UNet. Empty if neither is there.</summary>
    public IReadOnlyList<int> Labels { get; init; } = [];

    /// <summary>Seed of the noise, used where none is supplied.</summary>
    public ulong Seed { get; init; }

    /// <summary>Index of the first image of the batch in the job: noise depends on it, not on the batch.</summary>
    public long FirstImage { get; init; }

    /// <summary>Number of images.</summary>
    public required int Count { get; init; }

    /// <summary>x_T (or x_0 for an inversion) as <c>[N, H, W, C]</c>; null draws it from the seed.</summary>
    public float[]? Initial { get; init; }

    /// <summary>Noise of every step as <c>[S, N, H, W, C]</c>; null draws it from the seed.</summary>
    public float[]? StepNoise { get; init; }

    /// <summary>
    /// Whether the callback is called one step late, with copies of the step's results, while the device is at work on the next: for callbacks that look at every step. Without it the
    /// callback runs between two steps.
    /// </summary>
    public bool KeepSteps { get; init; }

    /// <summary>Draws the noise of every step, in order, in place of the seed; asked at every step, whether the step uses it or not. Excludes <see cref="StepNoise"/>.</summary>
    public NoiseSource? NoiseSource { get; init; }

    /// <summary>Which image's noise each image has, in place of consecutive ones from <see cref="FirstImage"/> on; null for those.</summary>
    public IReadOnlyList<long>? NoiseImages { get; init; }

    /// <summary>Steps of the table that are left out at the beginning: <see cref="Initial"/> is x at the level of this one.</summary>
    public int FirstStep { get; init; }

    /// <summary>Low-resolution images <c>[N, h, w, C]</c> for a super-resolution model.</summary>
    public float[]? LowRes { get; init; }

    /// <summary>For inpainting, the images x_0 as <c>[N, H, W, C]</c>; what is not known of them may be anything finite.</summary>
    public float[]? Known { get; init; }

    /// <summary>For inpainting, what is known of them, <c>[N, H, W]</c>: 1 is kept, 0 is made, between them it is mixed.</summary>
    public float[]? Mask { get; init; }

    /// <summary>Whether noise is handed over rather than drawn on the device.</summary>
    internal bool SuppliesNoise => StepNoise is not null || NoiseSource is not null;
}
