using System.Globalization;
using Kernels.Models;

namespace Kernels.Diffusion;

/// <summary>What a batch puts into the steps of a sampler: whether it fits, and where it goes.</summary>
/// <param name="diffusion">The diffusion model.</param>
/// <param name="classifier">The classifier that steers; null if none does.</param>
/// <param name="settings">Sampler and guidance.</param>
/// <param name="table">The steps.</param>
/// <param name="size">Height and width of the images.</param>
/// <param name="lowRes">Height and width of the low-resolution images; null if the model takes none.</param>
/// <param name="levels">What <see cref="InpaintingSchedule.Levels"/> says of every step; null if nothing of the images is known.</param>
internal sealed class BatchInputs(
    ModelConfig diffusion,
    ModelConfig? classifier,
    SamplerSettings settings,
    StepTable table,
    (int Height, int Width) size,
    (int Height, int Width)? lowRes,
    float[]? levels)
{
    /// <summary>Elements of one image.</summary>
    public int ImageElements { get; } = size.Height * size.Width * diffusion.InChannels;

    /// <summary>Refuses a batch that does not fit; its labels are looked at where they are written.</summary>
    /// <param name="batch">The batch.</param>
    /// <exception cref="ConfigurationException">Images, noise or the first step do not fit.</exception>
    public void Check(SampleBatch batch)
    {
        Expect(batch.Initial, (long)batch.Count * ImageElements, "the initial images");
        Expect(batch.StepNoise, (long)table.Count * batch.Count * ImageElements, "the noise of the steps");
        CheckGivenImages(batch);
        Require((uint)batch.FirstStep < (uint)table.Count, $"step {batch.FirstStep} is not one of the {table.Count} steps");
        Require(batch.NoiseImages is null || batch.NoiseImages.Count == batch.Count, $"the noise of {batch.NoiseImages?.Count} images was named for {batch.Count}");
        Require(batch.StepNoise is null || batch.NoiseSource is null, "noise is given twice: as values and as a source");
        if (batch.FirstStep > 0)
        {
            settings.Sampler.RequireMemoryless("to begin at a later step");
        }
    }

    /// <summary>Refuses a batch whose low-resolution or known images do not fit: all that a step reads besides x.</summary>
    /// <param name="batch">The batch.</param>
    /// <exception cref="ConfigurationException">They do not.</exception>
    public void CheckGivenImages(SampleBatch batch)
    {
        if (lowRes is (int height, int width))
        {
            Expect(batch.LowRes ?? [], (long)batch.Count * height * width * diffusion.InChannels, "the low-resolution images");
        }
        else
        {
            Require(batch.LowRes is null, "this model takes no low-resolution images");
        }

        Require(levels is not null || (batch.Known is null && batch.Mask is null), "this sampler was not made for inpainting");
        if (levels is not null)
        {
            Expect(batch.Known ?? [], (long)batch.Count * ImageElements, "the known images");
            Expect(batch.Mask ?? [], (long)batch.Count * size.Height * size.Width, "the mask");
            Require(batch.Mask!.All(m => m is >= 0 and <= 1), "the mask must lie between 0 and 1");
            Require(batch.Known!.All(float.IsFinite), "the known images must be finite, also where they are masked out");
        }
    }

    /// <summary>Writes what stays the same throughout a batch.</summary>
    /// <param name="steps">A step for as many images.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="guided">Whether the step is a guided one.</param>
    /// <exception cref="ConfigurationException">Labels do not fit.</exception>
    public void Write(StepExecutor steps, SampleBatch batch, bool guided)
    {
        steps.WriteTable(table);
        WriteLabels(steps, batch, guided);
        if (batch.LowRes is not null)
        {
            steps.Step.Write("low_res", batch.LowRes);
        }

        if (steps.Takes("seed"))
        {
            steps.Step.Write("seed", Words(batch.Seed));
            steps.Step.Write("image_index", [.. Enumerable.Range(0, batch.Count).SelectMany(i => Words(NoiseImage(batch, i)))]);
        }

        if (levels is not null)
        {
            steps.Step.Write("levels", levels);
            steps.Step.Write("known", batch.Known);
            steps.Step.Write("mask", batch.Mask);
        }
    }

    /// <summary>x_T of a batch that brings none, drawn from its seed, <c>[N, H, W, C]</c>.</summary>
    /// <param name="batch">The batch.</param>
    public float[] InitialNoise(SampleBatch batch)
    {
        float[] x = new float[batch.Count * ImageElements];
        for (int i = 0; i < batch.Count; i++)
        {
            RandomStreams.Normals(batch.Seed, NoiseImage(batch, i), RandomStreams.InitialNoise, 0, x.AsSpan(i * ImageElements, ImageElements));
        }

        return x;
    }

    private static int[] Words(ulong value) => [(int)(uint)value, (int)(uint)(value >> 32)];

    private static ulong NoiseImage(SampleBatch batch, int i) => (ulong)(batch.NoiseImages?[i] ?? batch.FirstImage + i);

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new ConfigurationException(message);
        }
    }

    private static void Expect(float[]? values, long elements, string what)
    {
        if (values is not null && values.Length != elements)
        {
            throw new ConfigurationException(string.Create(CultureInfo.InvariantCulture, $"{what}: {values.Length} elements were given, {elements} are needed"));
        }
    }

    private static void CheckLabels(IReadOnlyList<int> labels, int classes, string model)
    {
        foreach (int label in labels)
        {
            if (label < 0 || label >= classes)
            {
                throw new ConfigurationException($"class {label} is out of range: {model} has classes 0 to {classes - 1}");
            }
        }
    }

    private void WriteLabels(StepExecutor steps, SampleBatch batch, bool guided)
    {
        bool classified = steps.Takes("y");
        bool unet = steps.Takes("y_unet");
        bool unetFollows = unet && !settings.Unconditional;
        Require(
            !(classified || unetFollows) || batch.Labels.Count == batch.Count,
            $"{batch.Labels.Count} labels were given for {batch.Count} images");
        if (classified)
        {
            CheckLabels(batch.Labels, classifier!.OutChannels, "the classifier");
            steps.WriteLabels("y", [.. batch.Labels]);
        }

        if (!unet)
        {
            return;
        }

        IEnumerable<int> nulls = Enumerable.Repeat(settings.NullLabel ?? 0, batch.Count);
        if (unetFollows)
        {
            CheckLabels(batch.Labels, diffusion.NumClasses!.Value, "the diffusion model");
        }

        steps.WriteLabels(
            "y_unet",
            settings.Unconditional ? [.. nulls] : guided && settings.CfgScale != 0 ? [.. batch.Labels, .. nulls] : batch.Labels.ToArray());
    }
}
