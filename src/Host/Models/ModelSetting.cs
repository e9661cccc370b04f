using System.Globalization;

namespace Kernels.Models;

/// <summary>A setting of a model that its weights tell, at least in part: how to read it off a configuration and off what a source says.</summary>
/// <param name="Name">The setting.</param>
/// <param name="Known">Its value in a configuration, for display.</param>
/// <param name="Said">Its value as a source says it; null if it says nothing.</param>
/// <param name="Apply">Takes it over from a source that says it, where the weights are silent.</param>
internal sealed record ModelSetting(
    string Name, Func<ModelConfig, string> Known, Func<ModelOverrides, string?> Said, Func<ModelConfig, ModelOverrides, ModelConfig> Apply)
{
    /// <summary>Whether a model of this configuration has the setting at all.</summary>
    public Func<ModelConfig, bool> Relevant { get; init; } = _ => true;

    /// <summary>The value in the form in which it is compared; items per level are joined by commas.</summary>
    public Func<ModelConfig, string>? Key { get; init; }

    /// <summary>What a source says in the form in which it is compared.</summary>
    public Func<ModelOverrides, ModelConfig, string?>? SaidKey { get; init; }

    /// <summary>The settings in the order of the constructor; image size, heads and attention order, which shapes do not tell, are not among them.</summary>
    public static IReadOnlyList<ModelSetting> All { get; } =
    [
        new("in_channels", c => Text(c.InChannels), o => Text(o.InChannels), (c, o) => c with { InChannels = o.InChannels!.Value }),
        new("model_channels", c => Text(c.ModelChannels), o => Text(o.ModelChannels), (c, o) => c with { ModelChannels = o.ModelChannels!.Value }),
        new("out_channels", c => Text(c.OutChannels), o => Text(o.OutChannels), (c, o) => c with { OutChannels = o.OutChannels!.Value }),
        new("num_res_blocks", c => Text(c.NumResBlocks), o => Text(o.NumResBlocks), (c, o) => c with { NumResBlocks = o.NumResBlocks!.Value }),
        new("channel_mult", c => Text(c.ChannelMult), o => Text(o.ChannelMult), (c, o) => c with { ChannelMult = o.ChannelMult! })
        {
            // 1.5 and 1.51 of 64 channels are the same width.
            Key = c => Text(c.ChannelMult.Select((_, level) => c.Channels(level))),
            SaidKey = (o, c) => o.ChannelMult is { } mult ? Text(mult.Select(m => (int)Math.Clamp(m * c.ModelChannels, int.MinValue, int.MaxValue))) : null,
        },
        new("attention_resolutions", c => Text(c.AttentionResolutions), o => Text(o.AttentionFactors) ?? Pixels(o.AttentionResolutions), (c, _) => c)
        {
            // Factors that are no level's do nothing, in the original too.
            Key = c => Levels(c, c.AttentionResolutions),
            SaidKey = (o, c) =>
                o.AttentionFactors is { } factors ? Levels(c, factors)
                : o.AttentionResolutions is { } pixels && c.ImageSize > 0 ? Levels(c, [.. pixels.Select(p => p > 0 ? c.ImageSize / p : 0)])
                : null,
        },
        new("use_scale_shift_norm", c => Text(c.UseScaleShiftNorm), o => Text(o.UseScaleShiftNorm), (c, o) => c with { UseScaleShiftNorm = o.UseScaleShiftNorm!.Value }),
        new("resblock_updown", c => Text(c.ResblockUpdown), o => Text(o.ResblockUpdown), (c, o) => c with { ResblockUpdown = o.ResblockUpdown!.Value })
        {
            Relevant = c => c.ChannelMult.Count > 1,
        },
        new("conv_resample", c => Text(c.ConvResample), o => Text(o.ConvResample), (c, o) => c with { ConvResample = o.ConvResample!.Value })
        {
            Relevant = c => c.ChannelMult.Count > 1 && !c.ResblockUpdown,
        },
        new("pool", c => c.Pool, o => o.Pool, (c, o) => c with { Pool = o.Pool! }) { Relevant = c => c.Kind == ModelKind.Encoder },
    ];

    /// <summary>Whether the model takes labels, told by the table of their embeddings.</summary>
    public static ModelSetting ClassCond { get; } = new("class_cond", c => Text(c.NumClasses is not null), o => Text(o.ClassCond), (c, _) => c);

    /// <summary>How many labels there are: rows of that table, or logits of a classifier.</summary>
    public static ModelSetting NumClasses { get; } =
        new("num_classes", c => Text(c.Kind == ModelKind.Encoder ? c.OutChannels : c.NumClasses) ?? "none", o => Text(o.NumClasses), (c, _) => c);

    /// <summary>Whether the model predicts its variance beside the noise, in as many channels again.</summary>
    public static ModelSetting LearnSigma { get; } =
        new("learn_sigma", c => Text(c.OutChannels == 2 * c.InChannels), o => Text(o.LearnSigma), (c, _) => c);

    /// <summary>A number as text; null for none.</summary>
    public static string? Text(int? value) => value?.ToString(CultureInfo.InvariantCulture);

    /// <summary>A number as text.</summary>
    public static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);

    /// <summary>A truth value as text; null for none.</summary>
    public static string? Text(bool? value) => value is bool v ? Text(v) : null;

    /// <summary>A truth value as text.</summary>
    public static string Text(bool value) => value ? "true" : "false";

    [return: System.Diagnostics.CodeAnalysis.NotNullIfNotNull(nameof(values))]
    private static string? Text<T>(IEnumerable<T>? values)
        where T : IFormattable => values is null ? null : string.Join(',', values.Select(v => v.ToString(null, CultureInfo.InvariantCulture)));

    private static string? Pixels(IReadOnlyList<int>? values) => values is null ? null : Text(values);

    private static string Levels(ModelConfig config, IReadOnlyList<int> factors) =>
        string.Join(',', config.ChannelMult.Select((_, level) => Text(factors.Contains(1 << level))));
}
