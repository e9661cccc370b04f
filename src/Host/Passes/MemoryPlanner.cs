namespace Kernels.Passes;

/// <summary>Gives every tensor but the weights a place in one arena, so that tensors that are never alive together share bytes.</summary>
/// <remarks>
/// Views share their source's storage; an op that declares it may write over a dying input of the same size; a graph's updates are laid onto the inputs they
/// replace. What is left is placed one after the other, each into the tightest gap that is free during its life (Pisarchyk and Lee 2020, "greedy by size"),
/// in several orders, of which the tightest wins.
/// Inputs and outputs keep their bytes for the whole run, so that a caller can write before and read after it.
/// </remarks>
public static class MemoryPlanner
{
    /// <summary>Alignment of every tensor: one cache line, and one AVX-512 register.</summary>
    public const int Alignment = 64;

    /// <summary>Plans the arena of a graph.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="reuseInPlace">Whether ops may write over dying inputs.</param>
    /// <param name="concurrency">Parts of the graph that run side by side: they share no bytes. Null if the nodes run one after the other.</param>
    /// <exception cref="GraphException">An update cannot be done in place.</exception>
    public static MemoryPlan Plan(Graph graph, bool reuseInPlace = true, Concurrency? concurrency = null)
    {
        ArgumentNullException.ThrowIfNull(graph);
        (Dictionary<Tensor, Storage> storages, int inPlace) = AssignStorage(graph, reuseInPlace, concurrency);
        Storage[] all = [.. storages.Values.Distinct()];
        List<Storage> placed = [];
        long arena = all.Length == 0 ? 0 : long.MaxValue;
        foreach (IEnumerable<Storage> order in all.Length == 0 ? [] : Orders(all))
        {
            (List<Storage> attempt, long size) = Place(order);
            if (size < arena)
            {
                (placed, arena) = (attempt, size);
                foreach (Storage storage in placed)
                {
                    storage.Offset = storage.Candidate;
                }
            }
        }

        long leastPossible = 0;
        for (int i = -1; i <= graph.Nodes.Count; i++)
        {
            leastPossible = Math.Max(leastPossible, placed.Where(s => s.First <= i && i <= s.Last).Sum(s => s.Bytes));
        }

        return new MemoryPlan(storages.ToDictionary(p => p.Key, p => p.Value.Offset), arena, leastPossible, placed.Sum(s => s.Bytes), inPlace);
    }

    private static (Dictionary<Tensor, Storage> Storages, int InPlace) AssignStorage(Graph graph, bool reuseInPlace, Concurrency? concurrency)
    {
        Dictionary<Tensor, Storage> storages = [];
        Dictionary<Tensor, int> lastUse = LastUses(graph);
        foreach (Tensor input in graph.Inputs)
        {
            storages.Add(input, new Storage(input.Bytes, -1) { Last = graph.Nodes.Count });
        }

        int inPlace = 0;
        for (int i = 0; i < graph.Nodes.Count; i++)
        {
            Node node = graph.Nodes[i];
            Parts part = concurrency is null || !concurrency.Contains(i) ? Parts.None : concurrency.Side.Contains(node) ? Parts.Side : Parts.Main;
            foreach (Tensor input in node.Inputs)
            {
                if (storages.TryGetValue(input, out Storage? read))
                {
                    read.Parts |= part;
                }
            }

            for (int k = 0; k < node.Outputs.Count; k++)
            {
                Tensor output = node.Outputs[k];
                Storage? shared = Shared(graph, node, k, (i, part), storages, lastUse, reuseInPlace);
                inPlace += shared is not null && !node.Op.IsView ? 1 : 0;
                Storage storage = shared ?? new Storage(output.Bytes, i);
                storage.Parts |= part;
                storage.Last = Math.Max(storage.Last, lastUse.GetValueOrDefault(output, i));
                storages.Add(output, storage);
            }
        }

        foreach ((Tensor output, Tensor input) in graph.Updates)
        {
            if (storages[output] != storages[input])
            {
                throw new GraphException($"'{output.Name}' cannot be written over '{input.Name}': its node must work in place on it and be its last reader");
            }
        }

        return (storages, inPlace);
    }

    private static Storage? Shared(
        Graph graph, Node node, int output, (int Index, Parts Part) at, Dictionary<Tensor, Storage> storages, Dictionary<Tensor, int> lastUse, bool reuseInPlace)
    {
        if (node.Op.IsView)
        {
            return storages.GetValueOrDefault(node.Inputs[0]);
        }

        long bytes = node.Outputs[output].Bytes;
        Tensor? updated = Updated(graph, node.Outputs[output], lastUse, at.Index);
        IReadOnlyList<int> inPlace = node.Op.InPlaceInputsOf(output);
        foreach (int k in inPlace)
        {
            Tensor input = node.Inputs[k];
            if (!storages.TryGetValue(input, out Storage? storage) || input.Bytes != bytes || storage.Bytes != Align(input.Bytes))
            {
                continue;
            }

            bool isUpdate = updated is not null && storages[updated] == storage && lastUse[updated] <= at.Index && lastUse[input] == at.Index;

            // What the other part reads may still be read, wherever that stands in the order.
            bool isOthers = at.Part != Parts.None && storage.Parts != at.Part;
            bool dies = reuseInPlace && updated is null && output == 0 && storage.Last <= at.Index && !isOthers;

            // Another input in the same storage would be overwritten while it is still being read, unless the op reads that one in step as well.
            bool alone = node.Inputs.Select((t, j) => (t, j)).All(p => !storages.TryGetValue(p.t, out Storage? s) || s != storage || inPlace.Contains(p.j));
            if (alone && (isUpdate || dies))
            {
                return storage;
            }
        }

        return null;
    }

