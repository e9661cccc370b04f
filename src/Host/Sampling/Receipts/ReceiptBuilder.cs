using System.Security.Cryptography;

namespace Kernels.Sampling;

/// <summary>Makes the receipt of images that come piece by piece, in order.</summary>
public sealed class ReceiptBuilder : IDisposable
{
    private readonly ReceiptImages _images;
    private readonly StepHashSummary.Builder? _steps;
    private readonly IncrementalHash _pixels = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private int _count;

    /// <summary>Begins.</summary>
    /// <param name="images">The images; how many there are is counted.</param>
    /// <param name="steps">Number of steps that are hashed; null for none.</param>
    public ReceiptBuilder(ReceiptImages images, int? steps)
    {
        _images = images;
        _steps = steps is int count ? new StepHashSummary.Builder(count) : null;
    }

    /// <summary>Images so far.</summary>
    public int Count => _count;

    /// <summary>Adds the images that follow.</summary>
    /// <param name="pixels">Their samples, <c>[N, H, W, C]</c>.</param>
    /// <param name="hashes">What they were after every step; not looked at if no steps are hashed.</param>
    public void Add(ReadOnlySpan<byte> pixels, StepHashes? hashes)
    {
        _pixels.AppendData(pixels);
        _count += pixels.Length / (_images.Height * _images.Width * _images.Channels);
        if (_steps is not null)
        {
            _steps.Add(hashes ?? throw new ArgumentNullException(nameof(hashes)));
        }
    }

    /// <summary>The receipt of the images so far.</summary>
    /// <param name="job">How they were made.</param>
    /// <param name="fileSha256">The hash of the file that it will lie beside.</param>
    public Receipt Finish(JobIdentity job, string? fileSha256 = null) => new()
    {
        Job = job,
        Images = _images with { Count = _count },
        StepHashes = _steps?.Finish(),
        PixelsSha256 = Convert.ToHexStringLower(_pixels.GetCurrentHash()),
        FileSha256 = fileSha256,
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        _steps?.Dispose();
        _pixels.Dispose();
    }
}
