namespace Kernels.Models;

/// <summary>
/// Models with random weights: the shapes and the cost of real ones, for benchmarks and tests that have no files. The weights are a function of their names and the
/// seed alone, the same on every machine, and are made when they are read.
/// </summary>
public static class PresetModels
{
    /// <summary>A preset's model.</summary>
    /// <param name="preset">The name of the preset.</param>
    /// <param name="seed">Which weights.</param>
    /// <exception cref="ConfigurationException">There is no such preset.</exception>
    public static Model Random(string preset, uint seed = 0) => Random(Presets.Find(preset).Model, seed);

    /// <summary>
    /// A model. Weights are uniform with variance 1 / fan_in, so that activations keep their scale through the depth of the model; biases are within ±0.1, the scales
    /// of norms within 1 ± 0.1.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="seed">Which weights.</param>
    /// <exception cref="ConfigurationException">The settings do not fit each other.</exception>
    public static Model Random(ModelConfig config, uint seed = 0)
    {
        ArgumentNullException.ThrowIfNull(config);
        return new Model(config, new SyntheticWeights(WeightList.Of(config), seed));
    }
}
