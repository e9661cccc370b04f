using FsCheck;
using FsCheck.Fluent;
using Kernels.Models;

namespace Kernels.Tests.Models;

/// <summary>Random models of every kind, small in depth but with every option.</summary>
internal static class ConfigurationGen
{
    public static Gen<ModelConfig> Models { get; } =
        from kind in Gen.Elements(ModelKind.UNet, ModelKind.SuperRes, ModelKind.Encoder)
        from channels in Gen.Elements(32, 64, 96, 128)
        from mult in Gen.Elements(0.5, 1, 1, 1, 2, 3, 1.5).ArrayOf().Where(m => m.Length is > 0 and <= 5)
        from depth in Gen.Choose(1, 4)
        from attention in Gen.SubListOf(new[] { 1, 2, 4, 8, 16 })
        from flags in Gen.Elements(true, false).ArrayOf(4)
        from image in Gen.Elements(1, 3, 4)
        from classes in Gen.Choose(0, 30)
        from pool in Gen.Elements("adaptive", "attention", "spatial", "spatial_v2")
        from size in Gen.Choose(1, 4)
        let levels = mult.Length
        where mult.All(m => m * channels % 32 == 0)
        let inChannels = kind == ModelKind.SuperRes && image == 4 ? 3 : image
        select Normal(new ModelConfig
        {
            Kind = kind,
            ImageSize = size << (levels - 1),
            InChannels = inChannels,
            ModelChannels = channels,
            OutChannels = kind == ModelKind.Encoder ? classes + 1 : flags[0] ? 2 * inChannels : inChannels,
            NumResBlocks = depth,
            AttentionResolutions = [.. attention.Where(a => a < 1 << levels).Order()],
            ChannelMult = mult,
            ConvResample = flags[1],
            NumClasses = kind == ModelKind.Encoder || classes == 0 ? null : classes,
            NumHeadChannels = 32,
            UseScaleShiftNorm = flags[2],
            ResblockUpdown = flags[3],
            Pool = kind == ModelKind.Encoder ? pool : "adaptive",
        });

    /// <summary>The same model with the default for what does nothing in it, which its weights cannot tell.</summary>
    private static ModelConfig Normal(ModelConfig config)
    {
        bool resamples = config.ChannelMult.Count > 1;
        return config with
        {
            ResblockUpdown = resamples && config.ResblockUpdown,
            ConvResample = !resamples || config.ResblockUpdown || config.ConvResample,
        };
    }
}
