using System.Reflection;
using System.Security.Cryptography;
using System.Text;

namespace Kernels.Backends.Gpu;

/// <summary>The texts of the kernels: those built into the library, or those of a folder, so that a kernel can be edited and run again without a build.</summary>
public sealed class KernelSources
{
    /// <summary>The environment variable that names a folder of kernels where the program does not.</summary>
    public const string Variable = "KERNELS_DIR";

    private const string Prefix = "kernels/";
    private static readonly Lazy<KernelSources> s_builtIn = new(() => new KernelSources("the library", ReadResources()));
    private readonly Dictionary<string, string> _texts;
    private readonly Lazy<string> _sha256;

    private KernelSources(string place, Dictionary<string, string> texts)
    {
        Place = place;
        _texts = texts;
        Headers = [.. texts.Where(t => t.Key.EndsWith(".cuh", StringComparison.Ordinal)).OrderBy(t => t.Key, StringComparer.Ordinal)];
        _sha256 = new Lazy<string>(() => Hash(texts));
    }

    /// <summary>The kernels built into the library.</summary>
    public static KernelSources BuiltIn => s_builtIn.Value;

    /// <summary>Where the texts come from, for messages.</summary>
    public string Place { get; }

    /// <summary>The names of the <c>.cu</c> files.</summary>
    public IEnumerable<string> Files => _texts.Keys.Where(name => name.EndsWith(".cu", StringComparison.Ordinal)).Order(StringComparer.Ordinal);

    /// <summary>The texts that kernels include, by name.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Headers { get; }

    /// <summary>
    /// SHA-256 over names and texts of all sources, in lower-case hexadecimal: what <c>sha256sum *.cu* | sha256sum</c> prints in a folder of them, in the C locale. The same texts have
    /// the same hash, wherever they come from.
    /// </summary>
    public string Sha256 => _sha256.Value;

    /// <summary>The kernels of a folder, of the folder that <see cref="Variable"/> names, or those built in.</summary>
    /// <param name="directory">The folder; null if none was named.</param>
    /// <exception cref="InvalidFileException">The folder does not exist or holds no kernels.</exception>
    public static KernelSources Open(string? directory = null)
    {
        directory ??= Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named ? named : null;
        if (directory is null)
        {
            return BuiltIn;
        }

        if (!Directory.Exists(directory))
        {
            throw new InvalidFileException(directory, "", "there is no such folder of kernels");
        }

        Dictionary<string, string> texts = Directory.EnumerateFiles(directory, "*.cu*")
            .Where(path => Path.GetExtension(path) is ".cu" or ".cuh")
            .ToDictionary(path => Path.GetFileName(path), path => File.ReadAllText(path, Encoding.UTF8));
        return texts.Count > 0 ? new KernelSources(directory, texts) : throw new InvalidFileException(directory, "", "the folder holds no .cu files");
    }

    /// <summary>The text of a source.</summary>
    /// <param name="file">Its name.</param>
    /// <exception cref="InvalidFileException">There is no such source.</exception>
    public string Text(string file) =>
        _texts.TryGetValue(file, out string? text) ? text : throw new InvalidFileException(Place, file, "there is no kernel source of this name");

    private static string Hash(Dictionary<string, string> texts)
    {
        IEnumerable<string> lines = texts.OrderBy(t => t.Key, StringComparer.Ordinal).Select(t => $"{HexHash(t.Value)}  {t.Key}\n");
        return HexHash(string.Concat(lines));

        static string HexHash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
    }

    private static Dictionary<string, string> ReadResources()
    {
        Assembly assembly = typeof(KernelSources).Assembly;
        Dictionary<string, string> texts = [];
        foreach (string name in assembly.GetManifestResourceNames().Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            using StreamReader reader = new(assembly.GetManifestResourceStream(name)!, Encoding.UTF8);
            texts.Add(name[Prefix.Length..], reader.ReadToEnd());
        }

        return texts;
    }
}
