using Kernels.Checkpoints;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Passes;
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
    private readonly Executor _executor;
    private readonly float[] _x;

    /// <summary>Builds graph, plan and executor.</summary>
    /// <param name="backend">The device.</param>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="weightsFile">A file with tensors <c>diffusion/…</c> and <c>classifier/…</c>; null for synthetic weights.</param>
    /// <param name="disabledFusions">Rewrites to leave out.</param>
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
        _executor.Write("seed", [0, 0]);
        _executor.Write("image_index", new int[2 * batch]);
        Reset();
    }

    // Scale of an even distribution of unit variance.
    private static float UnitVariance => (float)Math.Sqrt(12);

    /// <summary>The models.</summary>
    public BenchModel Model { get; }

    /// <summary>Number of images.</summary>
    public int Batch { get; }

    /// <summary>What is run.</summary>
    public Plan Plan => _executor.Plan;

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
        _executor.Run();
    }

    /// <summary>Runs the step and measures every launch.</summary>
    /// <param name="milliseconds">One time per launch.</param>
    public void Profile(Span<double> milliseconds)
    {
        Reset();
        _executor.Profile(milliseconds);
    }

    /// <summary>x_{t-1} of the step under noise that a formula makes, for comparison with another implementation.</summary>
    public float[] RunWithKnownNoise()
    {
        using Executor executor = Compile(suppliedNoise: true);
        float[] noise = new float[_x.Length];
        SyntheticWeights.Fill("noise", UnitVariance, 0, noise);
        executor.Write("noise", noise);
        Reset(executor);
        executor.Run();
        return executor.Read("x_next");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _executor.Dispose();
        _checkpoint?.Dispose();
    }

    private Weights WeightsOf(ModelConfig config, string prefix) =>
        _checkpoint is null ? PresetModels.Random(config).Weights : new CheckpointWeights(_checkpoint, prefix);

    private Executor Compile(bool suppliedNoise)
    {
        Graph graph = Fusion.Apply(BuildGraph(Model, Batch, suppliedNoise), _disabledFusions).Graph;
        Executor executor = _backend.Compile(Plan.Create(graph), _weights);
        int[] labels = [.. Enumerable.Range(0, Batch).Select(i => i % Model.Classifier.OutChannels)];
        executor.Write("step_table", _table.Values);
        executor.Write("y", labels);
        executor.Write("y_unet", labels);
        return executor;
    }

    private void Reset() => Reset(_executor);

    private void Reset(Executor executor)
    {
        executor.Write("x", _x);
        executor.Write("step", [Step]);
    }
}
