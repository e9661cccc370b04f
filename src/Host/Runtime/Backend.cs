using System.Diagnostics;

namespace Kernels.Runtime;

/// <summary>A device that runs plans.</summary>
public abstract class Backend : IDisposable
{
    /// <summary>The device in a few words, for receipts and tables.</summary>
    public abstract string Name { get; }

    /// <summary>Plans a graph as this backend runs it: a device may store activations in fewer bits or keep parallel branches apart.</summary>
    /// <param name="graph">The graph, fused or not.</param>
    public virtual Plan Plan(Graph graph) => Runtime.Plan.Create(graph);

    /// <summary>Binds a plan to memory and weights. What depends on the weights alone is done here, once.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="weights">A value for every weight of the plan's graph.</param>
    /// <exception cref="InvalidFileException">A weight is missing, misshapen or not finite.</exception>
    /// <exception cref="DeviceException">The device lacks memory.</exception>
    public abstract Executor Compile(Plan plan, Weights weights);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees what the backend holds. Executors must be disposed first.</summary>
    /// <param name="disposing">Whether <see cref="Dispose()"/> was called.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>A plan bound to a device's memory. Not for several threads at once.</summary>
public abstract class Executor : IDisposable
{
    /// <summary>What it runs.</summary>
    public abstract Plan Plan { get; }

    /// <summary>Writes an input. It keeps its values until it is written again or a run updates it.</summary>
    /// <param name="name">The input's name.</param>
    /// <param name="values">As many elements as its shape has.</param>
    /// <exception cref="GraphException">There is no such input, or it has another type or size.</exception>
    public void Write(string name, ReadOnlySpan<float> values)
    {
        Tensor tensor = Plan.Graph.Input(name);
        Check(tensor, DType.F32, values.Length);
        WriteCore(tensor, System.Runtime.InteropServices.MemoryMarshal.AsBytes(values));
    }

    /// <summary>Writes an integer input.</summary>
    /// <param name="name">The input's name.</param>
    /// <param name="values">As many elements as its shape has.</param>
    /// <exception cref="GraphException">There is no such input, or it has another type or size.</exception>
    public void Write(string name, ReadOnlySpan<int> values)
    {
        Tensor tensor = Plan.Graph.Input(name);
        Check(tensor, DType.I32, values.Length);
        WriteCore(tensor, System.Runtime.InteropServices.MemoryMarshal.AsBytes(values));
    }

    /// <summary>Reads an output of the last run.</summary>
    /// <param name="name">The output's name.</param>
    /// <param name="destination">As many elements as its shape has.</param>
    /// <exception cref="GraphException">There is no such output, or it has another type or size.</exception>
    public void Read(string name, Span<float> destination)
    {
        Tensor tensor = Plan.Graph.Output(name);
        Check(tensor, DType.F32, destination.Length);
        ReadCore(tensor, System.Runtime.InteropServices.MemoryMarshal.AsBytes(destination));
    }

    /// <summary>Reads an output of the last run into a new array.</summary>
    /// <param name="name">The output's name.</param>
    /// <exception cref="GraphException">There is no such output, or it has another type.</exception>
    public float[] Read(string name)
    {
        float[] values = new float[Plan.Graph.Output(name).Shape.Elements];
        Read(name, values);
        return values;
    }

    /// <summary>Hands an output of the last run over as an input of another executor of the same backend, without a detour through the host where the device can do that.</summary>
    /// <param name="output">The output's name.</param>
    /// <param name="destination">The executor that is to read it.</param>
    /// <param name="input">Name of its input, of the same type and shape.</param>
    /// <exception cref="GraphException">There is no such output or input, or they are not alike.</exception>
    public void Transfer(string output, Executor destination, string input)
    {
        ArgumentNullException.ThrowIfNull(destination);
        Tensor from = Plan.Graph.Output(output), to = destination.Plan.Graph.Input(input);
        if (from.DType != to.DType || from.Shape != to.Shape)
        {
            throw new GraphException($"output {from} cannot be handed over as input {to}");
        }

        TransferCore(from, destination, to);
    }