    // The input that a tensor takes the place of: as an update of it, or as what the only reader turns into the update, in the same memory.
    private static Tensor? Updated(Graph graph, Tensor tensor, Dictionary<Tensor, int> lastUse, int index)
    {
        if (graph.Updates.TryGetValue(tensor, out Tensor? updated) || graph.Outputs.Values.Contains(tensor) || graph.Consumers(tensor) is not [Node reader])
        {
            return updated;
        }

        return reader.Outputs.Index()
            .Where(o => reader.Op.InPlaceInputsOf(o.Index).Any(k => reader.Inputs[k] == tensor))
            .Select(o => graph.Updates.GetValueOrDefault(o.Item))
            .FirstOrDefault(t => t is not null && lastUse[t] <= index);
    }

    private static Dictionary<Tensor, int> LastUses(Graph graph)
    {
        Dictionary<Tensor, int> last = [];
        foreach (Tensor output in graph.Outputs.Values)
        {
            last[output] = graph.Nodes.Count;
        }

        for (int i = graph.Nodes.Count - 1; i >= 0; i--)
        {
            Node node = graph.Nodes[i];
            foreach (Tensor input in node.Inputs)
            {
                last.TryAdd(input, i);
            }

            // A view keeps its source alive; going backwards, the view's own last use is known by now.
            if (node.Op.IsView)
            {
                last[node.Inputs[0]] = Math.Max(last[node.Inputs[0]], last.GetValueOrDefault(node.Output, i));
            }
        }

        return last;
    }

    private static long Align(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    // No single order is best for every graph, and placing is cheap beside everything that follows: the tightest result is kept.
    private static IEnumerable<IEnumerable<Storage>> Orders(Storage[] all)
    {
        yield return all.OrderByDescending(s => s.Bytes).ThenBy(s => s.First);
        yield return all.OrderByDescending(s => s.Bytes).ThenByDescending(s => s.Last - s.First).ThenBy(s => s.First);
        yield return all.OrderByDescending(s => s.Bytes * (s.Last - s.First + 1.0)).ThenBy(s => s.First);
        yield return all.OrderByDescending(s => s.Last - s.First).ThenByDescending(s => s.Bytes).ThenBy(s => s.First);
        yield return all.OrderBy(s => s.First).ThenByDescending(s => s.Last).ThenByDescending(s => s.Bytes);
        yield return all.OrderByDescending(s => s.Last).ThenByDescending(s => s.Bytes).ThenBy(s => s.First);

        // Those that are alive where the most is alive first: they alone decide the least possible size, and the rest fits around them.
        int peak = Enumerable.Range(-1, all.Max(s => s.Last) + 2)
            .MaxBy(i => all.Where(s => s.First <= i && i <= s.Last).Sum(s => s.Bytes));
        yield return all.OrderBy(s => s.First <= peak && peak <= s.Last ? 0 : 1).ThenByDescending(s => s.Last - s.First).ThenByDescending(s => s.Bytes).ThenBy(s => s.First);
        yield return all.OrderBy(s => s.First <= peak && peak <= s.Last ? 0 : 1).ThenBy(s => s.First).ThenByDescending(s => s.Bytes);
    }

    private static (List<Storage> Placed, long Size) Place(IEnumerable<Storage> order)
    {
        List<Storage> placed = [];
        long size = 0;
        foreach (Storage storage in order)
        {
            storage.Candidate = FindGap(placed, storage);
            size = Math.Max(size, storage.Candidate + storage.Bytes);
            placed.Add(storage);
        }

        return (placed, size);
    }

    private static long FindGap(List<Storage> placed, Storage storage)
    {
        long best = -1;
        long bestSize = long.MaxValue;
        long end = 0;
        foreach (Storage other in placed.Where(storage.Meets).OrderBy(o => o.Candidate))
        {
            long gap = other.Candidate - end;
            if (gap >= storage.Bytes && gap < bestSize)
            {
                (best, bestSize) = (end, gap);
            }

            end = Math.Max(end, other.Candidate + other.Bytes);
        }

        return best >= 0 ? best : end;
    }

    /// <summary>Bytes that one or more tensors occupy in turn, from the node that first writes them to the one that last reads them.</summary>
    /// <summary>Who uses a storage while two parts of a graph run side by side.</summary>
    [Flags]
    private enum Parts
    {
        None = 0,
        Side = 1,
        Main = 2,
    }

    private sealed class Storage(long bytes, int first)
    {
        public Parts Parts { get; set; }

        public long Bytes { get; } = Align(bytes);

        public int First { get; } = first;

        public int Last { get; set; } = first;

        public long Offset { get; set; }

        /// <summary>The offset in the placement that is being tried.</summary>
        public long Candidate { get; set; }

        /// <summary>Whether both may be in use at one time: their lifetimes overlap, or they are used by parts that run side by side.</summary>
        public bool Meets(Storage other) =>
            (other.First <= Last && First <= other.Last) || (Parts | other.Parts) == (Parts.Side | Parts.Main);
    }
}

/// <summary>Where every tensor but the weights lies.</summary>
/// <param name="Offsets">Offset of each tensor in the arena, in bytes.</param>
/// <param name="ArenaBytes">Size of the arena.</param>
/// <param name="LeastBytes">The most that is alive at any one time: no placement can be smaller.</param>
/// <param name="UnsharedBytes">What the storages would take side by side.</param>
/// <param name="InPlace">Number of nodes that write over an input.</param>
public sealed record MemoryPlan(IReadOnlyDictionary<Tensor, long> Offsets, long ArenaBytes, long LeastBytes, long UnsharedBytes, int InPlace);
