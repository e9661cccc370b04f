using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>How a receipt names what a job started from: by its file, and by SHA-256 of what was read from it.</summary>
/// <param name="File">The file or folder, as it was named.</param>
/// <param name="Sha256">SHA-256 of the values, one image behind the other.</param>
/// <param name="Channels">Channels of an image: a mask is read in one, whatever its file has.</param>
internal sealed record ReceiptInput(string File, string Sha256, int Channels)
{
    /// <summary>Refuses what is not what the receipt speaks of.</summary>
    /// <param name="found">SHA-256 of what is there now.</param>
    /// <exception cref="InvalidFileException">It is something else.</exception>
    public void Require(string found)
    {
        if (found != Sha256)
        {
            throw new InvalidFileException(File, "", $"its contents are not those that the receipt speaks of (SHA-256 {found}, {Sha256} is needed); bring back what was there when the images were made");
        }
    }

    /// <summary>Refuses what no file holds.</summary>
    /// <exception cref="InvalidFileException">It was in memory.</exception>
    public void RequireFile()
    {
        if (File == ImageSet.InMemory)
        {
            throw new InvalidFileException(File, "", "the job started from values that a program had in memory; only that program can run it again");
        }
    }
}

/// <summary>Images that a job started from (<see cref="ReceiptInput"/>). Reading them opens the file.</summary>
internal sealed class ImageSetConverter : JsonConverter<ImageSet>
{
    /// <inheritdoc/>
    public override ImageSet Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        ReceiptInput input = JsonSerializer.Deserialize(ref reader, ReceiptInputJson.Default.ReceiptInput) ?? throw new JsonException();
        input.RequireFile();
        ImageSet images = ImageSet.Load(input.File);
        images = input.Channels == 1 ? images.ToGrey() : images;
        input.Require(Sha256(images));
        return images;
    }

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, ImageSet value, JsonSerializerOptions options) =>
        JsonSerializer.Serialize(writer, new ReceiptInput(value.Path, Sha256(value), value.Channels), ReceiptInputJson.Default.ReceiptInput);

    private static string Sha256(ImageSet images)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (int i = 0; i < images.Count; i++)
        {
            hash.AppendData(images[i]);
        }

        return Convert.ToHexStringLower(hash.GetCurrentHash());
    }
}

/// <summary>Latents that a job started from (<see cref="ReceiptInput"/>). Reading them opens the file.</summary>
internal sealed class LatentNoiseConverter : JsonConverter<LatentNoise>
{
    /// <inheritdoc/>
    public override LatentNoise Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        ReceiptInput input = JsonSerializer.Deserialize(ref reader, ReceiptInputJson.Default.ReceiptInput) ?? throw new JsonException();
        input.RequireFile();
        LatentNoise latents = LatentNoise.Read(input.File);
        input.Require(Sha256(latents));
        return latents;
    }

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, LatentNoise value, JsonSerializerOptions options) =>
        JsonSerializer.Serialize(writer, new ReceiptInput(value.Path, Sha256(value), (int)value.Dims[3]), ReceiptInputJson.Default.ReceiptInput);

    private static string Sha256(LatentNoise latents) => Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(latents.Values.AsSpan())));
}

/// <summary>How inputs are written.</summary>
[JsonSourceGenerationOptions(RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ReceiptInput))]
internal sealed partial class ReceiptInputJson : JsonSerializerContext;
