using System.Globalization;
using Kernels.Ops;

namespace Kernels.Models;

/// <summary>Which of guided-diffusion's models a configuration describes.</summary>
public enum ModelKind
{
    /// <summary><c>UNetModel</c>: predicts noise (or x_0), and with learned variance twice as many channels.</summary>
    UNet,

    /// <summary><c>SuperResModel</c>: a UNet that also reads a low-resolution image.</summary>
    SuperRes,

    /// <summary><c>EncoderUNetModel</c>: the noisy classifier.</summary>
    Encoder,
}

/// <summary>
/// The constructor arguments of guided-diffusion's <c>UNetModel</c>, <c>SuperResModel</c> and <c>EncoderUNetModel</c> that shape the computation, under the same names
/// and with the same defaults. Improved-diffusion's <c>UNetModel</c> is the case without resblock_updown and with the legacy attention order.
/// </summary>
public sealed record ModelConfig
{
    /// <summary>Which model.</summary>
    public ModelKind Kind { get; init; }

    /// <summary>Height and width of the images that the model was trained on; only attention pooling depends on it.</summary>
    public int ImageSize { get; init; } = 64;

    /// <summary>Channels of x; a super-resolution model reads as many again from the low-resolution image.</summary>
    public int InChannels { get; init; } = 3;

    /// <summary>Base width.</summary>
    public int ModelChannels { get; init; } = 128;

    /// <summary>Channels of the output, or classes of a classifier.</summary>
    public int OutChannels { get; init; } = 3;

    /// <summary>Residual blocks per level.</summary>
    public int NumResBlocks { get; init; } = 2;

    /// <summary>Down-sampling factors (not pixels) at which attention is used.</summary>
    public IReadOnlyList<int> AttentionResolutions { get; init; } = [];

    /// <summary>Width of each level as a multiple of <see cref="ModelChannels"/>.</summary>
    public IReadOnlyList<double> ChannelMult { get; init; } = [1, 2, 4, 8];

    /// <summary>Whether resampling layers are convolutions; read only without <see cref="ResblockUpdown"/>.</summary>
    public bool ConvResample { get; init; } = true;

    /// <summary>Number of labels, the null label included; null for an unconditional model.</summary>
    public int? NumClasses { get; init; }

    /// <summary>Attention heads; read only where <see cref="NumHeadChannels"/> is -1.</summary>
    public int NumHeads { get; init; } = 1;

    /// <summary>Channels per attention head, or -1 to use <see cref="NumHeads"/>.</summary>
    public int NumHeadChannels { get; init; } = -1;

    /// <summary>Attention heads on the way up, or -1 for <see cref="NumHeads"/>; read only where <see cref="NumHeadChannels"/> is -1.</summary>
    public int NumHeadsUpsample { get; init; } = -1;

    /// <summary>Whether the embedding scales and shifts the second norm of a block, rather than being added before it.</summary>
    public bool UseScaleShiftNorm { get; init; }

    /// <summary>Whether residual blocks resample.</summary>
    public bool ResblockUpdown { get; init; }

    /// <summary>Whether q, k and v are split before the heads.</summary>
    public bool UseNewAttentionOrder { get; init; }

    /// <summary>Pooling of a classifier: adaptive, attention, spatial or spatial_v2.</summary>
    public string Pool { get; init; } = "adaptive";

    /// <summary>Channel order of the QKV tensors.</summary>
    public QkvOrder QkvOrder => UseNewAttentionOrder ? QkvOrder.New : QkvOrder.Legacy;

    /// <summary>Factor between the largest and the smallest feature map.</summary>
    public int Downsampling => 1 << (ChannelMult.Count - 1);

    /// <summary>Width of the embedding of timestep and label.</summary>
    public int EmbeddingChannels => 4 * ModelChannels;

    /// <summary>Name of the class of guided-diffusion.</summary>
    internal string ClassName => Kind switch
    {
        ModelKind.UNet => "UNetModel",
        ModelKind.SuperRes => "SuperResModel",
        _ => "EncoderUNetModel",
    };

