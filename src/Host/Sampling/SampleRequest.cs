using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>The images of a job. Image i is a function of the seed, of i and of its label: neither the batch nor the order in which images are made matters, unless <see cref="Random"/> is one of PyTorch's.</summary>
public sealed record SampleRequest
{
    /// <summary>Number of images.</summary>
    public required int Count { get; init; }

    /// <summary>Images sampled at once, if nobody says otherwise.</summary>
    public const int DefaultBatchSize = 16;

    /// <summary>Images sampled at once; the last batch may be smaller.</summary>
    public int BatchSize { get; init; } = DefaultBatchSize;

    /// <summary>Seed of all noise.</summary>
    public ulong Seed { get; init; }

    /// <summary>Where the noise, and the labels if they are random, come from. With one of PyTorch's, the images depend on <see cref="BatchSize"/> too.</summary>
    public RandomSource Random { get; init; } = RandomSource.Philox;

    /// <summary>Classes, repeated over the images; empty to draw every label from the seed.</summary>
    public IReadOnlyList<int> Classes { get; init; } = [];

    /// <summary>Low-resolution images for a super-resolution model, of the size of <see cref="SamplerOptions.LowRes"/>: image i is made from image i of these.</summary>
    public ImageSet? LowRes { get; init; }

    /// <summary>What is known of the images, for a sampler with <see cref="SamplerOptions.Inpainting"/>.</summary>
    public KnownImages? Known { get; init; }

    /// <summary>Images to begin with; null for pure noise.</summary>
    public InitialImages? Init { get; init; }

    /// <summary>Noise to begin with, x_T of all images as <c>[Count, H, W, C]</c>, such as what <see cref="DdimInversion"/> makes; null draws it from the seed.</summary>
    public float[]? Latents { get; init; }

    /// <summary>The file that <see cref="Latents"/> are from, for receipts.</summary>
    public string? LatentsFile { get; init; }

    /// <summary>
    /// The seed at the other end: image i begins with the point i / (Count - 1) of the way from x_T of image 0 of <see cref="Seed"/> to x_T of image 0 of this one (<see cref="Slerp"/>). All images
    /// share the label and the noise of the steps of image 0 of <see cref="Seed"/>. Null for images of their own.
    /// </summary>
    public ulong? InterpolateTo { get; init; }

    /// <summary>The label of an image; random ones are those of <see cref="RandomSource.Philox"/>, whatever <see cref="Random"/> is (<see cref="Sampler.LabelsOf"/> knows them all).</summary>
    /// <param name="image">Its index.</param>
    /// <param name="classes">Number of classes to draw from where none are listed.</param>
    public int LabelOf(long image, int classes) =>
        InterpolateTo is not null && image != 0 ? LabelOf(0, classes)
        : Classes.Count > 0 ? Classes[(int)(image % Classes.Count)]
        : RandomStreams.Label(Seed, (ulong)image, classes);
}

/// <summary>Finished images of a request.</summary>
/// <param name="First">Index of the first.</param>
/// <param name="Labels">One label each; empty if nothing reads labels.</param>
/// <param name="Images">The images <c>[N, H, W, C]</c>, for a trained model in [-1, 1].</param>
/// <param name="Count">Number of images.</param>
public sealed record SampledImages(long First, IReadOnlyList<int> Labels, float[] Images, int Count);
