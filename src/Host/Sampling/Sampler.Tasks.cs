using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <content>What a request starts from: noise, images, or part of images.</content>
public sealed partial class Sampler
{
    // Where the draws of the request that is being worked on stand.
    private (SampleRequest? Request, TorchDraws? Draws) _draws;

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
        Require(
            request.Latents is null || request.Latents.Length == (long)request.Count * _steps.ImageElements,
            $"{request.Latents?.Length} values are not the latents of {request.Count} images [{Height}, {Width}, {Channels}]");
        if (request.Random.IsTorch)
        {
            Require(
                Options.Settings.Sampler is SamplerKind.Ddpm or SamplerKind.Ddim,
                $"random numbers of {request.Random} repeat the scripts of guided-diffusion, which have no sampler {SamplerKinds.NameOf(Options.Settings.Sampler)}; take ddpm or ddim");
            Require(
                request.Init is null && request.Known is null && request.InterpolateTo is null && request.Latents is null,
                $"random numbers of {request.Random} repeat the scripts of guided-diffusion, which start from noise alone; take philox");
        }

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
        if (request.Random.IsTorch)
        {
            return TorchBatch(request, first, count);
        }

        SampleBatch batch = new()
        {
            Count = count,
            Labels = LabelsOf(request, first, count),
            Seed = request.Seed,
            FirstImage = first,
            LowRes = request.LowRes?.Read(first, count),
            Known = request.Known?.Images.Read(first, count),
            Mask = request.Known?.ReadMasks(first, count),
            Initial = request.Latents?.AsSpan(checked((int)(first * _steps.ImageElements)), count * _steps.ImageElements).ToArray(),
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

    // The scripts draw for whole batches and leave out what is too much at the end.
    private SampleBatch TorchBatch(SampleRequest request, long first, int count)
    {
        Require(
            first % request.BatchSize == 0 && count <= request.BatchSize,
            $"random numbers of {request.Random} are drawn by the batch: {count} images from {first} on are not one of batches of {request.BatchSize}");
        if (_draws.Request != request)
        {
            _draws = (request, NewDraws(request));
        }

        TorchDraws draws = _draws.Draws!;
        (int[] drawn, float[] initial) = draws.Begin(first / request.BatchSize);
        return new SampleBatch
        {
            Count = count,
            Labels = drawn.Length > 0 ? drawn[..count] : LabelsOf(request, first, count),
            Initial = initial[..(count * _steps.ImageElements)],
            NoiseSource = (_, noise) => draws.Step(noise),
            LowRes = request.LowRes?.Read(first, count),
        };
    }

    private TorchDraws NewDraws(SampleRequest request) => new(
        request.Random, request.Seed, [request.BatchSize, Height, Width, Channels], Table.Count, request.Classes.Count > 0 ? 0 : ClassCount);

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