    /// <summary>Width of a level: <c>int(mult * model_channels)</c>.</summary>
    /// <param name="level">The level, 0 the largest.</param>
    public int Channels(int level) => (int)(ChannelMult[level] * ModelChannels);

    /// <summary>Heads of an attention block.</summary>
    /// <param name="channels">Its width.</param>
    /// <param name="name">Its module path, for messages.</param>
    /// <param name="upwards">Whether it lies on the way up.</param>
    /// <exception cref="ConfigurationException">The width cannot be split so.</exception>
    public int Heads(int channels, string name, bool upwards = false)
    {
        bool byWidth = NumHeadChannels != -1;
        int divisor = byWidth ? NumHeadChannels
            : upwards && NumHeadsUpsample != -1 ? NumHeadsUpsample
            : NumHeads;
        bool splits = divisor > 0 && channels % divisor == 0 && channels >= divisor;
        int heads = splits && byWidth ? channels / divisor : divisor;
        return splits
            ? heads
            : throw new ConfigurationException(
                byWidth
                    ? $"attention block '{name}': {channels} channels cannot be split into heads of num_head_channels {NumHeadChannels}"
                    : $"attention block '{name}': {channels} channels cannot be split into {heads} heads (num_heads {NumHeads}, num_heads_upsample {NumHeadsUpsample})");
    }

    /// <summary>Checks the settings against each other.</summary>
    /// <exception cref="ConfigurationException">A setting is out of range; the message names it.</exception>
    public void Validate()
    {
        Positive("image_size", ImageSize);
        Positive("in_channels", InChannels);
        Positive("model_channels", ModelChannels);
        Positive("out_channels", OutChannels);
        Positive("num_res_blocks", NumResBlocks);
        Require(ChannelMult.Count is > 0 and <= 16, "channel_mult must have 1 to 16 levels");
        Require(ModelChannels >= 2 && ModelChannels <= 1 << 16, $"model_channels is {ModelChannels}; it must be 2 to 65536");
        for (int level = 0; level < ChannelMult.Count; level++)
        {
            int channels = Channels(level);
            Require(
                channels > 0 && channels % 32 == 0,
                string.Create(CultureInfo.InvariantCulture, $"channel_mult {ChannelMult[level]} of model_channels {ModelChannels} gives {channels} channels; group-norm wants a multiple of 32"));
        }

        Require(NumClasses is null or > 0, $"num_classes is {NumClasses}; it must be positive, or absent for an unconditional model");
        Require(Pool is "adaptive" or "attention" or "spatial" or "spatial_v2", $"pool is '{Pool}'; it must be adaptive, attention, spatial or spatial_v2");
        Require(Kind != ModelKind.Encoder || Pool != "attention" || NumHeadChannels > 0, "pool attention needs num_head_channels");

        static void Positive(string name, int value) => Require(value > 0, $"{name} is {value}; it must be positive");

        static void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new ConfigurationException(message);
            }
        }
    }

    /// <summary>Checks that images of a size pass through the resampling of the model and come back to that size.</summary>
    /// <param name="height">Height of the images.</param>
    /// <param name="width">Width of the images.</param>
    /// <exception cref="ConfigurationException">They do not.</exception>
    public void ValidateSize(int height, int width)
    {
        if (Kind == ModelKind.Encoder)
        {
            if (Pool == "attention" && (height != width || height / Downsampling != ImageSize / Downsampling))
            {
                throw new ConfigurationException($"a classifier with attention pooling takes images of {ImageSize}x{ImageSize} only, not {height}x{width}");
            }

            if (Math.Min(height, width) < Downsampling)
            {
                throw new ConfigurationException($"images of {height}x{width} are too small for {ChannelMult.Count - 1} halvings");
            }
        }
        else if (height <= 0 || width <= 0 || height % Downsampling != 0 || width % Downsampling != 0)
        {
            throw new ConfigurationException($"image height and width must be multiples of {Downsampling} for this model, not {height}x{width}");
        }
    }

    /// <inheritdoc/>
    public bool Equals(ModelConfig? other) => other is not null && ModelConfigJson.Write(this) == ModelConfigJson.Write(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ModelConfigJson.Write(this).GetHashCode(StringComparison.Ordinal);
}
