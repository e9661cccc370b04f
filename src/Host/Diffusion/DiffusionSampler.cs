using System.Globalization;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Diffusion;

/// <summary>What is known after a step; valid during the call that receives it.</summary>
/// <param name="step">Steps executed before this one.</param>
/// <param name="steps">Steps in all.</param>
/// <param name="executor">Where the results lie.</param>
/// <param name="snapshots">Copies of x and of the prediction that were taken after the step; null if the results still lie where they were made.</param>
public readonly ref struct StepResult(int step, int steps, Executor executor, StepSnapshots? snapshots = null)
{
    /// <summary>Steps executed before this one.</summary>
    public int Step { get; } = step;

    /// <summary>Steps in all.</summary>
    public int Steps { get; } = steps;

    /// <summary>Copies x after this step.</summary>
    /// <param name="destination"><c>[N, H, W, C]</c>.</param>
    public void ReadX(Span<float> destination)
    {
        if (snapshots is null)
        {
            executor.Read("x_next", destination);
        }
        else
        {
            snapshots.X.Read(destination);
        }
    }

    /// <summary>Copies the prediction of x_0.</summary>
    /// <param name="destination"><c>[N, H, W, C]</c>.</param>
    public void ReadPredXstart(Span<float> destination)
    {
        if (snapshots is null)
        {
            executor.Read("pred_xstart", destination);
        }
        else
        {
            snapshots.PredXstart.Read(destination);
        }
    }
}

/// <summary>Receives the result of a step.</summary>
/// <param name="result">The result; not to be kept.</param>
public delegate void StepCallback(StepResult result);

/// <summary>The images of one batch: labels, and where x_T and the noise come from.</summary>
public sealed record SampleBatch
{
    /// <summary>Label per image, for the classifier and a class-conditional UNet. Empty if neither is there.</summary>
    public IReadOnlyList<int> Labels { get; init; } = [];

    /// <summary>Seed of the noise, used where none is supplied.</summary>
    public ulong Seed { get; init; }

    /// <summary>Index of the first image of the batch in the job: noise depends on it, not on the batch.</summary>
    public long FirstImage { get; init; }

    /// <summary>Number of images.</summary>
    public required int Count { get; init; }

    /// <summary>x_T (or x_0 for an inversion) as <c>[N, H, W, C]</c>; null draws it from the seed.</summary>
    public float[]? Initial { get; init; }

    /// <summary>Noise of every step as <c>[S, N, H, W, C]</c>; null draws it from the seed.</summary>
    public float[]? StepNoise { get; init; }

    /// <summary>
    /// Whether the callback is called one step late, with copies of the step's results, while the device is at work on the next: for callbacks that look at every step. Without it the
    /// callback runs between two steps.
    /// </summary>
    public bool KeepSteps { get; init; }

    /// <summary>Low-resolution images <c>[N, h, w, C]</c> for a super-resolution model.</summary>
    public float[]? LowRes { get; init; }
}

/// <summary>Samples batches of images with a diffusion model, a classifier if the settings ask for one, and a backend.</summary>
/// <remarks>Not for several threads at once. Executors are kept per batch size; the weights are packed once.</remarks>
public sealed class DiffusionSampler : IDisposable
{
    private readonly Backend _backend;
    private readonly Model _diffusion;
    private readonly Model? _classifier;
    private readonly Weights _weights;
    private readonly IReadOnlyCollection<string> _disabledFusions;
    private readonly (int Height, int Width)? _lowRes;
    private readonly Dictionary<(int Batch, bool SuppliedNoise), StepExecutor> _executors = [];

