using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Kernels.Sampling;

/// <summary>Samples images: the models of <see cref="SamplerOptions"/> on a device.</summary>
/// <remarks>
/// One job at a time: a call while another one is at work is refused with an <see cref="InvalidOperationException"/>, and changes nothing. Several samplers may work at the same time, each on a
/// thread of its own, on one backend too, where their steps take turns; none of their images depends on it. Properties may be read from any thread.
/// </remarks>
public sealed partial class Sampler : IDisposable
{
    private readonly LoadedModel _diffusion;
    private readonly LoadedModel? _classifier;
    private readonly DiffusionSampler _steps;

    private Sampler(SamplerOptions options, LoadedModel diffusion, LoadedModel? classifier, Backend backend, ILogger logger)
    {
        _logger = logger;
        DiffusionConfig process = diffusion.Process ?? throw new ConfigurationException($"{diffusion.Checkpoint.File} holds a classifier; it cannot predict noise");
        SamplerSettings settings = options.Settings with
        {
            NullLabel = options.Settings.NullLabel ?? diffusion.NullLabel,
            Spacing = options.Settings.Spacing ?? options.Settings.Sampler.OwnSpacing(),
        };
        Options = options with { Settings = settings };
        Backend = backend;
        _diffusion = diffusion;
        _classifier = classifier;
        _steps = new DiffusionSampler(backend, diffusion.Model, process, classifier?.Model, settings, disabledFusions: [.. options.DisabledFusions], lowRes: options.LowRes, inpainting: options.Inpainting);
    }

    /// <summary>What it was made of; null label and spacing are those in use.</summary>
    public SamplerOptions Options { get; }

    /// <summary>Where it computes.</summary>
    public Backend Backend { get; }

    /// <summary>The diffusion model.</summary>
    public LoadedModel Diffusion => _diffusion;

    /// <summary>The classifier that steers, if one does.</summary>
    public LoadedModel? Classifier => _classifier;

    /// <summary>Height of the images.</summary>
    public int Height => _steps.Height;

    /// <summary>Width of the images.</summary>
    public int Width => _steps.Width;

    /// <summary>Channels of the images.</summary>
    public int Channels => _diffusion.Model.Config.InChannels;

    /// <summary>The steps.</summary>
    public StepTable Table => _steps.Table;

    /// <summary>The names of the classes, if a checkpoint tells them.</summary>
    public IReadOnlyList<string>? ClassNames => _diffusion.ClassNames ?? _classifier?.ClassNames;

    /// <summary>Number of classes that can be asked for; 0 if nothing reads labels. The label that means "no class" is not one that somebody wants a picture of.</summary>
    public int ClassCount
    {
        get
        {
            SamplerSettings settings = Options.Settings;
            int? labels = _diffusion.Model.Config.NumClasses;
            int? conditional = settings.Unconditional ? null : labels - (settings.NullLabel == labels - 1 ? 1 : 0);
            return Math.Min(conditional ?? int.MaxValue, _classifier?.Model.Config.OutChannels ?? int.MaxValue) is var classes and < int.MaxValue ? classes : 0;
        }
    }

    /// <summary>Opens the checkpoints.</summary>
    /// <param name="options">What to sample with.</param>
    /// <param name="backend">Where to compute; it stays the caller's.</param>
    /// <param name="logger">Told of what is opened, sampled and lost; null for nobody.</param>
    /// <exception cref="InvalidFileException">A checkpoint cannot be used.</exception>
    /// <exception cref="ConfigurationException">Settings contradict each other or the models, or are missing.</exception>
    public static Sampler Load(SamplerOptions options, Backend backend, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(backend);
        LoadedModel? diffusion = null, classifier = null;
        try
        {
            diffusion = options.Diffusion.Load();
            if (options.Classifier is ModelSource source && options.Settings.ClassifierScale != 0)
            {
                classifier = source.Load(ModelKind.Encoder);
                CheckSize(diffusion, classifier);
            }

            Sampler sampler = new(options, diffusion, classifier, backend, logger ?? NullLogger.Instance);
            SamplerLog.Loaded(sampler._logger, options.Diffusion.Path, sampler.Height, sampler.Width, sampler.Table.Count, backend.Name);
            return sampler;
        }
        catch
        {
            classifier?.Dispose();
            diffusion?.Dispose();
            throw;
        }
    }

    /// <summary>Does for a batch size what the first batch of it would otherwise wait for: planning, packing weights, compiling kernels.</summary>
    /// <param name="batch">Number of images.</param>
    /// <exception cref="DeviceException">The device lacks memory, or a kernel does not compile.</exception>
    /// <exception cref="InvalidOperationException">Another call is at work.</exception>
    public void Prepare(int batch)
    {
        using Turn turn = Enter();
        Guarded(() => _steps.Prepare(batch));
    }

    /// <summary>Labels of some images of a request; none if nothing reads labels.</summary>
    /// <param name="request">The job.</param>
    /// <param name="first">Index of the first image.</param>
    /// <param name="count">Number of images.</param>
    public int[] LabelsOf(SampleRequest request, long first, int count)
    {
        ArgumentNullException.ThrowIfNull(request);
        int classes = ClassCount;
        if (request.Random.IsTorch && request.Classes.Count == 0 && classes > 0)
        {
            TorchDraws draws = NewDraws(request);
            return [.. Enumerable.Range(0, count).Select(i => first + i).GroupBy(i => i / request.BatchSize).SelectMany(batch =>
            {
                int[] drawn = draws.Begin(batch.Key).Labels;
                return batch.Select(i => drawn[i % request.BatchSize]);
            })];
        }

        return classes == 0 ? [] : [.. Enumerable.Range(0, count).Select(i => request.LabelOf(first + i, classes))];
    }

    /// <summary>Samples some images of a request as one batch.</summary>
    /// <param name="request">The job.</param>
    /// <param name="first">Index of the first image.</param>
    /// <param name="count">Number of images.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="keepSteps">Whether <paramref name="onStep"/> looks at every step (<see cref="SampleBatch.KeepSteps"/>).</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <exception cref="ConfigurationException">A label is out of range, or the request does not fit this sampler (<see cref="Check"/>).</exception>
    /// <exception cref="InvalidFileException">Images of the request have the wrong size.</exception>
    /// <exception cref="DeviceException">The device lacks memory or failed.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    /// <exception cref="InvalidOperationException">Another call is at work.</exception>
    public SampledImages Sample(
        SampleRequest request, long first, int count, StepCallback? onStep = null, bool keepSteps = false, CancellationToken cancellationToken = default)
    {
        using Turn turn = Enter();
        return SampleBatch(request, first, count, onStep, keepSteps, cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _isDisposed = true;
        _steps.Dispose();
        _classifier?.Dispose();
        _diffusion.Dispose();
    }

    // What a classifier without attention pooling was trained on is not in its weights, and then any size that it can halve will do.
    private static void CheckSize(LoadedModel diffusion, LoadedModel classifier)
    {
        int size = diffusion.Model.Config.ImageSize;
        int other = classifier.Model.Config.ImageSize;
        if (other != size && classifier.Provenance.Any(v => v.Name == "image_size" && v.Source != "default"))
        {
            throw new ConfigurationException($"the classifier is for images of {other}x{other}, the diffusion model makes {size}x{size}");
        }

        classifier.Model.Config.ValidateSize(size, size);
    }
}
