using FsCheck;
using FsCheck.Fluent;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Tests.Support;

namespace Kernels.Tests.Passes;

/// <summary>Graphs of random ops: a list of numbers is read as a program, so that a failing one can be shortened.</summary>
internal sealed class RandomGraphs
{
    private readonly GraphBuilder _builder = new();
    private readonly List<Tensor> _tensors = [];
    private readonly HashSet<Tensor> _views = [];
    private int _weights;

    private RandomGraphs()
    {
    }

    /// <summary>Checks that a property holds of many programs.</summary>
    public static void Check(Action<int[]> property)
    {
        Gen<int[]> programs =
            from length in Gen.Choose(1, 30)
            from program in Gen.ArrayOf(Gen.Choose(0, int.MaxValue - 1), length)
            select program;

        // A program is shortened by leaving instructions out.
        Arbitrary<int[]> arbitrary = Arb.From(programs, p => Enumerable.Range(0, p.Length > 1 ? p.Length : 0).Select(i => p.Where((_, k) => k != i).ToArray()));
        Prop.ForAll(arbitrary, property).QuickCheckThrowOnFailure();
    }

    /// <summary>Random values for the inputs and weights.</summary>
    public static Dictionary<string, double[]> Values(Graph graph) =>
        graph.Inputs.Concat(graph.Weights).Index().ToDictionary(
            t => t.Item.Name, t => TestModels.Normals(new Random(t.Index), t.Item.Shape.Elements, t.Item.Kind == TensorKind.Weight ? 0.4 : 1));

    /// <summary>Reads a program. The graph has two images of noise as inputs; its outputs are its last values and some on the way.</summary>
    public static Graph Build(int[] program, bool updates = true)
    {
        RandomGraphs random = new();
        Tensor x = random._builder.Input("x", [2, 4, 4, 4]);
        random._tensors.AddRange([x, random._builder.Input("e", [2, 8])]);
        foreach (int code in program)
        {
            random.Emit(code % 18, code / 18);
        }

        // A view of x would show the next x after the run, if it were an output: something must be computed from it first.
        if (random._views.Contains(random._tensors[^1]))
        {
            random.Push(new Activation(ActivationKind.SiLU), random._tensors[^1]);
        }

        Tensor[] values = [.. random._tensors.Skip(2)];
        for (int i = 0; i < values.Length; i++)
        {
            if (i == values.Length - 1 || (program[i % program.Length] % 5 == 0 && !random._views.Contains(values[i])))
            {
                random._builder.Output($"y{i}", values[i]);
            }
        }

        if (updates && program[0] % 2 == 0)
        {
            random._builder.Output("x_next", random._builder.Add("x_next", new Add(), x, random.Like(x, program[0])), updates: x);
        }

        return random._builder.Build();
    }

    /// <summary>The last value that depends on x; x itself if there is none.</summary>
    public static Tensor LastThatReadsX(Graph graph)
    {
        Tensor last = graph.Input("x");
        HashSet<Tensor> reached = [last];
        foreach (Node node in graph.Nodes.Where(n => n.Inputs.Any(reached.Contains) && !graph.Updates.ContainsKey(n.Output)))
        {
            reached.Add(last = node.Output);
        }

        return last;
    }

    /// <summary>The graph with the gradient of its last value, where that does not read an x that is written over by then.</summary>
    public static Graph WithGradient(Graph graph) =>
        graph.Updates.Count > 0 ? graph : Gradient.Append(graph, LastThatReadsX(graph), graph.Input("x"));

