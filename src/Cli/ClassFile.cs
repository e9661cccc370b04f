using System.Globalization;

namespace Kernels.Cli;

/// <summary>A file that names the class of every image: one class per line, or lines <c>image,class</c>. Empty lines and those that begin with # are passed over.</summary>
internal static class ClassFile
{
    private const long MaxBytes = 64 << 20;

    /// <summary>Reads the file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="classes">Number of classes.</param>
    /// <param name="names">Their names, if the checkpoint has them.</param>
    /// <returns>The classes in the order of the images.</returns>
    /// <exception cref="InvalidFileException">It cannot be read, or a line is wrong; the message names the line.</exception>
    public static int[] Read(string path, int classes, IReadOnlyList<string>? names)
    {
        string[] lines;
        try
        {
            if (new FileInfo(path) is { Exists: true, Length: > MaxBytes } file)
            {
                throw new InvalidFileException(path, "", $"{file.Length} bytes are too many for a list of classes");
            }

            lines = File.ReadAllLines(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", e.Message, e);
        }

        List<int> listed = [];
        Dictionary<long, (int Class, int Line)> numbered = [];
        for (int i = 0; i < lines.Length; i++)
        {
            string line = lines[i].Trim().TrimStart('\uFEFF');
            string[] parts = line.Split(',', StringSplitOptions.TrimEntries);
            if (line.Length == 0 || line[0] == '#' || (numbered.Count == 0 && listed.Count == 0 && parts is ["image", "class"]))
            {
                continue;
            }

            if (parts.Length > 2 || (parts.Length == 1 && numbered.Count > 0) || (parts.Length == 2 && listed.Count > 0))
            {
                throw Wrong(i, $"'{line}' is neither a class nor image,class as the lines before it");
            }

            int label = Class(parts[^1], i);
            if (parts.Length == 1)
            {
                listed.Add(label);
            }
            else if (!long.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out long image))
            {
                throw Wrong(i, $"'{parts[0]}' is not the number of an image, which counts from 0");
            }
            else if (!numbered.TryAdd(image, (label, i)))
            {
                throw Wrong(i, $"image {image} has its class in line {numbered[image].Line + 1} already");
            }
        }

        for (int image = 0; image < numbered.Count; image++)
        {
            listed.Add(numbered.TryGetValue(image, out (int Class, int Line) entry)
                ? entry.Class
                : throw new InvalidFileException(path, "", $"image {image} has no line, image {numbered.Keys.Max()} has one; give every image from 0 on a class"));
        }

        return listed.Count > 0 ? [.. listed] : throw new InvalidFileException(path, "", "names no class; give one per line, or image,class");

        InvalidFileException Wrong(int line, string reason) => new(path, string.Create(CultureInfo.InvariantCulture, $"line {line + 1}"), reason);

        int Class(string text, int line)
        {
            int named = names?.ToList().FindIndex(n => n.Equals(text, StringComparison.OrdinalIgnoreCase)) ?? -1;
            return named >= 0 ? named
                : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number < classes ? number
                : throw Wrong(line, $"'{text}' is no class: there are 0 to {classes - 1}{(names is null ? "" : $" ({string.Join(", ", names)})")}");
        }
    }
}
