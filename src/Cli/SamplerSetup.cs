using System.CommandLine;
using Kernels.Cli.Commands;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Cli;

/// <summary>The models and settings that a command line of <c>kernels sample</c> describes.</summary>
internal sealed class SamplerSetup : IDisposable
{
    private SamplerSetup(LoadedModel diffusion, LoadedModel? classifier, SamplerSettings settings, bool isDemo)
    {
        Diffusion = diffusion;
        Classifier = classifier;
        Settings = settings;
        IsDemo = isDemo;
    }

    /// <summary>The diffusion model.</summary>
    public LoadedModel Diffusion { get; }

    /// <summary>The classifier that steers, if one does.</summary>
    public LoadedModel? Classifier { get; }

    /// <summary>Sampler and guidance.</summary>
    public SamplerSettings Settings { get; }

    /// <summary>Whether no model was named, so that it is the demo pair's.</summary>
    public bool IsDemo { get; }

    /// <summary>Loads the models and reads the settings.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="options">The options of sampling.</param>
    /// <param name="models">The options of models.</param>
    /// <exception cref="ConfigurationException">The options contradict each other or the models.</exception>
    /// <exception cref="InvalidFileException">A checkpoint cannot be used.</exception>
    public static SamplerSetup Load(ParseResult parsed, SampleOptions options, ModelOptions models)
    {
        bool demo = parsed.GetValue(options.Diffusion) is null;
        if (demo && parsed.GetValue(options.Classifier) is not null)
        {
            throw new ConfigurationException("--classifier needs --diffusion: a classifier steers a diffusion model of its own image size");
        }

        string? respacing = options.RespacingOf(parsed, parsed.GetValue(models.TimestepRespacing)) ?? (demo ? DemoPair.Settings.TimestepRespacing : null);
        LoadedModel diffusion = ModelLoader.Load(
            parsed.GetValue(options.Diffusion) ?? DemoPair.Diffusion, models.DiffusionOverrides(parsed) with { TimestepRespacing = respacing }, parsed.GetValue(options.Key));
        LoadedModel? classifier = null;
        try
        {
            string? classifierPath = parsed.GetValue(options.Classifier) ?? (demo ? DemoPair.Classifier : null);
            double scale = parsed.GetValue(options.ClassifierScale) ?? (demo ? DemoPair.Settings.ClassifierScale!.Value : classifierPath is null ? 0 : 1);
            classifier = classifierPath is null || scale == 0 ? null : ModelLoader.Load(classifierPath, models.ClassifierOverrides(parsed), expected: ModelKind.Encoder);
            SamplerSettings settings = new()
            {
                Sampler = options.SamplerOf(parsed),
                Eta = parsed.GetValue(options.Eta),
                ClipDenoised = parsed.GetValue(options.ClipDenoised) ?? true,
                ClassifierScale = scale,
                CfgScale = parsed.GetValue(options.CfgScale),
                NullLabel = parsed.GetValue(options.NullLabel) ?? diffusion.NullLabel,
                Unconditional = parsed.GetValue(options.Unconditional) ?? false,
            };
            CheckSize(diffusion, classifier);
            return new SamplerSetup(diffusion, classifier, settings, demo);
        }
        catch
        {
            classifier?.Dispose();
            diffusion.Dispose();
            throw;
        }
    }

    /// <summary>The sampler on a backend.</summary>
    /// <param name="backend">Where it computes.</param>
    /// <param name="disabledFusions">Rewrites to leave out.</param>
    /// <exception cref="ConfigurationException">The models do not fit together.</exception>
    public DiffusionSampler Create(Backend backend, IReadOnlyCollection<string> disabledFusions) => new(
        backend,
        Diffusion.Model,
        Diffusion.Process ?? throw new ConfigurationException($"{Diffusion.Checkpoint.File} holds a classifier; --diffusion takes a diffusion model"),
        Classifier?.Model,
        Settings,
        disabledFusions: disabledFusions);

    /// <inheritdoc/>
    public void Dispose()
    {
        Classifier?.Dispose();
        Diffusion.Dispose();
    }

    // What a classifier without attention pooling was trained on is not in its weights, and then any size that it can halve will do.
    private static void CheckSize(LoadedModel diffusion, LoadedModel? classifier)
    {
        if (classifier is null)
        {
            return;
        }

        int size = diffusion.Model.Config.ImageSize;
        int other = classifier.Model.Config.ImageSize;
        if (other != size && classifier.Provenance.Any(v => v.Name == "image_size" && v.Source != "default"))
        {
            throw new ConfigurationException($"the classifier is for images of {other}x{other}, the diffusion model makes {size}x{size}");
        }

        classifier.Model.Config.ValidateSize(size, size);
    }
}
