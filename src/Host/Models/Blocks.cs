using Kernels.Ops;

namespace Kernels.Models;

/// <summary>The building blocks of the models, emitted unfused: what fuses is decided later, and can be switched off.</summary>
/// <param name="builder">Where the nodes go. Module paths are the checkpoint's keys.</param>
/// <param name="config">The model.</param>
internal sealed class Blocks(GraphBuilder builder, ModelConfig config)
{
    /// <summary><c>conv_nd(2, …)</c>: convolution with a square window, "same" padding for odd sizes, and bias.</summary>
    public Tensor Convolution(string path, Tensor x, int outChannels, int kernel = 3, int stride = 1)
    {
        Tensor weight = builder.Weight($"{path}.weight", [outChannels, x.Shape[3], kernel, kernel]);
        Tensor bias = builder.Weight($"{path}.bias", [outChannels]);
        return builder.Add($"{path}.add_bias", new AddBias(), builder.Add(path, new Convolution(stride, kernel / 2), x, weight), bias);
    }

    /// <summary><c>linear(…)</c>, or <c>conv_nd(1, …, 1)</c> where the weight has three axes: an affine map of the channels.</summary>
    public Tensor Linear(string path, Tensor x, int outFeatures, bool conv1d = false)
    {
        Tensor weight = builder.Weight($"{path}.weight", conv1d ? [outFeatures, x.Shape[-1], 1] : [outFeatures, x.Shape[-1]]);
        Tensor bias = builder.Weight($"{path}.bias", [outFeatures]);
        return builder.Add($"{path}.add_bias", new AddBias(), builder.Add(path, new Linear(), x, weight), bias);
    }

    /// <summary><c>normalization(channels)</c>: group-norm of 32 groups.</summary>
    public Tensor Normalization(string path, Tensor x)
    {
        int channels = x.Shape[-1];
        return builder.Add(path, new GroupNorm(), x, builder.Weight($"{path}.weight", [channels]), builder.Weight($"{path}.bias", [channels]));
    }

    /// <summary><c>SiLU</c>.</summary>
    public Tensor SiLU(string path, Tensor x) => builder.Add(path, new Activation(ActivationKind.SiLU), x);

    /// <summary><c>time_embed(timestep_embedding(t))</c>, plus <c>label_emb(y)</c> for a class-conditional model: <c>[N, 4·model_channels]</c>.</summary>
    public Tensor Embedding(Tensor timesteps, Tensor? labels)
    {
        Tensor emb = builder.Add("timestep_embedding", new TimestepEmbedding(config.ModelChannels), timesteps);
        emb = Linear("time_embed.0", emb, config.EmbeddingChannels);
        emb = Linear("time_embed.2", SiLU("time_embed.1", emb), config.EmbeddingChannels);
        if (labels is null)
        {
            return emb;
        }

        Tensor table = builder.Weight("label_emb.weight", [config.NumClasses!.Value, config.EmbeddingChannels]);
        return builder.Add("label_emb.add", new Add(), emb, builder.Add("label_emb", new Embedding(), labels, table));
    }

    /// <summary><c>ResBlock</c>.</summary>
    public Tensor ResBlock(string path, Tensor x, Tensor emb, int outChannels, Resampling resampling = Resampling.None)
    {
        Tensor h = SiLU($"{path}.in_layers.1", Normalization($"{path}.in_layers.0", x));
        h = Resample($"{path}.h_upd", h, resampling);
        x = Resample($"{path}.x_upd", x, resampling);
        h = Convolution($"{path}.in_layers.2", h, outChannels);

        Tensor modulation = Linear($"{path}.emb_layers.1", SiLU($"{path}.emb_layers.0", emb), config.UseScaleShiftNorm ? 2 * outChannels : outChannels);
        if (config.UseScaleShiftNorm)
        {
            h = Normalization($"{path}.out_layers.0", h);
            h = builder.Add($"{path}.scale_shift", new ScaleShift(), h, modulation);
        }
        else
        {
            h = builder.Add($"{path}.add_emb", new AddEmbedding(), h, modulation);
            h = Normalization($"{path}.out_layers.0", h);
        }

        h = Convolution($"{path}.out_layers.3", SiLU($"{path}.out_layers.1", h), outChannels);
        Tensor skip = outChannels == x.Shape[3] ? x : Convolution($"{path}.skip_connection", x, outChannels, kernel: 1);
        return builder.Add($"{path}.add", new Add(), skip, h);
    }

    /// <summary><c>AttentionBlock</c>.</summary>
    public Tensor AttentionBlock(string path, Tensor x, bool upwards = false)
    {
        int channels = x.Shape[3];
        int heads = config.Heads(channels, path, upwards);
        Tensor qkv = Linear($"{path}.qkv", Normalization($"{path}.norm", x), 3 * channels, conv1d: true);
        Tensor h = builder.Add($"{path}.attention", new Attention(heads, config.QkvOrder), qkv);
        return builder.Add($"{path}.add", new Add(), x, Linear($"{path}.proj_out", h, channels, conv1d: true));
    }

    /// <summary><c>Downsample</c>: a convolution of stride 2, or average pooling.</summary>
    public Tensor Downsample(string path, Tensor x) =>
        config.ConvResample ? Convolution($"{path}.op", x, x.Shape[3], stride: 2) : Resample($"{path}.op", x, Resampling.Down);

    /// <summary><c>Upsample</c>: nearest-neighbour doubling, then a convolution if resampling is learned.</summary>
    public Tensor Upsample(string path, Tensor x)
    {
        Tensor y = Resample($"{path}.interpolate", x, Resampling.Up);
        return config.ConvResample ? Convolution($"{path}.conv", y, x.Shape[3]) : y;
    }

    /// <summary>The input half that UNet and classifier share: <c>input_blocks</c> and <c>middle_block</c>.</summary>
    /// <returns>The output of every input block, and that of the middle.</returns>
    public (List<Tensor> Blocks, Tensor Middle) Encoder(Tensor x, Tensor emb)
    {
        Tensor h = Convolution("input_blocks.0.0", x, config.Channels(0));
        List<Tensor> blocks = [h];
        int downsampling = 1;
        for (int level = 0; level < config.ChannelMult.Count; level++)
        {
            for (int i = 0; i < config.NumResBlocks; i++)
            {
                string path = $"input_blocks.{blocks.Count}";
                h = ResBlock($"{path}.0", h, emb, config.Channels(level));
                if (config.AttentionResolutions.Contains(downsampling))
                {
                    h = AttentionBlock($"{path}.1", h);
                }

                blocks.Add(h);
            }

            if (level < config.ChannelMult.Count - 1)
            {
                string path = $"input_blocks.{blocks.Count}.0";
                h = config.ResblockUpdown ? ResBlock(path, h, emb, h.Shape[3], Resampling.Down) : Downsample(path, h);
                blocks.Add(h);
                downsampling *= 2;
            }
        }

        h = ResBlock("middle_block.0", h, emb, h.Shape[3]);
        h = AttentionBlock("middle_block.1", h);
        return (blocks, ResBlock("middle_block.2", h, emb, h.Shape[3]));
    }

    private Tensor Resample(string path, Tensor x, Resampling resampling) => resampling switch
    {
        Resampling.Up => builder.Add(path, new Upsample2x(2 * x.Shape[1], 2 * x.Shape[2]), x),
        Resampling.Down => builder.Add(path, new Pool2x(), x),
        _ => x,
    };
}
