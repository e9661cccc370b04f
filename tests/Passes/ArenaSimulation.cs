using Kernels.Passes;
using Xunit;

namespace Kernels.Tests.Passes;

/// <summary>
/// Plays a graph through a planned arena, keeping for every byte which tensor's values it holds. Whatever a node reads must still be there, whatever it
/// writes over must not be read while it is written, and in the end outputs and inputs must be left.
/// </summary>
internal sealed class ArenaSimulation
{
    private readonly Graph _graph;
    private readonly MemoryPlan _plan;
    private readonly List<(long Begin, long End, Tensor Owner)> _held = [];

    private ArenaSimulation(Graph graph, MemoryPlan plan)
    {
        _graph = graph;
        _plan = plan;
    }

    /// <summary>Checks a plan.</summary>
    public static void Check(Graph graph, MemoryPlan plan)
    {
        ArenaSimulation simulation = new(graph, plan);
        simulation.CheckPlaces();
        simulation.Play();
    }

    /// <summary>The most bytes of the arena that hold live values at any one time, from the graph's reads and writes alone.</summary>
    public static long Peak(Graph graph, MemoryPlan plan)
    {
        Dictionary<Tensor, int> first = [], last = [];
        foreach (Tensor input in graph.Inputs)
        {
            (first[input], last[input]) = (-1, graph.Nodes.Count);
        }

        for (int i = 0; i < graph.Nodes.Count; i++)
        {
            foreach (Tensor output in graph.Nodes[i].Outputs)
            {
                (first[output], last[output]) = (i, graph.Outputs.Values.Contains(output) ? graph.Nodes.Count : i);
            }

            foreach (Tensor input in graph.Nodes[i].Inputs.Where(t => t.Kind != TensorKind.Weight))
            {
                for (Tensor? source = input; source is not null; source = graph.Producer(source) is { Op.IsView: true } view ? view.Inputs[0] : null)
                {
                    last[source] = Math.Max(last[source], i);
                }
            }
        }

        foreach (Tensor output in graph.Outputs.Values)
        {
            for (Tensor? source = output; source is not null; source = graph.Producer(source) is { Op.IsView: true } view ? view.Inputs[0] : null)
            {
                last[source] = graph.Nodes.Count;
            }
        }

        long peak = 0;
        HashSet<long> live = [];
        for (int i = -1; i <= graph.Nodes.Count; i++)
        {
            live.Clear();
            foreach (Tensor tensor in first.Keys.Where(t => first[t] <= i && i <= last[t]))
            {
                live.UnionWith(Lines(plan, tensor));
            }

            peak = Math.Max(peak, live.Count * (long)MemoryPlanner.Alignment);
        }

        return peak;
    }

    private void CheckPlaces()
    {
        Assert.Equal(_graph.Inputs.Concat(_graph.Nodes.SelectMany(n => n.Outputs)).ToHashSet(), _plan.Offsets.Keys.ToHashSet());
        foreach ((Tensor tensor, long offset) in _plan.Offsets)
        {
            Assert.True(offset % MemoryPlanner.Alignment == 0, $"{tensor} lies at {offset}, which is not aligned");
            Assert.True(offset >= 0 && offset + tensor.Bytes <= _plan.ArenaBytes, $"{tensor} at {offset} lies outside the arena of {_plan.ArenaBytes} bytes");
        }

        foreach (Node node in _graph.Nodes.Where(n => n.Op.IsView))
        {
            Assert.True(_plan.Offsets[node.Output] == _plan.Offsets[node.Inputs[0]], $"view {node.Output} does not lie on its source");
        }

        foreach ((Tensor output, Tensor input) in _graph.Updates)
        {
            Assert.True(_plan.Offsets[output] == _plan.Offsets[input], $"{output} does not lie on {input}, which it updates");
        }
    }

    private void Play()
    {
        foreach (Tensor input in _graph.Inputs)
        {
            Write(input);
        }

        foreach (Node node in _graph.Nodes.Where(n => !n.Op.IsView))
        {
            Tensor[] read = [.. node.Inputs.Where(t => t.Kind != TensorKind.Weight)];
            foreach (Tensor tensor in read)
            {
                Require(tensor, $"when '{node.Name}' reads it");
            }

            for (int k = 0; k < node.Outputs.Count; k++)
            {
                Tensor output = node.Outputs[k];
                Assert.True(node.Outputs.Take(k).All(o => Apart(o, output)), $"two outputs of '{node.Name}' overlap");
                for (int j = 0; j < node.Inputs.Count; j++)
                {
                    Tensor input = node.Inputs[j];
                    bool inStep = k == 0 && node.Op.InPlaceInputs.Contains(j) && _plan.Offsets.GetValueOrDefault(input, -1) == _plan.Offsets[output] && input.Bytes == output.Bytes;
                    Assert.True(input.Kind == TensorKind.Weight || inStep || Apart(input, output), $"'{node.Name}' writes {output} over {input} while it reads it");
                }
            }

            foreach (Tensor output in node.Outputs)
            {
                Write(output);
            }
        }

        foreach (Tensor output in _graph.Outputs.Values)
        {
            Require(output, "when the caller reads it");
        }

        foreach (Tensor input in _graph.Inputs.Where(t => !_graph.Updates.Values.Contains(t)))
        {
            Require(input, "before the next run");
        }
    }

    private void Write(Tensor tensor)
    {
        (long begin, long end) = Range(tensor);
        foreach ((long Begin, long End, Tensor Owner) held in _held.Where(h => h.Begin < end && begin < h.End).ToArray())
        {
            _held.Remove(held);
            if (held.Begin < begin)
            {
                _held.Add(held with { End = begin });
            }

            if (end < held.End)
            {
                _held.Add(held with { Begin = end });
            }
        }

        _held.Add((begin, end, tensor));
    }

    private void Require(Tensor tensor, string when)
    {
        Tensor root = tensor;
        while (_graph.Producer(root) is { Op.IsView: true } view)
        {
            root = view.Inputs[0];
        }

        (long begin, long end) = Range(tensor);
        Tensor? other = _held.Where(h => h.Begin < end && begin < h.End && h.Owner != root).Select(h => h.Owner).FirstOrDefault();
        Assert.True(other is null, $"{tensor} is overwritten by {other} {when}");
    }

    private (long Begin, long End) Range(Tensor tensor) => (_plan.Offsets[tensor], _plan.Offsets[tensor] + tensor.Bytes);

    private bool Apart(Tensor a, Tensor b) =>
        _plan.Offsets[a] + a.Bytes <= _plan.Offsets[b] || _plan.Offsets[b] + b.Bytes <= _plan.Offsets[a];

    private static IEnumerable<long> Lines(MemoryPlan plan, Tensor tensor)
    {
        long end = (plan.Offsets[tensor] + tensor.Bytes + MemoryPlanner.Alignment - 1) / MemoryPlanner.Alignment;
        for (long line = plan.Offsets[tensor] / MemoryPlanner.Alignment; line < end; line++)
        {
            yield return line;
        }
    }
}
