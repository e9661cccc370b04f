using Kernels.Checkpoints;

namespace Kernels.Models;

/// <summary>
/// Opens checkpoints as models. Shapes tell most of the configuration; heads, attention order, image size and schedule come from flags, from the metadata of a converted
/// file, or from a preset, in this order. No weight is read.
/// </summary>
public static class ModelLoader
{
    private const string ParallelPrefix = "module.";
    private const string NoPreset = "none";

    /// <summary>Opens a checkpoint as a model that is completely known.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">What the caller says about it.</param>
    /// <param name="key">Where the state dict is in the file, as for <see cref="Checkpoint.Load(string, string?)"/>.</param>
    /// <param name="expected">The model that it must be; null for any.</param>
    /// <exception cref="InvalidFileException">The file is no checkpoint, holds no such model, or its tensors or metadata contradict each other.</exception>
    /// <exception cref="ConfigurationException">A flag or preset contradicts the weights, or settings are missing: the message names the flags.</exception>
    public static LoadedModel Load(string path, ModelOverrides? overrides = null, string? key = null, ModelKind? expected = null)
    {
        return Complete(Inspect(path, overrides, key, expected));
    }

    /// <summary>Refuses a model of which settings are missing.</summary>
    internal static LoadedModel Complete(LoadedModel model)
    {
        if (model.Missing.Count == 0)
        {
            return model;
        }

        model.Dispose();
        string names = string.Join(", ", model.Missing.Select(m => m.Name));
        string remedies = string.Join(", ", model.Missing.Select(m => m.Remedy));
        string preset = model.LookAlikes.Count == 0
            ? $"a preset (--preset {string.Join('|', Presets.All.Where(p => p.Model.Kind == model.Model.Config.Kind).Select(p => p.Name))})"
            : $"the preset whose weights look like these: {string.Join(" or ", model.LookAlikes.Select(p => $"--preset {p.Name}"))}";
        throw new ConfigurationException($"{model.Checkpoint.File}: shapes do not tell {names}, and the file has no metadata that does; say {remedies}; or choose {preset}");
    }

