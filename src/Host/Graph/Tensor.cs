namespace Kernels;

/// <summary>Where a tensor's values come from.</summary>
public enum TensorKind
{
    /// <summary>Written by the caller before a run.</summary>
    Input,

    /// <summary>Read from a checkpoint, constant for the life of an executor.</summary>
    Weight,

    /// <summary>Produced by a node.</summary>
    Value,
}

/// <summary>What an op promises about one of its outputs.</summary>
/// <param name="Shape">The extents.</param>
/// <param name="DType">The element type.</param>
public readonly record struct TensorType(Shape Shape, DType DType = DType.F32);

/// <summary>A value of the graph: a name, a shape and an element type, but no storage. Tensors are compared by identity.</summary>
/// <remarks>Activations are <c>[N, H, W, C]</c>, weights keep the shape they have in the checkpoint.</remarks>
public sealed class Tensor
{
    /// <summary>Creates a tensor.</summary>
    /// <param name="name">Its name; unique within a graph.</param>
    /// <param name="type">Its shape and element type.</param>
    /// <param name="kind">Where its values come from.</param>
    /// <exception cref="GraphException">It would have no elements: nothing could be computed from it.</exception>
    public Tensor(string name, TensorType type, TensorKind kind)
    {
        if (type.Shape.Elements == 0)
        {
            throw new GraphException($"'{name}' has no elements: its shape is {type.Shape}");
        }

        Name = name;
        Shape = type.Shape;
        DType = type.DType;
        Kind = kind;
    }

    /// <summary>The name: a checkpoint key for a weight, a module path for a value.</summary>
    public string Name { get; }

    /// <summary>The extents.</summary>
    public Shape Shape { get; }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>Where the values come from.</summary>
    public TensorKind Kind { get; }

    /// <summary>Size of the dense values in bytes.</summary>
    public long Bytes => (long)Shape.Elements * DType.SizeInBytes();

    /// <summary>Name, element type and shape, as the dumps show them.</summary>
    public override string ToString() => $"{Name}: {DType.ToString().ToLowerInvariant()}{Shape}";
}
