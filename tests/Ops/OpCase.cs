using Kernels.Ops;
using Kernels.Tests.Support;

namespace Kernels.Tests.Ops;

/// <summary>
/// One application of an op: its shapes, how its inputs are drawn and how far a result may be off. The same case serves the comparison with the float64
/// reference, the gradient check and the memory checks, on every backend.
/// </summary>
/// <param name="name">What is particular about it; unique among the cases of an op.</param>
/// <param name="op">The op with its attributes.</param>
/// <param name="operands">Its inputs in order.</param>
public sealed class OpCase(string name, Op op, params IReadOnlyList<Operand> operands)
{
    private readonly Lazy<double[][]> _values = new(() => Draw(operands));
    private double[][]? _expected;

    /// <summary>What is particular about it.</summary>
    public string Name { get; } = name;

    /// <summary>The op with its attributes.</summary>
    public Op Op { get; } = op;

    /// <summary>Its inputs in order.</summary>
    public IReadOnlyList<Operand> Operands { get; } = operands;

    /// <summary>Largest relative L2 error of an output: float32 sums of some thousand products err by a few 1e-7.</summary>
    public double Tolerance { get; init; } = 1e-6;

    /// <summary>Largest error of the gradient relative to its L2 norm.</summary>
    public double GradientTolerance { get; init; } = 5e-6;

    /// <summary>The values of the operands, each of them a float32 or an integer: a function of the case alone, so that every backend and every check sees the same.</summary>
    public double[][] Values => _values.Value;

    /// <summary>The outputs in float64.</summary>
    public double[][] Expected => _expected ??= ReferenceInterpreter.Evaluate(Op, Shapes, Values);

    /// <summary>Shapes of the operands.</summary>
    public Shape[] Shapes => [.. Operands.Select(o => o.Shape)];

    /// <summary>The operands that the op carries a gradient to: all activations, unless it is part of a backward pass itself.</summary>
    public IEnumerable<int> Differentiable =>
        Op is GradientOp ? [] : Enumerable.Range(0, Operands.Count).Where(i => Operands[i] is { DType: DType.F32, IsWeight: false, Constant: false });

    /// <summary>The operands that an op with gradients carries none to: weights, and what only the fused form takes in.</summary>
    public IEnumerable<int> Constants =>
        Op is GradientOp ? [] : Enumerable.Range(0, Operands.Count).Where(i => Operands[i] is { DType: DType.F32 } o && (o.IsWeight || o.Constant));

    private static double[][] Draw(IReadOnlyList<Operand> operands)
    {
        Random random = new(20231);
        List<double[]> values = [];
        foreach (Operand operand in operands)
        {
            double[] drawn = operand.Draw(random, values);
            values.Add(operand.DType == DType.F32 ? Array.ConvertAll(drawn, v => (double)(float)v) : drawn);
        }

        // Operands that are computed from later ones are drawn again now that those are there.
        return [.. operands.Select((o, i) => o.Computed is null ? values[i] : Array.ConvertAll(o.Computed(values), v => (double)(float)v))];
    }
}

/// <summary>An input of an op under test.</summary>
/// <param name="Name">Its name in the op's notation.</param>
/// <param name="Shape">Its extents.</param>
/// <param name="Draw">Makes its values, from a random source and the operands before it.</param>
public sealed record Operand(string Name, Shape Shape, Func<Random, IReadOnlyList<double[]>, double[]> Draw)
{
    /// <summary>Element type.</summary>
    public DType DType { get; init; } = DType.F32;

    /// <summary>Whether it comes from a checkpoint.</summary>
    public bool IsWeight { get; init; }

    /// <summary>Whether it is an activation that the op nevertheless carries no gradient to.</summary>
    public bool Constant { get; init; }

    /// <summary>Makes the values from those of all other operands.</summary>
    public Func<IReadOnlyList<double[]>, double[]>? Computed { get; init; }

    /// <summary>An activation of normal values.</summary>
    public static Operand Input(string name, Shape shape, double scale = 1, double offset = 0) => new(name, shape, (random, _) => TestModels.Normals(random, shape.Elements, scale, offset));

    /// <summary>A weight of normal values.</summary>
    public static Operand Weight(string name, Shape shape, double scale = 1, double offset = 0) => Input(name, shape, scale, offset) with { IsWeight = true };

    /// <summary>Given values.</summary>
    public static Operand Of(string name, Shape shape, params double[] values) => new(name, shape, (_, _) => values);

    /// <summary>Labels in [0, classes), the first and the last among them.</summary>
    public static Operand Labels(string name, int count, int classes) =>
        new(name, [count], (random, _) => [.. Enumerable.Range(0, count).Select(i => i == 0 ? classes - 1 : i == 1 ? 0.0 : random.Next(classes))]) { DType = DType.I32 };

    /// <summary>What a forward pass has left for the gradient.</summary>
    public static Operand From(string name, Shape shape, Func<IReadOnlyList<double[]>, double[]> computed) =>
        new(name, shape, (_, _) => new double[shape.Elements]) { Computed = computed };
}

/// <summary>An application that an op must refuse.</summary>
/// <param name="Op">The op.</param>
/// <param name="Shapes">Shapes of its inputs.</param>
/// <param name="Says">What the message must contain: the expectation and the finding.</param>
public sealed record Refusal(Op Op, TensorType[] Shapes, params string[] Says)
{
    /// <summary>A float32 tensor.</summary>
    public static TensorType F(params ReadOnlySpan<int> dims) => new(Shape.Create(dims));

    /// <summary>An integer tensor.</summary>
    public static TensorType I(params ReadOnlySpan<int> dims) => new(Shape.Create(dims), DType.I32);
}
