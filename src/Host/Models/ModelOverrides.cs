using Kernels.Diffusion;

namespace Kernels.Models;

/// <summary>
/// What a caller says about a checkpoint, each setting under the name of the original's flag; null where nothing is said. A value that contradicts the weights is an
/// error, one that contradicts the file's metadata or a preset wins over it.
/// </summary>
public sealed record ModelOverrides
{
    /// <summary>A preset by name (<see cref="Presets"/>), or <c>none</c> so that the name of the file chooses none either.</summary>
    public string? Preset { get; init; }

    /// <summary>How flags are called in messages: this, then the setting with hyphens. A caller that loads two models sets it to <c>--classifier-</c> for the second.</summary>
    public string FlagPrefix { get; init; } = "--";

    /// <summary>
    /// Whether settings that nothing tells take the defaults of guided-diffusion's scripts, as they do for someone who runs those: 64 pixels, 4 heads (classifiers: heads
    /// of 64 channels), legacy attention order, linear schedule. Otherwise they are asked for, because a wrong one gives a wrong image and no error.
    /// </summary>
    public bool AssumeScriptDefaults { get; init; }

    /// <summary>Height and width of the images (<c>image_size</c>).</summary>
    public int? ImageSize { get; init; }

    /// <summary>Channels of x (<c>in_channels</c>).</summary>
    public int? InChannels { get; init; }

    /// <summary>Base width (<c>num_channels</c> in the scripts, <c>model_channels</c> in the models, <c>classifier_width</c> for a classifier).</summary>
    public int? ModelChannels { get; init; }

    /// <summary>Channels of the output, or classes of a classifier (<c>out_channels</c>).</summary>
    public int? OutChannels { get; init; }

    /// <summary>Width of each level as a multiple of <see cref="ModelChannels"/> (<c>channel_mult</c>).</summary>
    public IReadOnlyList<double>? ChannelMult { get; init; }

    /// <summary>Residual blocks per level (<c>num_res_blocks</c>, <c>classifier_depth</c>).</summary>
    public int? NumResBlocks { get; init; }

    /// <summary>Heights in pixels at which attention is used (<c>attention_resolutions</c> as the scripts take it; the models take image_size divided by it).</summary>
    public IReadOnlyList<int>? AttentionResolutions { get; init; }

    /// <summary>Whether the embedding scales and shifts the second norm of a block (<c>use_scale_shift_norm</c>).</summary>
    public bool? UseScaleShiftNorm { get; init; }

    /// <summary>Whether residual blocks resample (<c>resblock_updown</c>).</summary>
    public bool? ResblockUpdown { get; init; }

    /// <summary>Whether resampling layers are convolutions (<c>conv_resample</c>).</summary>
    public bool? ConvResample { get; init; }

    /// <summary>Whether the model takes labels (<c>class_cond</c>).</summary>
    public bool? ClassCond { get; init; }

    /// <summary>Number of labels of a class-conditional model, the null label included, or of classes of a classifier (<c>num_classes</c>).</summary>
    public int? NumClasses { get; init; }

    /// <summary>Pooling of a classifier (<c>classifier_pool</c>): adaptive, attention, spatial or spatial_v2.</summary>
    public string? Pool { get; init; }

    /// <summary>Attention heads (<c>num_heads</c>).</summary>
    public int? NumHeads { get; init; }

    /// <summary>Channels per attention head, which overrules the number of heads (<c>num_head_channels</c>); -1 for none.</summary>
    public int? NumHeadChannels { get; init; }

    /// <summary>Attention heads on the way up (<c>num_heads_upsample</c>); -1 for as many as elsewhere.</summary>
    public int? NumHeadsUpsample { get; init; }

    /// <summary>Whether q, k and v are split before the heads (<c>use_new_attention_order</c>).</summary>
    public bool? UseNewAttentionOrder { get; init; }

