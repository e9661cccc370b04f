namespace Kernels.Models;

/// <summary>A configuration read off a state dict.</summary>
/// <param name="Config">The model; settings without a witness have placeholders.</param>
/// <param name="Witnesses">
/// Setting to the tensors that told it: one, or for settings that have an item per level one per level. Settings that shapes do not tell are not there.
/// </param>
/// <param name="Mismatches">The tensors that do not fit.</param>
internal sealed record InferredConfiguration(
    ModelConfig Config, IReadOnlyDictionary<string, IReadOnlyList<string>> Witnesses, IReadOnlyList<WeightMismatch> Mismatches);

/// <summary>
/// Reads the constructor arguments of the models off the names and shapes of a state dict. What is told by many tensors is decided by their majority; the number of
/// levels, which no single tensor tells, by trying every division of the input blocks into levels and comparing what that model would have with what is there.
/// </summary>
internal sealed class ConfigurationInference
{
    // Far above any published model; the bound keeps a file from asking for graphs of a million nodes.
    private const int MaxBlocks = 512;
    private const int MaxLevels = 16;

    private static readonly string[] ResBlockParts = ["in_layers", "emb_layers", "out_layers", "skip_connection"];

    private readonly StateDictShapes _dict;
    private readonly ModelConfig _base;
    private readonly Dictionary<string, IReadOnlyList<string>> _witnesses = [];

    private ConfigurationInference(StateDictShapes dict, int? inChannels)
    {
        _dict = dict;
        if (!dict.HasModule("input_blocks.0") || !dict.HasModule("time_embed"))
        {
            throw NoModel(dict);
        }

        _base = IsEncoder(dict) ? Encoder() : Denoiser(inChannels);
        Votes width = ModelChannels();
        _base = _base with { ModelChannels = width.Value };
        Witness("model_channels", width.Witness);
    }

    private enum BlockType
    {
        Res,
        Op,
        Absent,
        Unknown,
    }

    /// <summary>Whether a state dict is a classifier's: it has no way up.</summary>
    /// <param name="dict">The state dict.</param>
    public static bool IsEncoder(StateDictShapes dict) => !dict.HasModule("output_blocks") && dict.Extent("out.2.weight", 4, 0) is null;

    /// <summary>The configurations that fit the shapes best: one, or several that fit equally well.</summary>
    /// <param name="dict">The state dict.</param>
    /// <param name="inChannels">The channels of x, if they are known: a UNet of 6 channels has the shapes of a super-resolution UNet of 3.</param>
    /// <exception cref="InvalidFileException">No model of guided-diffusion has such tensors.</exception>
    public static IReadOnlyList<InferredConfiguration> Infer(StateDictShapes dict, int? inChannels = null) => new ConfigurationInference(dict, inChannels).Best();

    private List<InferredConfiguration> Best()
    {
        int count = Math.Max(_dict.Count("input_blocks"), _base.Kind == ModelKind.Encoder ? 0 : _dict.Count("output_blocks"));
        if (count > MaxBlocks)
        {
            throw new InvalidFileException(_dict.File, $"block {count - 1}", $"there are at most {MaxBlocks} input and output blocks in a model");
        }

        // A division that puts a resampling block where a residual block stands, or the reverse, need not be built to be refused.
        List<(int Levels, int Depth, int Errors)> divisions = [];
        for (int levels = 1; levels <= MaxLevels && levels <= count / 2; levels++)
        {
            if (count % levels == 0)
            {
                divisions.Add((levels, (count / levels) - 1, Errors(levels, (count / levels) - 1)));
            }
        }

        if (divisions.Count == 0)
        {
            throw new InvalidFileException(_dict.File, "input_blocks", $"{count} input blocks are no model: each level has at least two");
        }

        int least = divisions.Min(d => d.Errors);
        List<InferredConfiguration> candidates = [];
        KernelsException? refusal = null;
        foreach ((int levels, int depth, _) in divisions.Where(d => d.Errors == least))
        {
            try
            {
                candidates.Add(Candidate(levels, depth));
            }
            catch (KernelsException e)
            {
                refusal ??= e;
            }
        }

        if (candidates.Count == 0)
        {
            throw refusal as InvalidFileException
                ?? new InvalidFileException(_dict.File, "", $"its shapes are of no {_base.ClassName} that can be built: {refusal!.Message}", refusal);
        }

        int fewest = candidates.Min(c => c.Mismatches.Count);
        return [.. candidates.Where(c => c.Mismatches.Count == fewest)];
    }

