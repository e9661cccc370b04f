using System.Collections.Concurrent;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Ops;

/// <summary>What is checked of every <see cref="OpCase"/> on every backend.</summary>
internal static class OpHarness
{
    private const float GradientScale = -0.75f;

    // Every backend is held against the same numbers.
    private static readonly ConcurrentDictionary<(OpCase Case, int Input), (double[] Direction, double Difference)[]> s_differences = new();

    /// <summary>Every output equals the float64 reference, wherever the tensors lie and whether or not the op writes over its inputs.</summary>
    public static void CheckForward(OpCase c, TestBackend backend)
    {
        double[][] expected = c.Expected;

        // Inputs and outputs are the caller's, in binary32: what a device stores in 16 bits lies between copies of them.
        bool stored = backend.Storage != DType.F32;
        Graph graph = backend.Prepare(OneOp(c, copiedIn: stored, copiedOut: stored));
        Dictionary<string, double[]> values = ValuesOf(c);
        Dictionary<string, float[]> actual = GuardedRun.Run(backend, graph, values, Layout.Spread, c.Name);
        for (int k = 0; k < expected.Length; k++)
        {
            Matches(expected[k], actual[$"y{k}"], backend.ToleranceOf(c.Op, c.Tolerance), $"{c.Name}, output {k}");
        }

        // Reuse needs inputs that die: the caller's do not, copies of them do.
        Graph copied = stored ? graph : OneOp(c, copiedIn: true, copiedOut: false);
        if (!stored)
        {
            Assert.Equal(CanReuse(c), MemoryPlanner.Plan(copied).InPlace > 0);
        }

        foreach ((Graph g, Layout layout) in new[] { (graph, Layout.Planned), (copied, Layout.Planned), (copied, Layout.PlannedApart) })
        {
            foreach ((string name, float[] output) in GuardedRun.Run(backend, g, values, layout, $"{c.Name}, {layout}"))
            {
                Assert.True(actual[name].AsSpan().SequenceEqual(output), $"{c.Name}: {name} depends on where the tensors lie ({layout})");
            }
        }
    }

    /// <summary>The gradient of a random linear functional of output 0 with respect to every input equals finite differences of the float64 reference.</summary>
    public static void CheckGradient(OpCase c, TestBackend backend)
    {
        double[] functional = TestModels.Normals(new Random(7), c.Expected[0].Length);
        foreach (int input in c.Differentiable)
        {
            Dictionary<string, double[]> values = ValuesOf(c);
            values.Add("functional", functional);
            float[] actual = GuardedRun.Run(backend, GradientGraph(c, input), values, Layout.Planned, c.Name)["gradient"];
            CheckDirections(c, input, functional, actual);
        }
    }

    /// <summary>||actual - expected|| is at most tolerance times ||expected||.</summary>
    public static void Matches(double[] expected, float[] actual, double tolerance, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        double error = Norm(expected.Zip(actual, (e, a) => a - e)), norm = Norm(expected);
        Assert.True(error <= tolerance * norm, $"{what}: relative error {error / norm:e2} exceeds {tolerance:e1}");
    }

    /// <summary>The L2 norm.</summary>
    public static double Norm(IEnumerable<double> values) => Math.Sqrt(values.Sum(v => v * v));

    private static void CheckDirections(OpCase c, int input, double[] functional, float[] gradient)
    {
        double norm = Norm(gradient.Select(g => (double)g)), largest = 0;
        foreach ((double[] direction, double difference) in Differences(c, input, functional))
        {
            double slope = gradient.Zip(direction, (g, d) => g * d).Sum();
            largest = Math.Max(largest, Math.Abs(slope - (GradientScale * difference)));
        }

        // The differences themselves are exact to 1e-10 of the functional's size: all there is where the gradient vanishes.
        double allowed = (c.GradientTolerance * norm) + (1e-10 * Norm(functional));
        Assert.True(largest <= allowed, $"{c.Name}: the gradient to '{c.Operands[input].Name}' is off by {largest:e2}, {largest / norm:e2} of its norm");
    }

    // Few elements are moved one by one, many together in random directions: a wrong element g moves each of those by g times a normal number.
    private static (double[] Direction, double Difference)[] Differences(OpCase c, int input, double[] functional)
    {
        const int Coordinates = 24, Directions = 6;
        const double Step = 1e-5;
        return s_differences.GetOrAdd((c, input), _ =>
        {
            Random random = new(11);
            int n = c.Values[input].Length;
            IEnumerable<double[]> directions = n <= Coordinates
                ? Enumerable.Range(0, n).Select(k => Enumerable.Range(0, n).Select(i => i == k ? 1.0 : 0).ToArray())
                : Enumerable.Range(0, Directions).Select(_ => TestModels.Normals(random, n));
            return [.. directions.Select(d => (d, (Value(Step, d) - Value(-Step, d)) / (2 * Step)))];
        });

        double Value(double step, double[] direction)
        {
            double[][] moved = [.. c.Values];
            moved[input] = [.. moved[input].Zip(direction, (v, d) => v + (step * d))];
            return ReferenceInterpreter.Evaluate(c.Op, c.Shapes, moved)[0].Zip(functional, (y, f) => y * f).Sum();
        }
    }

    /// <summary>The graph of the gradient of a functional of output 0 with respect to one operand, an activation even where the case has a weight.</summary>
    public static Graph GradientGraph(OpCase c, int input)
    {
        GraphBuilder builder = new();
        Tensor y = builder.Add("op", c.Op, Declare(builder, c, input));
        Tensor z = builder.Add("product", new Multiply(), y, builder.Input("functional", y.Shape));
        Graph graph = builder.Build();
        return Gradient.Append(graph, z, graph.Input(c.Operands[input].Name), GradientScale);
    }

    private static Graph OneOp(OpCase c, bool copiedIn, bool copiedOut)
    {
        GraphBuilder builder = new();
        Tensor[] inputs = Declare(builder, c);
        if (copiedIn)
        {
            inputs = [.. inputs.Select(t => t.Kind == TensorKind.Input ? builder.Add($"{t.Name}.copy", new Concat(0), t) : t)];
        }

        Node node = builder.AddNode("op", c.Op, inputs);
        for (int k = 0; k < node.Outputs.Count; k++)
        {
            builder.Output($"y{k}", copiedOut && node.Outputs[k].DType == DType.F32 ? builder.Add($"y{k}.copy", new Concat(0), node.Outputs[k]) : node.Outputs[k]);
        }

        return builder.Build();
    }

    private static Tensor[] Declare(GraphBuilder builder, OpCase c, int activation = -1) =>
        [.. c.Operands.Select((o, i) => o.IsWeight && i != activation ? builder.Weight(o.Name, o.Shape) : builder.Input(o.Name, o.Shape, o.DType))];

    private static Dictionary<string, double[]> ValuesOf(OpCase c) => c.Operands.Zip(c.Values).ToDictionary(p => p.First.Name, p => p.Second);

    private static bool CanReuse(OpCase c)
    {
        long output = c.Expected[0].Length;
        return c.Op.InPlaceInputs.Any(i => !c.Operands[i].IsWeight && c.Shapes[i].Elements == output);
    }
}
