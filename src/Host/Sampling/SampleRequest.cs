using System.Text.Json.Serialization;
using Kernels.Diffusion;

namespace Kernels.Sampling;

/// <summary>The images of a job. Image i is a function of the seed, of i and of its label: neither the batch nor the order in which images are made matters.</summary>
public sealed record SampleRequest
{
    /// <summary>Number of images.</summary>
    public required int Count { get; init; }

    /// <summary>Images sampled at once; the last batch may be smaller.</summary>
    [JsonIgnore]
    public int BatchSize { get; init; } = 16;

    /// <summary>Seed of all noise.</summary>
    public ulong Seed { get; init; }

    /// <summary>Classes, repeated over the images; empty to draw every label from the seed.</summary>
    public IReadOnlyList<int> Classes { get; init; } = [];

    /// <summary>The label of an image.</summary>
    /// <param name="image">Its index.</param>
    /// <param name="classes">Number of classes to draw from where none are listed.</param>
    public int LabelOf(long image, int classes) =>
        Classes.Count > 0 ? Classes[(int)(image % Classes.Count)] : RandomStreams.Label(Seed, (ulong)image, classes);
}

/// <summary>Finished images of a request.</summary>
/// <param name="First">Index of the first.</param>
/// <param name="Labels">One label each; empty if nothing reads labels.</param>
/// <param name="Images">The images <c>[N, H, W, C]</c>, for a trained model in [-1, 1].</param>
public sealed record SampledImages(long First, IReadOnlyList<int> Labels, float[] Images);
