using System.Text.RegularExpressions;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>An op with the shapes of its operands, as a model launches it.</summary>
/// <param name="Node">The first node of the kind, with storage types as planned for binary32.</param>
/// <param name="Uses">How many launches of a step are alike.</param>
public sealed partial record OpUse(Node Node, int Uses)
{
    /// <summary>The op with the attributes that are not at rest.</summary>
    public string Op => TextOf(Node.Op);

    /// <summary>The shapes: inputs without weights, then weights, then outputs.</summary>
    public string Shapes => ShapesOf(Node);

    /// <summary>The shapes of a node's operands as tables show them: <c>[1,8,8,32] w[64,32,3,3] -&gt; [1,8,8,64]</c>.</summary>
    /// <param name="node">The node.</param>
    public static string ShapesOf(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        IEnumerable<string> inputs = node.Inputs.Select(t => $"{(t.Kind == TensorKind.Weight ? "w" : "")}{Short(t.Shape)}");
        return string.Join(' ', [.. inputs, "->", .. node.Outputs.Select(t => Short(t.Shape))]);
    }

    /// <summary>An op as tables show it: without the attributes that are false or none.</summary>
    /// <param name="op">The op.</param>
    public static string TextOf(Op op)
    {
        ArgumentNullException.ThrowIfNull(op);
        return Empty().Replace(Last().Replace(AtRest().Replace(op.ToString(), ""), " }"), "");
    }

    [GeneratedRegex(@"\b\w+ = (False|None)(, )?")]
    private static partial Regex AtRest();

    // What is left of a list that has lost its last members, or all of them.
    [GeneratedRegex(@",\s+\}")]
    private static partial Regex Last();

    [GeneratedRegex(@"\s*\{\s*\}")]
    private static partial Regex Empty();

    private static string Short(Shape shape) => shape.ToString().Replace(" ", "", StringComparison.Ordinal);
}

/// <summary>The different launches of a model's step: equal ops on equal shapes once.</summary>
public static class OpCatalog
{
    /// <summary>Lists the launches.</summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="filter">What the op's name must contain, in any case; empty for all.</param>
    /// <param name="disabledFusions">Rewrites to leave out.</param>
    public static IReadOnlyList<OpUse> Of(ModelPair model, int batch, string filter = "", IReadOnlyCollection<string>? disabledFusions = null)
    {
        ArgumentNullException.ThrowIfNull(filter);
        Graph step = Rewrites.Apply(GuidedWorkload.BuildGraph(model, batch), disabledFusions).Step;
        return
        [
            .. step.Nodes.Where(n => !n.Op.IsView && n.Op.Name.Contains(filter, StringComparison.OrdinalIgnoreCase))
                .GroupBy(n => (n.Op, OpUse.ShapesOf(n)))
                .Select(g => new OpUse(g.First(), g.Count())),
        ];
    }
}

/// <summary>One op on a device, by itself, on operands that a formula makes.</summary>
internal sealed class OpWorkload : IDisposable
{
    private const string Name = "op";
    private readonly MeasuredDevice _device;
    private readonly Executor _executor;
    private readonly int _launch;
    private readonly int _outputs;

    /// <summary>Builds a plan of the one op. What is stored in 16 bits is copied into and out of its storage, outside of what is measured.</summary>
    /// <param name="device">The device.</param>
    /// <param name="node">The op with its operands.</param>
    /// <param name="weights">The weights of the op, by the names of its operands; made by a formula if null.</param>
    /// <param name="table">The steps, for an op that looks something up in them.</param>
    public OpWorkload(MeasuredDevice device, Node node, Weights? weights = null, StepTable? table = null)
    {
        _device = device;
        _outputs = node.Outputs.Count;
        Graph graph = Build(node, copies: device.Precision.Storage() != DType.F32);
        _executor = device.Backend.Compile(device.Backend.Plan(graph), weights ?? new SyntheticWeights(graph.Weights));
        Launch launch = _executor.Plan.Launches.Single(l => l.Node.Name == Name);
        _launch = launch.Index;
        Cost = launch.Cost;
        Write(table);
        _executor.Run();
    }

