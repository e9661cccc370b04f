using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Diffusion;

/// <summary>Samples batches of images with a diffusion model, a classifier if the settings ask for one, and a backend.</summary>
/// <remarks>
/// Not for several threads at once. Executors are kept per batch size; the weights are packed once. Where some rows of the table are guided and others are not
/// (<see cref="GuidanceInterval"/>), each kind has a step of its own, and those without guidance pay neither for the classifier nor for the unconditional half.
/// </remarks>
public sealed partial class DiffusionSampler : IDisposable
{
    private readonly Backend _backend;
    private readonly Model _diffusion;
    private readonly Model? _classifier;
    private readonly Weights _weights;
    private readonly IReadOnlyCollection<string> _disabledFusions;
    private readonly (int Height, int Width)? _lowRes;
    private readonly bool _inpaints;
    private readonly BatchInputs _inputs;
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
    /// <param name="inpainting">The order of steps where part of every image is known; null for plain sampling.</param>
    /// <exception cref="ConfigurationException">Settings, models and sizes do not fit together.</exception>
    public DiffusionSampler(
        Backend backend,
        Model diffusion,
        DiffusionConfig process,
        Model? classifier,
        SamplerSettings settings,
        (int Height, int Width)? size = null,
        IReadOnlyCollection<string>? disabledFusions = null,
        (int Height, int Width)? lowRes = null,
        InpaintingSchedule? inpainting = null)
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
        float[]? levels = null;
        if (inpainting is not null)
        {
            settings.Sampler.RequireMemoryless("inpainting");
            int[] order = inpainting.Order(Table.Count);
            levels = InpaintingSchedule.Levels(Table.Diffusion, order);
            Table = Table.InOrder(order);
        }

        _inpaints = inpainting is not null;
        _inputs = new BatchInputs(diffusion.Config, _classifier?.Config, settings, Table, (Height, Width), lowRes, levels);
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
    public int ImageElements => _inputs.ImageElements;

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
    public float[] Sample(SampleBatch batch, StepCallback? onStep = null, CancellationToken cancellationToken = default) => Run(batch, onStep, cancellationToken).Read("x_next");

    /// <summary>Samples a batch into memory of the caller.</summary>
    /// <param name="batch">Labels and noise.</param>
    /// <param name="images">Receives the images <c>[N, H, W, C]</c>; left as it is if sampling fails.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <exception cref="ArgumentException">The memory has another size.</exception>
    /// <exception cref="ConfigurationException">Labels or noise do not fit.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public void Sample(SampleBatch batch, Span<float> images, StepCallback? onStep = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batch);
        if (images.Length != (long)batch.Count * ImageElements)
        {
            throw new ArgumentException($"{images.Length} values are no room for {batch.Count} images of {ImageElements}", nameof(images));
        }

        Run(batch, onStep, cancellationToken).Read("x_next", images);
    }

    private Executor Run(SampleBatch batch, StepCallback? onStep, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(batch);
        _inputs.Check(batch);
        foreach (bool kind in Kinds())
        {
            _inputs.Write(ExecutorFor(batch, kind), batch, kind);
        }

        int first = batch.FirstStep, count = Table.Count - first, elements = batch.Count * ImageElements;
        bool guided = IsGuided(first);
        StepExecutor steps = ExecutorFor(batch, guided);
        WriteState(steps, batch.Initial ?? _inputs.InitialNoise(batch), first);
        bool takesNoise = steps.Takes("noise");
        float[]? drawn = batch.NoiseSource is null ? null : new float[elements];
        StepSnapshots? kept = null;
        for (int step = 0; step < count; step++)
        {
            int row = first + step;
            if (IsGuided(row) != guided)
            {
                guided = !guided;
                steps = Continue(steps, ExecutorFor(batch, guided), row);
            }

            batch.NoiseSource?.Invoke(row, drawn);
            if (takesNoise)
            {
                steps.Step.Write("noise", drawn ?? batch.StepNoise.AsSpan(row * elements, elements));
            }

            steps.Run(row, cancellationToken);
            if (onStep is not null && !batch.KeepSteps)
            {
                onStep(new StepResult(step, count, steps.Step));
            }
            else if (onStep is not null)
            {
                if (kept is not null)
                {
                    onStep(new StepResult(step - 1, count, steps.Step, kept));
                }

                kept = steps.Snapshots;
                kept.Take();
            }
        }

        if (kept is not null)
        {
            onStep!(new StepResult(count - 1, count, steps.Step, kept));
        }

        return steps.Step;
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

    private bool IsGuided(int step) => MasksGuidance || Table.IsGuided(step);

    private SamplerSettings SettingsOf(bool guided) => guided ? Settings : Settings with { ClassifierScale = 0, CfgScale = 0 };

    private Graph BuildGraph(int batch, bool suppliedNoise, bool guided) =>
        GuidedStep.Build(_diffusion.Config, _classifier?.Config, Table, SettingsOf(guided), batch, Height, Width, suppliedNoise, _lowRes, _inpaints);

    private StepGraphs RewriteGraph(int batch, bool suppliedNoise, bool guided) => Rewrites.Apply(BuildGraph(batch, suppliedNoise, guided), _disabledFusions, TableBytes);

    private StepExecutor ExecutorFor(SampleBatch batch, bool guided) => ExecutorFor(batch.Count, batch.SuppliesNoise, guided);

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

    private static void WriteState(StepExecutor steps, float[] x, int row)
    {
        steps.Step.Write("step", [row]);
        steps.Step.Write("x", x);
        if (steps.Takes("history"))
        {
            // Weights of 0 keep the first steps from it, but not from a NaN.
            steps.Step.Write("history", new float[steps.Step.Plan.Graph.Input("history").Shape.Elements]);
        }

        if (steps.Takes("noise"))
        {
            steps.Step.Write("noise", new float[x.Length]);
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
}
