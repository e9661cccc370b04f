using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>What <c>kernels sample</c> starts from.</summary>
internal sealed record SampleTask
{
    public ImageSet? LowRes { get; init; }

    public InpaintingSchedule? Inpainting { get; init; }

    public KnownImages? Known { get; init; }

    public InitialImages? Init { get; init; }

    public LatentFile? Latents { get; init; }

    public ulong? InterpolateTo { get; init; }

    public string? ClassesFile { get; init; }

    public RandomSource Random { get; init; } = RandomSource.Philox;

    public TimeSpan? Deadline { get; init; }

    /// <summary>As many images as are given; null if none are.</summary>
    public int? Count => LowRes?.Count ?? Known?.Images.Count ?? Init?.Images.Count ?? Latents?.Count;

    /// <summary>Tells a sampler what it is made for.</summary>
    /// <param name="options">The rest of what it is made of.</param>
    public SamplerOptions Apply(SamplerOptions options) => options with { LowRes = LowRes is null ? options.LowRes : (LowRes.Height, LowRes.Width), Inpainting = Inpainting };

    /// <summary>Opens the sampler, in time for the deadline if there is one.</summary>
    /// <param name="options">What it is made of.</param>
    /// <param name="backend">Where it computes.</param>
    /// <param name="request">Makes the job for a sampler.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    public Sampler Open(SamplerOptions options, Runtime.Backend backend, Func<Sampler, SampleRequest> request, CancellationToken cancellationToken) => Deadline is TimeSpan deadline
        ? Sampler.LoadForDeadline(Apply(options), backend, request, deadline, cancellationToken: cancellationToken)
        : Sampler.Load(Apply(options), backend);

    /// <summary>Tells a job what it starts from, and checks it.</summary>
    /// <param name="sampler">What will do it.</param>
    /// <param name="request">The rest of the job.</param>
    /// <exception cref="ConfigurationException">The sampler cannot do it.</exception>
    /// <exception cref="InvalidFileException">Images have the wrong size.</exception>
    public SampleRequest Apply(Sampler sampler, SampleRequest request)
    {
        Latents?.Require(request.Count, sampler.Height, sampler.Width, sampler.Channels);
        request = request with
        {
            LowRes = LowRes,
            Known = Known,
            Init = Init,
            Latents = Latents?.Take(request.Count),
            LatentsFile = Latents?.Path,
            InterpolateTo = InterpolateTo,
            Random = Random,
        };
        sampler.Check(request);
        return request;
    }

    /// <summary>The classes that the task itself names: those of a file, or of the images; none if it names none.</summary>
    /// <param name="classes">Number of classes.</param>
    /// <param name="names">Their names, if the checkpoint has them.</param>
    /// <exception cref="InvalidFileException">They are wrong.</exception>
    public int[] Classes(int classes, IReadOnlyList<string>? names)
    {
        if (ClassesFile is not null)
        {
            return classes > 0 ? ClassFile.Read(ClassesFile, classes, names)
                : throw new ConfigurationException("--classes-file needs a class-conditional diffusion model or a classifier with a scale other than 0");
        }

        IReadOnlyList<int> labels = classes == 0 ? [] : LowRes?.Labels ?? Known?.Images.Labels ?? Init?.Images.Labels ?? Latents?.Labels ?? [];
        return labels.FirstOrDefault(l => l >= classes, -1) is var wrong and >= 0
            ? throw new InvalidFileException((LowRes ?? Known?.Images ?? Init?.Images)?.Path ?? Latents!.Path, "arr_1", $"label {wrong} is no class: there are 0 to {classes - 1}")
            : [.. labels];
    }
}
