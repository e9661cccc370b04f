using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Sampling;

/// <summary>
/// DDIM inversion (<c>ddim_reverse_sample_loop</c>; Song et al. 2021, section 4.3): the latent x_T from which deterministic DDIM makes a given image again, up to an error that falls with the number
/// of steps.
/// </summary>
/// <remarks>Without a classifier, as in the original. Not for several threads at once.</remarks>
public sealed class DdimInversion : IDisposable
{
    private readonly LoadedModel _model;
    private readonly DiffusionSampler _reverse;
    private readonly DiffusionSampler _forward;

    private DdimInversion(SamplerOptions options, LoadedModel model, Backend backend)
    {
        DiffusionConfig process = model.Process ?? throw new ConfigurationException($"{model.Checkpoint.File} holds a classifier; it cannot predict noise");
        SamplerSettings settings = options.Settings with { ClassifierScale = 0, Eta = 0, NullLabel = options.Settings.NullLabel ?? model.NullLabel };
        _model = model;
        _reverse = new DiffusionSampler(backend, model.Model, process, null, settings with { Sampler = SamplerKind.DdimReverse }, disabledFusions: [.. options.DisabledFusions]);
        _forward = new DiffusionSampler(backend, model.Model, process, null, settings with { Sampler = SamplerKind.Ddim }, disabledFusions: [.. options.DisabledFusions]);
        Classes = settings.Unconditional || model.Model.Config.NumClasses is not int labels ? 0 : labels - (settings.NullLabel == labels - 1 ? 1 : 0);
    }

    /// <summary>Height of the images.</summary>
    public int Height => _forward.Height;

    /// <summary>Width of the images.</summary>
    public int Width => _forward.Width;

    /// <summary>Channels of the images.</summary>
    public int Channels => _model.Model.Config.InChannels;

    /// <summary>Steps in either direction.</summary>
    public int Steps => _forward.Table.Count;

    /// <summary>Number of classes that an image can be of; 0 if the model reads no labels.</summary>
    public int Classes { get; }

    /// <summary>The names of the classes, if the checkpoint tells them.</summary>
    public IReadOnlyList<string>? ClassNames => _model.ClassNames;

    /// <summary>Opens the checkpoint of the diffusion model; <see cref="SamplerOptions.Classifier"/> is not read, nor are sampler, eta and classifier scale.</summary>
    /// <param name="options">What to invert with.</param>
    /// <param name="backend">Where to compute; it stays the caller's.</param>
    /// <exception cref="InvalidFileException">The checkpoint cannot be used.</exception>
    /// <exception cref="ConfigurationException">Settings contradict each other or the model, or are missing.</exception>
    public static DdimInversion Load(SamplerOptions options, Backend backend)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.Diffusion.LoadFor(model => new DdimInversion(options, model, backend));
    }

    /// <summary>The latents of images.</summary>
    /// <param name="images">x_0 as <c>[N, H, W, C]</c> in [-1, 1].</param>
    /// <param name="labels">One label per image; empty if the model reads none.</param>
    /// <param name="count">Number of images N.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>x_T like the images.</returns>
    /// <exception cref="ConfigurationException">Images or labels do not fit.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public float[] Invert(float[] images, IReadOnlyList<int> labels, int count, StepCallback? onStep = null, CancellationToken cancellationToken = default) =>
        _reverse.Sample(new SampleBatch { Count = count, Labels = labels, Initial = images }, onStep, cancellationToken);

    /// <summary>The images of latents: deterministic DDIM.</summary>
    /// <param name="latents">x_T as <c>[N, H, W, C]</c>.</param>
    /// <param name="labels">One label per image; empty if the model reads none.</param>
    /// <param name="count">Number of images N.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>x_0 like the latents.</returns>
    /// <exception cref="ConfigurationException">Latents or labels do not fit.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public float[] Reconstruct(float[] latents, IReadOnlyList<int> labels, int count, StepCallback? onStep = null, CancellationToken cancellationToken = default) =>
        _forward.Sample(new SampleBatch { Count = count, Labels = labels, Initial = latents }, onStep, cancellationToken);

    /// <inheritdoc/>
    public void Dispose()
    {
        _reverse.Dispose();
        _forward.Dispose();
        _model.Dispose();
    }
}
