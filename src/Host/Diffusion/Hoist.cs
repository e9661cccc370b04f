using Kernels.Diffusion.Steps;
using Kernels.Ops;

namespace Kernels.Diffusion;

/// <summary>
/// Splits a guided step in two: what depends on timestep and label alone, computed for many steps at once before the loop, and the step itself, which selects its rows from the
/// tables that this leaves.
/// </summary>
/// <remarks>
/// That is the embedding of timestep and label and every block's scale and shift, a chain of row-wise ops: a batch of all images of all steps gives each row the same bits
/// as a step by itself. Models without labels have one row per step for all images.
/// </remarks>
public static class Hoist
{
    /// <summary>The name by which it is switched off, as a fusion is.</summary>
    public const string Name = "hoist";

    /// <summary>What it does.</summary>
    public const string Description = "What depends on timestep and label alone is computed for many steps at once, before the loop";

    /// <summary>Name of the input of both graphs that says which step the tables begin with.</summary>
    public const string FirstStep = "first_step";

    /// <summary>Splits a graph.</summary>
    /// <param name="graph">The graph of a guided step, not fused yet (<see cref="GuidedStep"/>).</param>
    /// <param name="tableBytes">What the tables may take; they then hold fewer steps at a time than the job has, but one at least.</param>
    /// <returns>The two graphs; null if nothing depends on timestep and label alone.</returns>
    public static HoistedGraphs? Apply(Graph graph, long tableBytes)
    {
        ArgumentNullException.ThrowIfNull(graph);
        graph = graph.Pruned();
        HashSet<Node> hoistable = Hoistable(graph);
        HashSet<Tensor> byStep = [.. hoistable.Where(n => n.Op is StepTimesteps).Select(n => n.Output)];
        foreach (Node node in graph.Nodes.Where(n => hoistable.Contains(n) && n.Inputs.Any(byStep.Contains)))
        {
            byStep.Add(node.Output);
        }

        Tensor[] tabled = [.. graph.Nodes.Where(hoistable.Contains).Select(n => n.Output).Where(t =>
            byStep.Contains(t) && t.Shape.Rank == 2 && graph.Consumers(t).Any(reader => !hoistable.Contains(reader)))];
        if (tabled.Length == 0)
        {
            return null;
        }

        List<Node> needed = Ancestors(graph, tabled);
        HashSet<Node> labelled = Labelled(graph, needed);
        int total = graph.Input("step_table").Shape[0];
        long bytesPerStep = tabled.Sum(t => (long)Rows(t) * t.Shape[1] * sizeof(float));
        int most = (int)Math.Clamp(Math.Min(tableBytes, int.MaxValue) / bytesPerStep, 1, total);
        int chunks = (total + most - 1) / most, steps = (total + chunks - 1) / chunks;
        return new HoistedGraphs(
            Conditioning(graph, needed, labelled, tabled, steps), Step(graph, tabled, [.. tabled.Select(Rows)], steps), steps, [.. tabled.Select(TableName)]);

        int Rows(Tensor tensor) => labelled.Contains(graph.Producer(tensor)!) ? tensor.Shape[0] : 1;
    }

    private static int Images(Graph graph) => graph.Input("x").Shape[0];

    private static string TableName(Tensor tensor) => $"{tensor.Name}/table";

    // A node whose rows depend on timestep, label and weights alone, each on its own image's.
    private static HashSet<Node> Hoistable(Graph graph)
    {
        HashSet<Tensor> hoisted = [];
        HashSet<Node> nodes = [];
        foreach (Node node in graph.Nodes)
        {
            bool constant = node.Op switch
            {
                StepTimesteps => true,
                Embedding => node.Inputs[0].Kind == TensorKind.Input,
                TimestepEmbedding or Linear or AddBias or Activation or Add => node.Inputs.All(t => t.Kind == TensorKind.Weight || hoisted.Contains(t)),
                _ => false,
            };
            if (constant && !node.Outputs.Any(graph.Outputs.Values.Contains))
            {
                nodes.Add(node);
                hoisted.UnionWith(node.Outputs);
            }
        }

        return nodes;
    }

