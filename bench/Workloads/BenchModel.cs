using Kernels.Diffusion;
using Kernels.Models;

namespace Kernels.Bench.Workloads;

/// <summary>A pair of models with the settings it is sampled with: what the benchmarks measure.</summary>
/// <param name="Name">The preset's name.</param>
/// <param name="Unet">The diffusion model.</param>
/// <param name="Classifier">Its classifier.</param>
/// <param name="Process">Schedule and respacing.</param>
/// <param name="ClassifierScale">Guidance scale.</param>
internal sealed record BenchModel(string Name, ModelConfig Unet, ModelConfig Classifier, DiffusionConfig Process, double ClassifierScale)
{
    /// <summary>The presets that have a classifier.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Presets.All.Where(p => p.Classifier is not null).Select(p => p.Name)];

    /// <summary>The pair of a preset.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <exception cref="ConfigurationException">There is none of that name, or it has no classifier.</exception>
    public static BenchModel Get(string name)
    {
        Preset preset = Presets.Find(name);
        return preset.Classifier is string classifier
            ? new BenchModel(
                preset.Name,
                preset.Model,
                Presets.Find(classifier).Model,
                preset.Process! with { TimestepRespacing = preset.TimestepRespacing ?? "" },
                preset.ClassifierScale ?? 1)
            : throw new ConfigurationException($"there is no classifier for '{name}'; these have one: {string.Join(", ", Names)}");
    }
}