    /// <summary>Whether the model also outputs variance channels (<c>learn_sigma</c>).</summary>
    public bool? LearnSigma { get; init; }

    /// <summary>Steps of the training process (<c>diffusion_steps</c>).</summary>
    public int? DiffusionSteps { get; init; }

    /// <summary>The variance schedule (<c>noise_schedule</c>).</summary>
    public NoiseSchedule? NoiseSchedule { get; init; }

    /// <summary>Which steps sampling visits (<c>timestep_respacing</c>).</summary>
    public string? TimestepRespacing { get; init; }

    /// <summary>Without learned variance: the posterior's variance rather than beta (<c>sigma_small</c>).</summary>
    public bool? SigmaSmall { get; init; }

    /// <summary>Whether the model predicts x_0 rather than the noise (<c>predict_xstart</c>).</summary>
    public bool? PredictXstart { get; init; }

    /// <summary>Whether the model sees timesteps scaled to [0, 1000) (<c>rescale_timesteps</c>).</summary>
    public bool? RescaleTimesteps { get; init; }

    /// <summary>The label that means "no class" (<c>null_label</c>).</summary>
    public int? NullLabel { get; init; }

    /// <summary>The same as <see cref="AttentionResolutions"/> in the unit of the models: down-sampling factors.</summary>
    internal IReadOnlyList<int>? AttentionFactors { get; init; }

    /// <summary>What a whole or partial configuration says.</summary>
    /// <param name="config">The settings of the model.</param>
    /// <param name="process">The settings of the process, if there are any.</param>
    /// <param name="says">Whether a setting is among those that are said; the others are defaults of the record.</param>
    internal static ModelOverrides From(ModelConfig? config, DiffusionConfig? process, Func<string, bool> says)
    {
        ModelOverrides result = new();
        if (config is not null)
        {
            bool encoder = config.Kind == ModelKind.Encoder;
            result = result with
            {
                ImageSize = says("image_size") ? config.ImageSize : null,
                InChannels = says("in_channels") ? config.InChannels : null,
                ModelChannels = says("model_channels") ? config.ModelChannels : null,
                OutChannels = says("out_channels") ? config.OutChannels : null,
                ChannelMult = says("channel_mult") ? config.ChannelMult : null,
                NumResBlocks = says("num_res_blocks") ? config.NumResBlocks : null,
                AttentionFactors = says("attention_resolutions") ? config.AttentionResolutions : null,
                UseScaleShiftNorm = says("use_scale_shift_norm") ? config.UseScaleShiftNorm : null,
                ResblockUpdown = says("resblock_updown") ? config.ResblockUpdown : null,
                ConvResample = says("conv_resample") ? config.ConvResample : null,
                ClassCond = says("num_classes") && !encoder ? config.NumClasses is not null : null,
                NumClasses = says("num_classes") && !encoder ? config.NumClasses : null,
                Pool = says("pool") && encoder ? config.Pool : null,
                NumHeads = says("num_heads") ? config.NumHeads : null,
                NumHeadChannels = says("num_head_channels") ? config.NumHeadChannels : null,
                NumHeadsUpsample = says("num_heads_upsample") ? config.NumHeadsUpsample : null,
                UseNewAttentionOrder = says("use_new_attention_order") ? config.UseNewAttentionOrder : null,
            };
        }

        return process is null ? result : result with
        {
            LearnSigma = says("learn_sigma") ? process.LearnSigma : null,
            DiffusionSteps = says("diffusion_steps") ? process.DiffusionSteps : null,
            NoiseSchedule = says("noise_schedule") ? process.NoiseSchedule : null,
            TimestepRespacing = says("timestep_respacing") ? process.TimestepRespacing : null,
            SigmaSmall = says("sigma_small") ? process.SigmaSmall : null,
            PredictXstart = says("predict_xstart") ? process.PredictXstart : null,
            RescaleTimesteps = says("rescale_timesteps") ? process.RescaleTimesteps : null,
        };
    }
}