    private InferredConfiguration Candidate(int levels, int depth)
    {
        ModelConfig config = _base with { NumResBlocks = depth };
        Dictionary<string, IReadOnlyList<string>> witnesses = new(_witnesses);
        double[] multipliers = new double[levels];
        string[] widthWitnesses = new string[levels];
        string[] attentionWitnesses = new string[levels];
        List<int> attention = [];
        Votes modulation = new();
        for (int level = 0; level < levels; level++)
        {
            int first = 1 + (level * (depth + 1));
            Votes width = new();
            Votes attends = new();
            for (int block = first; block < first + depth; block++)
            {
                Widths(width, $"input_blocks.{block}.0");
                string qkv = $"input_blocks.{block}.1.qkv.weight";
                attends.Add(_dict.HasModule($"input_blocks.{block}.1") ? 1 : 0, qkv);
            }

            if (!width.Any)
            {
                throw new InvalidFileException(
                    _dict.File,
                    $"input_blocks.{first}.0.in_layers.2.weight",
                    "this weight and all that could tell the width of its level are missing or misshapen");
            }

            multipliers[level] = Multiplier(width.Value, config.ModelChannels);
            widthWitnesses[level] = width.Witness;
            attentionWitnesses[level] = attends.Value == 1 ? attends.Witness : $"no {attends.Witness}";
            if (attends.Value == 1)
            {
                attention.Add(1 << level);
            }

            for (int block = first; block < first + depth; block++)
            {
                string path = $"input_blocks.{block}.0.emb_layers.1";
                modulation.AddQuotient(_dict.Extent($"{path}.weight", 2, 0), width.Value, $"{path}.weight");
                modulation.AddQuotient(_dict.Extent($"{path}.bias", 1, 0), width.Value, $"{path}.bias");
            }
        }

        config = config with { ChannelMult = multipliers, AttentionResolutions = attention, UseScaleShiftNorm = modulation.Any && modulation.Value == 2 };
        witnesses["channel_mult"] = widthWitnesses;
        witnesses["attention_resolutions"] = attentionWitnesses;
        witnesses["use_scale_shift_norm"] = [modulation.Any ? modulation.Witness : "no emb_layers"];
        config = Resampling(config, witnesses);
        if (config.Kind == ModelKind.Encoder && config.Pool == "attention")
        {
            config = config with { ImageSize = PooledSize(config) };
            witnesses["image_size"] = ["out.2.positional_embedding"];
        }

        return new InferredConfiguration(config, witnesses, WeightList.Compare(_dict, config));
    }

    private ModelConfig Resampling(ModelConfig config, Dictionary<string, IReadOnlyList<string>> witnesses)
    {
        int period = config.NumResBlocks + 1;
        int levels = config.ChannelMult.Count;
        if (levels == 1)
        {
            // Nothing resamples, so nothing tells how it would.
            witnesses["num_res_blocks"] = [$"input_blocks.{config.NumResBlocks}.0.in_layers.2.weight"];
            return config;
        }

        BlockType type = DownTypes(levels, period).GroupBy(t => t).MaxBy(g => g.Count())!.Key;
        string down = $"input_blocks.{period}";
        string witness = type switch
        {
            BlockType.Res => $"{down}.0.in_layers.2.weight",
            BlockType.Op => $"{down}.0.op.weight",
            _ => $"no {down}.0.op.weight",
        };
        int layer = config.AttentionResolutions.Contains(config.Downsampling) ? 2 : 1;
        string up = $"output_blocks.{period - 1}.{layer}";
        witnesses["num_res_blocks"] =
        [
            config.Kind == ModelKind.Encoder || type == BlockType.Absent ? witness
                : type == BlockType.Res ? $"{up}.in_layers.2.weight"
                : $"{up}.conv.weight",
        ];
        witnesses["resblock_updown"] = [witness];
        if (type != BlockType.Res)
        {
            witnesses["conv_resample"] = [witness];
        }

        return config with { ResblockUpdown = type == BlockType.Res, ConvResample = type != BlockType.Absent };
    }

