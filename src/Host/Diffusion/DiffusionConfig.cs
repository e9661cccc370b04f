using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Kernels.Diffusion;

/// <summary>Which variance schedule a model was trained with.</summary>
public enum NoiseSchedule
{
    /// <summary>Betas rise linearly; Ho et al. 2020. Written <c>linear</c>.</summary>
    Linear,

    /// <summary>The cumulative signal follows a squared cosine; Nichol and Dhariwal 2021. Written <c>cosine</c>.</summary>
    Cosine,
}

/// <summary>What the first C output channels of the model mean (<c>ModelMeanType</c> of guided-diffusion).</summary>
public enum ModelMeanType
{
    /// <summary>The noise that was added.</summary>
    Epsilon,

    /// <summary>The image without noise (<c>START_X</c>).</summary>
    XStart,
}

/// <summary>Where the variance of p(x_{t-1} | x_t) comes from (<c>ModelVarType</c> of guided-diffusion).</summary>
public enum ModelVarType
{
    /// <summary>The variance of the posterior q(x_{t-1} | x_t, x_0).</summary>
    FixedSmall,

    /// <summary>beta_t, except that the first step takes the second posterior variance.</summary>
    FixedLarge,

    /// <summary>C more output channels, in [-1, 1], interpolate between the two in the logarithm.</summary>
    LearnedRange,
}

/// <summary>
/// The settings of a diffusion process, with the names, defaults and meaning of <c>create_gaussian_diffusion</c> in guided-diffusion.
/// </summary>
public sealed record DiffusionConfig
{
    /// <summary>The largest <see cref="DiffusionSteps"/> accepted: every step costs rows in a dozen tables.</summary>
    public const int MaxDiffusionSteps = 1_000_000;

    /// <summary>Number of steps the model was trained with (<c>diffusion_steps</c>).</summary>
    public int DiffusionSteps { get; init; } = 1000;

    /// <summary>The variance schedule (<c>noise_schedule</c>).</summary>
    public NoiseSchedule NoiseSchedule { get; init; } = NoiseSchedule.Linear;

    /// <summary>Which steps sampling visits (<c>timestep_respacing</c>): see <see cref="Respacing.SpaceTimesteps"/>; empty means
    /// all.</summary>
    public string TimestepRespacing { get; init; } = "";

    /// <summary>Whether the model also outputs C variance channels (<c>learn_sigma</c>).</summary>
    public bool LearnSigma { get; init; }

    /// <summary>Without learned variance: the posterior's variance rather than beta (<c>sigma_small</c>).</summary>
    public bool SigmaSmall { get; init; }

    /// <summary>Whether the model predicts x_0 rather than the noise (<c>predict_xstart</c>).</summary>
    public bool PredictXstart { get; init; }

    /// <summary>Whether the model sees timesteps scaled to [0, 1000) as real numbers (<c>rescale_timesteps</c>).</summary>
    public bool RescaleTimesteps { get; init; }

    /// <summary>What the model's first C channels mean, from <see cref="PredictXstart"/>.</summary>
    public ModelMeanType MeanType => PredictXstart ? ModelMeanType.XStart : ModelMeanType.Epsilon;

    /// <summary>Where the variance comes from, from <see cref="LearnSigma"/> first and then <see cref="SigmaSmall"/>.</summary>
    public ModelVarType VarType =>
        LearnSigma ? ModelVarType.LearnedRange : SigmaSmall ? ModelVarType.FixedSmall : ModelVarType.FixedLarge;

    /// <summary>Reads the object that <see cref="ToJson"/> writes. Absent keys take their defaults; settings of training are passed
    /// over.</summary>
    /// <param name="json">A JSON object with snake_case keys.</param>
    /// <exception cref="ConfigurationException">Not such an object, an unknown or repeated key, or a value of the wrong kind.</exception>
    public static DiffusionConfig FromJson(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        try
        {
            return Read(Encoding.UTF8.GetBytes(json));
        }
        catch (JsonException e)
        {
            throw new ConfigurationException($"diffusion settings are not valid JSON: {e.Message}");
        }
        catch (InvalidOperationException e)
        {
            // The reader's answer to a string with broken escapes or lone surrogates.
            throw new ConfigurationException($"diffusion settings are not valid JSON: {e.Message}");
        }
    }

    /// <summary>Writes every setting as a JSON object with the original's snake_case keys.</summary>
    public string ToJson()
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter writer = new(stream))
        {
            writer.WriteStartObject();
            writer.WriteNumber("diffusion_steps", DiffusionSteps);
            writer.WriteString("noise_schedule", BetaSchedule.NameOf(NoiseSchedule));
            writer.WriteString("timestep_respacing", TimestepRespacing);
            writer.WriteBoolean("learn_sigma", LearnSigma);
            writer.WriteBoolean("sigma_small", SigmaSmall);
            writer.WriteBoolean("predict_xstart", PredictXstart);
            writer.WriteBoolean("rescale_timesteps", RescaleTimesteps);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length);
    }

    private static DiffusionConfig Read(ReadOnlySpan<byte> utf8)
    {
        Utf8JsonReader reader = new(utf8);
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new ConfigurationException("diffusion settings: expected a JSON object");
        }

        DiffusionConfig config = new();
        HashSet<string> seen = new(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            string key = reader.GetString()!;
            if (!seen.Add(key))
            {
                throw new ConfigurationException($"diffusion settings: '{key}' is given twice");
            }

            reader.Read();
            config = key switch
            {
                "diffusion_steps" => config with { DiffusionSteps = ReadInt(ref reader, key) },
                "noise_schedule" => config with { NoiseSchedule = BetaSchedule.Parse(ReadString(ref reader, key)) },
                "timestep_respacing" => config with { TimestepRespacing = ReadString(ref reader, key) },
                "learn_sigma" => config with { LearnSigma = ReadBool(ref reader, key) },
                "sigma_small" => config with { SigmaSmall = ReadBool(ref reader, key) },
                "predict_xstart" => config with { PredictXstart = ReadBool(ref reader, key) },
                "rescale_timesteps" => config with { RescaleTimesteps = ReadBool(ref reader, key) },

                // These choose a training loss; a sampler has no use for them.
                "use_kl" or "rescale_learned_sigmas" => SkipBool(ref reader, key, config),
                _ => throw new ConfigurationException($"diffusion settings: unknown key '{key}'"),
            };
        }

        reader.Read();
        return config;
    }

    private static DiffusionConfig SkipBool(ref Utf8JsonReader reader, string key, DiffusionConfig config)
    {
        ReadBool(ref reader, key);
        return config;
    }

    private static int ReadInt(ref Utf8JsonReader reader, string key) =>
        reader.TokenType == JsonTokenType.Number && reader.TryGetInt32(out int value)
            ? value
            : throw WrongKind(ref reader, key, "a 32-bit integer");

    private static bool ReadBool(ref Utf8JsonReader reader, string key) =>
        reader.TokenType is JsonTokenType.True or JsonTokenType.False
            ? reader.GetBoolean()
            : throw WrongKind(ref reader, key, "true or false");

    private static string ReadString(ref Utf8JsonReader reader, string key) =>
        reader.TokenType == JsonTokenType.String ? reader.GetString()! : throw WrongKind(ref reader, key, "a string");

    private static ConfigurationException WrongKind(ref Utf8JsonReader reader, string key, string expected) =>
        new(string.Create(CultureInfo.InvariantCulture, $"diffusion settings: '{key}' must be {expected}, not {reader.TokenType}"));
}
