using Kernels.Models;

namespace Kernels.Tests.Support;

/// <summary>The published models of guided-diffusion, with what is known of them: parameters in millions, GFLOP per image (a multiply-add counted as two).</summary>
internal static class PublishedModels
{
    private static readonly Dictionary<int, double[]> s_multipliers = new()
    {
        [64] = [1, 2, 3, 4],
        [128] = [1, 1, 2, 3, 4],
        [256] = [1, 1, 2, 2, 4, 4],
        [512] = [0.5, 1, 1, 2, 2, 4, 4],
    };

    public static ModelConfig Diffusion(int size) => new()
    {
        ImageSize = size,
        ModelChannels = size == 64 ? 192 : 256,
        OutChannels = 6,
        NumResBlocks = size == 64 ? 3 : 2,
        AttentionResolutions = [size / 32, size / 16, size / 8],
        ChannelMult = s_multipliers[size],
        NumClasses = 1000,
        NumHeads = 4,
        NumHeadChannels = size == 128 ? -1 : 64,
        UseScaleShiftNorm = true,
        ResblockUpdown = true,
        UseNewAttentionOrder = size == 64,
    };

    public static ModelConfig Classifier(int size) => new()
    {
        Kind = ModelKind.Encoder,
        ImageSize = size,
        ModelChannels = 128,
        OutChannels = 1000,
        NumResBlocks = size == 64 ? 4 : 2,
        AttentionResolutions = [size / 32, size / 16, size / 8],
        ChannelMult = s_multipliers[size],
        NumHeadChannels = 64,
        UseScaleShiftNorm = true,
        ResblockUpdown = true,
        Pool = "attention",
    };
}
