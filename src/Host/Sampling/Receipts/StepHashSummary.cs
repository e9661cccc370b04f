using System.Security.Cryptography;

namespace Kernels.Sampling;

/// <summary>
/// The hashes of a receipt, combined from those of <see cref="Sampling.StepHashes"/>: enough to tell whether two runs are the same, after which step they part and in which image.
/// </summary>
public sealed record StepHashSummary
{
    /// <summary>More images times steps than this, and <see cref="Fingerprints"/> are left out: they would be longer than a megabyte.</summary>
    public const int MaxFingerprints = 1 << 18;

    /// <summary>Bytes of a hash that its fingerprint keeps.</summary>
    public const int FingerprintBytes = 4;

    /// <summary>Of every step s, SHA-256(h(0, s) h(1, s) ... ): the images in order.</summary>
    public required IReadOnlyList<string> Steps { get; init; }

    /// <summary>Of every image i, SHA-256(h(i, 0) h(i, 1) ... ): the steps in order.</summary>
    public required IReadOnlyList<string> Images { get; init; }

    /// <summary>The first four bytes of every h(i, s), <c>[N, S]</c>, in base64: they say which image parts first. Left out for a single image and for very many.</summary>
    public string? Fingerprints { get; init; }

    /// <summary>The first difference of two runs.</summary>
    /// <param name="other">The other run, of as many images and steps.</param>
    /// <returns>Null if they are the same.</returns>
    public StepDifference? Compare(StepHashSummary other)
    {
        ArgumentNullException.ThrowIfNull(other);
        int step = FirstDifference(Steps, other.Steps);
        int[] images = [.. Enumerable.Range(0, Math.Max(Images.Count, other.Images.Count))
            .Where(i => i >= Images.Count || i >= other.Images.Count || Images[i] != other.Images[i])];
        if (step < 0 && images.Length == 0)
        {
            return null;
        }

        return new StepDifference(Math.Max(step, 0), FirstImage(other, Math.Max(step, 0), images), images);
    }

    private static int FirstDifference(IReadOnlyList<string> a, IReadOnlyList<string> b)
    {
        for (int i = 0; i < Math.Max(a.Count, b.Count); i++)
        {
            if (i >= a.Count || i >= b.Count || a[i] != b[i])
            {
                return i;
            }
        }

        return -1;
    }

    // Images that differ at any step are known; which of them does at the first one, only where every hash left a fingerprint.
    private int? FirstImage(StepHashSummary other, int step, int[] images)
    {
        if (images.Length <= 1 || Fingerprints is null || other.Fingerprints is null || Fingerprints.Length != other.Fingerprints.Length)
        {
            return images.Length == 1 ? images[0] : null;
        }

        byte[] mine = Convert.FromBase64String(Fingerprints), others = Convert.FromBase64String(other.Fingerprints);
        foreach (int image in images)
        {
            int at = ((image * Steps.Count) + step) * FingerprintBytes;
            if (!mine.AsSpan(at, FingerprintBytes).SequenceEqual(others.AsSpan(at, FingerprintBytes)))
            {
                return image;
            }
        }

        return null;
    }

    /// <summary>Combines hashes as they come, image by image.</summary>
    public sealed class Builder : IDisposable
    {
        private readonly IncrementalHash[] _steps;
        private readonly List<string> _images = [];
        private readonly MemoryStream _fingerprints = new();

        /// <summary>Begins.</summary>
        /// <param name="steps">Number of steps.</param>
        public Builder(int steps) => _steps = [.. Enumerable.Range(0, steps).Select(_ => IncrementalHash.CreateHash(HashAlgorithmName.SHA256))];

        /// <summary>Adds the images that follow.</summary>
        /// <param name="hashes">Their hashes.</param>
        public void Add(StepHashes hashes)
        {
            ArgumentNullException.ThrowIfNull(hashes);
            for (int image = 0; image < hashes.Images; image++)
            {
                for (int step = 0; step < _steps.Length; step++)
                {
                    ReadOnlySpan<byte> hash = hashes.Of(image, step);
                    _steps[step].AppendData(hash);
                    if (_fingerprints.Length <= (long)MaxFingerprints * FingerprintBytes)
                    {
                        _fingerprints.Write(hash[..FingerprintBytes]);
                    }
                }

                _images.Add(Convert.ToHexStringLower(SHA256.HashData(hashes.Of(image))));
            }
        }

        /// <summary>What a receipt says.</summary>
        public StepHashSummary Finish() => new()
        {
            Steps = [.. _steps.Select(s => Convert.ToHexStringLower(s.GetCurrentHash()))],
            Images = [.. _images],
            Fingerprints = _images.Count > 1 && (long)_images.Count * _steps.Length <= MaxFingerprints ? Convert.ToBase64String(_fingerprints.ToArray()) : null,
        };

        /// <inheritdoc/>
        public void Dispose()
        {
            foreach (IncrementalHash step in _steps)
            {
                step.Dispose();
            }
        }
    }
}

/// <summary>Where two runs part.</summary>
/// <param name="Step">The first step whose results differ, from 0.</param>
/// <param name="Image">The first image that differs after that step, from 0; null where the hashes cannot tell which of several it is.</param>
/// <param name="Images">All images that differ after any step.</param>
public sealed record StepDifference(int Step, int? Image, IReadOnlyList<int> Images);
