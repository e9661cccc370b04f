using Kernels.Runtime;

namespace Kernels.Diffusion;

/// <summary>A guided step bound to a device, and what must be computed before its loop: looks after the tables, so that the step finds its rows in them.</summary>
/// <remarks>Not for several threads at once. Nothing is allocated per step.</remarks>
public sealed class StepExecutor : IDisposable
{
    private readonly StepGraphs _graphs;
    private StepSnapshots? _snapshots;

    // The step that the tables begin with; negative before they are made.
    private int _first = -1;

    /// <summary>Binds the graphs.</summary>
    /// <param name="backend">The device.</param>
    /// <param name="graphs">The step, rewritten.</param>
    /// <param name="weights">The weights of both models under their prefixes.</param>
    /// <exception cref="InvalidFileException">A weight is missing, misshapen or not finite.</exception>
    /// <exception cref="DeviceException">The device lacks memory.</exception>
    public StepExecutor(Backend backend, StepGraphs graphs, Weights weights)
    {
        ArgumentNullException.ThrowIfNull(backend);
        ArgumentNullException.ThrowIfNull(graphs);
        _graphs = graphs;
        Step = backend.Compile(backend.Plan(graphs.Step), weights);
        try
        {
            Conditioning = graphs.Conditioning is null ? null : backend.Compile(backend.Plan(graphs.Conditioning), weights);
        }
        catch
        {
            Step.Dispose();
            throw;
        }
    }

    /// <summary>The step.</summary>
    public Executor Step { get; }

    /// <summary>What is run before the loop, and again when the tables are used up; null if nothing is.</summary>
    public Executor? Conditioning { get; }

    /// <summary>Copies of a step's results that are read while the next step runs.</summary>
    public StepSnapshots Snapshots => _snapshots ??= new StepSnapshots(Step);

    /// <summary>Whether an input is there to be written.</summary>
    /// <param name="input">Its name.</param>
    public bool Takes(string input) => Has(Step, input) || (Conditioning is not null && Has(Conditioning, input));

    /// <summary>Writes the table of the steps.</summary>
    /// <param name="table">The table.</param>
    public void WriteTable(StepTable table)
    {
        ArgumentNullException.ThrowIfNull(table);
        Step.Write("step_table", table.Values);
        Conditioning?.Write("step_table", table.Values);
        _first = -1;
    }

    /// <summary>Writes labels, if the step takes them.</summary>
    /// <param name="input">The input's name.</param>
    /// <param name="labels">One label per row of the input.</param>
    public void WriteLabels(string input, ReadOnlySpan<int> labels)
    {
        if (Has(Step, input))
        {
            Step.Write(input, labels);
        }

        if (Conditioning is not null && Has(Conditioning, input))
        {
            int[] repeated = new int[_graphs.Steps * labels.Length];
            for (int i = 0; i < repeated.Length; i += labels.Length)
            {
                labels.CopyTo(repeated.AsSpan(i));
            }

            Conditioning.Write(input, repeated);
            _first = -1;
        }
    }

    /// <summary>Makes the tables hold a step, if they do not yet.</summary>
    /// <param name="step">Position of the step in the table: what the counter says.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    public void Prepare(int step, CancellationToken cancellationToken = default)
    {
        if (Conditioning is null || (_first >= 0 && step >= _first && step - _first < _graphs.Steps))
        {
            return;
        }

        int first = step - (step % _graphs.Steps);
        _first = -1;
        Conditioning.Write(Hoist.FirstStep, new ReadOnlySpan<int>(in first));
        Conditioning.Run(cancellationToken);
        for (int i = 0; i < _graphs.Tables.Count; i++)
        {
            Conditioning.Transfer(_graphs.Tables[i], Step, _graphs.Tables[i]);
        }

        Step.Write(Hoist.FirstStep, new ReadOnlySpan<int>(in first));
        _first = first;
    }

    /// <summary>Runs a step. The counter must stand at it: it does if it was written as zero and every step has been run since.</summary>
    /// <param name="step">Position of the step in the table.</param>
    /// <param name="cancellationToken">Ends the work within the step.</param>
    public void Run(int step, CancellationToken cancellationToken = default)
    {
        using NvtxRange range = Nvtx.Push("guided step");
        Prepare(step, cancellationToken);
        Step.Run(cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _snapshots?.Dispose();
        Step.Dispose();
        Conditioning?.Dispose();
    }

    private static bool Has(Executor executor, string input)
    {
        foreach (Tensor tensor in executor.Plan.Graph.Inputs)
        {
            if (tensor.Name == input)
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary>Copies of the results of one step.</summary>
public sealed class StepSnapshots : IDisposable
{
    /// <summary>Makes places for the copies.</summary>
    /// <param name="step">The step.</param>
    internal StepSnapshots(Executor step)
    {
        X = step.CreateSnapshot("x_next");
        PredXstart = step.CreateSnapshot("pred_xstart");
    }

    /// <summary>x after the step.</summary>
    public OutputSnapshot X { get; }

    /// <summary>The prediction of x_0.</summary>
    public OutputSnapshot PredXstart { get; }

    /// <summary>Keeps the results of the step that was run last.</summary>
    public void Take()
    {
        X.Take();
        PredXstart.Take();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        X.Dispose();
        PredXstart.Dispose();
    }
}
