using Kernels.Diffusion;

namespace Kernels.Models;

/// <summary>A published model: everything that its weights do not tell, and what they do.</summary>
/// <param name="Name">The name, as <c>adm64</c>.</param>
/// <param name="Model">The constructor arguments.</param>
/// <param name="Process">The diffusion process that it was trained with; null for a classifier.</param>
public sealed record Preset(string Name, ModelConfig Model, DiffusionConfig? Process)
{
    /// <summary>The names of the published files, without <c>.pt</c>.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>The preset of the classifier that was trained for this model.</summary>
    public string? Classifier { get; init; }

    /// <summary>The classifier scale of the published samples.</summary>
    public double? ClassifierScale { get; init; }

    /// <summary>The <c>timestep_respacing</c> of the published samples.</summary>
    public string? TimestepRespacing { get; init; }

    /// <summary>Height and width of the low-resolution images of a super-resolution model.</summary>
    public int? LowResSize { get; init; }

    /// <summary>The names of the classes, if they are known.</summary>
    public IReadOnlyList<string>? ClassNames { get; init; }

    /// <summary>The label that means "no class".</summary>
    public int? NullLabel { get; init; }
}

/// <summary>The published checkpoints of guided-diffusion (its README and <c>script_util.py</c>), and the pair that comes with this project.</summary>
public static class Presets
{
    private const string Respacing = "250";
    private static readonly double[] Mult64 = [1, 2, 3, 4];
    private static readonly double[] Mult128 = [1, 1, 2, 3, 4];
    private static readonly double[] Mult256 = [1, 1, 2, 2, 4, 4];
    private static readonly double[] Mult512 = [0.5, 1, 1, 2, 2, 4, 4];
    private static readonly ModelConfig Adm = new()
    {
        ModelChannels = 256,
        OutChannels = 6,
        NumClasses = 1000,
        NumHeadChannels = 64,
        UseScaleShiftNorm = true,
        ResblockUpdown = true,
    };

    private static readonly ModelConfig Adm64 = Adm with
    {
        ImageSize = 64,
        ModelChannels = 192,
        ChannelMult = Mult64,
        NumResBlocks = 3,
        AttentionResolutions = [2, 4, 8],
        UseNewAttentionOrder = true,
    };

    private static readonly ModelConfig Adm128 = Adm with
    {
        ImageSize = 128,
        ChannelMult = Mult128,
        AttentionResolutions = [4, 8, 16],
        NumHeads = 4,
        NumHeadChannels = -1,
    };

    private static readonly ModelConfig Adm256 = Adm with { ImageSize = 256, ChannelMult = Mult256, AttentionResolutions = [8, 16, 32] };
    private static readonly DiffusionConfig Linear = new() { LearnSigma = true };
    private static readonly DiffusionConfig Cosine = Linear with { NoiseSchedule = NoiseSchedule.Cosine };
    private static readonly string[] Shapes = ["disk", "square", "triangle", "star", "heart", "cross", "ring", "crescent", "arrow", "flower"];