    /// <summary>Opens a checkpoint as a model of which settings may remain unknown (<see cref="LoadedModel.Missing"/>).</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">What the caller says about it.</param>
    /// <param name="key">Where the state dict is in the file.</param>
    /// <param name="expected">The model that it must be; null for any.</param>
    /// <exception cref="InvalidFileException">The file is no checkpoint, holds no such model, or its tensors or metadata contradict each other.</exception>
    /// <exception cref="ConfigurationException">A flag or preset contradicts the weights.</exception>
    public static LoadedModel Inspect(string path, ModelOverrides? overrides = null, string? key = null, ModelKind? expected = null)
    {
        Checkpoint checkpoint = Checkpoint.Load(path, key);
        try
        {
            return Resolve(checkpoint, overrides ?? new ModelOverrides(), expected);
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>Resolves the model in an open checkpoint, which the result owns.</summary>
    internal static LoadedModel Resolve(Checkpoint checkpoint, ModelOverrides flags, ModelKind? expected)
    {
        // Data-parallel training wraps the model in another module.
        string prefix = checkpoint.Tensors.Count > 0 && checkpoint.Tensors.Keys.All(k => k.StartsWith(ParallelPrefix, StringComparison.Ordinal)) ? ParallelPrefix : "";
        StateDictShapes dict = StateDictShapes.Of(checkpoint, prefix);
        bool encoder = ConfigurationInference.IsEncoder(dict);
        List<SettingSource> sources = [new SettingSource(SourceKind.Flag, "flag", flags)];
        if (ModelMetadata.Read(checkpoint, encoder) is { } metadata)
        {
            sources.Add(metadata);
        }

        Preset? preset = ChoosePreset(checkpoint, flags, encoder, out string chosenBy);
        if (preset is not null)
        {
            ModelOverrides says = ModelOverrides.From(preset.Model, preset.Process, _ => true) with { NullLabel = preset.NullLabel };
            sources.Add(new SettingSource(SourceKind.Preset, $"preset {preset.Name}", says, preset.Model.Kind, preset.ClassNames) { Key = chosenBy });
        }

        InferredConfiguration inferred = Infer(dict, sources, flags.FlagPrefix);
        Expect(checkpoint.File, inferred, expected);
        if (inferred.Mismatches.Count > 0)
        {
            throw WeightList.Error(checkpoint.File, inferred.Mismatches, inferred.Config);
        }

        if (checkpoint.Tensors.Values.FirstOrDefault(t => !t.DType.IsFloatingPoint()) is { } integers)
        {
            throw new InvalidFileException(checkpoint.File, integers.Name, $"holds {integers.DType}; weights are floating-point numbers");
        }

        ConfigurationResolver resolver = new(dict, flags, sources, inferred);
        resolver.Resolve();
        return new LoadedModel(checkpoint, new Model(resolver.Config, new CheckpointWeights(checkpoint, prefix)))
        {
            Process = resolver.Process,
            ClassNames = ClassNames(checkpoint, sources, resolver.Config),
            NullLabel = resolver.NullLabel,
            Preset = preset,
            Provenance = resolver.Provenance,
            Missing = resolver.Missing,
            LookAlikes = [.. Presets.All.Where(p => p.Model.Kind == inferred.Config.Kind && LooksAlike(p.Model, inferred))],
        };
    }

    private static InferredConfiguration Infer(StateDictShapes dict, List<SettingSource> sources, string flagPrefix)
    {
        IReadOnlyList<InferredConfiguration> candidates =
            ConfigurationInference.Infer(dict, sources.Select(s => s.Says.InChannels).FirstOrDefault(c => c is not null));
        InferredConfiguration[] agreed = [.. candidates.Where(c => ConfigurationResolver.Agrees(c, sources))];
        if (agreed.Length > 1 && agreed[0].Mismatches.Count == 0)
        {
            IEnumerable<string> choices = agreed.Select(c => $"{c.Config.NumResBlocks} for {c.Config.ChannelMult.Count} levels");
            throw new ConfigurationException(
                $"{dict.File}: the shapes fit several models equally well; say {FlagNames.Of("num_res_blocks", flagPrefix)} {string.Join(" or ", choices)}");
        }

        return agreed.Length > 0 ? agreed[0] : candidates[0];
    }

    private static Preset? ChoosePreset(Checkpoint checkpoint, ModelOverrides flags, bool encoder, out string chosenBy)
    {
        chosenBy = "--preset";
        if (flags.Preset is string name)
        {
            if (name.Equals(NoPreset, StringComparison.OrdinalIgnoreCase))
            {
                return null;
            }

            // A name stands for the pair: the classifier of adm64 is classifier64.
            Preset preset = Presets.Find(name);
            return encoder && preset.Classifier is string classifier ? Presets.Find(classifier) : preset;
        }

        // A converted file knows better than its name.
        chosenBy = "the name of the file";
        return checkpoint.Metadata.ContainsKey(ModelMetadata.ConfigKey) ? null : Presets.ForFile(checkpoint.File);
    }

    private static void Expect(string file, InferredConfiguration inferred, ModelKind? expected)
    {
        if (expected is not ModelKind kind || kind == inferred.Config.Kind)
        {
            return;
        }

        string remedy = kind == ModelKind.Encoder ? "give a classifier"
            : inferred.Config.Kind == ModelKind.Encoder ? "give the diffusion model; this file belongs to --classifier"
            : "give the other kind of diffusion model";
        throw new InvalidFileException(
            file, "", $"is {Name(inferred.Config.Kind)} ({inferred.Witnesses["kind"][0]}), where {Name(kind)} is wanted; {remedy}");

        static string Name(ModelKind kind) => kind switch
        {
            ModelKind.UNet => "a diffusion model (UNetModel)",
            ModelKind.SuperRes => "a super-resolution model (SuperResModel)",
            _ => "a classifier (EncoderUNetModel)",
        };
    }

    private static IReadOnlyList<string>? ClassNames(Checkpoint checkpoint, List<SettingSource> sources, ModelConfig config)
    {
        SettingSource? source = sources.Find(s => s.ClassNames is not null);
        int? classes = config.Kind == ModelKind.Encoder ? config.OutChannels : config.NumClasses;
        return source?.Kind == SourceKind.Metadata && classes is int count && source.ClassNames!.Count > count
            ? throw new InvalidFileException(
                checkpoint.File, $"metadata '{ModelMetadata.ClassNamesKey}'", $"has {source.ClassNames.Count} names for {count} classes")
            : source?.ClassNames;
    }

    private static bool LooksAlike(ModelConfig preset, InferredConfiguration inferred) =>
        ModelSetting.All.Append(ModelSetting.NumClasses)
            .All(s => !s.Relevant(preset) || (s.Key ?? s.Known)(preset) == (s.Key ?? s.Known)(inferred.Config));
}
