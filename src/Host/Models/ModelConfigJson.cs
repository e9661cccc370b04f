using System.Buffers;
using System.Text;
using System.Text.Json;

namespace Kernels.Models;

/// <summary>Reads and writes <see cref="ModelConfig"/> as JSON with the original's argument names, as reference packs and converted checkpoints carry it.</summary>
public static class ModelConfigJson
{
    // Arguments of the originals that do not change what is computed at sampling time.
    private static readonly string[] Ignored = ["dims", "dropout", "use_checkpoint", "use_fp16", "kind"];

    /// <summary>Reads a configuration.</summary>
    /// <param name="json">An object; <c>kind</c> may name the model, <c>pool</c> makes it a classifier.</param>
    /// <param name="kind">The model if the object does not say.</param>
    /// <exception cref="ConfigurationException">Not such an object; the message names the key.</exception>
    public static ModelConfig Read(string json, ModelKind? kind = null)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            JsonElement root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object)
            {
                throw new ConfigurationException("a model configuration must be a JSON object");
            }

            ModelKind inferred = root.TryGetProperty("kind", out JsonElement name)
                ? Kind(name)
                : kind ?? (root.TryGetProperty("pool", out _) ? ModelKind.Encoder : ModelKind.UNet);
            ModelConfig config = new() { Kind = inferred };
            foreach (JsonProperty property in root.EnumerateObject())
            {
                config = Set(config, property);
            }

            config.Validate();
            return config;
        }
        catch (JsonException e)
        {
            throw new ConfigurationException($"the model configuration is not valid JSON: {e.Message}");
        }
    }

    /// <summary>Writes a configuration.</summary>
    /// <param name="config">The configuration.</param>
    public static string Write(ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArrayBufferWriter<byte> buffer = new();
        using (Utf8JsonWriter json = new(buffer))
        {
            json.WriteStartObject();
            json.WriteString("kind", KindName(config.Kind));
            json.WriteNumber("image_size", config.ImageSize);
            json.WriteNumber("in_channels", config.InChannels);
            json.WriteNumber("model_channels", config.ModelChannels);
            json.WriteNumber("out_channels", config.OutChannels);
            json.WriteNumber("num_res_blocks", config.NumResBlocks);
            WriteList(json, "attention_resolutions", config.AttentionResolutions.Select(v => (double)v));
            WriteList(json, "channel_mult", config.ChannelMult);
            json.WriteBoolean("conv_resample", config.ConvResample);
            if (config.Kind != ModelKind.Encoder)
            {
                json.WritePropertyName("num_classes");
                if (config.NumClasses is int classes)
                {
                    json.WriteNumberValue(classes);
                }
                else
                {
                    json.WriteNullValue();
                }
            }

            json.WriteNumber("num_heads", config.NumHeads);
            json.WriteNumber("num_head_channels", config.NumHeadChannels);
            json.WriteNumber("num_heads_upsample", config.NumHeadsUpsample);
            json.WriteBoolean("use_scale_shift_norm", config.UseScaleShiftNorm);
            json.WriteBoolean("resblock_updown", config.ResblockUpdown);
            json.WriteBoolean("use_new_attention_order", config.UseNewAttentionOrder);
            if (config.Kind == ModelKind.Encoder)
            {
                json.WriteString("pool", config.Pool);
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    internal static string KindName(ModelKind kind) => kind switch
    {
        ModelKind.UNet => "unet",
        ModelKind.SuperRes => "superres",
        _ => "classifier",
    };

    private static ModelKind Kind(JsonElement value) => (value.ValueKind == JsonValueKind.String ? value.GetString() : null) switch
    {
        "unet" => ModelKind.UNet,
        "superres" => ModelKind.SuperRes,
        "classifier" => ModelKind.Encoder,
        _ => throw new ConfigurationException($"model configuration, kind: {value.GetRawText()} is not \"unet\", \"superres\" or \"classifier\""),
    };

    private static ModelConfig Set(ModelConfig config, JsonProperty p) => p.Name switch
    {
        "image_size" => config with { ImageSize = Integer(p) },
        "in_channels" => config with { InChannels = Integer(p) },
        "model_channels" => config with { ModelChannels = Integer(p) },
        "out_channels" => config with { OutChannels = Integer(p) },
        "num_res_blocks" => config with { NumResBlocks = Integer(p) },
        "attention_resolutions" => config with { AttentionResolutions = [.. List(p).Select(v => v == (int)v ? (int)v : throw Wrong(p, "a list of integers"))] },
        "channel_mult" => config with { ChannelMult = List(p) },
        "conv_resample" => config with { ConvResample = Flag(p) },
        "num_classes" => config with { NumClasses = p.Value.ValueKind == JsonValueKind.Null ? null : Integer(p) },
        "num_heads" => config with { NumHeads = Integer(p) },
        "num_head_channels" => config with { NumHeadChannels = Integer(p) },
        "num_heads_upsample" => config with { NumHeadsUpsample = Integer(p) },
        "use_scale_shift_norm" => config with { UseScaleShiftNorm = Flag(p) },
        "resblock_updown" => config with { ResblockUpdown = Flag(p) },
        "use_new_attention_order" => config with { UseNewAttentionOrder = Flag(p) },
        "pool" => config with { Pool = p.Value.ValueKind == JsonValueKind.String ? p.Value.GetString()! : throw Wrong(p, "a string") },
        _ when Ignored.Contains(p.Name) => config,
        _ => throw new ConfigurationException($"model configuration: '{p.Name}' is not an argument of the models"),
    };

    private static int Integer(JsonProperty p) =>
        p.Value.ValueKind == JsonValueKind.Number && p.Value.TryGetInt32(out int value) ? value : throw Wrong(p, "an integer");

    private static bool Flag(JsonProperty p) =>
        p.Value.ValueKind is JsonValueKind.True or JsonValueKind.False ? p.Value.GetBoolean() : throw Wrong(p, "true or false");

    private static double[] List(JsonProperty p)
    {
        if (p.Value.ValueKind != JsonValueKind.Array || p.Value.GetArrayLength() > 64)
        {
            throw Wrong(p, "a list of at most 64 numbers");
        }

        return [.. p.Value.EnumerateArray().Select(v => v.ValueKind == JsonValueKind.Number && v.TryGetDouble(out double d) ? d : throw Wrong(p, "a list of numbers"))];
    }

    private static ConfigurationException Wrong(JsonProperty p, string expected) =>
        new($"model configuration, {p.Name}: {p.Value.GetRawText()} is not {expected}");

    private static void WriteList(Utf8JsonWriter json, string name, IEnumerable<double> values)
    {
        json.WriteStartArray(name);
        foreach (double value in values)
        {
            json.WriteNumberValue(value);
        }

        json.WriteEndArray();
    }
}
