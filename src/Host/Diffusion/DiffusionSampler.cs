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
/// <remarks>
/// Not for several threads at once. Executors are kept per batch size; the weights are packed once. Where some rows of the table are guided and others are not
/// (<see cref="GuidanceInterval"/>), each kind has a step of its own, and those without guidance pay neither for the classifier nor for the unconditional half.
/// </remarks>
public sealed class DiffusionSampler : IDisposable
{
    private readonly Backend _backend;
    private readonly Model _diffusion;
    private readonly Model? _classifier;
    private readonly Weights _weights;
    private readonly IReadOnlyCollection<string> _disabledFusions;
    private readonly (int Height, int Width)? _lowRes;
    private readonly Dictionary<(int Batch, bool SuppliedNoise, bool Guided), StepExecutor> _executors = [];

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
        _ = BuildGraph(1, suppliedNoise: false, guided: true);
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

    /// <summary>Whether rows without guidance run the guided step all the same, with scales of 0: of the same bits, for comparison.</summary>
    internal bool MasksGuidance { get; init; }

    /// <summary>The plan of one step for a batch size; of a guided one if any is.</summary>
    /// <param name="batch">Number of images.</param>
    public Plan PlanStep(int batch) => _backend.Plan(RewriteGraph(batch, suppliedNoise: false, Kinds().Any(guided => guided)).Step);

    /// <summary>Does for a batch size what the first batch of it would otherwise wait for: planning, packing weights, compiling kernels.</summary>
    /// <param name="batch">Number of images.</param>
    /// <exception cref="DeviceException">The device lacks memory, or a kernel does not compile.</exception>
    public void Prepare(int batch)
    {
        foreach (bool guided in Kinds())
        {
            _ = ExecutorFor(batch, suppliedNoise: false, guided);
        }
    }

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
        foreach (bool kind in Kinds())
        {
            Begin(batch, kind);
        }

        bool guided = IsGuided(0);
        StepExecutor steps = ExecutorFor(n, batch.StepNoise is not null, guided);
        steps.Step.Write("step", [0]);
        steps.Step.Write("x", batch.Initial ?? InitialNoise(batch));
        if (steps.Takes("history"))
        {
            // Weights of 0 keep the first steps from it, but not from a NaN.
            steps.Step.Write("history", new float[steps.Step.Plan.Graph.Input("history").Shape.Elements]);
        }

        bool takesNoise = steps.Takes("noise");
        StepSnapshots? kept = null;
        for (int step = 0; step < Table.Count; step++)
        {
            if (IsGuided(step) != guided)
            {
                guided = !guided;
                steps = Continue(steps, ExecutorFor(n, batch.StepNoise is not null, guided), step);
            }

            if (takesNoise)
            {
                steps.Step.Write("noise", batch.StepNoise.AsSpan(step * n * ImageElements, n * ImageElements));
            }

            steps.Run(step, cancellationToken);
            if (onStep is not null && !batch.KeepSteps)
            {
                onStep(new StepResult(step, Table.Count, steps.Step));
            }
            else if (onStep is not null)
            {
                if (kept is not null)
                {
                    onStep(new StepResult(step - 1, Table.Count, steps.Step, kept));
                }

                kept = steps.Snapshots;
                kept.Take();
            }
        }

        if (kept is not null)
        {
            onStep!(new StepResult(Table.Count - 1, Table.Count, steps.Step, kept));
        }

        return steps.Step.Read("x_next");
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

    private bool IsGuided(int step) => MasksGuidance || Table.IsGuided(step);

    private SamplerSettings SettingsOf(bool guided) => guided ? Settings : Settings with { ClassifierScale = 0, CfgScale = 0 };

    private Graph BuildGraph(int batch, bool suppliedNoise, bool guided) =>
        GuidedStep.Build(_diffusion.Config, _classifier?.Config, Table, SettingsOf(guided), batch, Height, Width, suppliedNoise, _lowRes);

    private StepGraphs RewriteGraph(int batch, bool suppliedNoise, bool guided) => Rewrites.Apply(BuildGraph(batch, suppliedNoise, guided), _disabledFusions, TableBytes);

    private StepExecutor ExecutorFor(int batch, bool suppliedNoise, bool guided)
    {
        if (!_executors.TryGetValue((batch, suppliedNoise, guided), out StepExecutor? executor))
        {
            _executors.Add((batch, suppliedNoise, guided), executor = new StepExecutor(_backend, RewriteGraph(batch, suppliedNoise, guided), _weights));
        }

        return executor;
    }

    // With guidance, without, or both.
    private IEnumerable<bool> Kinds() => Enumerable.Range(0, Table.Count).Select(IsGuided).Distinct();

    // Writes what stays the same throughout a batch.
    private void Begin(SampleBatch batch, bool guided)
    {
        StepExecutor steps = ExecutorFor(batch.Count, batch.StepNoise is not null, guided);
        steps.WriteTable(Table);
        WriteLabels(steps, batch, guided);
        if (batch.LowRes is not null)
        {
            steps.Step.Write("low_res", batch.LowRes);
        }

        if (steps.Takes("seed"))
        {
            steps.Step.Write("seed", Words(batch.Seed));
            steps.Step.Write("image_index", [.. Enumerable.Range(0, batch.Count).SelectMany(i => Words((ulong)(batch.FirstImage + i)))]);
        }
    }

    // The other kind of step goes on where one has stopped.
    private static StepExecutor Continue(StepExecutor steps, StepExecutor next, int step)
    {
        steps.Step.Transfer("x_next", next.Step, "x");
        if (next.Takes("history"))
        {
            steps.Step.Transfer("history_next", next.Step, "history");
        }

        next.Step.Write("step", new ReadOnlySpan<int>(in step));
        return next;
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

    private void WriteLabels(StepExecutor executor, SampleBatch batch, bool guided)
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
            Settings.Unconditional ? [.. nulls] : SettingsOf(guided).CfgScale != 0 ? [.. batch.Labels, .. nulls] : batch.Labels.ToArray());
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
