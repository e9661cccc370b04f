using System.Runtime.InteropServices;

namespace Kernels.Runtime;

/// <summary>A copy of one output of an executor, taken after one run and read while the next ones go on. Made once, used after every run.</summary>
public abstract class OutputSnapshot : IDisposable
{
    private readonly Tensor _output;

    /// <summary>Creates the snapshot.</summary>
    /// <param name="output">The output.</param>
    protected OutputSnapshot(Tensor output) => _output = output;

    /// <summary>Keeps what the last run wrote. Returns at once; a later run does not change what is kept.</summary>
    public abstract void Take();

    /// <summary>Reads what was kept last, waiting for the run that wrote it, not for later ones.</summary>
    /// <param name="destination">As many elements as the output has.</param>
    /// <exception cref="GraphException">The output has another type or size.</exception>
    public void Read(Span<float> destination)
    {
        if (_output.DType != DType.F32 || _output.Shape.Elements != destination.Length)
        {
            throw new GraphException($"{_output} cannot be exchanged with {destination.Length} elements of {DType.F32}");
        }

        ReadCore(MemoryMarshal.AsBytes(destination));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Copies what was kept.</summary>
    /// <param name="bytes">Where to.</param>
    protected abstract void ReadCore(Span<byte> bytes);

    /// <summary>Frees the memory.</summary>
    /// <param name="disposing">Whether <see cref="Dispose()"/> was called.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>A snapshot for executors whose runs are over when they return.</summary>
internal sealed class HostSnapshot(Executor executor, string name) : OutputSnapshot(executor.Plan.Graph.Output(name))
{
    private readonly float[] _values = new float[executor.Plan.Graph.Output(name).Shape.Elements];

    public override void Take() => executor.Read(name, _values);

    protected override void ReadCore(Span<byte> bytes) => MemoryMarshal.AsBytes<float>(_values).CopyTo(bytes);

    protected override void Dispose(bool disposing)
    {
    }
}
