using System.Collections.Concurrent;
using System.Security.Cryptography;
using Kernels.Files;

namespace Kernels.Sampling;

/// <summary>SHA-256 of files (FIPS 180-4), in lower-case hexadecimal.</summary>
public static class FileHash
{
    private const int Piece = 1 << 20;

    // A checkpoint of gigabytes is read for this once per process, however many receipts name it.
    private static readonly ConcurrentDictionary<(string Path, long Length, DateTime Written), string> Known = [];

    /// <summary>The hash of a file's bytes, read in pieces. A file of the same path, length and time of writing is not read again by this process.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">It is missing or cannot be read.</exception>
    public static string Sha256(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        using FileSource file = FileSource.Open(path);
        FileInfo info = new(path);
        (string, long, DateTime) key = (info.FullName, file.Length, info.LastWriteTimeUtc);
        return Known.TryGetValue(key, out string? known) ? known : Known[key] = Sha256(file);
    }

    /// <summary>The hash of what is left of a stream.</summary>
    internal static string Sha256(Stream stream) => Convert.ToHexStringLower(SHA256.HashData(stream));

    /// <summary>The hash of the bytes of a source.</summary>
    internal static string Sha256(ByteSource source)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] piece = new byte[(int)Math.Min(Piece, Math.Max(source.Length, 1))];
        for (long at = 0; at < source.Length;)
        {
            Span<byte> next = piece.AsSpan(0, (int)Math.Min(piece.Length, source.Length - at));
            source.Read(at, next);
            hash.AppendData(next);
            at += next.Length;
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
