using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>Finds the state dict in what was saved: the dict itself, or one nested under a key beside epochs and optimizer states.</summary>
internal static class StateDicts
{
    private const int MaxDepth = 8;
    private const int MaxListed = 20;

    // Tensors may share storages, so a small file can name any number of bytes; this much is more than any file has use for.
    private const long FreeBytes = 64 << 20;
    private const long MaxExpansion = 200;

    /// <summary>The tensors of the chosen dict, in its order.</summary>
    /// <param name="file">For messages, and its length.</param>
    /// <param name="root">What was saved.</param>
    /// <param name="key">Where the state dict is: keys joined by dots; empty for the top; null to choose the only one.</param>
    public static OrderedDictionary<string, CheckpointTensor> Select(ByteSource file, object? root, string? key)
    {
        if (root is not PickleDict top)
        {
            throw file.Invalid($"holds {PickleValues.Describe(root)}, not a state dict");
        }

        List<(string Path, PickleDict Dict)> candidates = [];
        Collect(top, [], candidates, new HashSet<PickleDict>(ReferenceEqualityComparer.Instance));
        PickleDict? chosen = key is not null ? Find(top, key) : candidates.Count == 1 ? candidates[0].Dict : null;
        if (chosen is null || !HoldsTensors(chosen))
        {
            throw file.Invalid(Advice(key, [.. candidates.Select(candidate => candidate.Path)]));
        }

        OrderedDictionary<string, CheckpointTensor> tensors = [];
        long bytes = 0;
        foreach ((string name, object? value) in chosen.Items)
        {
            if (value is TorchTensor tensor)
            {
                CheckpointTensor named = TorchTensors.Named(name, tensor);
                tensors.Add(name, named);
                bytes += named.Bytes;
            }
        }

        return bytes - FreeBytes <= file.Length * MaxExpansion
            ? tensors
            : throw file.Invalid($"its tensors share storages so often that {file.Length} bytes become {bytes}");
    }

    /// <summary>Strings that stand beside the state dicts at the top.</summary>
    public static Dictionary<string, string> Metadata(object? root) => root is PickleDict top
        ? top.Items.Where(item => item.Value is string).ToDictionary(item => item.Key, item => (string)item.Value!)
        : [];

    private static bool HoldsTensors(PickleDict dict) => dict.Items.Values.Any(value => value is TorchTensor);

    // One candidate more than are listed is enough to know that there are more.
    private static void Collect(PickleDict dict, List<string> path, List<(string Path, PickleDict Dict)> candidates, HashSet<PickleDict> seen)
    {
        if (path.Count > MaxDepth || candidates.Count > MaxListed || !seen.Add(dict))
        {
            return;
        }

        if (HoldsTensors(dict))
        {
            candidates.Add((string.Join('.', path), dict));
        }

        foreach ((string key, object? value) in dict.Items)
        {
            if (value is PickleDict nested)
            {
                path.Add(key);
                Collect(nested, path, candidates, seen);
                path.RemoveAt(path.Count - 1);
            }
        }
    }

    // Keys may contain dots themselves, so the longest prefix that is a key comes first.
    private static PickleDict? Find(PickleDict dict, string path)
    {
        if (path.Length == 0)
        {
            return dict;
        }

        for (int end = path.Length; end > 0; end = path.LastIndexOf('.', end - 1))
        {
            if (dict.Items.TryGetValue(path[..end], out object? value) && value is PickleDict nested)
            {
                return end == path.Length ? nested : Find(nested, path[(end + 1)..]);
            }
        }

        return null;
    }

    private static string Advice(string? key, List<string> candidates)
    {
        string listed = string.Join(", ", candidates.Take(MaxListed).Select(path => $"'{path}'")) + (candidates.Count > MaxListed ? ", ..." : "");
        return (key, candidates.Count) switch
        {
            (_, 0) => "holds no state dict: no dict in it maps names to tensors",
            (null, _) => $"holds several state dicts; choose one with --key: {listed}",
            _ => $"holds no state dict under the key '{key}'; there are: {listed}",
        } + (candidates.Contains("") ? " ('' is the top level)" : "");
    }
}