    /// <summary>All presets.</summary>
    public static IReadOnlyList<Preset> All { get; } =
    [
        new Preset("adm64", Adm64, Cosine)
        {
            Files = ["64x64_diffusion"], Classifier = "classifier64", ClassifierScale = 1.0, TimestepRespacing = Respacing,
        },
        new Preset("adm128", Adm128, Linear)
        {
            Files = ["128x128_diffusion"], Classifier = "classifier128", ClassifierScale = 0.5, TimestepRespacing = Respacing,
        },
        new Preset("adm256", Adm256, Linear)
        {
            Files = ["256x256_diffusion"], Classifier = "classifier256", ClassifierScale = 1.0, TimestepRespacing = Respacing,
        },
        new Preset("adm256-uncond", Adm256 with { NumClasses = null }, Linear)
        {
            Files = ["256x256_diffusion_uncond"], Classifier = "classifier256", ClassifierScale = 10.0, TimestepRespacing = Respacing,
        },
        new Preset("lsun256", Adm256 with { NumClasses = null }, Linear)
        {
            Files = ["lsun_bedroom", "lsun_cat", "lsun_horse", "lsun_horse_nodropout"], TimestepRespacing = Respacing,
        },
        new Preset("adm512", Adm with { ImageSize = 512, ChannelMult = Mult512, AttentionResolutions = [16, 32, 64] }, Linear)
        {
            Files = ["512x512_diffusion"], Classifier = "classifier512", ClassifierScale = 4.0, TimestepRespacing = Respacing,
        },
        new Preset("upsampler64-256", Upsampler(256) with { AttentionResolutions = [8, 16, 32], NumHeads = 4, NumHeadChannels = -1 }, Linear)
        {
            Files = ["64_256_upsampler"], LowResSize = 64, TimestepRespacing = Respacing,
        },
        new Preset("upsampler128-512", Upsampler(512) with { AttentionResolutions = [16, 32] }, Linear)
        {
            Files = ["128_512_upsampler"], LowResSize = 128, TimestepRespacing = Respacing,
        },
        Classifier("classifier64", 64, Mult64, 4, [2, 4, 8]),
        Classifier("classifier128", 128, Mult128, 2, [4, 8, 16]),
        Classifier("classifier256", 256, Mult256, 2, [8, 16, 32]),
        Classifier("classifier512", 512, Mult512, 2, [16, 32, 64]),
        new Preset("shapes32", Small() with { OutChannels = 6, NumClasses = 11, UseNewAttentionOrder = true }, Cosine)
        {
            Classifier = "shapes32-classifier", ClassifierScale = 4.0, TimestepRespacing = "50", ClassNames = Shapes, NullLabel = 10,
        },
        new Preset("shapes32-classifier", Small() with { Kind = ModelKind.Encoder, OutChannels = 10, Pool = "attention" }, null) { ClassNames = Shapes },
    ];

    /// <summary>Finds a preset by name.</summary>
    /// <param name="name">The name, in any case.</param>
    /// <exception cref="ConfigurationException">There is none; the message lists those there are.</exception>
    public static Preset Find(string name) =>
        All.FirstOrDefault(p => p.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
        ?? throw new ConfigurationException($"there is no preset '{name}'; there are {string.Join(", ", All.Select(p => p.Name))}");

    /// <summary>Finds a preset by the name of a published file.</summary>
    /// <param name="path">The file, in any folder; <c>.pt</c> may have become <c>.safetensors</c>.</param>
    /// <returns>The preset; null if the name is none of the published ones.</returns>
    public static Preset? ForFile(string path)
    {
        string extension = Path.GetExtension(path);
        string name = Path.GetFileNameWithoutExtension(path);
        return extension is ".pt" or ".pth" or ".safetensors" ? All.FirstOrDefault(p => p.Files.Contains(name, StringComparer.OrdinalIgnoreCase)) : null;
    }

    private static ModelConfig Upsampler(int size) =>
        Adm with { Kind = ModelKind.SuperRes, ImageSize = size, ModelChannels = 192, ChannelMult = Mult256 };

    private static Preset Classifier(string name, int size, double[] mult, int depth, int[] attention) =>
        new(
            name,
            Adm with
            {
                Kind = ModelKind.Encoder,
                ImageSize = size,
                ModelChannels = 128,
                OutChannels = 1000,
                NumClasses = null,
                ChannelMult = mult,
                NumResBlocks = depth,
                AttentionResolutions = attention,
                Pool = "attention",
            },
            null)
        {
            Files = [$"{size}x{size}_classifier"],
        };

    private static ModelConfig Small() => new()
    {
        ImageSize = 32,
        ModelChannels = 32,
        NumResBlocks = 1,
        AttentionResolutions = [4],
        ChannelMult = [1, 2, 2],
        NumHeadChannels = 32,
        UseScaleShiftNorm = true,
        ResblockUpdown = true,
    };
}