    // The embedding has a token per position of the smallest feature map, and one for their mean.
    private int PooledSize(ModelConfig config)
    {
        const string Name = "out.2.positional_embedding";
        int tokens = _dict.Extent(Name, 2, 1) ?? throw Misses(Name, "[C, T + 1]");
        int side = (int)Math.Round(Math.Sqrt(tokens - 1.0));
        return tokens > 1 && side * side == tokens - 1 && side <= int.MaxValue >> MaxLevels
            ? side * config.Downsampling
            : throw new InvalidFileException(
                _dict.File, Name, $"has shape {_dict.Shapes[Name]}; its columns must be one more than the positions of a square feature map");
    }

    private int Errors(int levels, int depth)
    {
        int period = depth + 1;
        int errors = 0;
        for (int block = 1; block < levels * period; block++)
        {
            errors += block % period != 0 && TypeOf(block) != BlockType.Res ? 1 : 0;
        }

        // The last block of each level on the way up resamples as well; average pooling leaves no trace there.
        bool[] up = _base.Kind == ModelKind.Encoder ? [] : [.. Enumerable.Range(0, levels * period).Select(block => Upsamples(block))];
        for (int block = 0; block < up.Length && up.Contains(true); block++)
        {
            errors += up[block] != (block % period == depth && block < up.Length - 1) ? 1 : 0;
        }

        List<IGrouping<BlockType, BlockType>> down = [.. DownTypes(levels, period).GroupBy(t => t)];
        return errors + (down.Count == 0 ? 0 : down.Sum(g => g.Count()) - down.Max(g => g.Count()));
    }

    private IEnumerable<BlockType> DownTypes(int levels, int period) => Enumerable.Range(1, levels - 1).Select(level => TypeOf(level * period));

    // After the residual block, or after the attention that follows it.
    private bool Upsamples(int block) => Upsamples(block, 1) || Upsamples(block, 2);

    private bool Upsamples(int block, int layer) =>
        _dict.HasModule($"output_blocks.{block}.{layer}.conv") || _dict.HasModule($"output_blocks.{block}.{layer}.in_layers");

    private BlockType TypeOf(int block)
    {
        string path = $"input_blocks.{block}";
        return ResBlockParts.Any(part => _dict.HasModule($"{path}.0.{part}")) ? BlockType.Res
            : _dict.HasModule($"{path}.0.op") ? BlockType.Op
            : _dict.HasModule(path) ? BlockType.Unknown
            : BlockType.Absent;
    }

    private void Widths(Votes votes, string path)
    {
        votes.Add(_dict.Extent($"{path}.in_layers.2.weight", 4, 0), $"{path}.in_layers.2.weight");
        votes.Add(_dict.Extent($"{path}.in_layers.2.bias", 1, 0), $"{path}.in_layers.2.bias");
        votes.Add(_dict.Extent($"{path}.out_layers.0.weight", 1, 0), $"{path}.out_layers.0.weight");
        votes.Add(_dict.Extent($"{path}.out_layers.3.weight", 4, 0), $"{path}.out_layers.3.weight");
        votes.Add(_dict.Extent($"{path}.out_layers.3.bias", 1, 0), $"{path}.out_layers.3.bias");
    }

    private Votes ModelChannels()
    {
        Votes votes = new();
        votes.AddQuotient(_dict.Extent("time_embed.0.weight", 2, 0), 4, "time_embed.0.weight");
        votes.Add(_dict.Extent("time_embed.0.weight", 2, 1), "time_embed.0.weight");
        votes.AddQuotient(_dict.Extent("time_embed.0.bias", 1, 0), 4, "time_embed.0.bias");
        votes.AddQuotient(_dict.Extent("time_embed.2.weight", 2, 0), 4, "time_embed.2.weight");
        votes.AddQuotient(_dict.Extent("time_embed.2.weight", 2, 1), 4, "time_embed.2.weight");
        votes.AddQuotient(_dict.Extent("time_embed.2.bias", 1, 0), 4, "time_embed.2.bias");
        votes.AddQuotient(_dict.Extent("input_blocks.1.0.emb_layers.1.weight", 2, 1), 4, "input_blocks.1.0.emb_layers.1.weight");
        return votes.Any ? votes : throw Misses("time_embed.0.weight", "[4 model_channels, model_channels]");
    }

