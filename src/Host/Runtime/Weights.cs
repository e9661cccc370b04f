namespace Kernels.Runtime;

/// <summary>Supplies the values of a graph's weights by name.</summary>
public abstract class Weights
{
    /// <summary>Where the weights come from, for messages.</summary>
    public abstract string Source { get; }

    /// <summary>The names of all weights.</summary>
    public abstract IReadOnlyCollection<string> Names { get; }

    /// <summary>Shape of a weight; null if there is none of the name.</summary>
    /// <param name="name">The weight's name.</param>
    public abstract Shape? ShapeOf(string name);

    /// <summary>Writes the values of a weight.</summary>
    /// <param name="name">The weight's name.</param>
    /// <param name="destination">As many elements as its shape has.</param>
    /// <exception cref="InvalidFileException">A value is not finite, or the file cannot be read.</exception>
    public abstract void CopyTo(string name, Span<float> destination);

    /// <summary>Checks that there is a weight of the right shape for every weight of a graph.</summary>
    /// <param name="graph">The graph.</param>
    /// <exception cref="InvalidFileException">One is missing or misshapen.</exception>
    public void Check(Graph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        foreach (Tensor weight in graph.Weights)
        {
            Shape shape = ShapeOf(weight.Name)
                ?? throw new InvalidFileException(Source, weight.Name, $"this weight of shape {weight.Shape} is missing; the file does not fit the model's configuration");
            if (shape != weight.Shape)
            {
                throw new InvalidFileException(Source, weight.Name, $"the weight has shape {shape}, the model's configuration wants {weight.Shape}");
            }
        }
    }

    /// <summary>Joins weights under prefixes: a weight <c>p + name</c> is looked up as <c>name</c> in the weights of prefix <c>p</c>.</summary>
    /// <param name="parts">Prefixes with their weights.</param>
    public static Weights Combine(params IReadOnlyList<(string Prefix, Weights Weights)> parts) => new CombinedWeights(parts);

    /// <summary>Weights from arrays, for tests and programs that make them.</summary>
    /// <param name="values">Name to shape and values.</param>
    public static Weights FromArrays(IReadOnlyDictionary<string, (Shape Shape, float[] Values)> values) => new ArrayWeights(values);

    private sealed class CombinedWeights(IReadOnlyList<(string Prefix, Weights Weights)> parts) : Weights
    {
        public override string Source => string.Join(" + ", parts.Select(p => p.Weights.Source));

        public override IReadOnlyCollection<string> Names { get; } = [.. parts.SelectMany(p => p.Weights.Names.Select(n => p.Prefix + n))];

        public override Shape? ShapeOf(string name) => Find(name, out string inner)?.ShapeOf(inner);

        public override void CopyTo(string name, Span<float> destination) => Find(name, out string inner)!.CopyTo(inner, destination);

        private Weights? Find(string name, out string inner)
        {
            foreach ((string prefix, Weights weights) in parts)
            {
                if (name.StartsWith(prefix, StringComparison.Ordinal))
                {
                    inner = name[prefix.Length..];
                    return weights;
                }
            }

            inner = name;
            return null;
        }
    }

    private sealed class ArrayWeights(IReadOnlyDictionary<string, (Shape Shape, float[] Values)> values) : Weights
    {
        public override string Source => "memory";

        public override IReadOnlyCollection<string> Names { get; } = [.. values.Keys];

        public override Shape? ShapeOf(string name) => values.TryGetValue(name, out (Shape Shape, float[] Values) weight) ? weight.Shape : null;

        public override void CopyTo(string name, Span<float> destination) => values[name].Values.CopyTo(destination);
    }
}
