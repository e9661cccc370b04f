namespace Kernels.Models;

/// <summary>How large a model is, without its weights.</summary>
public static class ModelCost
{
    /// <summary>Number of parameters.</summary>
    /// <param name="config">The model; heads and attention order do not matter.</param>
    /// <exception cref="ConfigurationException">The settings do not fit each other.</exception>
    public static long Parameters(ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return WeightList.Of(config).Sum(w => (long)w.Shape.Elements);
    }

    /// <summary>The cost of one forward pass with one image of <see cref="ModelConfig.ImageSize"/>; of a classifier without its gradient.</summary>
    /// <param name="config">The model.</param>
    /// <exception cref="ConfigurationException">The settings do not fit each other, or the image size is not known.</exception>
    public static Cost PerImage(ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return WeightList.Forward(config, config.ImageSize).Cost;
    }
}
