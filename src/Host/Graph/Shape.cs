using System.Collections;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace Kernels;

/// <summary>The static extents of a tensor, outermost first. Row-major and dense; rank 0 is one element.</summary>
[CollectionBuilder(typeof(Shape), nameof(Create))]
public readonly struct Shape : IEquatable<Shape>, IReadOnlyList<int>
{
    private readonly int[]? _dims;

    private Shape(int[] dims) => _dims = dims;

    /// <summary>Creates a shape; collection expressions (<c>[n, h, w, c]</c>) come here.</summary>
    /// <param name="dims">The extents, outermost first.</param>
    /// <exception cref="GraphException">An extent is negative, or the elements do not fit 2^31 - 1.</exception>
    public static Shape Create(ReadOnlySpan<int> dims)
    {
        long elements = 1;
        foreach (int dim in dims)
        {
            elements *= dim;
            if (dim < 0 || elements > int.MaxValue)
            {
                throw new GraphException($"shape [{Join(dims)}] has a negative extent or more than 2^31 - 1 elements");
            }
        }

        return new Shape(dims.ToArray());
    }

    /// <summary>Number of axes.</summary>
    public int Rank => _dims?.Length ?? 0;

    /// <inheritdoc/>
    int IReadOnlyCollection<int>.Count => Rank;

    /// <summary>Number of elements.</summary>
    public int Elements
    {
        get
        {
            int elements = 1;
            foreach (int dim in Dims)
            {
                elements *= dim;
            }

            return elements;
        }
    }

    /// <summary>The extents, outermost first.</summary>
    public ReadOnlySpan<int> Dims => _dims;

    /// <summary>Extent of one axis; negative indices count from the innermost, -1 being the last.</summary>
    /// <param name="axis">The axis.</param>
    public int this[int axis] => _dims![axis < 0 ? axis + _dims.Length : axis];

    /// <summary>Compares extents.</summary>
    /// <param name="left">One shape.</param>
    /// <param name="right">Another shape.</param>
    public static bool operator ==(Shape left, Shape right) => left.Equals(right);

    /// <summary>Compares extents.</summary>
    /// <param name="left">One shape.</param>
    /// <param name="right">Another shape.</param>
    public static bool operator !=(Shape left, Shape right) => !left.Equals(right);

    /// <summary>The same extents but one.</summary>
    /// <param name="axis">The axis to replace; negative counts from the innermost.</param>
    /// <param name="extent">Its new extent.</param>
    public Shape With(int axis, int extent)
    {
        int[] dims = Dims.ToArray();
        dims[axis < 0 ? axis + dims.Length : axis] = extent;
        return Create(dims);
    }

    /// <inheritdoc/>
    public bool Equals(Shape other) => Dims.SequenceEqual(other.Dims);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Shape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        HashCode hash = default;
        foreach (int dim in Dims)
        {
            hash.Add(dim);
        }

        return hash.ToHashCode();
    }

    /// <summary>The extents as <c>[n, h, w, c]</c>.</summary>
    public override string ToString() => $"[{Join(Dims)}]";

    /// <inheritdoc/>
    public IEnumerator<int> GetEnumerator() => ((IEnumerable<int>)(_dims ?? [])).GetEnumerator();

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private static string Join(ReadOnlySpan<int> dims)
    {
        string[] parts = new string[dims.Length];
        for (int i = 0; i < dims.Length; i++)
        {
            parts[i] = dims[i].ToString(CultureInfo.InvariantCulture);
        }

        return string.Join(", ", parts);
    }
}
