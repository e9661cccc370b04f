using System.Text.Json;
using System.Text.Json.Serialization;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;

namespace Kernels.Sampling;

/// <summary>
/// How images were made, completely: models by hash, settings, labels and seed, device and versions, and what x was after every step. It goes with the images into their file, and
/// <see cref="Reproduction"/> runs it again. It holds no time and nothing that depends on batch, threads or processes, so the same images come with the same receipt.
/// </summary>
public sealed record Receipt
{
    /// <summary>The only value of <see cref="Format"/>.</summary>
    public const string CurrentFormat = "kernels-receipt-1";

    /// <summary>Names the layout.</summary>
    public string Format { get; init; } = CurrentFormat;

    /// <summary>What was asked for, and of what.</summary>
    public required JobIdentity Job { get; init; }

    /// <summary>Which images of the job these are, and their shape.</summary>
    public required ReceiptImages Images { get; init; }

    /// <summary>What x was after every step; null if it was not looked at.</summary>
    public StepHashSummary? StepHashes { get; init; }

    /// <summary>SHA-256 of the pixels of all images, <c>[N, H, W, C]</c> bytes.</summary>
    public required string PixelsSha256 { get; init; }

    /// <summary>SHA-256 of the file that the receipt lies beside; null if it is in the file itself.</summary>
    public string? FileSha256 { get; init; }
}

/// <summary>Everything that determines images: two jobs that agree in this give the same bits.</summary>
public sealed record JobIdentity
{
    /// <summary>The programs.</summary>
    public required ReceiptVersions Versions { get; init; }

    /// <summary>The device and its arithmetic.</summary>
    public required ReceiptDevice Device { get; init; }

    /// <summary>The diffusion model.</summary>
    public required ReceiptModel Diffusion { get; init; }

    /// <summary>The classifier that steered.</summary>
    public ReceiptModel? Classifier { get; init; }

    /// <summary>Sampler and guidance.</summary>
    public required SamplerSettings Settings { get; init; }

    /// <summary>Rewrites that were left out.</summary>
    public IReadOnlyList<string> DisabledFusions { get; init; } = [];

    /// <summary>Height and width of the low-resolution images of a super-resolution model.</summary>
    public IReadOnlyList<int>? LowRes { get; init; }

    /// <summary>The images of the job.</summary>
    public required ReceiptRequest Request { get; init; }

    /// <summary>Describes a job.</summary>
    /// <param name="sampler">The models, opened.</param>
    /// <param name="request">The images.</param>
    /// <exception cref="InvalidFileException">A checkpoint cannot be read for its hash.</exception>
    public static JobIdentity Of(Sampler sampler, SampleRequest request)
    {
        ArgumentNullException.ThrowIfNull(sampler);
        ArgumentNullException.ThrowIfNull(request);
        SamplerOptions options = sampler.Options;
        return new JobIdentity
        {
            Versions = ReceiptVersions.Of(sampler.Backend),
            Device = ReceiptDevice.Of(sampler.Backend),
            Diffusion = ReceiptModel.Of(sampler.Diffusion, options.Diffusion),
            Classifier = sampler.Classifier is null ? null : ReceiptModel.Of(sampler.Classifier, options.Classifier!),
            Settings = options.Settings,
            DisabledFusions = [.. options.DisabledFusions.Order(StringComparer.Ordinal)],
            LowRes = options.LowRes is (int height, int width) ? [height, width] : null,
            Request = ReceiptRequest.Of(request, options),
        };
    }

    /// <summary>What to open to do the job again.</summary>
    /// <param name="diffusion">Where the diffusion checkpoint is now.</param>
    /// <param name="classifier">Where the classifier's is now.</param>
    /// <exception cref="ConfigurationException">The settings of a model cannot be understood.</exception>
    public SamplerOptions ToOptions(string diffusion, string? classifier) => new()
    {
        Diffusion = Diffusion.ToSource(diffusion, "--"),
        Classifier = classifier is null ? null : Classifier!.ToSource(classifier, "--classifier-"),
        Settings = Settings,
        DisabledFusions = DisabledFusions,
        LowRes = LowRes is [int height, int width] ? (height, width) : null,
        Inpainting = Request.Inpainting,
    };
}

/// <summary>Some images of a job.</summary>
/// <param name="First">Index of the first in the job.</param>
/// <param name="Count">Number of images N.</param>
/// <param name="Height">Height H of one.</param>
/// <param name="Width">Width W of one.</param>
/// <param name="Channels">Channels C of one.</param>
public sealed record ReceiptImages(long First, int Count, int Height, int Width, int Channels)
{
    /// <summary>Images per row of one picture of all, 0 for a square; null if every image has a file or an array has them all.</summary>
    public int? Columns { get; init; }
}

/// <summary>How receipts and manifests are written: names in snake case, nothing for null.</summary>
[JsonSourceGenerationOptions(
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true,
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    Converters = [typeof(SnakeCaseEnum<SamplerKind>), typeof(SnakeCaseEnum<StepSpacing>), typeof(SnakeCaseEnum<Precision>), typeof(SnakeCaseEnum<GemmKind>)],
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Receipt))]
[JsonSerializable(typeof(JobManifest))]
[JsonSerializable(typeof(JobSettings))]
internal sealed partial class ReceiptJson : JsonSerializerContext
{
    /// <summary>The same for people: one value per line.</summary>
    public static ReceiptJson Indented => field ??= new(new JsonSerializerOptions(Default.GeneratedSerializerOptions!) { WriteIndented = true });
}

/// <summary>An enumeration by its names in snake case.</summary>
/// <typeparam name="T">The enumeration.</typeparam>
internal sealed class SnakeCaseEnum<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false)
    where T : struct, Enum;
