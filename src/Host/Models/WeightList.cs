using System.Globalization;

namespace Kernels.Models;

/// <summary>The weights that a model has, and how those of a file differ from them.</summary>
internal static class WeightList
{
    private const int MaxListed = 5;

    // Any head width that divides the multiples of 32 which group-norm enforces: heads do not show in the shapes.
    private const int AnyHeadChannels = 32;

    /// <summary>The weights of a model, found by building it at the least size it takes; nothing is allocated for them.</summary>
    /// <param name="config">The model; its head settings are not read.</param>
    /// <exception cref="ConfigurationException">The settings do not fit each other.</exception>
    /// <exception cref="GraphException">A tensor of the model would have more elements than a tensor can have.</exception>
    public static IReadOnlyList<Tensor> Of(ModelConfig config)
    {
        int size = config.Kind == ModelKind.Encoder && config.Pool == "attention" ? config.ImageSize : config.Downsampling;
        return Forward(config with { NumHeads = 1, NumHeadChannels = AnyHeadChannels, NumHeadsUpsample = -1 }, size).Weights;
    }

    /// <summary>The graph of one forward pass with one image.</summary>
    /// <param name="config">The model.</param>
    /// <param name="size">Height and width of the image.</param>
    public static Graph Forward(ModelConfig config, int size)
    {
        if (config.Kind != ModelKind.Encoder)
        {
            return ModelGraphs.UNet(config, 1, size, size, config.Kind == ModelKind.SuperRes ? (size, size) : null);
        }

        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [1, size, size, config.InChannels]);
        builder.Output("logits", EncoderUNetModel.Build(builder, config, x, builder.Input("t", [1])));
        return builder.Build();
    }

    /// <summary>Compares the tensors of a file with the weights of a model.</summary>
    /// <param name="dict">The file's.</param>
    /// <param name="config">The model.</param>
    /// <returns>One entry per tensor that is missing, misshapen or not of the model.</returns>
    public static List<WeightMismatch> Compare(StateDictShapes dict, ModelConfig config)
    {
        List<WeightMismatch> mismatches = [];
        HashSet<string> known = new(StringComparer.Ordinal);
        foreach (Tensor weight in Of(config))
        {
            known.Add(weight.Name);
            if (!dict.Shapes.TryGetValue(weight.Name, out Shape shape))
            {
                mismatches.Add(new WeightMismatch(weight.Name, weight.Shape, null));
            }
            else if (shape != weight.Shape)
            {
                mismatches.Add(new WeightMismatch(weight.Name, weight.Shape, shape));
            }
        }

        mismatches.AddRange(dict.Shapes.Where(t => !known.Contains(t.Key)).Select(t => new WeightMismatch(t.Key, null, t.Value)));
        return mismatches;
    }

    /// <summary>The error for tensors that do not fit.</summary>
    /// <param name="file">The file.</param>
    /// <param name="mismatches">At least one.</param>
    /// <param name="config">The model that fits best.</param>
    public static InvalidFileException Error(string file, IReadOnlyList<WeightMismatch> mismatches, ModelConfig config)
    {
        string listed = string.Join("; ", mismatches.Take(MaxListed));
        string more = mismatches.Count > MaxListed ? string.Create(CultureInfo.InvariantCulture, $"; and {mismatches.Count - MaxListed} more") : "";
        string number = mismatches.Count == 1 ? "1 tensor does" : string.Create(CultureInfo.InvariantCulture, $"{mismatches.Count} tensors do");
        return new InvalidFileException(
            file,
            mismatches[0].Name,
            $"{number} not fit the {config.ClassName} that the others are: {listed}{more}. The file is incomplete, or holds another architecture or another state dict "
            + "beside this one: download or export it again, or choose the state dict with --key");
    }
}

/// <summary>A tensor that does not fit.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Expected">The model's shape; null if the model has no such weight.</param>
/// <param name="Actual">The file's shape; null if it is missing.</param>
internal readonly record struct WeightMismatch(string Name, Shape? Expected, Shape? Actual)
{
    public override string ToString() => (Expected, Actual) switch
    {
        ({ } expected, null) => $"missing '{Name}' {expected}",
        (null, { } actual) => $"extra '{Name}' {actual}",
        _ => $"misshapen '{Name}' {Actual}, expected {Expected}",
    };
}