    private ModelConfig Denoiser(int? inChannels)
    {
        int first = _dict.Extent("input_blocks.0.0.weight", 4, 1) ?? throw Misses("input_blocks.0.0.weight", "[C, in_channels, 3, 3]");
        int last = _dict.Extent("out.2.weight", 4, 0) ?? _dict.Extent("out.2.bias", 1, 0) ?? throw Misses("out.2.weight", "[out_channels, C, 3, 3]");
        bool superRes = inChannels is int given ? first == 2 * given : first is 2 or 6 && (last == first || last == first / 2);
        Witness("kind", superRes ? "input_blocks.0.0.weight" : "out.2.weight");
        Witness("in_channels", "input_blocks.0.0.weight");
        Witness("out_channels", "out.2.weight");
        Witness("num_classes", _dict.HasModule("label_emb") ? "label_emb.weight" : "no label_emb.weight");
        return new ModelConfig
        {
            Kind = superRes ? ModelKind.SuperRes : ModelKind.UNet,
            InChannels = superRes ? first / 2 : first,
            OutChannels = last,
            NumClasses = !_dict.HasModule("label_emb") ? null
                : _dict.Extent("label_emb.weight", 2, 0) ?? throw Misses("label_emb.weight", "[num_classes, 4 model_channels]"),
        };
    }

    private ModelConfig Encoder()
    {
        bool attention = _dict.HasModule("out.2.qkv_proj") || _dict.HasModule("out.2.c_proj") || _dict.Shapes.ContainsKey("out.2.positional_embedding");
        string pool = attention ? "attention"
            : _dict.HasModule("out.1") ? "spatial_v2"
            : _dict.HasModule("out.2") ? "spatial"
            : "adaptive";
        (string weight, string witness) = pool switch
        {
            "attention" => ("out.2.c_proj", "out.2.positional_embedding"),
            "spatial_v2" => ("out.3", "out.1.weight"),
            "spatial" => ("out.2", "out.2.weight"),
            _ => ("out.3", "out.3.weight"),
        };
        int classes = _dict.Extent($"{weight}.bias", 1, 0)
            ?? (_dict.Shapes.TryGetValue($"{weight}.weight", out Shape shape) && shape.Rank > 1
                ? shape[0]
                : throw Misses($"{weight}.weight", "[out_channels, C]"));
        Witness("kind", "no output_blocks");
        Witness("in_channels", "input_blocks.0.0.weight");
        Witness("out_channels", $"{weight}.weight");
        Witness("pool", witness);
        return new ModelConfig
        {
            Kind = ModelKind.Encoder,
            InChannels = _dict.Extent("input_blocks.0.0.weight", 4, 1) ?? throw Misses("input_blocks.0.0.weight", "[C, in_channels, 3, 3]"),
            OutChannels = classes,
            Pool = pool,
        };
    }

    // int(multiplier * model_channels) must give the width back, which a rounded quotient may miss by one.
    private static double Multiplier(int width, int modelChannels)
    {
        double multiplier = (double)width / modelChannels;
        return (int)(multiplier * modelChannels) == width ? multiplier : Math.BitIncrement(multiplier);
    }

    private void Witness(string setting, string tensor) => _witnesses[setting] = [tensor];

    private InvalidFileException Misses(string name, string expected) => new(
        _dict.File,
        name,
        _dict.Shapes.TryGetValue(name, out Shape shape)
            ? $"has shape {shape}, expected {expected}: the model's configuration cannot be read off it"
            : $"this weight {expected} is missing; the file is incomplete, or --key chose another state dict");

    private static InvalidFileException NoModel(StateDictShapes dict) => new(
        dict.File,
        "",
        dict.Shapes.Count == 0
            ? "holds no tensors"
            : "is no model of guided-diffusion, which has tensors 'time_embed.0.weight' and 'input_blocks.0.0.weight'; "
            + $"here are {dict.Shapes.Count} others, the first being '{dict.Shapes.Keys.First()}'. Choose the state dict with --key if it is nested");
}
