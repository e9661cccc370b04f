using Kernels.Ops;

namespace Kernels.Models;

/// <summary>The UNet of guided-diffusion (Dhariwal and Nichol 2021) and improved-diffusion (Nichol and Dhariwal 2021).</summary>
public static class UNetModel
{
    /// <summary>Emits <c>UNetModel.forward</c>.</summary>
    /// <param name="builder">Where the nodes go; weights take its scope as a prefix.</param>
    /// <param name="config">The constructor arguments.</param>
    /// <param name="x">Images <c>[N, H, W, in_channels]</c>.</param>
    /// <param name="timesteps"><c>[N]</c>, possibly fractional.</param>
    /// <param name="labels"><c>[N]</c> of <see cref="DType.I32"/>, for a class-conditional model only.</param>
    /// <returns><c>[N, H, W, out_channels]</c>.</returns>
    /// <exception cref="ConfigurationException">The settings, or the size of the images, do not fit.</exception>
    public static Tensor Build(GraphBuilder builder, ModelConfig config, Tensor x, Tensor timesteps, Tensor? labels)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(x);
        config.Validate();
        config.ValidateSize(x.Shape[1], x.Shape[2]);
        if (config.NumClasses is null != labels is null)
        {
            throw new ConfigurationException(
                labels is null ? "a class-conditional model needs labels" : "a model without num_classes takes no labels");
        }

        Blocks blocks = new(builder, config);
        Tensor emb = blocks.Embedding(timesteps, labels);
        (List<Tensor> skips, Tensor h) = blocks.Encoder(x, emb);
        int downsampling = config.Downsampling;
        int index = 0;
        for (int level = config.ChannelMult.Count - 1; level >= 0; level--)
        {
            for (int i = 0; i <= config.NumResBlocks; i++, index++)
            {
                string path = $"output_blocks.{index}";
                int layer = 0;
                h = builder.Add($"{path}.cat", new Concat(), h, skips[^1]);
                skips.RemoveAt(skips.Count - 1);
                h = blocks.ResBlock($"{path}.{layer++}", h, emb, config.Channels(level));
                if (config.AttentionResolutions.Contains(downsampling))
                {
                    h = blocks.AttentionBlock($"{path}.{layer++}", h, upwards: true);
                }

                if (level > 0 && i == config.NumResBlocks)
                {
                    h = config.ResblockUpdown
                        ? blocks.ResBlock($"{path}.{layer}", h, emb, h.Shape[3], Resampling.Up)
                        : blocks.Upsample($"{path}.{layer}", h);
                    downsampling /= 2;
                }
            }
        }

        h = blocks.SiLU("out.1", blocks.Normalization("out.0", h));
        return blocks.Convolution("out.2", h, config.OutChannels);
    }
}
