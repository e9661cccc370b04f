using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>One guided DDPM step of a pair of models on a backend, with inputs that a formula makes: the same work in every run.</summary>
public sealed class GuidedWorkload : IDisposable
{
    private readonly StepTable _table;
    private readonly StepExecutor _executor;
    private readonly float[] _x;

    /// <summary>Builds graph, plan and executor.</summary>
    /// <param name="backend">The device.</param>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="disabledFusions">Rewrites to leave out (<see cref="Rewrites.All"/>).</param>
    /// <param name="suppliedNoise">Whether the noise is made by a formula too, so that the result can be compared.</param>
    /// <exception cref="ConfigurationException">The models do not fit together.</exception>
    /// <exception cref="DeviceException">The device lacks memory.</exception>
    public GuidedWorkload(Backend backend, ModelPair model, int batch, IReadOnlyCollection<string>? disabledFusions = null, bool suppliedNoise = false)
    {
        ArgumentNullException.ThrowIfNull(backend);
        ArgumentNullException.ThrowIfNull(model);
        Model = model;
        Batch = batch;
        _table = model.CreateTable();
        Unfused = BuildGraph(model, batch, suppliedNoise);
        Graphs = Rewrites.Apply(Unfused, disabledFusions);
        _x = Values("x", [batch, model.Unet.ImageSize, model.Unet.ImageSize, model.Unet.InChannels]);
        _executor = new StepExecutor(backend, Graphs, model.Weights);
        WriteInputs(suppliedNoise);
        Reset();
    }

    /// <summary>The models.</summary>
    public ModelPair Model { get; }

    /// <summary>Number of images.</summary>
    public int Batch { get; }

    /// <summary>The graph before the rewrites.</summary>
    public Graph Unfused { get; }

    /// <summary>What is run, and what is run before the loop.</summary>
    public StepGraphs Graphs { get; }

    /// <summary>What is run.</summary>
    public Plan Plan => _executor.Step.Plan;

    /// <summary>The step that is run, as its row in the table: one from the middle of the process.</summary>
    public int Step => StepOf(_table);

    /// <summary>A step from the middle of the process, as its row in the table.</summary>
    /// <param name="table">The table.</param>
    internal static int StepOf(StepTable table) => table.Count / 2;

    /// <summary>The executor of the step.</summary>
    internal Executor Executor => _executor.Step;

    /// <summary>The graph of the step, unfused.</summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="suppliedNoise">Whether noise is an input.</param>
    public static Graph BuildGraph(ModelPair model, int batch, bool suppliedNoise = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        int size = model.Unet.ImageSize;
        SamplerSettings settings = new() { ClassifierScale = model.ClassifierScale };
        (int, int)? lowRes = model.Unet.Kind == ModelKind.SuperRes ? (size / 4, size / 4) : null;
        return GuidedStep.Build(model.Unet, model.Classifier, model.CreateTable(), settings, batch, size, size, suppliedNoise, lowRes);
    }

    /// <summary>Runs the step.</summary>
    public void Run()
    {
        Reset();
        _executor.Run(Step);
    }

    /// <summary>Runs the step and measures it as a whole, without what is copied to the device before it.</summary>
    /// <param name="cancellationToken">Ends the work.</param>
    /// <returns>Milliseconds.</returns>
    public double Time(CancellationToken cancellationToken = default)
    {
        using NvtxRange range = Nvtx.Push("guided step");
        Prepare(cancellationToken);
        MeasuredDevice.EvictCache(Executor);
        return _executor.Step.Time(cancellationToken);
    }

    /// <summary>Runs the step and measures every launch.</summary>
    /// <param name="milliseconds">One time per launch.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    public void Profile(Span<double> milliseconds, CancellationToken cancellationToken = default)
    {
        using NvtxRange range = Nvtx.Push("guided step, launch by launch");
        Prepare(cancellationToken);
        _executor.Step.Profile(milliseconds, cancellationToken);
    }

    /// <summary>What the step makes of its inputs: x_{t-1} and, behind it, pred_xstart.</summary>
    public float[] Result()
    {
        Run();
        return [.. _executor.Step.Read("x_next"), .. _executor.Step.Read("pred_xstart")];
    }

    /// <inheritdoc/>
    public void Dispose() => _executor.Dispose();

    /// <summary>Makes everything ready for the step to run.</summary>
    /// <param name="cancellationToken">Ends the work.</param>
    internal void Prepare(CancellationToken cancellationToken)
    {
        Reset();
        _executor.Prepare(Step, cancellationToken);
    }

    // Even, of unit variance.
    private static float[] Values(string name, Shape shape)
    {
        float[] values = new float[shape.Elements];
        SyntheticWeights.Fill(name, (float)Math.Sqrt(12), 0, values);
        return values;
    }

    private void WriteInputs(bool suppliedNoise)
    {
        int classes = Math.Min(Model.Unet.NumClasses ?? int.MaxValue, Model.Classifier?.OutChannels ?? int.MaxValue);
        int[] labels = [.. Enumerable.Range(0, Batch).Select(i => i % classes)];
        _executor.WriteTable(_table);
        _executor.WriteLabels("y", labels);
        _executor.WriteLabels("y_unet", labels);
        foreach (Tensor input in Plan.Graph.Inputs.Where(i => i.Name is "low_res" or "noise"))
        {
            _executor.Step.Write(input.Name, Values(input.Name, input.Shape));
        }

        if (!suppliedNoise)
        {
            _executor.Step.Write("seed", [0, 0]);
            _executor.Step.Write("image_index", new int[2 * Batch]);
        }
    }

    private void Reset()
    {
        _executor.Step.Write("x", _x);
        _executor.Step.Write("step", [Step]);
    }
}
