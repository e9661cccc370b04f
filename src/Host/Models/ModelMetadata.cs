using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Kernels.Checkpoints;
using Kernels.Diffusion;

namespace Kernels.Models;

/// <summary>The entries of a converted checkpoint's metadata that describe the model.</summary>
public static class ModelMetadata
{
    /// <summary>The constructor arguments as JSON (<see cref="ModelConfigJson"/>).</summary>
    public const string ConfigKey = "config";

    /// <summary>The settings of the diffusion process as JSON (<see cref="DiffusionConfig.FromJson"/>).</summary>
    public const string DiffusionKey = "diffusion";

    /// <summary>The names of the classes as a JSON list of strings.</summary>
    public const string ClassNamesKey = "class_names";

    /// <summary>The label that means "no class", as a decimal number.</summary>
    public const string NullLabelKey = "null_label";

    // A reference pack of a guided run holds two models; this is the other one's entry.
    private const string ClassifierConfigKey = "classifier_config";
    private const int MaxClassNames = 1 << 20;

    // What the constructors and create_gaussian_diffusion have defaults for and weights do not tell: left out means the default.
    private static readonly string[] ModelDefaults = ["num_heads", "num_head_channels", "num_heads_upsample", "use_new_attention_order"];
    private static readonly string[] ProcessDefaults =
        ["diffusion_steps", "noise_schedule", "timestep_respacing", "sigma_small", "predict_xstart", "rescale_timesteps"];

    /// <summary>The metadata that describe a loaded model, for a file to be written.</summary>
    /// <param name="model">The model.</param>
    public static Dictionary<string, string> Of(LoadedModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        Dictionary<string, string> metadata = new() { [ConfigKey] = ModelConfigJson.Write(model.Model.Config) };
        if (model.Process is not null)
        {
            metadata[DiffusionKey] = model.Process.ToJson();
        }

        if (model.ClassNames is not null)
        {
            metadata[ClassNamesKey] = WriteNames(model.ClassNames);
        }

        if (model.NullLabel is int label)
        {
            metadata[NullLabelKey] = label.ToString(CultureInfo.InvariantCulture);
        }

        return metadata;
    }

    /// <summary>What a file says about the model in it.</summary>
    /// <param name="checkpoint">The file.</param>
    /// <param name="encoder">Whether its weights are a classifier's.</param>
    /// <exception cref="InvalidFileException">An entry cannot be understood.</exception>
    internal static SettingSource? Read(Checkpoint checkpoint, bool encoder)
    {
        HashSet<string> said = new(StringComparer.Ordinal);
        ModelConfig? config = null;
        DiffusionConfig? process = null;
        string key = encoder && checkpoint.Metadata.ContainsKey(ClassifierConfigKey) ? ClassifierConfigKey : ConfigKey;
        if (checkpoint.Metadata.TryGetValue(key, out string? json))
        {
            config = Understand(key, () => ModelConfigJson.Read(json, encoder ? ModelKind.Encoder : null));
            AddKeys(said, json, ModelDefaults);
        }

        // Whether the file or only the shapes told the kind: a UNet of six channels and a super-resolution UNet have the same shapes.
        ModelKind? kind = said.Contains("kind") ? config!.Kind : null;
        if (!encoder && checkpoint.Metadata.TryGetValue(DiffusionKey, out json))
        {
            process = Understand(DiffusionKey, () => DiffusionConfig.FromJson(json));
            AddKeys(said, json, ProcessDefaults);
        }

        ModelOverrides says = ModelOverrides.From(config, process, said.Contains);
        if (checkpoint.Metadata.TryGetValue(NullLabelKey, out string? label))
        {
            says = says with { NullLabel = ParseLabel(label) };
        }

        IReadOnlyList<string>? names =
            checkpoint.Metadata.TryGetValue(ClassNamesKey, out json) ? Understand(ClassNamesKey, () => ReadNames(json)) : null;
        return config is null && process is null && names is null && says.NullLabel is null
            ? null
            : new SettingSource(SourceKind.Metadata, "metadata", says, kind, names) { Key = key };

        T Understand<T>(string entry, Func<T> read)
        {
            try
            {
                return read();
            }
            catch (ConfigurationException e)
            {
                throw new InvalidFileException(checkpoint.File, $"metadata '{entry}'", e.Message, e);
            }
            catch (JsonException e)
            {
                throw new InvalidFileException(checkpoint.File, $"metadata '{entry}'", $"is not valid JSON: {e.Message}", e);
            }
            catch (InvalidOperationException e)
            {
                // The reader's answer to a string with lone surrogates.
                throw new InvalidFileException(checkpoint.File, $"metadata '{entry}'", $"is not valid JSON: {e.Message}", e);
            }
        }

        int? ParseLabel(string text) => int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value) && value >= -1
            ? value == -1 ? null : value
            : throw new InvalidFileException(checkpoint.File, $"metadata '{NullLabelKey}'", $"'{text}' is not a label");
    }

    private static void AddKeys(HashSet<string> said, string json, string[] defaults)
    {
        said.UnionWith(defaults);
        using JsonDocument document = JsonDocument.Parse(json);
        said.UnionWith(document.RootElement.EnumerateObject().Select(p => p.Name));
    }

    private static string[] ReadNames(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement root = document.RootElement;
        return root.ValueKind == JsonValueKind.Array
            && root.GetArrayLength() <= MaxClassNames
            && root.EnumerateArray().All(e => e.ValueKind == JsonValueKind.String)
            ? [.. root.EnumerateArray().Select(e => e.GetString()!)]
            : throw new ConfigurationException("the names of the classes must be a list of strings");
    }

    private static string WriteNames(IReadOnlyList<string> names)
    {
        ArrayBufferWriter<byte> buffer = new();
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartArray();
            foreach (string name in names)
            {
                json.WriteStringValue(name);
            }

            json.WriteEndArray();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }
}
