using Kernels.Files;

namespace Kernels.Imaging;

/// <summary>
/// An archive of NumPy arrays, as <c>numpy.savez</c> and <c>numpy.savez_compressed</c> write it: a ZIP file of <c>name.npy</c> entries.
/// Arrays are read when asked for, so the file stays open until disposed.
/// </summary>
public sealed class Npz : IDisposable
{
    private const string Extension = ".npy";

    private readonly ByteSource _source;
    private readonly OrderedDictionary<string, ZipEntry> _arrays = [];

    private Npz(ByteSource source)
    {
        _source = source;
        foreach ((string name, ZipEntry entry) in ZipContainer.Open(source).Entries)
        {
            if (name.EndsWith(Extension, StringComparison.Ordinal))
            {
                _arrays.Add(name[..^Extension.Length], entry);
            }
        }
    }

    /// <summary>The names of the arrays, in the order of the archive; <c>arr_0</c>, <c>arr_1</c>, ... where the program gave none.</summary>
    public IReadOnlyList<string> Names => _arrays.Keys;

    /// <summary>Opens an archive and checks its structure.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file is missing, damaged, or not a ZIP file.</exception>
    public static Npz Open(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Open(FileSource.Open(path));
    }

    /// <summary>
    /// Writes an archive, whole or not at all. The same arrays give the same bytes, whatever the day (and, compressed, with the same .NET runtime).
    /// </summary>
    /// <param name="path">The file to create or replace.</param>
    /// <param name="arrays">The arrays by name, in order.</param>
    /// <param name="compress">Whether to deflate them.</param>
    /// <exception cref="ArgumentException">A name is there twice.</exception>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void Write(string path, IEnumerable<KeyValuePair<string, NpyArray>> arrays, bool compress = false)
    {
        ArgumentNullException.ThrowIfNull(arrays);
        AtomicFile.Write(path, stream => Write(stream, arrays, compress));
    }

    /// <summary>Reads one array.</summary>
    /// <param name="name">Its name, without <c>.npy</c>.</param>
    /// <exception cref="InvalidFileException">There is no such array, or it is damaged or of a kind that is not supported.</exception>
    public NpyArray Read(string name) => _arrays.TryGetValue(name, out ZipEntry? entry)
        ? NpyFormat.Read(entry)
        : throw _source.Invalid($"has no array '{name}'; there are: {string.Join(", ", _arrays.Keys)}");

    /// <summary>Closes the file.</summary>
    public void Dispose() => _source.Dispose();

    /// <summary>Opens an archive in any source of bytes, which the result owns.</summary>
    internal static Npz Open(ByteSource source)
    {
        try
        {
            return new Npz(source);
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>Writes an archive to a seekable stream.</summary>
    internal static void Write(Stream stream, IEnumerable<KeyValuePair<string, NpyArray>> arrays, bool compress)
    {
        ZipWriter zip = new(stream);
        HashSet<string> names = [];
        foreach ((string name, NpyArray array) in arrays)
        {
            if (!names.Add(name))
            {
                throw new ArgumentException($"two arrays are named '{name}'", nameof(arrays));
            }

            zip.Add(name + Extension, NpyFormat.Length(array), compress, entry => NpyFormat.Write(entry, array));
        }

        zip.Finish();
    }
}