    /// <summary>The least work, in the types that the device stores.</summary>
    public Cost Cost { get; }

    /// <summary>Kernels that the op takes; null on the CPU.</summary>
    public int? Kernels => MeasuredDevice.KernelsOf(_executor)?.Count(c => c.Node.Name == Name);

    /// <summary>Runs the op once, from memory rather than from caches where the device allows it.</summary>
    /// <returns>Milliseconds.</returns>
    public double Time()
    {
        MeasuredDevice.EvictCache(_executor);
        return _executor.TimeLaunch(_launch);
    }

    /// <summary>Counts what the op's kernels do.</summary>
    public IReadOnlyList<(KernelCall Call, KernelCounters Counters)> Count(CancellationToken cancellationToken) =>
        [.. _device.Count(_executor, cancellationToken).Where(c => c.Call.Node.Name == Name)];

    /// <summary>The values of all outputs that are numbers, one after the other.</summary>
    public float[] Result()
    {
        _executor.Run();
        return [.. Enumerable.Range(0, _outputs).Select(k => $"y{k}").Where(y => _executor.Plan.Graph.Output(y).DType == DType.F32).SelectMany(y => _executor.Read(y))];
    }

    public void Dispose() => _executor.Dispose();

    private static Graph Build(Node node, bool copies)
    {
        GraphBuilder builder = new();
        Dictionary<Tensor, Tensor> operands = [];
        foreach (Tensor input in node.Inputs.Distinct())
        {
            // Numbers from nowhere in place of the result and the log-sum-exp of the forward direction would make probabilities of thousands, which no 16 bits hold.
            if (node.Op is Ops.AttentionGradient gradient && (input == node.Inputs[2] || input == node.Inputs[3]))
            {
                if (input == node.Inputs[2])
                {
                    Node forward = builder.AddNode("forward", new Ops.Attention(gradient.Heads, gradient.Order), operands[node.Inputs[1]]);
                    operands.Add(node.Inputs[2], forward.Outputs[0]);
                    operands.Add(node.Inputs[3], forward.Outputs[1]);
                }

                continue;
            }

            // A step's table and weights are known by name.
            bool named = input.Kind == TensorKind.Weight || input.Name == "step_table";
            Tensor operand = input.Kind == TensorKind.Weight ? builder.Weight(input.Name, input.Shape) : builder.Input(named ? input.Name : $"x{operands.Count}", input.Shape, input.DType);
            operands.Add(input, copies && operand.Kind == TensorKind.Input && operand.DType == DType.F32 && !node.Op.IsExact ? builder.Add($"{operand.Name}.copy", new Ops.Concat(0), operand) : operand);
        }

        Node op = builder.AddNode(Name, node.Op, [.. node.Inputs.Select(t => operands[t])]);
        for (int k = 0; k < op.Outputs.Count; k++)
        {
            Tensor output = op.Outputs[k];
            builder.Output($"y{k}", copies && output.DType == DType.F32 && !node.Op.IsExact ? builder.Add($"y{k}.copy", new Ops.Concat(0), output) : output);
        }

        return builder.Build();
    }

    // Integers are counters, labels and seeds, of which zero is always one.
    private void Write(StepTable? table)
    {
        foreach (Tensor input in _executor.Plan.Graph.Inputs)
        {
            if (input.DType == DType.I32)
            {
                _executor.Write(input.Name, new int[input.Shape.Elements]);
            }
            else if (input.Name == "step_table" && table is not null)
            {
                _executor.Write(input.Name, table.Values);
            }
            else
            {
                float[] values = new float[input.Shape.Elements];
                SyntheticWeights.Fill(input.Name, (float)Math.Sqrt(12), 0, values);
                _executor.Write(input.Name, values);
            }
        }
    }
}
