using System.Globalization;
using Kernels.Diffusion;

namespace Kernels.Models;

/// <summary>A setting that nothing tells.</summary>
/// <param name="Name">The setting.</param>
/// <param name="Remedy">The flags that would tell it.</param>
public sealed record MissingSetting(string Name, string Remedy);

/// <summary>Joins what the weights, the flags, the metadata and a preset say into one configuration, and keeps who said what.</summary>
internal sealed partial class ConfigurationResolver
{
    private const int ScriptImageSize = 64;
    private const int MaxImageSize = 1 << 16;

    private readonly StateDictShapes _dict;
    private readonly ModelOverrides _flags;
    private readonly IReadOnlyList<SettingSource> _sources;
    private readonly IReadOnlyDictionary<string, IReadOnlyList<string>> _witnesses;
    private readonly List<ConfigurationValue> _provenance = [];
    private readonly List<MissingSetting> _missing = [];

    /// <param name="dict">The weights.</param>
    /// <param name="flags">What the caller says.</param>
    /// <param name="sources">Everything that says settings, the strongest first.</param>
    /// <param name="inferred">What the weights say.</param>
    public ConfigurationResolver(StateDictShapes dict, ModelOverrides flags, IReadOnlyList<SettingSource> sources, InferredConfiguration inferred)
    {
        _dict = dict;
        _flags = flags;
        _sources = sources;
        _witnesses = inferred.Witnesses;
        Config = inferred.Config;
    }

    /// <summary>The model.</summary>
    public ModelConfig Config { get; private set; }

    /// <summary>The process; null for a classifier.</summary>
    public DiffusionConfig? Process { get; private set; }

    /// <summary>The label that means "no class".</summary>
    public int? NullLabel { get; private set; }

    /// <summary>Every setting and who said it.</summary>
    public IReadOnlyList<ConfigurationValue> Provenance => _provenance;

    /// <summary>What nobody said.</summary>
    public IReadOnlyList<MissingSetting> Missing => _missing;

    /// <summary>Whether a configuration agrees with what is said about it.</summary>
    /// <param name="inferred">A configuration that the shapes admit.</param>
    /// <param name="sources">What is said, the strongest first.</param>
    public static bool Agrees(InferredConfiguration inferred, IReadOnlyList<SettingSource> sources) =>
        ModelSetting.All.All(setting =>
            !inferred.Witnesses.ContainsKey(setting.Name)
            || Winner(sources, setting.Said) is not { } winner
            || SaidKey(setting, winner.Says, inferred.Config) is not string said
            || said == KnownKey(setting, inferred.Config))
        && (!inferred.Witnesses.ContainsKey("image_size")
            || Winner(sources, o => ModelSetting.Text(o.ImageSize)) is not { } size
            || size.Says.ImageSize / inferred.Config.Downsampling == inferred.Config.ImageSize / inferred.Config.Downsampling);

    /// <summary>Resolves everything.</summary>
    /// <exception cref="ConfigurationException">A flag or a preset contradicts the weights, or settings contradict each other.</exception>
    /// <exception cref="InvalidFileException">The metadata contradict the weights.</exception>
    public void Resolve()
    {
        Kind();
        ImageSize();
        foreach (ModelSetting setting in ModelSetting.All.Where(s => s.Relevant(Config)))
        {
            Resolve(setting);
        }

        if (Config.Kind == ModelKind.Encoder)
        {
            Known(ModelSetting.NumClasses, _witnesses["out_channels"], record: false);
        }
        else
        {
            Known(ModelSetting.ClassCond, _witnesses["num_classes"], record: false);
            Known(ModelSetting.NumClasses, _witnesses["num_classes"]);
        }

        Heads();
        AttentionOrder();
        if (Config.Kind != ModelKind.Encoder)
        {
            Diffusion();
        }

        Label();
        if (_missing.Count == 0)
        {
            Config.Validate();
        }
    }

    private void Kind()
    {
        string known = ModelConfigJson.KindName(Config.Kind);
        foreach (SettingSource source in _sources)
        {
            if (source.ModelKind is ModelKind said && said != Config.Kind)
            {
                throw source.Contradiction(_dict, "", "kind", ModelConfigJson.KindName(said), known, _witnesses["kind"][0]);
            }
        }

        Add("kind", known, $"weights: {_witnesses["kind"][0]}");
    }

