using Kernels.Diffusion;
using Kernels.Models;

namespace Kernels.Bench.Workloads;

/// <summary>A pair of models with the settings it is sampled with: what the benchmarks measure.</summary>
/// <param name="Name">The name on the command line.</param>
/// <param name="Unet">The diffusion model.</param>
/// <param name="Classifier">Its classifier.</param>
/// <param name="Process">Schedule and respacing.</param>
/// <param name="ClassifierScale">Guidance scale.</param>
internal sealed record BenchModel(string Name, ModelConfig Unet, ModelConfig Classifier, DiffusionConfig Process, double ClassifierScale)
{
    /// <summary>The models that can be measured: the demo pair's shapes, and those of the published 64x64 and 256x256 checkpoints of guided-diffusion.</summary>
    public static IReadOnlyList<BenchModel> All { get; } = [Shapes32(), Adm64(), Adm256()];

    /// <summary>Finds a model.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="ConfigurationException">There is none of that name.</exception>
    public static BenchModel Get(string name) =>
        All.FirstOrDefault(m => m.Name == name)
        ?? throw new ConfigurationException($"there is no model '{name}'; there are {string.Join(", ", All.Select(m => m.Name))}");

    private static BenchModel Shapes32()
    {
        ModelConfig unet = Base(32, 32, [1, 2, 2], 1, [4], ModelKind.UNet) with { NumClasses = 11, OutChannels = 6, NumHeadChannels = 32, UseNewAttentionOrder = true };
        ModelConfig classifier = Base(32, 32, [1, 2, 2], 1, [4], ModelKind.Encoder) with { OutChannels = 10, NumHeadChannels = 32 };
        return new BenchModel("shapes32", unet, classifier, Schedule(NoiseSchedule.Cosine, "50"), 4);
    }

    private static BenchModel Adm64()
    {
        ModelConfig unet = Base(64, 192, [1, 2, 3, 4], 3, [2, 4, 8], ModelKind.UNet) with { NumClasses = 1000, OutChannels = 6, UseNewAttentionOrder = true };
        ModelConfig classifier = Base(64, 128, [1, 2, 3, 4], 4, [2, 4, 8], ModelKind.Encoder) with { OutChannels = 1000 };
        return new BenchModel("adm64", unet, classifier, Schedule(NoiseSchedule.Cosine, "250"), 1);
    }

    private static BenchModel Adm256()
    {
        ModelConfig unet = Base(256, 256, [1, 1, 2, 2, 4, 4], 2, [8, 16, 32], ModelKind.UNet) with { NumClasses = 1000, OutChannels = 6 };
        ModelConfig classifier = Base(256, 128, [1, 1, 2, 2, 4, 4], 2, [8, 16, 32], ModelKind.Encoder) with { OutChannels = 1000 };
        return new BenchModel("adm256", unet, classifier, Schedule(NoiseSchedule.Linear, "250"), 1);
    }

    private static ModelConfig Base(int size, int width, double[] multipliers, int blocks, int[] attention, ModelKind kind) => new()
    {
        Kind = kind,
        ImageSize = size,
        ModelChannels = width,
        ChannelMult = multipliers,
        NumResBlocks = blocks,
        AttentionResolutions = attention,
        NumHeadChannels = 64,
        UseScaleShiftNorm = true,
        ResblockUpdown = true,
        Pool = "attention",
    };

    private static DiffusionConfig Schedule(NoiseSchedule schedule, string respacing) => new() { NoiseSchedule = schedule, TimestepRespacing = respacing, LearnSigma = true };
}
