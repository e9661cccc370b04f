using System.Text;
using Kernels.Diffusion;
using Kernels.Runtime;

namespace Kernels.Models;

/// <summary>
/// Models with random weights: the shapes and the cost of real ones, for benchmarks and tests that have no files. The weights are functions of seed and name alone, the
/// same on every machine, and are made when they are read.
/// </summary>
public static class PresetModels
{
    /// <summary>A preset's model.</summary>
    /// <param name="preset">The name of the preset.</param>
    /// <param name="seed">Which weights.</param>
    /// <exception cref="ConfigurationException">There is no such preset.</exception>
    public static Model Random(string preset, ulong seed = 0) => Random(Presets.Find(preset).Model, seed);

    /// <summary>
    /// A model. Weights are uniform with variance 1 / fan_in, so that activations keep their scale through the depth of the model; biases are within ±0.1, the scales of
    /// norms within 1 ± 0.1.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="seed">Which weights.</param>
    /// <exception cref="ConfigurationException">The settings do not fit each other.</exception>
    public static Model Random(ModelConfig config, ulong seed = 0)
    {
        ArgumentNullException.ThrowIfNull(config);
        return new Model(config, new RandomWeights(WeightList.Of(config), seed));
    }

    private sealed class RandomWeights(IReadOnlyList<Tensor> weights, ulong seed) : Weights
    {
        private const float Small = 0.1f;
        private const int WordsPerCounter = 4;
        private readonly Dictionary<string, Shape> _shapes = weights.ToDictionary(w => w.Name, w => w.Shape);

        public override string Source => $"random weights of seed {seed}";

        public override IReadOnlyCollection<string> Names => _shapes.Keys;

        public override Shape? ShapeOf(string name) => _shapes.TryGetValue(name, out Shape shape) ? shape : null;

        public override void CopyTo(string name, Span<float> destination)
        {
            Shape shape = _shapes[name];
            bool vector = shape.Rank == 1;
            float mean = vector && name.EndsWith(".weight", StringComparison.Ordinal) ? 1 : 0;

            // Uniform on ±a has the variance a² / 3.
            float halfWidth = vector ? Small : MathF.Sqrt(3f / FanIn(name, shape));
            Fill(Hash(name), mean, halfWidth, destination);
        }

        // A row of the embedding table is taken as it is and added to the timestep's, whose elements are about one; so is a column of the positional one.
        private static int FanIn(string name, Shape shape) =>
            name == "label_emb.weight" || name.EndsWith("positional_embedding", StringComparison.Ordinal) ? 1 : Math.Max(1, shape.Elements / shape[0]);

        private void Fill(uint stream, float mean, float halfWidth, Span<float> destination)
        {
            for (int i = 0; i < destination.Length; i += WordsPerCounter)
            {
                (uint R0, uint R1, uint R2, uint R3) words = Philox.Words((uint)i / WordsPerCounter, stream, 0, 0, seed);
                ReadOnlySpan<uint> four = [words.R0, words.R1, words.R2, words.R3];
                for (int k = 0; k < WordsPerCounter && i + k < destination.Length; k++)
                {
                    // 24 bits, the significand of a float, over [-1, 1).
                    float unit = ((four[k] >> 8) * (1f / (1 << 23))) - 1f;
                    destination[i + k] = mean + (halfWidth * unit);
                }
            }
        }

        // FNV-1a: string.GetHashCode differs from run to run.
        private static uint Hash(string name)
        {
            uint hash = 2166136261;
            foreach (byte b in Encoding.UTF8.GetBytes(name))
            {
                hash = (hash ^ b) * 16777619;
            }

            return hash;
        }
    }
}
