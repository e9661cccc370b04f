using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <content>What a request starts from: noise, images, or part of images.</content>
public sealed partial class Sampler
{
    /// <summary>Steps that a request executes per image.</summary>
    /// <param name="request">The job.</param>
    /// <exception cref="ConfigurationException">The strength is not in (0, 1].</exception>
    public int StepsOf(SampleRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        return Table.Count - (request.Init?.FirstStep(Table.Count) ?? 0);
    }

    /// <summary>Checks that this sampler can do a job, before anything is computed.</summary>
    /// <param name="request">The job.</param>
    /// <exception cref="ConfigurationException">It asks for what this sampler was not made for, or for two things at once.</exception>
    /// <exception cref="InvalidFileException">Images of it have the wrong size.</exception>
    public void Check(SampleRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        Require(request.Init is null || request.Known is null, "images to begin with and known regions exclude each other; inpaint, or start from an image");
        Require(request.InterpolateTo is null || (request.Init is null && request.Known is null), "interpolation is between two noises; it takes no images");
        Require(request.Latents is null || (request.Init is null && request.InterpolateTo is null), "latents to begin with, images to begin with and interpolation exclude each other");
        request.Latents?.Require(request.Count, Height, Width, Channels);
        Require(
            request.Init is null || Options.Settings.Sampler.History() == SamplerHistory.None,
            $"images to begin with need a sampler that keeps nothing of earlier steps; {SamplerKinds.NameOf(Options.Settings.Sampler)} does, take ddpm, ddim, euler or euler-a");
        Require(request.InterpolateTo is null || request.Count > 1, "interpolation needs two images at least: its ends");
        Require((request.Known is null) == (Options.Inpainting is null), "a sampler made for inpainting needs known images and masks, and one that was not takes none");
        Require((request.LowRes is null) == (Options.LowRes is null), request.LowRes is null ? "a super-resolution model needs low-resolution images" : "only a super-resolution model takes low-resolution images");
        if (Options.LowRes is (int height, int width))
        {
            request.LowRes!.Require(height, width, Channels);
        }

        request.Init?.Images.Require(Height, Width, Channels);
        _ = StepsOf(request);
        if (request.Known is KnownImages known)
        {
            known.Images.Require(Height, Width, Channels);
            known.Masks.Require(Height, Width, 1);
        }
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new ConfigurationException(message);
        }
    }

    private SampleBatch Batch(SampleRequest request, long first, int count)
    {
        Check(request);
        SampleBatch batch = new()
        {
            Count = count,
            Labels = LabelsOf(request, first, count),
            Seed = request.Seed,
            FirstImage = first,
            LowRes = request.LowRes?.Read(first, count),
            Known = request.Known?.Images.Read(first, count),
            Mask = request.Known?.ReadMasks(first, count),
            Initial = request.Latents?.Read(first, count),
        };
        if (request.InterpolateTo is ulong other)
        {
            return batch with { Initial = Interpolated(request.Seed, other, first, count, request.Count), NoiseImages = new long[count] };
        }

        if (request.Init is InitialImages init)
        {
            int step = init.FirstStep(Table.Count);
            return batch with { FirstStep = step, Initial = Noised(init.Images, request.Seed, Table.Timesteps[step], first, count) };
        }

        return batch;
    }

    private float[] Noised(ImageSet images, ulong seed, int timestep, long first, int count)
    {
        float[] x = images.Read(first, count);
        float[] noise = new float[x.Length / count];
        for (int i = 0; i < count; i++)
        {
            RandomStreams.Normals(seed, (ulong)(first + i), RandomStreams.InitialNoise, 0, noise);
            Span<float> image = x.AsSpan(i * noise.Length, noise.Length);
            BitsPerDimension.QSample(Table.Diffusion, timestep, image, noise, image);
        }

        return x;
    }

    private float[] Interpolated(ulong seed, ulong other, long first, int count, int total)
    {
        int elements = _steps.ImageElements;
        float[] a = new float[elements], b = new float[elements], x = new float[count * elements];
        RandomStreams.Normals(seed, 0, RandomStreams.InitialNoise, 0, a);
        RandomStreams.Normals(other, 0, RandomStreams.InitialNoise, 0, b);
        for (int i = 0; i < count; i++)
        {
            Slerp.Interpolate(a, b, (first + i) / (double)(total - 1), x.AsSpan(i * elements, elements));
        }

        return x;
    }
}
