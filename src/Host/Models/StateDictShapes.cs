using Kernels.Checkpoints;

namespace Kernels.Models;

/// <summary>Names and shapes of a state dict: all that the architecture is read off. No value is read.</summary>
internal sealed class StateDictShapes
{
    // The deepest key of the models has six parts; deeper ones are extra tensors, and need no index.
    private const int MaxDepth = 8;
    private readonly HashSet<string> _modules = new(StringComparer.Ordinal);

    /// <param name="file">For messages.</param>
    /// <param name="shapes">Name to shape.</param>
    public StateDictShapes(string file, IReadOnlyDictionary<string, Shape> shapes)
    {
        File = file;
        Shapes = shapes;
        foreach (string name in shapes.Keys)
        {
            int end = name.IndexOf('.', StringComparison.Ordinal);
            for (int depth = 0; end > 0 && depth < MaxDepth; depth++, end = name.IndexOf('.', end + 1))
            {
                _modules.Add(name[..end]);
            }
        }
    }

    /// <summary>The file, for messages.</summary>
    public string File { get; }

    /// <summary>Name to shape, in the order of the file.</summary>
    public IReadOnlyDictionary<string, Shape> Shapes { get; }

    /// <summary>The shapes in a checkpoint.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="prefix">Part of every key that the models do not have.</param>
    public static StateDictShapes Of(Checkpoint checkpoint, string prefix) =>
        new(checkpoint.File, new OrderedDictionary<string, Shape>(checkpoint.Tensors.Select(t => KeyValuePair.Create(t.Key[prefix.Length..], t.Value.Shape))));

    /// <summary>Whether a tensor's name begins with the path of this module.</summary>
    /// <param name="path">A module path, as <c>input_blocks.3.0</c>.</param>
    public bool HasModule(string path) => _modules.Contains(path);

    /// <summary>An extent, if there is such a tensor and it has the expected rank.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="rank">The number of axes that it has in the models.</param>
    /// <param name="axis">The axis.</param>
    public int? Extent(string name, int rank, int axis) => Shapes.TryGetValue(name, out Shape shape) && shape.Rank == rank ? shape[axis] : null;

    /// <summary>Number of consecutively numbered children of a module list, those without tensors included: the greatest number and one.</summary>
    /// <param name="list">The list's path, as <c>input_blocks</c>.</param>
    public int Count(string list)
    {
        int count = 0;
        foreach (string module in _modules)
        {
            if (module.Length > list.Length + 1
                && module[list.Length] == '.'
                && module.StartsWith(list, StringComparison.Ordinal)
                && int.TryParse(module.AsSpan(list.Length + 1), System.Globalization.NumberStyles.None, null, out int index))
            {
                count = Math.Max(count, index == int.MaxValue ? index : index + 1);
            }
        }

        return count;
    }
}

/// <summary>
/// What several tensors say about one value. The majority decides, so that one damaged tensor is found by what the others say and not the other way round; among
/// equals the first.
/// </summary>
internal sealed class Votes
{
    private readonly OrderedDictionary<int, (int Count, string Witness)> _votes = [];

    /// <summary>Whether anything was said.</summary>
    public bool Any => _votes.Count > 0;

    /// <summary>What most say.</summary>
    public int Value => Winner.Key;

    /// <summary>The first tensor that says so.</summary>
    public string Witness => Winner.Value.Witness;

    private KeyValuePair<int, (int Count, string Witness)> Winner => _votes.MaxBy(v => v.Value.Count);

    /// <summary>Adds a vote.</summary>
    /// <param name="value">The value; null for none.</param>
    /// <param name="witness">The tensor.</param>
    public void Add(int? value, string witness)
    {
        if (value is int v)
        {
            _votes[v] = _votes.TryGetValue(v, out (int Count, string Witness) known) ? (known.Count + 1, known.Witness) : (1, witness);
        }
    }

    /// <summary>Adds a vote for a whole quotient.</summary>
    /// <param name="value">The dividend; null for no vote.</param>
    /// <param name="divisor">The divisor; without a whole quotient there is no vote.</param>
    /// <param name="witness">The tensor.</param>
    public void AddQuotient(int? value, int divisor, string witness) => Add(value is int v && divisor > 0 && v % divisor == 0 ? v / divisor : null, witness);
}
