using Kernels.Ops;

namespace Kernels.Models;

/// <summary>The noisy classifier of guided-diffusion: the input half of the UNet, then one of four poolings.</summary>
public static class EncoderUNetModel
{
    private const int SpatialWidth = 2048;

    /// <summary>Emits <c>EncoderUNetModel.forward</c>.</summary>
    /// <param name="builder">Where the nodes go; weights take its scope as a prefix.</param>
    /// <param name="config">The constructor arguments.</param>
    /// <param name="x">Images <c>[N, H, W, in_channels]</c>.</param>
    /// <param name="timesteps"><c>[N]</c>, possibly fractional.</param>
    /// <returns>Logits <c>[N, out_channels]</c>.</returns>
    /// <exception cref="ConfigurationException">The settings, or the size of the images, do not fit.</exception>
    public static Tensor Build(GraphBuilder builder, ModelConfig config, Tensor x, Tensor timesteps)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(x);
        config.Validate();
        config.ValidateSize(x.Shape[1], x.Shape[2]);
        Blocks blocks = new(builder, config);
        Tensor emb = blocks.Embedding(timesteps, labels: null);
        (List<Tensor> features, Tensor h) = blocks.Encoder(x, emb);
        if (config.Pool is "spatial" or "spatial_v2")
        {
            features.Add(h);
            return Spatial(builder, blocks, config, features);
        }

        h = blocks.SiLU("out.1", blocks.Normalization("out.0", h));
        return config.Pool == "attention"
            ? AttentionPool2d(builder, blocks, config, h)
            : Flatten(builder, blocks.Convolution("out.3", Expand(builder, "out.2", Mean(builder, "out.2.mean", h)), config.OutChannels, kernel: 1));
    }

    /// <summary>Emits log p(y | x, t) of the chosen labels: log-softmax, then selection; <c>cond_fn</c> differentiates its sum.</summary>
    /// <param name="builder">Where the nodes go.</param>
    /// <param name="logits"><c>[N, K]</c>.</param>
    /// <param name="labels"><c>[N]</c> of <see cref="DType.I32"/>.</param>
    /// <returns>All log-probabilities <c>[N, K]</c>, and those of the labels <c>[N]</c>.</returns>
    public static (Tensor LogProbabilities, Tensor Selected) LogProbability(GraphBuilder builder, Tensor logits, Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(builder);
        Tensor logProbabilities = builder.Add("log_softmax", new LogSoftmax(), logits);
        return (logProbabilities, builder.Add("select_label", new SelectLabel(), logProbabilities, labels));
    }

    /// <summary>The mean of every feature map on the way, then two linear layers.</summary>
    private static Tensor Spatial(GraphBuilder builder, Blocks blocks, ModelConfig config, List<Tensor> features)
    {
        Tensor[] means = [.. features.Select((f, i) => Mean(builder, $"out.mean.{i}", f))];
        Tensor h = blocks.Linear("out.0", builder.Add("out.cat", new Concat(), means), SpatialWidth);
        return config.Pool == "spatial"
            ? blocks.Linear("out.2", builder.Add("out.1", new Activation(ActivationKind.ReLU), h), config.OutChannels)
            : blocks.Linear("out.3", blocks.SiLU("out.2", blocks.Normalization("out.1", h)), config.OutChannels);
    }

    /// <summary><c>AttentionPool2d</c> (Radford et al. 2021, CLIP): attention with the mean as a further token, whose output is what remains.</summary>
    private static Tensor AttentionPool2d(GraphBuilder builder, Blocks blocks, ModelConfig config, Tensor h)
    {
        (int images, int channels) = (h.Shape[0], h.Shape[3]);
        int tokens = h.Shape[1] * h.Shape[2];
        Tensor mean = builder.Add("out.2.mean_token", new Reshape([images, 1, channels]), Mean(builder, "out.2.mean", h));
        Tensor x = builder.Add("out.2.cat", new Concat(1), mean, builder.Add("out.2.tokens", new Reshape([images, tokens, channels]), h));
        x = builder.Add("out.2.add_positional", new AddPositional(), x, builder.Weight("out.2.positional_embedding", [channels, tokens + 1]));
        Tensor qkv = blocks.Linear("out.2.qkv_proj", x, 3 * channels, conv1d: true);
        x = builder.Add("out.2.attention", new Attention(config.Heads(channels, "out.2"), QkvOrder.New), qkv);

        // The original projects every token and then takes the first; the first alone gives the same numbers.
        x = builder.Add("out.2.first_token", new Reshape([images, channels]), builder.Add("out.2.slice", new Slice(1, 0, 1), x));
        return blocks.Linear("out.2.c_proj", x, config.OutChannels, conv1d: true);
    }

    private static Tensor Mean(GraphBuilder builder, string path, Tensor x) =>
        builder.Add(path, new SpatialSum(1f / (x.Shape[1] * x.Shape[2])), x);

    private static Tensor Expand(GraphBuilder builder, string path, Tensor x) =>
        builder.Add(path, new Reshape([x.Shape[0], 1, 1, x.Shape[1]]), x);

    private static Tensor Flatten(GraphBuilder builder, Tensor x) => builder.Add("out.4", new Reshape([x.Shape[0], x.Shape[3]]), x);
}
