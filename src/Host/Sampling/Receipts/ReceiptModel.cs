using System.Text.Json;
using Kernels.Diffusion;
using Kernels.Models;

namespace Kernels.Sampling;

/// <summary>A model that images were made with: which file it was in, and every setting as it was resolved.</summary>
public sealed record ReceiptModel
{
    /// <summary>The checkpoint, as it was named; of a file that comes with the program, its place beneath the program's folder.</summary>
    public required string File { get; init; }

    /// <summary>Where the state dict is nested in the file.</summary>
    public string? Key { get; init; }

    /// <summary>SHA-256 of the file.</summary>
    public required string Sha256 { get; init; }

    /// <summary>The constructor arguments (<see cref="ModelConfigJson"/>).</summary>
    public required JsonElement Config { get; init; }

    /// <summary>The diffusion process (<see cref="DiffusionConfig.ToJson"/>); null for a classifier.</summary>
    public JsonElement? Process { get; init; }

    /// <summary>Describes a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="source">Where it came from.</param>
    /// <exception cref="InvalidFileException">The file cannot be read.</exception>
    public static ReceiptModel Of(LoadedModel model, ModelSource source)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(source);
        return new ReceiptModel
        {
            File = Recorded(source.Path),
            Key = source.Key,
            Sha256 = FileHash.Sha256(source.Path),
            Config = Json(ModelConfigJson.Write(model.Model.Config)),
            Process = model.Process is null ? null : Json(model.Process.ToJson()),
        };
    }

    /// <summary>The model, all its settings said.</summary>
    /// <param name="path">Where the checkpoint is now.</param>
    /// <param name="flagPrefix">How its flags begin in messages.</param>
    /// <exception cref="ConfigurationException">The settings cannot be understood.</exception>
    public ModelSource ToSource(string path, string flagPrefix)
    {
        ModelConfig config = ModelConfigJson.Read(Config.GetRawText());
        DiffusionConfig? process = Process is JsonElement json ? DiffusionConfig.FromJson(json.GetRawText()) : null;
        return new ModelSource(path)
        {
            Key = Key,
            Overrides = ModelOverrides.From(config, process, _ => true) with { Preset = "none", FlagPrefix = flagPrefix },
        };
    }

    /// <summary>Finds the checkpoint.</summary>
    /// <param name="receipt">The file of the receipt, for messages; the checkpoint may be beside it.</param>
    /// <param name="option">The option that says where a checkpoint is.</param>
    /// <param name="path">What the option says; null to look where the receipt says, beside the receipt and beneath the program's folder.</param>
    /// <returns>The path of a file with the hash.</returns>
    /// <exception cref="InvalidFileException">There is none.</exception>
    public string Find(string receipt, string option, string? path = null)
    {
        string beside = Path.GetDirectoryName(Path.GetFullPath(receipt))!;
        string[] places = path is not null
            ? [path]
            : [File, Path.Combine(beside, File), Path.Combine(beside, Path.GetFileName(File)), Path.Combine(AppContext.BaseDirectory, File)];
        string? other = null;
        foreach (string place in places.Where(System.IO.File.Exists))
        {
            string hash = FileHash.Sha256(place);
            if (hash == Sha256)
            {
                return place;
            }

            other ??= $"{place} is another file (SHA-256 {hash})";
        }

        throw new InvalidFileException(
            receipt, "", $"was made with the checkpoint {File} of SHA-256 {Sha256}; {other ?? $"it is not there, nor at {string.Join(", ", places.Distinct().Skip(1))}".Replace(", nor at ;", ";", StringComparison.Ordinal)}. Say where it is with {option}");
    }

    private static string Recorded(string path)
    {
        string relative = Path.GetRelativePath(AppContext.BaseDirectory, Path.GetFullPath(path));
        return relative.StartsWith("..", StringComparison.Ordinal) || Path.IsPathRooted(relative) ? path : relative.Replace('\\', '/');
    }

    private static JsonElement Json(string text)
    {
        using JsonDocument document = JsonDocument.Parse(text);
        return document.RootElement.Clone();
    }
}