    private static List<Node> Ancestors(Graph graph, IEnumerable<Tensor> tensors)
    {
        HashSet<Tensor> wanted = [.. tensors];
        List<Node> nodes = [];
        foreach (Node node in graph.Nodes.Reverse().Where(n => n.Outputs.Any(wanted.Contains)))
        {
            nodes.Add(node);
            wanted.UnionWith(node.Inputs);
        }

        nodes.Reverse();
        return nodes;
    }

    // The nodes that are joined to a label, forwards or backwards: they have a row per image, the others one for all. One for all images cannot stand for the two halves of
    // classifier-free guidance.
    private static HashSet<Node> Labelled(Graph graph, List<Node> nodes)
    {
        HashSet<Node> labelled = [.. nodes.Where(n => n.Op is Embedding || (n.Op is StepTimesteps t && t.Images != Images(graph)))];
        for (int before = -1; before != labelled.Count;)
        {
            before = labelled.Count;
            foreach (Node node in nodes)
            {
                Node[] producers = [.. node.Inputs.Select(graph.Producer).OfType<Node>()];
                if (labelled.Contains(node) || producers.Any(labelled.Contains))
                {
                    labelled.Add(node);
                    labelled.UnionWith(producers);
                }
            }
        }

        return labelled;
    }

    private static Graph Conditioning(Graph graph, List<Node> nodes, HashSet<Node> labelled, Tensor[] tabled, int steps)
    {
        GraphBuilder builder = new();
        Tensor rows = graph.Input("step_table");
        Dictionary<Tensor, Tensor> map = new() { [rows] = builder.Input(rows.Name, rows.Shape) };
        Tensor first = builder.Input(FirstStep, [1], DType.I32);
        foreach (Node node in nodes)
        {
            map.Add(node.Output, node.Op is StepTimesteps timesteps
                ? builder.Add(node.Name, new ChunkTimesteps(steps, labelled.Contains(node) ? timesteps.Images : 1), map[rows], first)
                : builder.Add(node.Name, node.Op, [.. node.Inputs.Select(Mapped)]));
        }

        foreach (Tensor tensor in tabled)
        {
            Tensor all = map[tensor];
            builder.Output(TableName(tensor), builder.Add($"{tensor.Name}/by_step", new Reshape([steps, all.Shape[0] / steps, all.Shape[1]]), all));
        }

        return builder.Build();

        Tensor Mapped(Tensor tensor)
        {
            if (tensor.Kind == TensorKind.Input && !map.ContainsKey(tensor))
            {
                map.Add(tensor, builder.Input(tensor.Name, [steps * tensor.Shape[0]], tensor.DType));
            }

            return tensor.Kind == TensorKind.Weight ? tensor : map[tensor];
        }
    }

    private static Graph Step(Graph graph, Tensor[] tabled, int[] rows, int steps)
    {
        Tensor first = new(FirstStep, new TensorType([1], DType.I32), TensorKind.Input);
        Tensor[] tables = [.. tabled.Zip(rows, (t, r) => new Tensor(TableName(t), new TensorType([steps, r, t.Shape[1]]), TensorKind.Input))];
        Node select = new("select_step", new SelectStep(Images(graph)), [graph.Input("step"), first, .. tables], tabled);
        List<Node> nodes = [select, .. graph.Nodes.Where(n => !n.Outputs.Any(tabled.Contains))];
        Graph step = new Graph(nodes, [.. graph.Inputs, first, .. tables], graph.Outputs, graph.Updates).Pruned();
        HashSet<Tensor> read = [.. step.Nodes.SelectMany(n => n.Inputs), .. step.Updates.Values];
        return new Graph(step.Nodes, [.. step.Inputs.Where(read.Contains)], step.Outputs, step.Updates);
    }
}

/// <summary>What <see cref="Hoist.Apply"/> made of a graph.</summary>
/// <param name="Conditioning">
/// Runs before the loop. Inputs: <c>step_table</c>, <see cref="Hoist.FirstStep"/> <c>[1]</c>, and labels <c>[K·N]</c>, those of the images once for every step. Outputs: the tables.
/// </param>
/// <param name="Step">The step. It has the tables and <see cref="Hoist.FirstStep"/> as further inputs, and no labels that only the tables depend on.</param>
/// <param name="Steps">How many steps K the tables hold.</param>
/// <param name="Tables">Names of the tables: outputs of the one graph, inputs of the other.</param>
public sealed record HoistedGraphs(Graph Conditioning, Graph Step, int Steps, IReadOnlyList<string> Tables);
