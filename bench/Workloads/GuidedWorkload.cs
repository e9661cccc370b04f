using Kernels.Checkpoints;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Bench.Workloads;

/// <summary>One guided DDPM step of a pair of models on a backend, with inputs that a formula makes: the same work in every run.</summary>
internal sealed class GuidedWorkload : IDisposable
{
    private readonly Backend _backend;
    private readonly IReadOnlyCollection<string> _disabledFusions;
    private readonly Checkpoint? _checkpoint;
    private readonly Weights _weights;
    private readonly StepTable _table;
    private readonly StepExecutor _executor;
    private readonly float[] _x;

    /// <summary>Builds graph, plan and executor.</summary>
    /// <param name="backend">The device.</param>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="weightsFile">A file with tensors <c>diffusion/…</c> and <c>classifier/…</c>; null for synthetic weights.</param>
    /// <param name="disabledFusions">Rewrites to leave out (<see cref="Rewrites.All"/>).</param>
    public GuidedWorkload(Backend backend, BenchModel model, int batch, string? weightsFile = null, IReadOnlyCollection<string>? disabledFusions = null)
    {
        _backend = backend;
        _disabledFusions = disabledFusions ?? [];
        Model = model;
        Batch = batch;
        _table = new StepTable(new GaussianDiffusion(model.Process), SamplerKind.Ddpm, classifierScale: model.ClassifierScale);
        _checkpoint = weightsFile is null ? null : Checkpoint.Load(weightsFile);
        _weights = Weights.Combine([
            (GuidedStep.DiffusionPrefix, WeightsOf(model.Unet, GuidedStep.DiffusionPrefix)),
            (GuidedStep.ClassifierPrefix, WeightsOf(model.Classifier, GuidedStep.ClassifierPrefix))]);
        _x = new float[batch * ImageElements];
        SyntheticWeights.Fill("x", UnitVariance, 0, _x);
        _executor = Compile(suppliedNoise: false);
        _executor.Step.Write("seed", [0, 0]);
        _executor.Step.Write("image_index", new int[2 * batch]);
        Reset();
    }

    // Scale of an even distribution of unit variance.
    private static float UnitVariance => (float)Math.Sqrt(12);

    /// <summary>The models.</summary>
    public BenchModel Model { get; }

    /// <summary>Number of images.</summary>
    public int Batch { get; }

    /// <summary>What is run.</summary>
    public Plan Plan => _executor.Step.Plan;

    /// <summary>The step that is run, as its row in the table: one from the middle of the process.</summary>
    public int Step => _table.Count / 2;

    private int ImageElements => Model.Unet.ImageSize * Model.Unet.ImageSize * Model.Unet.InChannels;

    /// <summary>The graph of the step, unfused.</summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="suppliedNoise">Whether noise is an input.</param>
    public static Graph BuildGraph(BenchModel model, int batch, bool suppliedNoise = false)
    {
        StepTable table = new(new GaussianDiffusion(model.Process), SamplerKind.Ddpm, classifierScale: model.ClassifierScale);
        SamplerSettings settings = new() { ClassifierScale = model.ClassifierScale };
        return GuidedStep.Build(model.Unet, model.Classifier, table, settings, batch, model.Unet.ImageSize, model.Unet.ImageSize, suppliedNoise);
    }

    /// <summary>Runs the step.</summary>
    public void Run()
    {
        Reset();
        _executor.Run(Step);
    }

    /// <summary>Runs the step and measures every launch.</summary>
    /// <param name="milliseconds">One time per launch.</param>
    public void Profile(Span<double> milliseconds)
    {
        Reset();
        _executor.Prepare(Step);
        _executor.Step.Profile(milliseconds);
    }

    /// <summary>x_{t-1} of the step under noise that a formula makes, for comparison with another implementation.</summary>
    public float[] RunWithKnownNoise()
    {
        using StepExecutor executor = Compile(suppliedNoise: true);
        float[] noise = new float[_x.Length];
        SyntheticWeights.Fill("noise", UnitVariance, 0, noise);
        executor.Step.Write("noise", noise);
        Reset(executor);
        executor.Run(Step);
        return executor.Step.Read("x_next");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _executor.Dispose();
        _checkpoint?.Dispose();
    }

    private Weights WeightsOf(ModelConfig config, string prefix) =>
        _checkpoint is null ? PresetModels.Random(config).Weights : new CheckpointWeights(_checkpoint, prefix);

    private StepExecutor Compile(bool suppliedNoise)
    {
        StepExecutor executor = new(_backend, Rewrites.Apply(BuildGraph(Model, Batch, suppliedNoise), _disabledFusions), _weights);
        int[] labels = [.. Enumerable.Range(0, Batch).Select(i => i % Model.Classifier.OutChannels)];
        executor.WriteTable(_table);
        executor.WriteLabels("y", labels);
        executor.WriteLabels("y_unet", labels);
        return executor;
    }

    private void Reset() => Reset(_executor);

    private void Reset(StepExecutor executor)
    {
        executor.Step.Write("x", _x);
        executor.Step.Write("step", [Step]);
    }
}
