using System.Diagnostics.CodeAnalysis;

namespace Kernels;

/// <summary>The inputs of a node while its op checks them. Every failure names the node, the op, the expectation and the finding.</summary>
/// <param name="node">The node's name.</param>
/// <param name="op">Its op.</param>
/// <param name="inputs">Its inputs.</param>
public readonly ref struct OpInputs(string node, Op op, ReadOnlySpan<Tensor> inputs)
{
    private readonly ReadOnlySpan<Tensor> _inputs = inputs;

    /// <summary>Number of inputs.</summary>
    public int Count => _inputs.Length;

    /// <summary>An input.</summary>
    /// <param name="index">Its position.</param>
    public Tensor this[int index] => _inputs[index];

    /// <summary>Checks the number of inputs.</summary>
    /// <param name="expected">How many the op takes.</param>
    /// <exception cref="GraphException">There are more or fewer.</exception>
    public void ExpectCount(int expected) =>
        Expect(Count == expected, $"takes {expected} inputs, got {Count}");

    /// <summary>Checks the number of axes and the element type of an input.</summary>
    /// <param name="index">The input's position.</param>
    /// <param name="what">Its name and shape in the op's notation.</param>
    /// <param name="rank">The number of axes.</param>
    /// <param name="dtype">The element type.</param>
    /// <returns>The input's shape.</returns>
    /// <exception cref="GraphException">The input is another.</exception>
    public Shape ExpectRank(int index, string what, int rank, DType dtype = DType.F32)
    {
        Expect(_inputs[index].Shape.Rank == rank, $"{what} must have {rank} axes, got {_inputs[index]}");
        ExpectType(index, what, dtype);
        return _inputs[index].Shape;
    }

    /// <summary>Checks the shape and the element type of an input.</summary>
    /// <param name="index">The input's position.</param>
    /// <param name="what">Its name and shape in the op's notation.</param>
    /// <param name="shape">The shape it must have.</param>
    /// <param name="dtype">The element type; <see cref="DType.F32"/> stands for a real number however it is stored (<see cref="DTypes.Fits"/>).</param>
    /// <exception cref="GraphException">The input is another.</exception>
    public void ExpectShape(int index, string what, Shape shape, DType dtype = DType.F32)
    {
        Expect(_inputs[index].Shape == shape, $"{what} must be {shape}, got {_inputs[index]}");
        ExpectType(index, what, dtype);
    }

    /// <summary>Checks the element type of an input.</summary>
    /// <param name="index">The input's position.</param>
    /// <param name="what">Its name and shape in the op's notation.</param>
    /// <param name="dtype">The element type.</param>
    /// <exception cref="GraphException">The input is another.</exception>
    public void ExpectType(int index, string what, DType dtype) =>
        Expect(_inputs[index].DType.Fits(dtype), $"{what} must be {dtype}, got {_inputs[index]}");

    /// <summary>Checks a condition.</summary>
    /// <param name="condition">What must hold.</param>
    /// <param name="message">What was expected and found; the node and the op are put in front.</param>
    /// <exception cref="GraphException">It does not hold.</exception>
    public void Expect([DoesNotReturnIf(false)] bool condition, string message)
    {
        if (!condition)
        {
            throw new GraphException($"{op.Name} '{node}': {message}");
        }
    }
}
