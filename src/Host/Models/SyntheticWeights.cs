using System.Text;
using Kernels.Files;
using Kernels.Runtime;

namespace Kernels.Models;

/// <summary>
/// Weights that a formula makes, where no trained ones are at hand. The same formula stands in <c>bench/peers/synthetic.py</c>, so that a rival can be given the same
/// model without a file of gigabytes, and its results compared.
/// </summary>
/// <remarks>
/// Every element is a hash of the tensor's name and its index, spread evenly over [-1/2, 1/2) and scaled: matrices and filters to variance 1 / fan-in, so that
/// activations neither grow nor vanish; the scales of norms to 1 ± 0.1; other vectors to ± 0.1.
/// </remarks>
/// <param name="weights">Names and shapes.</param>
/// <param name="seed">Which weights; 0 for those of the Python side.</param>
internal sealed class SyntheticWeights(IEnumerable<Tensor> weights, uint seed = 0) : Weights
{
    private readonly Dictionary<string, Shape> _shapes = weights.ToDictionary(t => t.Name, t => t.Shape);

    /// <inheritdoc/>
    public override string Source => "synthetic weights";

    /// <inheritdoc/>
    public override IReadOnlyCollection<string> Names => _shapes.Keys;

    /// <inheritdoc/>
    public override Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

    /// <inheritdoc/>
    public override void CopyTo(string name, Span<float> destination)
    {
        Shape shape = _shapes[name];
        bool norm = shape.Rank == 1 && name.EndsWith(".weight", StringComparison.Ordinal);
        float scale = shape.Rank == 1 ? 0.2f : (float)Math.Sqrt(12.0 * shape[0] / shape.Elements);
        Fill(name, scale, norm ? 1 : 0, destination, seed);
    }

    /// <summary>Fills an array with offset + scale · u, where u is even over [-1/2, 1/2) and depends on name, seed and index alone.</summary>
    /// <param name="name">What the values are for.</param>
    /// <param name="scale">Factor.</param>
    /// <param name="offset">Summand.</param>
    /// <param name="destination">Receives the values.</param>
    /// <param name="seed">Which values.</param>
    public static void Fill(string name, float scale, float offset, Span<float> destination, uint seed = 0)
    {
        uint start = Crc32.Compute(Encoding.UTF8.GetBytes(name)) ^ Mix(seed);
        for (int i = 0; i < destination.Length; i++)
        {
            // A Weyl sequence through a finalizer: cheap, and the same in any language.
            uint h = Mix(unchecked(((uint)i * 0x9E3779B1u) + start));
            destination[i] = offset + (scale * ((int)h * (1f / 4294967296f)));
        }
    }

    // The finalizer of MurmurHash3 (Appleby 2011); it leaves 0 as it is.
    private static uint Mix(uint h)
    {
        h = unchecked((h ^ (h >> 16)) * 0x85EBCA6Bu);
        h = unchecked((h ^ (h >> 13)) * 0xC2B2AE35u);
        return h ^ (h >> 16);
    }
}
