using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Kernels.Files;

namespace Kernels.Backends.Gpu;

/// <summary>
/// Compiled kernels on disk. A file is named by a hash of everything that decides the result but the compiler: source, headers, options, architecture; the compiler's version stands
/// in it. Another version compiles again; where there is no compiler, what is there is taken. Files are written whole or not at all, so any number of processes may share a folder.
/// </summary>
public sealed class KernelCache
{
    /// <summary>The environment variable that names the folder; set to nothing, nothing is kept.</summary>
    public const string Variable = "KERNELS_CACHE";

    private const string Magic = "kernels-image-1";
    private readonly string? _directory;

    /// <summary>Opens a cache. The folder is made when something is first kept.</summary>
    /// <param name="directory">The folder; null for the user's (<see cref="Variable"/>, otherwise <c>kernels</c> in the user's cache folder), empty for none.</param>
    public KernelCache(string? directory = null)
    {
        directory ??= Environment.GetEnvironmentVariable(Variable) ?? UserFolder();
        _directory = directory.Length == 0 ? null : directory;
    }

    /// <summary>The folder; null if nothing is kept.</summary>
    public string? Directory => _directory;

    /// <summary>The name under which an image is kept.</summary>
    /// <param name="source">The source's text.</param>
    /// <param name="headers">Texts that it may include.</param>
    /// <param name="spec">File and options.</param>
    /// <param name="architecture">The target.</param>
    public static string Key(string source, IEnumerable<KeyValuePair<string, string>> headers, KernelSpec spec, string architecture)
    {
        ArgumentNullException.ThrowIfNull(headers);
        ArgumentNullException.ThrowIfNull(spec);
        StringBuilder all = new();
        foreach (string part in (string[])[Magic, spec.File, source, .. headers.SelectMany(h => new[] { h.Key, h.Value }), spec.Options, architecture])
        {
            // Lengths keep two neighbours from passing for one another.
            all.Append(CultureInfo.InvariantCulture, $"{part.Length}:").Append(part);
        }

        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes(all.ToString()));
        return $"{Path.GetFileNameWithoutExtension(spec.File)}-{Convert.ToHexStringLower(hash.AsSpan(0, 16))}";
    }

    /// <summary>An image; null if there is none of that compiler or it is damaged.</summary>
    /// <param name="key">What <see cref="Key"/> gave.</param>
    /// <param name="compiler">The compiler's version; null to take any.</param>
    public byte[]? Find(string key, Version? compiler)
    {
        if (_directory is null)
        {
            return null;
        }

        try
        {
            using FileStream stream = File.OpenRead(PathOf(key));
            using BinaryReader reader = new(stream, Encoding.UTF8);
            if (reader.ReadString() != Magic || (reader.ReadString() is string version && compiler is not null && version != compiler.ToString()))
            {
                return null;
            }

            byte[] hash = reader.ReadBytes(SHA256.HashSizeInBytes);
            byte[] image = reader.ReadBytes(checked((int)(stream.Length - stream.Position)));
            return SHA256.HashData(image).AsSpan().SequenceEqual(hash) ? image : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or ArgumentException)
        {
            // A cache that cannot be read is an empty one.
            return null;
        }
    }

    /// <summary>Keeps an image. A folder that cannot be written is not an error: the next process compiles again.</summary>
    /// <param name="key">What <see cref="Key"/> gave.</param>
    /// <param name="compiler">The compiler's version.</param>
    /// <param name="image">The image.</param>
    public void Add(string key, Version compiler, byte[] image)
    {
        ArgumentNullException.ThrowIfNull(compiler);
        ArgumentNullException.ThrowIfNull(image);
        if (_directory is null)
        {
            return;
        }

        try
        {
            System.IO.Directory.CreateDirectory(_directory);
            AtomicFile.Write(PathOf(key), stream =>
            {
                using BinaryWriter writer = new(stream, Encoding.UTF8, leaveOpen: true);
                writer.Write(Magic);
                writer.Write(compiler.ToString());
                writer.Write(SHA256.HashData(image));
                writer.Write(image);
            });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidFileException)
        {
        }
    }

    private static string UserFolder()
    {
        string root = Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify);
        return root.Length == 0 ? "" : Path.Combine(Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg ? xdg : root, "kernels");
    }

    private string PathOf(string key) => Path.Combine(_directory!, key + ".image");
}