    private void ImageSize()
    {
        SettingSource? winner = Winner(_sources, o => ModelSetting.Text(o.ImageSize));
        int? said = winner?.Says.ImageSize;
        if (said is <= 0 or > MaxImageSize)
        {
            throw new ConfigurationException($"{winner!.Describe("image_size")}: an image size of {said} is out of range");
        }

        int factor = Config.Downsampling;
        if (_witnesses.TryGetValue("image_size", out IReadOnlyList<string>? witness))
        {
            // The pool knows the size of its feature map, and several sizes may be halved to that.
            if (said is int size && size / factor != Config.ImageSize / factor)
            {
                throw winner!.Contradiction(
                    _dict, FlagOf("image_size"), "image_size", ModelSetting.Text(size), ModelSetting.Text(Config.ImageSize), witness[0]);
            }

            Config = Config with { ImageSize = said ?? Config.ImageSize };
            Add("image_size", ModelSetting.Text(Config.ImageSize), $"weights: {witness[0]}");
            return;
        }

        if (said is int pixels && (Config.Kind == ModelKind.Encoder ? pixels < factor : pixels % factor != 0))
        {
            string rule = Config.Kind == ModelKind.Encoder
                ? $"at least {factor}"
                : $"a multiple of {factor}, as {Config.ChannelMult.Count} levels want it";
            throw winner!.Contradiction(
                _dict, FlagOf("image_size"), "image_size", ModelSetting.Text(pixels), rule, _witnesses["num_res_blocks"][0]);
        }

        // A classifier without attention pooling takes any size.
        int? fallback = Config.Kind == ModelKind.Encoder || _flags.AssumeScriptDefaults ? Math.Max(ScriptImageSize, factor) : null;
        ModelOverrides? says = Say("image_size", o => ModelSetting.Text(o.ImageSize), ModelSetting.Text(fallback), $"{FlagOf("image_size")} N");
        Config = Config with { ImageSize = says?.ImageSize ?? fallback ?? 0 };
    }

    private void Resolve(ModelSetting setting)
    {
        if (_witnesses.TryGetValue(setting.Name, out IReadOnlyList<string>? witnesses))
        {
            Known(setting, witnesses);
        }
        else if (Say(setting.Name, setting.Said, setting.Known(Config), "") is { } says)
        {
            Config = setting.Apply(Config, says);
        }
    }

    /// <summary>A setting that the weights tell: whoever says otherwise, and is not overruled, is refused.</summary>
    private void Known(ModelSetting setting, IReadOnlyList<string> witnesses, bool record = true)
    {
        string known = KnownKey(setting, Config);
        SettingSource? winner = Winner(_sources, setting.Said);
        if (winner is not null && SaidKey(setting, winner.Says, Config) is string said && said != known)
        {
            string[] ours = known.Split(',');
            string[] theirs = said.Split(',');
            int item = 0;
            while (item < Math.Min(ours.Length, theirs.Length) - 1 && ours[item] == theirs[item])
            {
                item++;
            }

            string witness = witnesses[Math.Min(item, witnesses.Count - 1)];
            throw winner.Contradiction(_dict, FlagOf(setting.Name), setting.Name, setting.Said(winner.Says)!, setting.Known(Config), witness);
        }

        if (record)
        {
            string shown = witnesses.FirstOrDefault(w => _dict.Shapes.ContainsKey(w)) ?? witnesses[0];
            string more = witnesses.Count > 1 ? string.Create(CultureInfo.InvariantCulture, $" and {witnesses.Count - 1} more") : "";
            string overruled = Overruled(s => SaidKey(setting, s, Config), known, setting.Said);
            Add(setting.Name, setting.Known(Config), $"weights: {shown}{more}{overruled}");
        }
    }

    /// <summary>A setting that the weights do not tell: the strongest source that says it, or the default, or else it is missing.</summary>
    /// <returns>What the source says; null if none says it.</returns>
    private ModelOverrides? Say(string setting, Func<ModelOverrides, string?> said, string? fallback, string remedy)
    {
        SettingSource? winner = Winner(_sources, said);
        if (winner is not null)
        {
            string value = said(winner.Says)!;
            Add(setting, value, winner.Describe(setting) + Overruled(said, value, said));
        }
        else if (fallback is not null)
        {
            Add(setting, fallback, "default");
        }
        else
        {
            Miss(setting, remedy);
        }

        return winner?.Says;
    }

    private static SettingSource? Winner(IReadOnlyList<SettingSource> sources, Func<ModelOverrides, string?> said) =>
        sources.FirstOrDefault(s => said(s.Says) is not null);

    private static string KnownKey(ModelSetting setting, ModelConfig config) => (setting.Key ?? setting.Known)(config);

    private static string? SaidKey(ModelSetting setting, ModelOverrides says, ModelConfig config) =>
        setting.SaidKey is { } key ? key(says, config) : setting.Said(says);

    /// <summary>Those who say otherwise than what was decided, in parentheses.</summary>
    private string Overruled(Func<ModelOverrides, string?> key, string decided, Func<ModelOverrides, string?> said)
    {
        string[] others = [.. _sources.Where(s => key(s.Says) is string k && k != decided).Select(s => $"{s.Name} says {said(s.Says)}")];
        return others.Length == 0 ? "" : $" ({string.Join("; ", others)})";
    }

    private string FlagOf(string setting) => FlagNames.Of(setting, _flags.FlagPrefix);

    private void Add(string setting, string value, string source) => _provenance.Add(new ConfigurationValue(setting, value, source));

    private void Miss(string setting, string remedy)
    {
        Add(setting, "?", "unknown");
        _missing.Add(new MissingSetting(setting, remedy));
    }
}
