using System.Text.Json;
using Kernels.Files;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>Where receipts are: in the text of a PNG, or as <c>NAME.npz.json</c> beside an archive.</summary>
public static class ReceiptFile
{
    /// <summary>The keyword of the text in a PNG (tEXt; the receipt is ASCII).</summary>
    public const string Keyword = "kernels.receipt";

    private const string RowPrefix = Keyword + ".";

    /// <summary>What is added to the name of an archive.</summary>
    public const string Extension = ".json";

    /// <summary>The receipt as the text of a picture.</summary>
    /// <param name="receipt">The receipt.</param>
    public static IReadOnlyDictionary<string, string> TextOf(Receipt receipt) => new Dictionary<string, string> { [Keyword] = Write(receipt) };

    /// <summary>The receipts of a picture whose rows were made by several samplers, as its text.</summary>
    /// <param name="rows">The name of each row's sampler, and its receipt.</param>
    public static IReadOnlyDictionary<string, string> TextOf(IEnumerable<(string Row, Receipt Receipt)> rows) => rows.ToDictionary(r => RowPrefix + r.Row, r => Write(r.Receipt));

    /// <summary>Writes the receipt of an archive.</summary>
    /// <param name="path">The archive.</param>
    /// <param name="receipt">Its receipt.</param>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void WriteBeside(string path, Receipt receipt) =>
        AtomicFile.Write(path + Extension, stream => JsonSerializer.Serialize(stream, receipt, ReceiptJson.Indented.Receipt));

    /// <summary>Reads the receipt of images.</summary>
    /// <param name="path">A PNG, an archive with its receipt beside it, or that receipt.</param>
    /// <param name="picture">The picture, if it is a PNG and the receipt that of all of it.</param>
    /// <param name="row">Of a picture whose rows were made by several samplers, the one that is meant.</param>
    /// <exception cref="InvalidFileException">There is no receipt, it is damaged, or an archive is not the one that its receipt speaks of.</exception>
    public static Receipt Read(string path, out Image? picture, string? row = null)
    {
        ArgumentNullException.ThrowIfNull(path);
        picture = null;
        switch (Path.GetExtension(path).ToLowerInvariant())
        {
            case ".png":
                Image image = Png.Load(path);
                string keyword = row is null ? Keyword : RowPrefix + row;
                if (!image.Text.TryGetValue(keyword, out string? text))
                {
                    string[] rows = [.. image.Text.Keys.Where(k => k.StartsWith(RowPrefix, StringComparison.Ordinal)).Select(k => k[RowPrefix.Length..])];
                    throw new InvalidFileException(
                        path,
                        "",
                        rows.Length > 0 ? $"compares samplers and holds a receipt of each; say which with --sampler: {string.Join(", ", rows)}"
                            : $"holds no receipt (PNG text '{keyword}'); pictures of kernels sample do, unless another program wrote them again");
                }

                picture = row is null ? image : null;
                return Parse(path, () => JsonSerializer.Deserialize(text, ReceiptJson.Default.Receipt));
            case ".npz":
                return ReadBeside(path, path + Extension);
            case Extension:
                return ReadBeside(path[..^Extension.Length], path);
            default:
                throw new InvalidFileException(path, "", $"is neither a .png, nor a .npz with its receipt beside it (.npz{Extension}), nor that receipt");
        }
    }

    /// <summary>Whether an archive is there, whole, and made as a job says: then there is nothing to do.</summary>
    /// <param name="path">The archive.</param>
    /// <param name="job">The job.</param>
    internal static bool IsDone(string path, JobSettings job)
    {
        if (!File.Exists(path) || !File.Exists(path + Extension))
        {
            return false;
        }

        try
        {
            Receipt receipt = Read(path, out _);
            return new JobSettings(receipt.Job, receipt.Images, receipt.StepHashes?.Steps.Count).Sha256 == job.Sha256;
        }
        catch (InvalidFileException)
        {
            // Whatever it is, it is not the job's result.
            return false;
        }
    }

    private static string Write(Receipt receipt) => JsonSerializer.Serialize(receipt, ReceiptJson.Default.Receipt);

    private static Receipt ReadBeside(string archive, string path)
    {
        Receipt receipt;
        using (FileSource file = FileSource.Open(path))
        {
            receipt = Parse(path, () => JsonSerializer.Deserialize(file.ReadAll(Array.MaxLength), ReceiptJson.Default.Receipt));
        }

        string expected = receipt.FileSha256 ?? throw new InvalidFileException(path, "file_sha256", "is missing");
        string hash = FileHash.Sha256(archive);
        return hash == expected
            ? receipt
            : throw new InvalidFileException(archive, "", $"is not the file that {path} speaks of: its SHA-256 is {hash}, there it is {expected}");
    }

    private static Receipt Parse(string path, Func<Receipt?> read)
    {
        try
        {
            Receipt receipt = read() ?? throw new InvalidFileException(path, "receipt", "is null");
            string? wrong = receipt.Format != Receipt.CurrentFormat ? $"has the format '{receipt.Format}'; this program reads {Receipt.CurrentFormat}" : Check(receipt);
            return wrong is null ? receipt : throw new InvalidFileException(path, "receipt", wrong);
        }
        catch (JsonException e)
        {
            throw new InvalidFileException(path, $"receipt {e.Path}", $"cannot be understood: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            // The reader's answer to a string with lone surrogates.
            throw new InvalidFileException(path, "receipt", $"cannot be understood: {e.Message}", e);
        }
    }

    // Counts that fit each other, so that nothing is allocated or indexed by what a stranger wrote.
    private static string? Check(Receipt receipt)
    {
        ReceiptImages images = receipt.Images;
        if (images.Count < 1 || images.First < 0 || images.First > receipt.Job.Request.Count - images.Count)
        {
            return $"speaks of {images.Count} images from {images.First} on in a job of {receipt.Job.Request.Count}";
        }

        if (receipt.Job.Request.BatchSize < 1)
        {
            return $"speaks of batches of {receipt.Job.Request.BatchSize} images";
        }

        if (receipt.Job.Request.Inputs.Any(i => i is null) || receipt.Job.DisabledFusions.Any(f => f is null))
        {
            return "holds null in place of an input or a fusion";
        }

        if (images.Height < 1 || images.Width < 1 || images.Channels < 1 || (long)images.Height * images.Width > int.MaxValue / images.Channels)
        {
            return $"speaks of images of {images.Height}x{images.Width}x{images.Channels}";
        }

        if (receipt.StepHashes is not { } hashes)
        {
            return null;
        }

        long fingerprints = (long)images.Count * hashes.Steps.Count * StepHashSummary.FingerprintBytes;
        byte[] buffer = new byte[hashes.Fingerprints?.Length ?? 0];
        bool whole = hashes.Fingerprints is null || (Convert.TryFromBase64String(hashes.Fingerprints, buffer, out int written) && written == fingerprints);
        return hashes.Steps.Count > 0 && hashes.Images.Count == images.Count && whole
            ? null
            : $"has hashes of {hashes.Images.Count} images and {hashes.Steps.Count} steps that do not fit its {images.Count} images";
    }
}
