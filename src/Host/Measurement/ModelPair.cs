using Kernels.Checkpoints;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>A diffusion model, with its classifier if there is one, and the settings it is sampled with: what is measured.</summary>
public sealed class ModelPair : IDisposable
{
    // Between a diffusion model and its classifier; paths rarely have one.
    private const char Separator = '+';
    private readonly IReadOnlyList<IDisposable> _files;

    private ModelPair(string name, ModelConfig unet, ModelConfig? classifier, DiffusionConfig process, double classifierScale, Weights weights, params IReadOnlyList<IDisposable> files)
    {
        Name = name;
        Unet = unet;
        Classifier = classifier;
        Process = process;
        ClassifierScale = classifier is null ? 0 : classifierScale;
        Weights = weights;
        _files = files;
    }

    /// <summary>The presets of diffusion models.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Presets.All.Where(p => p.Process is not null).Select(p => p.Name)];

    /// <summary>The preset's name, or the files.</summary>
    public string Name { get; }

    /// <summary>The diffusion model.</summary>
    public ModelConfig Unet { get; }

    /// <summary>Its classifier; null if nothing steers.</summary>
    public ModelConfig? Classifier { get; }

    /// <summary>Schedule and respacing.</summary>
    public DiffusionConfig Process { get; }

    /// <summary>Guidance scale; 0 without a classifier.</summary>
    public double ClassifierScale { get; }

    /// <summary>The weights of both under the prefixes of <see cref="GuidedStep"/>.</summary>
    public Weights Weights { get; }

    /// <summary>The table of all steps.</summary>
    public StepTable CreateTable() => new(new GaussianDiffusion(Process), SamplerKind.Ddpm, classifierScale: ClassifierScale);

    /// <summary>A preset's models with weights that a formula makes.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="weightsFile">A file with tensors <c>diffusion/…</c> and <c>classifier/…</c> in place of the formula.</param>
    /// <exception cref="ConfigurationException">There is no diffusion model of that name.</exception>
    /// <exception cref="InvalidFileException">The file cannot be read.</exception>
    public static ModelPair OfPreset(string name, string? weightsFile = null)
    {
        Preset? preset = Presets.All.FirstOrDefault(p => p.Name.Equals(name, StringComparison.OrdinalIgnoreCase) && p.Process is not null);
        if (preset is null)
        {
            throw new ConfigurationException($"there is no model '{name}': give one of {string.Join(", ", Names)}, or files as diffusion.safetensors{Separator}classifier.safetensors");
        }

        ModelConfig? classifier = preset.Classifier is null ? null : Presets.Find(preset.Classifier).Model;
        Checkpoint? file = weightsFile is null ? null : Checkpoint.Load(weightsFile);
        return new ModelPair(
            preset.Name,
            preset.Model,
            classifier,
            preset.Process! with { TimestepRespacing = preset.TimestepRespacing ?? "" },
            preset.ClassifierScale ?? 1,
            Combine(WeightsOf(preset.Model, GuidedStep.DiffusionPrefix), classifier is null ? null : WeightsOf(classifier, GuidedStep.ClassifierPrefix)),
            file is null ? [] : [file]);

        Weights WeightsOf(ModelConfig config, string prefix) => file is null ? PresetModels.Random(config).Weights : new CheckpointWeights(file, prefix);
    }

    /// <summary>Models by what a command line says: the name of a preset, a checkpoint, or two of them joined by <c>+</c>.</summary>
    /// <param name="text">For instance <c>adm64</c> or <c>64x64_diffusion.pt+64x64_classifier.pt</c>.</param>
    /// <exception cref="ConfigurationException">There is no such model, or the settings of a checkpoint are not known.</exception>
    /// <exception cref="InvalidFileException">A file is missing or is no such checkpoint.</exception>
    public static ModelPair Open(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] files = text.Split(Separator);
        if (files.Length == 1 && !File.Exists(text) && Path.GetExtension(text).Length == 0 && !text.Contains('/', StringComparison.Ordinal))
        {
            return OfPreset(text);
        }

        if (files.Length > 2)
        {
            throw new ConfigurationException($"'{text}' names {files.Length} files; give a diffusion model, or one{Separator}its classifier");
        }

        LoadedModel diffusion = ModelLoader.Load(files[0]);
        LoadedModel? classifier = null;
        try
        {
            if (diffusion.Process is null)
            {
                throw new InvalidFileException(files[0], "", $"holds a classifier; a diffusion model comes first, its classifier behind a '{Separator}'");
            }

            classifier = files.Length == 1 ? null : ModelLoader.Load(files[1], expected: ModelKind.Encoder);
            DiffusionConfig process = diffusion.Process with { TimestepRespacing = diffusion.Preset?.TimestepRespacing ?? diffusion.Process.TimestepRespacing };
            Weights weights = Combine(diffusion.Model.Weights, classifier?.Model.Weights);
            return new ModelPair(
                string.Join(Separator, files.Select(Path.GetFileNameWithoutExtension)), diffusion.Model.Config, classifier?.Model.Config, process, diffusion.Preset?.ClassifierScale ?? 1,
                weights, classifier is null ? [diffusion] : [diffusion, classifier]);
        }
        catch
        {
            classifier?.Dispose();
            diffusion.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable file in _files)
        {
            file.Dispose();
        }
    }

    private static Weights Combine(Weights diffusion, Weights? classifier) => Weights.Combine(
        classifier is null ? [(GuidedStep.DiffusionPrefix, diffusion)] : [(GuidedStep.DiffusionPrefix, diffusion), (GuidedStep.ClassifierPrefix, classifier)]);
}