    /// <summary>Makes a place for copies of an output that are read while later runs go on, so that looking at every step need not stall the loop.</summary>
    /// <param name="output">The output's name.</param>
    /// <exception cref="GraphException">There is no such output.</exception>
    public virtual OutputSnapshot CreateSnapshot(string output) => new HostSnapshot(this, output);

    /// <summary>Runs the plan once.</summary>
    /// <param name="cancellationToken">Looked at before every launch; a cancelled run leaves the outputs undefined.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public abstract void Run(CancellationToken cancellationToken = default);

    /// <summary>Runs the plan once, launch by launch, and says how long each took.</summary>
    /// <param name="milliseconds">Receives one time per launch, in the order of <see cref="Plan.Launches"/>.</param>
    /// <param name="cancellationToken">Looked at before every launch; a cancelled run leaves the outputs undefined.</param>
    /// <exception cref="ArgumentException">There is not one place per launch.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public void Profile(Span<double> milliseconds, CancellationToken cancellationToken = default)
    {
        if (milliseconds.Length != Plan.Launches.Count)
        {
            throw new ArgumentException($"{milliseconds.Length} places for the times of {Plan.Launches.Count} launches", nameof(milliseconds));
        }

        ProfileCore(milliseconds, cancellationToken);
    }

    /// <summary>Runs the plan once, as <see cref="Run"/> does.</summary>
    /// <param name="cancellationToken">As for <see cref="Run"/>.</param>
    /// <returns>How long it took in milliseconds, by the device's clock where it has one.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public virtual double Time(CancellationToken cancellationToken = default)
    {
        long start = Stopwatch.GetTimestamp();
        Run(cancellationToken);
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Runs the plan once and measures every launch; each by itself, unless a device can do better.</summary>
    /// <param name="milliseconds">Receives one time per launch.</param>
    /// <param name="cancellationToken">Looked at before every launch.</param>
    protected virtual void ProfileCore(Span<double> milliseconds, CancellationToken cancellationToken)
    {
        for (int i = 0; i < milliseconds.Length; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            using NvtxRange range = Nvtx.Push(Plan.Launches[i].Node.Name);
            milliseconds[i] = TimeLaunch(i);
        }
    }

    /// <summary>Runs one launch of the plan.</summary>
    /// <param name="launch">Its position in <see cref="Plan.Launches"/>.</param>
    /// <returns>How long it took in milliseconds, by the device's clock where it has one.</returns>
    protected internal abstract double TimeLaunch(int launch);

    /// <summary>Copies to the device.</summary>
    /// <param name="tensor">An input.</param>
    /// <param name="bytes">Its values.</param>
    protected abstract void WriteCore(Tensor tensor, ReadOnlySpan<byte> bytes);

    /// <summary>Copies from the device.</summary>
    /// <param name="tensor">An output.</param>
    /// <param name="bytes">Its values.</param>
    protected abstract void ReadCore(Tensor tensor, Span<byte> bytes);

    /// <summary>Copies to another executor; through the host, unless a backend knows a shorter way.</summary>
    /// <param name="output">An output of this executor.</param>
    /// <param name="destination">The other executor.</param>
    /// <param name="input">An input of the other, of the same type and shape.</param>
    protected virtual void TransferCore(Tensor output, Executor destination, Tensor input)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(destination);
        byte[] bytes = new byte[output.Bytes];
        ReadCore(output, bytes);
        destination.WriteCore(input, bytes);
    }

    /// <summary>Frees the memory.</summary>
    /// <param name="disposing">Whether <see cref="Dispose()"/> was called.</param>
    protected abstract void Dispose(bool disposing);

    private static void Check(Tensor tensor, DType dtype, int elements)
    {
        if (tensor.DType != dtype || tensor.Shape.Elements != elements)
        {
            throw new GraphException($"{tensor} cannot be exchanged with {elements} elements of {dtype}");
        }
    }
}
