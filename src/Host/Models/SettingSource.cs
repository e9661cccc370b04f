namespace Kernels.Models;

/// <summary>What kind of thing says a setting, strongest first.</summary>
internal enum SourceKind
{
    Flag,
    Metadata,
    Preset,
}

/// <summary>Something that says settings.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Name">Its name in a provenance: <c>metadata</c>, <c>preset adm64</c>.</param>
/// <param name="Says">The settings.</param>
/// <param name="ModelKind">Which model it says it is.</param>
/// <param name="ClassNames">The names of the classes.</param>
internal sealed record SettingSource(
    SourceKind Kind, string Name, ModelOverrides Says, ModelKind? ModelKind = null, IReadOnlyList<string>? ClassNames = null)
{
    /// <summary>The metadata's entry, or what chose the preset.</summary>
    public string Key { get; init; } = "";

    /// <summary>What says a setting, as a provenance writes it.</summary>
    /// <param name="setting">The setting.</param>
    public string Describe(string setting) => Kind == SourceKind.Flag ? $"flag {FlagNames.Of(setting, Says.FlagPrefix)}" : Name;

    /// <summary>The error for a setting that the weights refute.</summary>
    /// <param name="dict">The weights.</param>
    /// <param name="flag">The flag of the setting; empty if it has none.</param>
    /// <param name="setting">The setting.</param>
    /// <param name="said">What this says.</param>
    /// <param name="known">What the weights say.</param>
    /// <param name="witness">The tensor that says so, or <c>no TENSOR</c>.</param>
    public KernelsException Contradiction(StateDictShapes dict, string flag, string setting, string said, string known, string witness)
    {
        string tensor = dict.Shapes.TryGetValue(witness, out Shape shape) ? $"'{witness}' {shape}"
            : witness.StartsWith("no ", StringComparison.Ordinal) ? $"the absence of '{witness[3..]}'"
            : $"'{witness}'";
        string why = $"{tensor} shows that it is {known}";
        string remedy = flag.Length > 0 ? $"; {flag} overrules the metadata" : "";
        return Kind switch
        {
            SourceKind.Flag => new ConfigurationException(
                $"{flag} {said} contradicts the weights in {dict.File}: {setting}, {why}; leave the flag out, or give the file that it belongs to"),
            SourceKind.Metadata => new InvalidFileException(
                dict.File, $"metadata '{Entry(setting)}'", $"{setting} {said} contradicts the weights: {why}{remedy}"),
            _ => new ConfigurationException(
                $"{Name}, chosen by {Key}, has {setting} {said}, which contradicts the weights in {dict.File}: {why}; "
                + "choose another preset, or none, with --preset"),
        };
    }

    // Most settings are the model's; the others have entries of their own.
    private string Entry(string setting) => setting switch
    {
        "learn_sigma" => ModelMetadata.DiffusionKey,
        "null_label" => ModelMetadata.NullLabelKey,
        _ => Key,
    };
}

/// <summary>How flags are called.</summary>
internal static class FlagNames
{
    private const string General = "--";

    /// <summary>The flag that says a setting.</summary>
    /// <param name="setting">The setting, as <c>num_res_blocks</c>.</param>
    /// <param name="prefix">What all flags of the model begin with.</param>
    public static string Of(string setting, string prefix) => (setting, prefix) switch
    {
        // One size for the pair; and the scripts of guided-diffusion call the others otherwise than its models do.
        ("image_size", _) => "--image-size",
        ("model_channels", General) => "--num-channels",
        ("model_channels", _) => $"{prefix}width",
        ("num_res_blocks", not General) => $"{prefix}depth",
        _ => prefix + setting.Replace('_', '-'),
    };
}
