using System.Globalization;

namespace Kernels.Cli;

/// <summary>Class lists of the command line: numbers, ranges (<c>0-9</c>) and names, separated by commas.</summary>
internal static class ClassList
{
    // A list is repeated over the samples, so nobody needs a longer one.
    private const int MaxLength = 1_000_000;

    /// <summary>Reads lists.</summary>
    /// <param name="lists">What was given, one entry per option.</param>
    /// <param name="classes">Number of classes.</param>
    /// <param name="names">Their names, if the checkpoint has them.</param>
    /// <exception cref="ConfigurationException">An entry is no class; the message says which there are.</exception>
    public static int[] Parse(IEnumerable<string> lists, int classes, IReadOnlyList<string>? names)
    {
        List<int> labels = [];
        foreach (string entry in lists.SelectMany(l => l.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)))
        {
            (int first, int last) = ParseEntry(entry, classes, names);
            if (labels.Count + (last - first + 1) > MaxLength)
            {
                throw new ConfigurationException($"--class lists more than {MaxLength} classes");
            }

            labels.AddRange(Enumerable.Range(first, last - first + 1));
        }

        return labels.Count > 0 ? [.. labels] : throw new ConfigurationException("--class names no class");
    }

    private static (int First, int Last) ParseEntry(string entry, int classes, IReadOnlyList<string>? names)
    {
        int named = names?.ToList().FindIndex(n => n.Equals(entry, StringComparison.OrdinalIgnoreCase)) ?? -1;
        if (named >= 0)
        {
            return (named, named);
        }

        string[] ends = entry.Split('-');
        if (ends.Length is 1 or 2 && Number(ends[0]) is int first && Number(ends[^1]) is int last)
        {
            return first <= last && last < classes
                ? (first, last)
                : throw new ConfigurationException(
                    first > last ? $"--class {entry}: the range runs backwards" : $"--class {entry} is out of range: there are classes 0 to {classes - 1}{List(names)}");
        }

        throw new ConfigurationException($"--class {entry} is not a class: give numbers from 0 to {classes - 1}, ranges as 0-9{(names is null ? "" : ", or a name")}{List(names)}");
    }

    private static int? Number(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : null;

    private static string List(IReadOnlyList<string>? names) => names is null ? "" : $" ({string.Join(", ", names.Select((n, i) => $"{i} {n}"))})";
}