    private void Emit(int kind, int choice)
    {
        Tensor x = _tensors[choice % _tensors.Count];
        Shape s = x.Shape;
        int c = s[-1];
        bool image = s.Rank == 4, pixels = s.Rank >= 2;
        switch (kind)
        {
            case 0:
                Push(new Add(), x, Like(x, choice));
                break;
            case 1:
                Push(new Multiply(), x, Like(x, choice));
                break;
            case 2:
                Push(new Activation(choice % 3 == 0 ? ActivationKind.ReLU : ActivationKind.SiLU), x);
                break;
            case 3 when pixels:
                Norm(x);
                break;
            case 4 or 5 when pixels:
                NormChain(x, scaleShift: choice % 3 != 0, silu: choice % 5 != 0);
                break;
            case 6 when pixels:
                Push(new AddEmbedding(), x, Push(new SpatialSum(0.25f), Like(x, choice)));
                break;
            case 7:
                Push(new AddBias(), x, Weight([c]));
                break;
            case 8 or 9:
                Linear(x, choice);
                break;
            case 10 or 11 when image:
                Convolution(x, choice);
                break;
            case 12 when c <= 8:
                Push(new Concat(), x, Like(x, choice));
                break;
            case 13 when c >= 2:
                Push(new Slice(-1, choice % 2 * (c / 2), c / 2), x);
                break;
            case 14:
                Push(new Reshape(image ? [s[0], s[1] * s[2], c] : s.Rank == 3 ? [s[0], 1, s[1], c] : [.. s, 1]), x);
                break;
            case 15 when image && s[1] >= 2 && s[2] >= 2:
                Push(choice % 2 == 0 || s[1] > 4 || s[2] > 4 ? new Pool2x() : new Upsample2x(s[1] * 2, s[2] * 2), x);
                break;
            case 16 when pixels:
                Push(new SpatialBroadcast(s, 0.5f), Push(new SpatialSum(0.1f), x));
                break;
            case 17 when s.Rank >= 3 && s.Elements <= 256:
                Push(new Attention(1, QkvOrder.New), Push(new Linear(), x, Weight([3 * c, c])));
                break;
        }
    }

    private void NormChain(Tensor x, bool scaleShift, bool silu)
    {
        Tensor y = Norm(x);
        if (scaleShift)
        {
            Tensor mean = Push(new SpatialSum(0.1f), x);
            y = Push(new ScaleShift(), y, Push(new Concat(), mean, mean));
        }

        if (silu)
        {
            Push(new Activation(ActivationKind.SiLU), y);
        }
    }

    private Tensor Norm(Tensor x) => Push(new GroupNorm(x.Shape[-1] % 2 == 0 ? 2 : 1), x, Weight([x.Shape[-1]]), Weight([x.Shape[-1]]));

    private void Linear(Tensor x, int choice)
    {
        int outputs = choice % 2 == 0 ? x.Shape[-1] : 4;
        Tensor y = Push(new AddBias(), Push(new Linear(), x, Weight([outputs, x.Shape[-1]])), Weight([outputs]));
        Push(new Add(), choice % 3 == 0 ? [y, Like(y, choice)] : [Like(y, choice), y]);
    }

    private void Convolution(Tensor x, int choice)
    {
        int kernel = choice % 2 == 0 ? 3 : 1;
        Tensor y = Push(new Convolution(1, kernel / 2), x, Weight([x.Shape[3], x.Shape[3], kernel, kernel]));
        y = choice % 3 == 0 ? y : Push(new AddBias(), y, Weight([x.Shape[3]]));
        if (choice % 5 < 3)
        {
            Push(new Add(), x, y);
        }
    }

    private Tensor Push(Op op, params ReadOnlySpan<Tensor> inputs)
    {
        Tensor y = _builder.Add($"{op.Name}.{_tensors.Count}", op, inputs);
        _tensors.Add(y);
        if (op.IsView)
        {
            _views.Add(y);
        }

        return y;
    }

    // A tensor of the same shape, some other one if there is any.
    private Tensor Like(Tensor x, int choice)
    {
        Tensor[] candidates = [.. _tensors.Where(t => t.Shape == x.Shape)];
        return candidates[choice / 7 % candidates.Length];
    }

    private Tensor Weight(Shape shape) => _builder.Weight($"w{_weights++}", shape);
}