    /// <summary>Prepares sampling; executors are made when a batch asks for them.</summary>
    /// <param name="backend">The device.</param>
    /// <param name="diffusion">The diffusion model.</param>
    /// <param name="process">Schedule, respacing, parameterization.</param>
    /// <param name="classifier">The classifier; may be null without classifier guidance.</param>
    /// <param name="settings">Sampler and guidance.</param>
    /// <param name="size">Height and width of the images; null for the size that the diffusion model was trained on.</param>
    /// <param name="disabledFusions">Rewrites to leave out (<see cref="Rewrites.All"/>).</param>
    /// <param name="lowRes">Height and width of the low-resolution images, for a super-resolution model.</param>
    /// <exception cref="ConfigurationException">Settings, models and sizes do not fit together.</exception>
    public DiffusionSampler(
        Backend backend,
        Model diffusion,
        DiffusionConfig process,
        Model? classifier,
        SamplerSettings settings,
        (int Height, int Width)? size = null,
        IReadOnlyCollection<string>? disabledFusions = null,
        (int Height, int Width)? lowRes = null)
    {
        ArgumentNullException.ThrowIfNull(diffusion);
        ArgumentNullException.ThrowIfNull(settings);
        _backend = backend;
        _diffusion = diffusion;
        _classifier = settings.ClassifierScale == 0 ? null : classifier;
        _disabledFusions = disabledFusions ?? [];
        _lowRes = lowRes;
        Settings = settings;
        (Height, Width) = size ?? (diffusion.Config.ImageSize, diffusion.Config.ImageSize);
        Table = StepTable.Create(process, settings);
        List<(string, Weights)> weights = [(GuidedStep.DiffusionPrefix, diffusion.Weights)];
        if (_classifier is not null)
        {
            weights.Add((GuidedStep.ClassifierPrefix, _classifier.Weights));
        }

        _weights = Weights.Combine(weights);
        _ = BuildGraph(1, suppliedNoise: false);
    }

    /// <summary>Sampler and guidance.</summary>
    public SamplerSettings Settings { get; }

    /// <summary>The steps.</summary>
    public StepTable Table { get; }

    /// <summary>Height of the images.</summary>
    public int Height { get; }

    /// <summary>Width of the images.</summary>
    public int Width { get; }

    /// <summary>Elements of one image.</summary>
    public int ImageElements => Height * Width * _diffusion.Config.InChannels;

    /// <summary>
    /// What the tables of scales and shifts may take, in bytes (<see cref="Hoist"/>). Where those of all steps take more, they are made for some steps at a time. They are there twice: where
    /// they are computed and where they are read.
    /// </summary>
    public long TableBytes { get; init; } = Rewrites.DefaultTableBytes;

    /// <summary>The plan of one step for a batch size.</summary>
    /// <param name="batch">Number of images.</param>
    public Plan PlanStep(int batch) => _backend.Plan(RewriteGraph(batch, suppliedNoise: false).Step);

    /// <summary>Does for a batch size what the first batch of it would otherwise wait for: planning, packing weights, compiling kernels.</summary>
    /// <param name="batch">Number of images.</param>
    /// <exception cref="DeviceException">The device lacks memory, or a kernel does not compile.</exception>
    public void Prepare(int batch) => _ = ExecutorFor(batch, suppliedNoise: false);

    /// <summary>Samples a batch.</summary>
    /// <param name="batch">Labels and noise.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>Images <c>[N, H, W, C]</c>, for a trained model in [-1, 1].</returns>
    /// <exception cref="ConfigurationException">Labels or noise do not fit.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public float[] Sample(SampleBatch batch, StepCallback? onStep = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batch);
        int n = batch.Count;
        Expect(batch.Initial, (long)n * ImageElements, "the initial images");
        Expect(batch.StepNoise, (long)Table.Count * n * ImageElements, "the noise of the steps");
        ExpectLowRes(batch);
        StepExecutor steps = ExecutorFor(n, batch.StepNoise is not null);
        Executor executor = steps.Step;
        int elements = n * ImageElements;
        steps.WriteTable(Table);
        executor.Write("step", [0]);
        executor.Write("x", batch.Initial ?? InitialNoise(batch));
        WriteLabels(steps, batch);
        if (batch.LowRes is not null)
        {
            executor.Write("low_res", batch.LowRes);
        }

        bool takesNoise = steps.Takes("noise");
        if (steps.Takes("seed"))
        {
            executor.Write("seed", Words(batch.Seed));
            executor.Write("image_index", [.. Enumerable.Range(0, n).SelectMany(i => Words((ulong)(batch.FirstImage + i)))]);
        }

