using System.Runtime.InteropServices;
using Kernels.Passes;
using Kernels.Runtime;
using Xunit;

namespace Kernels.Tests.Ops;

/// <summary>Where tensors lie in a guarded run.</summary>
internal enum Layout
{
    /// <summary>Every tensor on its own, with guards between any two: nothing is reused.</summary>
    Spread,

    /// <summary>As planned, dying inputs written over, with guards around the whole.</summary>
    Planned,

    /// <summary>As planned without writing over inputs, with guards around the whole.</summary>
    PlannedApart,
}

/// <summary>
/// Runs a graph in an arena in which every byte is 0xFF before the inputs are written. That is a NaN wherever a float should be: what is read before it was
/// written, or from beyond a tensor, shows up in the results. Bytes that belong to no tensor must still be 0xFF afterwards, and inputs what they were.
/// </summary>
internal static class GuardedRun
{
    private const int Guard = 4 * MemoryPlanner.Alignment;
    private const byte Poison = 0xFF;

    /// <summary>Runs a graph once.</summary>
    /// <returns>The values of its outputs by name.</returns>
    public static Dictionary<string, float[]> Run(
        TestBackend backend, Graph graph, IReadOnlyDictionary<string, double[]> values, Layout layout, string what)
    {
        Plan plan = new(graph, Memory(graph, layout));
        using Executor executor = backend.Compile(plan, WeightsOf(graph, values));
        backend.Fill(executor, Poison);
        Write(executor, graph, values);
        byte[] before = backend.Arena(executor);
        executor.Run();
        byte[] after = backend.Arena(executor);
        CheckGuards(plan, after, what);
        foreach (Tensor input in graph.Inputs.Where(t => !graph.Updates.Values.Contains(t)))
        {
            Assert.True(Bytes(plan, before, input).SequenceEqual(Bytes(plan, after, input)), $"{what}: input '{input.Name}' was changed");
        }

        Dictionary<string, float[]> outputs = [];
        foreach ((string name, Tensor tensor) in graph.Outputs)
        {
            outputs.Add(name, Values(plan, after, tensor));
            int missing = Array.FindIndex(outputs[name], float.IsNaN);
            Assert.True(missing < 0, $"{what}: element {missing} of {tensor} is NaN or was not written");
            if (tensor.DType == DType.F32)
            {
                Assert.Equal(outputs[name], executor.Read(name));
            }
        }

        return outputs;
    }

    private static MemoryPlan Memory(Graph graph, Layout layout)
    {
        if (layout != Layout.Spread)
        {
            MemoryPlan plan = MemoryPlanner.Plan(graph, layout == Layout.Planned);
            return plan with { Offsets = plan.Offsets.ToDictionary(p => p.Key, p => p.Value + Guard), ArenaBytes = plan.ArenaBytes + (2 * Guard) };
        }

        Dictionary<Tensor, long> offsets = [];
        long end = Guard;
        foreach (Tensor tensor in graph.Inputs)
        {
            Place(tensor);
        }

        foreach (Node node in graph.Nodes)
        {
            foreach (Tensor output in node.Outputs)
            {
                if (node.Op.IsView)
                {
                    offsets.Add(output, offsets[node.Inputs[0]]);
                }
                else if (graph.Updates.TryGetValue(output, out Tensor? updated))
                {
                    offsets.Add(output, offsets[updated]);
                }
                else
                {
                    Place(output);
                }
            }
        }

        return new MemoryPlan(offsets, end, end, end, 0);

        void Place(Tensor tensor)
        {
            offsets.Add(tensor, end);
            end = (end + tensor.Bytes + Guard + MemoryPlanner.Alignment - 1) / MemoryPlanner.Alignment * MemoryPlanner.Alignment;
        }
    }

    private static void Write(Executor executor, Graph graph, IReadOnlyDictionary<string, double[]> values)
    {
        foreach (Tensor input in graph.Inputs)
        {
            if (input.DType == DType.I32)
            {
                executor.Write(input.Name, Array.ConvertAll(values[input.Name], v => (int)v));
            }
            else
            {
                executor.Write(input.Name, Array.ConvertAll(values[input.Name], v => (float)v));
            }
        }
    }

    private static Weights WeightsOf(Graph graph, IReadOnlyDictionary<string, double[]> values) =>
        Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Array.ConvertAll(values[t.Name], v => (float)v))));

    private static void CheckGuards(Plan plan, byte[] arena, string what)
    {
        bool[] owned = new bool[arena.Length];
        foreach ((Tensor tensor, long offset) in plan.Memory.Offsets)
        {
            owned.AsSpan((int)offset, (int)tensor.Bytes).Fill(true);
        }

        int written = Enumerable.Range(0, arena.Length).FirstOrDefault(i => !owned[i] && arena[i] != Poison, -1);
        Assert.True(written < 0, $"{what}: byte {written} of the arena, which belongs to no tensor, was written");
    }

    private static ReadOnlySpan<byte> Bytes(Plan plan, byte[] arena, Tensor tensor) => arena.AsSpan((int)plan.Memory.Offsets[tensor], (int)tensor.Bytes);

    private static float[] Values(Plan plan, byte[] arena, Tensor tensor) => tensor.DType == DType.I32
        ? Array.ConvertAll(MemoryMarshal.Cast<byte, int>(Bytes(plan, arena, tensor)).ToArray(), v => (float)v)
        : MemoryMarshal.Cast<byte, float>(Bytes(plan, arena, tensor)).ToArray();
}
