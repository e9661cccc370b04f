using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Tests.Support;

/// <summary>Small models with random weights, of every construction that the published ones use.</summary>
internal static class TestModels
{
    /// <summary>A UNet of two levels for 8x8 images.</summary>
    public static ModelConfig UNet(bool scaleShift = true, bool updown = true, int? classes = 11, bool learnSigma = true) => new()
    {
        ImageSize = 8,
        ModelChannels = 32,
        OutChannels = learnSigma ? 6 : 3,
        NumResBlocks = 1,
        AttentionResolutions = [2],
        ChannelMult = [1, 2],
        NumClasses = classes,
        NumHeadChannels = 32,
        UseScaleShiftNorm = scaleShift,
        ResblockUpdown = updown,
        UseNewAttentionOrder = scaleShift,
    };

    /// <summary>A classifier of two levels for 8x8 images and ten classes.</summary>
    public static ModelConfig Classifier(string pool, bool scaleShift = true) => new()
    {
        Kind = ModelKind.Encoder,
        ImageSize = 8,
        ModelChannels = 32,
        OutChannels = 10,
        NumResBlocks = 1,
        AttentionResolutions = [2],
        ChannelMult = [1, 2],
        NumHeadChannels = 32,
        UseScaleShiftNorm = scaleShift,
        ResblockUpdown = scaleShift,
        Pool = pool,
    };

    /// <summary>A model with random weights.</summary>
    public static Model Random(ModelConfig config, int seed = 1)
    {
        Graph graph = config.Kind == ModelKind.Encoder
            ? ModelGraphs.Classifier(config, 1, config.ImageSize, config.ImageSize, 1)
            : ModelGraphs.UNet(config, 1, config.ImageSize, config.ImageSize, config.Kind == ModelKind.SuperRes ? (4, 4) : null);
        return new Model(config, ToWeights(graph, Values(graph.Weights, seed)));
    }

    /// <summary>
    /// Random values that a float32 holds: layers keep the size of what passes through them, scales are near one, biases small, as in a trained model.
    /// </summary>
    public static Dictionary<string, double[]> Values(IEnumerable<Tensor> weights, int seed = 1)
    {
        Dictionary<string, double[]> values = [];
        foreach (Tensor weight in weights)
        {
            Random random = new(seed + values.Count);
            bool bias = weight.Name.EndsWith("bias", StringComparison.Ordinal);
            double scale = weight.Shape.Rank == 1 ? 0.2 : Math.Sqrt((double)weight.Shape[0] / weight.Shape.Elements);
            double offset = weight.Shape.Rank == 1 && !bias ? 1 : 0;
            values.Add(weight.Name, Normals(random, weight.Shape.Elements, scale, offset));
        }

        return values;
    }

    /// <summary>The values as weights of a graph.</summary>
    public static Weights ToWeights(Graph graph, IReadOnlyDictionary<string, double[]> values) =>
        Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Array.ConvertAll(values[t.Name], v => (float)v))));

    /// <summary>Normal values that a float32 holds.</summary>
    public static double[] Normals(Random random, int count, double scale = 1, double offset = 0)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++)
        {
            double normal = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
            values[i] = (float)((scale * normal) + offset);
        }

        return values;
    }
}
