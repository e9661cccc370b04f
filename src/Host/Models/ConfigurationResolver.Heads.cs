namespace Kernels.Models;

/// <content>What shapes do not tell of the attention: heads and the order of the QKV channels.</content>
internal sealed partial class ConfigurationResolver
{
    private const int ScriptHeads = 4;
    private const int ScriptClassifierHeadChannels = 64;

    // Stands in where nobody says: it divides every width that group-norm admits.
    private const int PlaceholderHeadChannels = 32;

    private void Heads()
    {
        // Whoever speaks of heads speaks of all of them: a number of heads means that no width of heads was meant.
        SettingSource? winner = Winner(_sources, HeadText);
        bool pooled = Config.Kind == ModelKind.Encoder && Config.Pool == "attention";
        string remedy = pooled ? $"{FlagOf("num_head_channels")} N" : $"{FlagOf("num_head_channels")} N or {FlagOf("num_heads")} N";
        if (winner is null && !_flags.AssumeScriptDefaults)
        {
            Config = Config with { NumHeadChannels = PlaceholderHeadChannels };
            Miss("num_head_channels", remedy);
            return;
        }

        // The scripts let nobody choose the heads of a classifier.
        ModelOverrides says = winner?.Says
            ?? (Config.Kind == ModelKind.Encoder
                ? new() { NumHeadChannels = ScriptClassifierHeadChannels }
                : new() { NumHeads = ScriptHeads });
        Config = Config with { NumHeadChannels = says.NumHeadChannels ?? -1, NumHeads = says.NumHeads ?? 1 };
        bool byWidth = Config.NumHeadChannels != -1;
        string setting = byWidth ? "num_head_channels" : "num_heads";
        string source = winner is null ? "default" : winner.Describe(setting) + Overruled(HeadText, HeadText(says)!, HeadText);
        Add(setting, ModelSetting.Text(byWidth ? Config.NumHeadChannels : Config.NumHeads), source);
        if (pooled && !byWidth)
        {
            throw new ConfigurationException(
                $"{_dict.File}: the attention pool ('out.2.positional_embedding') counts its heads by their width; say {remedy}");
        }

        SettingSource? upwards = byWidth || Config.Kind == ModelKind.Encoder ? null : Winner(_sources, UpText);
        if (upwards is not null && (winner is null || upwards.Kind <= winner.Kind))
        {
            Config = Config with { NumHeadsUpsample = upwards.Says.NumHeadsUpsample!.Value };
            Add("num_heads_upsample", ModelSetting.Text(Config.NumHeadsUpsample), upwards.Describe("num_heads_upsample"));
        }

        foreach ((string qkv, int channels, bool up) in AttentionBlocks())
        {
            try
            {
                Config.Heads(channels, qkv, up);
            }
            catch (ConfigurationException e) when (winner?.Kind == SourceKind.Metadata)
            {
                throw new InvalidFileException(
                    _dict.File, $"metadata '{winner.Key}'", $"{HeadText(says)} does not fit the weights: {e.Message}; say {remedy}", e);
            }
            catch (ConfigurationException e)
            {
                int value = byWidth ? Config.NumHeadChannels : Config.NumHeads;
                string who = winner?.Kind == SourceKind.Flag ? $"{FlagOf(setting)} {value}" : $"{winner?.Name ?? "default"}, {HeadText(says)},";
                throw new ConfigurationException($"{who} does not fit {_dict.File}: {e.Message}; say {remedy}");
            }
        }
    }

    private void AttentionOrder()
    {
        // With one head both orders are the same.
        bool matters = _missing.Exists(m => m.Name == "num_head_channels")
            || AttentionBlocks().Any(b => Config.Heads(b.Channels, b.Qkv, b.Upwards) > 1);
        string? fallback = _flags.AssumeScriptDefaults || !matters ? ModelSetting.Text(false) : null;
        string remedy = $"{FlagOf("use_new_attention_order")} true|false";
        bool? order = Say("use_new_attention_order", o => ModelSetting.Text(o.UseNewAttentionOrder), fallback, remedy)?.UseNewAttentionOrder;
        Config = Config with { UseNewAttentionOrder = order ?? false };
    }

    private IEnumerable<(string Qkv, int Channels, bool Upwards)> AttentionBlocks()
    {
        IEnumerable<(string, int, bool)> blocks = _dict.Shapes
            .Where(t => t.Key.EndsWith(".qkv.weight", StringComparison.Ordinal) && t.Value.Rank == 3)
            .Select(t => (t.Key, t.Value[0] / 3, t.Key.StartsWith("output_blocks", StringComparison.Ordinal)));
        return Config.Kind == ModelKind.Encoder && Config.Pool == "attention"
            ? blocks.Append(("out.2.qkv_proj.weight", Config.Channels(Config.ChannelMult.Count - 1), false))
            : blocks;
    }

    // -1 alone only says that heads are not counted by their width.
    private static string? HeadText(ModelOverrides says) =>
        says.NumHeadChannels is int width and not -1 ? $"num_head_channels {width}" : says.NumHeads is int heads ? $"num_heads {heads}" : null;

    private static string? UpText(ModelOverrides says) => ModelSetting.Text(says.NumHeadsUpsample);
}