        for (int step = 0; step < Table.Count; step++)
        {
            if (takesNoise)
            {
                executor.Write("noise", batch.StepNoise.AsSpan(step * elements, elements));
            }

            steps.Run(step, cancellationToken);
            if (onStep is not null && !batch.KeepSteps)
            {
                onStep(new StepResult(step, Table.Count, executor));
            }
            else if (onStep is not null)
            {
                if (step > 0)
                {
                    onStep(new StepResult(step - 1, Table.Count, executor, steps.Snapshots));
                }

                steps.Snapshots.Take();
            }
        }

        if (onStep is not null && batch.KeepSteps)
        {
            onStep(new StepResult(Table.Count - 1, Table.Count, executor, steps.Snapshots));
        }

        return executor.Read("x_next");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (StepExecutor executor in _executors.Values)
        {
            executor.Dispose();
        }

        _executors.Clear();
    }

    private static int[] Words(ulong value) => [(int)(uint)value, (int)(uint)(value >> 32)];

    private static void Expect(float[]? values, long elements, string what)
    {
        if (values is not null && values.Length != elements)
        {
            throw new ConfigurationException(string.Create(CultureInfo.InvariantCulture, $"{what}: {values.Length} elements were given, {elements} are needed"));
        }
    }

    private void ExpectLowRes(SampleBatch batch)
    {
        if (_lowRes is (int height, int width))
        {
            Expect(batch.LowRes ?? [], (long)batch.Count * height * width * _diffusion.Config.InChannels, "the low-resolution images");
        }
        else if (batch.LowRes is not null)
        {
            throw new ConfigurationException("this model takes no low-resolution images");
        }
    }

    private Graph BuildGraph(int batch, bool suppliedNoise) =>
        GuidedStep.Build(_diffusion.Config, _classifier?.Config, Table, Settings, batch, Height, Width, suppliedNoise, _lowRes);

    private StepGraphs RewriteGraph(int batch, bool suppliedNoise) => Rewrites.Apply(BuildGraph(batch, suppliedNoise), _disabledFusions, TableBytes);

    private StepExecutor ExecutorFor(int batch, bool suppliedNoise)
    {
        if (!_executors.TryGetValue((batch, suppliedNoise), out StepExecutor? executor))
        {
            _executors.Add((batch, suppliedNoise), executor = new StepExecutor(_backend, RewriteGraph(batch, suppliedNoise), _weights));
        }

        return executor;
    }

    private float[] InitialNoise(SampleBatch batch)
    {
        float[] x = new float[batch.Count * ImageElements];
        for (int i = 0; i < batch.Count; i++)
        {
            RandomStreams.Normals(batch.Seed, (ulong)(batch.FirstImage + i), RandomStreams.InitialNoise, 0, x.AsSpan(i * ImageElements, ImageElements));
        }

        return x;
    }

    private void WriteLabels(StepExecutor executor, SampleBatch batch)
    {
        bool classifier = executor.Takes("y");
        bool unet = executor.Takes("y_unet");
        bool unetFollows = unet && !Settings.Unconditional;
        if ((classifier || unetFollows) && batch.Labels.Count != batch.Count)
        {
            throw new ConfigurationException($"{batch.Labels.Count} labels were given for {batch.Count} images");
        }

        if (classifier)
        {
            CheckLabels(batch.Labels, _classifier!.Config.OutChannels, "the classifier");
            executor.WriteLabels("y", [.. batch.Labels]);
        }

        if (!unet)
        {
            return;
        }

        IEnumerable<int> nulls = Enumerable.Repeat(Settings.NullLabel ?? 0, batch.Count);
        if (unetFollows)
        {
            CheckLabels(batch.Labels, _diffusion.Config.NumClasses!.Value, "the diffusion model");
        }

        executor.WriteLabels(
            "y_unet",
            Settings.Unconditional ? [.. nulls] : Settings.CfgScale != 0 ? [.. batch.Labels, .. nulls] : batch.Labels.ToArray());
    }

    private static void CheckLabels(IReadOnlyList<int> labels, int classes, string model)
    {
        foreach (int label in labels)
        {
            if (label < 0 || label >= classes)
            {
                throw new ConfigurationException($"class {label} is out of range: {model} has classes 0 to {classes - 1}");
            }
        }
    }
}
