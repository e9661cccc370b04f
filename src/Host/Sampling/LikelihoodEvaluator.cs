using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Sampling;

/// <summary>Bits per dimension of images under a model, as <c>image_nll.py</c> computes them (<see cref="BitsPerDimension"/>).</summary>
/// <remarks>The noise of an image depends on seed, image and step alone, so its bits do not depend on the batch. Not for several threads at once.</remarks>
public sealed class LikelihoodEvaluator : IDisposable
{
    private readonly LoadedModel _model;
    private readonly Backend _backend;
    private readonly SamplerOptions _options;
    private readonly Dictionary<int, Executor> _executors = [];

    private LikelihoodEvaluator(SamplerOptions options, LoadedModel model, Backend backend)
    {
        DiffusionConfig process = model.Process ?? throw new ConfigurationException($"{model.Checkpoint.File} holds a classifier; it cannot predict noise");
        (_options, _model, _backend) = (options, model, backend);
        ModelConfig config = model.Model.Config;
        Table = new StepTable(new GaussianDiffusion(process), SamplerKind.Ddpm);
        Parameterization parameterization = Parameterization.Of(process, options.Settings.ClipDenoised);
        NullLabel = options.Settings.NullLabel ?? model.NullLabel;
        if (config.OutChannels != config.InChannels * parameterization.OutputsPerChannel)
        {
            throw new ConfigurationException($"the diffusion model has {config.OutChannels} output channels; with {(process.LearnSigma ? "a learned" : "a fixed")} variance it must have {config.InChannels * parameterization.OutputsPerChannel} (learn_sigma)");
        }

        if (options.Settings.Unconditional && config.NumClasses is not null && NullLabel is null)
        {
            throw new ConfigurationException("unconditional likelihoods need the label that means \"no class\"; give --null-label");
        }

        Classes = options.Settings.Unconditional || config.NumClasses is not int labels ? 0 : labels - (NullLabel == labels - 1 ? 1 : 0);
    }

    /// <summary>Height and width of the images.</summary>
    public int Size => _model.Model.Config.ImageSize;

    /// <summary>Channels of the images.</summary>
    public int Channels => _model.Model.Config.InChannels;

    /// <summary>The steps, the noisiest first: the order of the terms.</summary>
    public StepTable Table { get; }

    /// <summary>Number of classes that an image can be of; 0 if the model reads no labels.</summary>
    public int Classes { get; }

    /// <summary>The label that means "no class", if there is one.</summary>
    public int? NullLabel { get; }

    /// <summary>The names of the classes, if the checkpoint tells them.</summary>
    public IReadOnlyList<string>? ClassNames => _model.ClassNames;

    /// <summary>Opens the checkpoint of the diffusion model; of the settings clipping, null label and <see cref="SamplerSettings.Unconditional"/> are read.</summary>
    /// <param name="options">What to evaluate with.</param>
    /// <param name="backend">Where to compute; it stays the caller's.</param>
    /// <exception cref="InvalidFileException">The checkpoint cannot be used.</exception>
    /// <exception cref="ConfigurationException">Settings contradict each other or the model, or are missing.</exception>
    public static LikelihoodEvaluator Load(SamplerOptions options, Backend backend)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(backend);
        return options.Diffusion.LoadFor(model => new LikelihoodEvaluator(options, model, backend));
    }

    /// <summary>Evaluates the terms of some images.</summary>
    /// <param name="images">8-bit values scaled to [-1, 1], <c>[N, H, W, C]</c>.</param>
    /// <param name="labels">One label per image; empty if the model reads none.</param>
    /// <param name="count">Number of images N.</param>
    /// <param name="seed">Seed of the noise.</param>
    /// <param name="first">Index of the first image in the job.</param>
    /// <param name="onStep">Called after every step with its number.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <exception cref="ConfigurationException">The images or labels do not fit.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public BitsPerDimensionResult Evaluate(
        float[] images, IReadOnlyList<int> labels, int count, ulong seed = 0, long first = 0, Action<int>? onStep = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentNullException.ThrowIfNull(labels);
        int elements = Size * Size * Channels;
        if (count < 1 || images.Length != (long)count * elements || (Classes > 0 && labels.Count != count))
        {
            throw new ConfigurationException($"{images.Length} values and {labels.Count} labels are not those of {count} images [{Size}, {Size}, {Channels}]");
        }

        if (Classes > 0 && labels.Any(l => l < 0 || l >= _model.Model.Config.NumClasses))
        {
            throw new ConfigurationException($"a label is out of range: the diffusion model has classes 0 to {Classes - 1}");
        }

        if (!_executors.TryGetValue(count, out Executor? executor))
        {
            Graph graph = Rewrites.Fuse(ModelGraphs.UNet(_model.Model.Config, count, Size, Size), [.. _options.DisabledFusions]).Graph;
            _executors.Add(count, executor = _backend.Compile(_backend.Plan(graph), _model.Model.Weights));
        }

        if (_model.Model.Config.NumClasses is not null)
        {
            executor.Write("y", Classes > 0 ? [.. labels] : Enumerable.Repeat(NullLabel!.Value, count).ToArray());
        }

        float[] timesteps = new float[count];
        return BitsPerDimension.CalcBpdLoop(
            Table,
            _options.Settings.ClipDenoised,
            count,
            Channels,
            images,
            (step, x, output) =>
            {
                Array.Fill(timesteps, Table.ModelTimesteps[step]);
                executor.Write("x", x);
                executor.Write("t", timesteps);
                executor.Run(cancellationToken);
                executor.Read("out", output);
                onStep?.Invoke(step);
            },
            (step, noise) =>
            {
                for (int i = 0; i < count; i++)
                {
                    RandomStreams.Normals(seed, (ulong)(first + i), RandomStreams.StepNoise(step), 0, noise.Slice(i * elements, elements));
                }
            },
            cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Executor executor in _executors.Values)
        {
            executor.Dispose();
        }

        _executors.Clear();
        _model.Dispose();
    }
}
