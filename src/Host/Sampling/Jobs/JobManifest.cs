using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Kernels.Sampling;

/// <summary>What a folder of shards belongs to. It is written once, when the job begins; which shards are finished is told by the shards themselves.</summary>
public sealed record JobManifest
{
    /// <summary>The only value of <see cref="Format"/>.</summary>
    public const string CurrentFormat = "kernels-job-1";

    /// <summary>Names the layout.</summary>
    public string Format { get; init; } = CurrentFormat;

    /// <summary>Everything that determines the images.</summary>
    public required JobIdentity Job { get; init; }

    /// <summary>The images: all of the job.</summary>
    public required ReceiptImages Images { get; init; }

    /// <summary>Whether images have labels.</summary>
    public required bool Labels { get; init; }

    /// <summary>Number of steps whose results are hashed; null if they are not.</summary>
    public int? HashedSteps { get; init; }

    /// <summary>Images of a shard; the last may have fewer. Not part of <see cref="Sha256"/>: the images do not depend on it.</summary>
    public int ShardSize { get; init; }

    /// <summary>SHA-256 of the settings. Every shard carries it.</summary>
    [JsonPropertyName("settings_sha256")]
    public string Sha256 => Settings.Sha256;

    /// <summary>Number of shards.</summary>
    [JsonIgnore]
    public int Shards => (int)((Images.Count + (long)ShardSize - 1) / ShardSize);

    /// <summary>Bytes of one image.</summary>
    [JsonIgnore]
    public int ImageBytes => Images.Height * Images.Width * Images.Channels;

    /// <summary>The part that the images depend on.</summary>
    internal JobSettings Settings => new(Job, Images, HashedSteps);

    /// <summary>Describes a job.</summary>
    /// <param name="sampler">The models, opened.</param>
    /// <param name="request">The images.</param>
    /// <param name="shardSize">Images of a shard.</param>
    /// <param name="hashSteps">Whether x is hashed after every step.</param>
    /// <exception cref="InvalidFileException">A checkpoint cannot be read for its hash.</exception>
    public static JobManifest Of(Sampler sampler, SampleRequest request, int shardSize, bool hashSteps)
    {
        ArgumentNullException.ThrowIfNull(sampler);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentOutOfRangeException.ThrowIfLessThan(shardSize, 1);
        return new JobManifest
        {
            Job = JobIdentity.Of(sampler, request),
            Images = new ReceiptImages(0, request.Count, sampler.Height, sampler.Width, sampler.Channels),
            Labels = sampler.ClassCount > 0,
            HashedSteps = hashSteps ? sampler.StepsOf(request) : null,
            ShardSize = shardSize,
        };
    }

    /// <summary>The first image of a shard, and how many it has.</summary>
    /// <param name="shard">The shard, from 0.</param>
    public (int First, int Count) ImagesOf(int shard) => (shard * ShardSize, (int)Math.Min(ShardSize, Images.Count - ((long)shard * ShardSize)));
}

/// <summary>What the images of a job depend on, and what comes with them.</summary>
/// <param name="Job">How they are made.</param>
/// <param name="Images">The images.</param>
/// <param name="HashedSteps">Number of steps whose results are hashed; null if they are not.</param>
internal sealed record JobSettings(JobIdentity Job, ReceiptImages Images, int? HashedSteps = null)
{
    /// <summary>As JSON, for comparing them one by one.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, ReceiptJson.Default.JobSettings);

    /// <summary>SHA-256 of <see cref="ToJson"/>.</summary>
    [JsonIgnore]
    public string Sha256 => Convert.ToHexStringLower(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(this, ReceiptJson.Default.JobSettings)));
}
