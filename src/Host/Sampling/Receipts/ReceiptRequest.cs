using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>The images that were asked for: a <see cref="SampleRequest"/> without what the images do not depend on, and with the hashes of what they were made from.</summary>
public sealed record ReceiptRequest
{
    /// <summary>Number of images.</summary>
    public required int Count { get; init; }

    /// <summary>Seed of all noise.</summary>
    public ulong Seed { get; init; }

    /// <summary>Where the noise comes from (<see cref="RandomSource.Parse"/>); null for <c>philox</c>.</summary>
    public string? Rng { get; init; }

    /// <summary>Images sampled at once, where the noise depends on it: where it is PyTorch's.</summary>
    public int? BatchSize { get; init; }

    /// <summary>Classes, repeated over the images.</summary>
    public IReadOnlyList<int> Classes { get; init; } = [];

    /// <summary>The seed at the other end of an interpolation.</summary>
    public ulong? InterpolateTo { get; init; }

    /// <summary>Fraction of the steps that were executed on images to begin with.</summary>
    public double? Strength { get; init; }

    /// <summary>The order of the steps of inpainting.</summary>
    public InpaintingSchedule? Inpainting { get; init; }

    /// <summary>Images, masks and latents that the job started from.</summary>
    public IReadOnlyList<ReceiptInput> Inputs { get; init; } = [];

    /// <summary>Describes a request.</summary>
    /// <param name="request">The request.</param>
    /// <param name="options">What samples it.</param>
    public static ReceiptRequest Of(SampleRequest request, SamplerOptions options)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(options);
        return new ReceiptRequest
        {
            Count = request.Count,
            Seed = request.Seed,
            Rng = request.Random.IsTorch ? request.Random.ToString() : null,
            BatchSize = request.Random.IsTorch ? request.BatchSize : null,
            Classes = request.Classes,
            InterpolateTo = request.InterpolateTo,
            Strength = request.Init?.Strength,
            Inpainting = options.Inpainting,
            Inputs =
            [
                .. ReceiptInput.Of("low_res", request.LowRes),
                .. ReceiptInput.Of("init", request.Init?.Images),
                .. ReceiptInput.Of("known", request.Known?.Images),
                .. ReceiptInput.Of("mask", request.Known?.Masks),
                .. ReceiptInput.Of("latents", request.Latents, request.LatentsFile),
            ],
        };
    }

    /// <summary>The request, with what it starts from read again.</summary>
    /// <param name="receipt">The file of the receipt, for messages; inputs may be beside it.</param>
    /// <param name="places">Where inputs are now, by role; the others are looked for where the receipt says, and beside it.</param>
    /// <exception cref="ConfigurationException">A role is none of the job's.</exception>
    /// <exception cref="InvalidFileException">An input is missing or another.</exception>
    public SampleRequest ToRequest(string receipt, IReadOnlyDictionary<string, string>? places = null)
    {
        if (places?.Keys.FirstOrDefault(p => Inputs.All(i => i.Role != p)) is string unknown)
        {
            throw new ConfigurationException($"the job of {receipt} has no input '{unknown}'; it has: {(Inputs.Count == 0 ? "none" : string.Join(", ", Inputs.Select(i => i.Role)))}");
        }

        ImageSet? Images(string role) => Read(role, ImageSet.Load, i => i);
        ImageSet? init = Images("init"), known = Images("known"), mask = Read("mask", path => ImageSet.Load(path).ToGrey(), i => i);
        return new SampleRequest
        {
            Count = Count,
            BatchSize = BatchSize ?? SampleRequest.DefaultBatchSize,
            Seed = Seed,
            Random = Rng is null ? RandomSource.Philox : RandomSource.Parse(Rng),
            Classes = Classes,
            InterpolateTo = InterpolateTo,
            LowRes = Images("low_res"),
            Init = init is null ? null : new InitialImages(init, Strength ?? throw new InvalidFileException(receipt, "job.request.strength", "is missing")),
            Known = known is null ? null : new KnownImages(known, mask ?? throw new InvalidFileException(receipt, "job.request.inputs", "there is no mask")),
            Latents = Read("latents", LatentFile.Read, file => file.Take(Count)),
        };

        T? Read<TFile, T>(string role, Func<string, TFile> read, Func<TFile, T> take)
            where T : class
        {
            if (Inputs.FirstOrDefault(i => i.Role == role) is not ReceiptInput input)
            {
                return null;
            }

            string path = input.Find(receipt, places?.GetValueOrDefault(role));
            T value = take(read(path));
            string hash = value is ImageSet images ? ReceiptInput.Hash(images) : ReceiptInput.Hash((float[])(object)value);
            return hash == input.Sha256 ? value
                : throw new InvalidFileException(path, "", $"is not the input '{role}' that {receipt} was made with: the SHA-256 of its content is {hash}, there it is {input.Sha256}");
        }
    }
}

/// <summary>What a job started from.</summary>
/// <param name="Role"><c>low_res</c>, <c>init</c>, <c>known</c>, <c>mask</c> or <c>latents</c>.</param>
/// <param name="File">The file or folder, as it was named.</param>
/// <param name="Sha256">
/// SHA-256 of the content, whatever file it is in: of images the bytes <c>[N, H, W, C]</c> after N, H, W and C as 32-bit integers, of latents the binary32 values; all little-endian.
/// </param>
public sealed record ReceiptInput(string Role, string File, string Sha256)
{
    internal static IEnumerable<ReceiptInput> Of(string role, ImageSet? images) => images is null ? [] : [new ReceiptInput(role, images.Path, Hash(images))];

    internal static IEnumerable<ReceiptInput> Of(string role, float[]? values, string? file) => values is null ? [] : [new ReceiptInput(role, file ?? "", Hash(values))];

    internal static string Hash(float[] values) => Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(values.AsSpan())));

    internal static string Hash(ImageSet images)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> extent = stackalloc byte[sizeof(int)];
        foreach (int value in new[] { images.Count, images.Height, images.Width, images.Channels })
        {
            BinaryPrimitives.WriteInt32LittleEndian(extent, value);
            hash.AppendData(extent);
        }

        for (int i = 0; i < images.Count; i++)
        {
            hash.AppendData(images[i]);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    internal string Find(string receipt, string? place)
    {
        string beside = Path.GetDirectoryName(Path.GetFullPath(receipt))!;
        string[] places = place is not null ? [place] : [File, Path.Combine(beside, File), Path.Combine(beside, Path.GetFileName(File))];
        return Array.Find(places, Path.Exists)
            ?? throw new InvalidFileException(receipt, "", $"was made from the input '{Role}' at '{place ?? File}', which is not there. Say where it is with --input {Role}=PATH");
    }
}
