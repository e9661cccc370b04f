namespace Kernels.Backends.Cpu;

/// <summary>
/// Scratch memory of the workers, shared by the kernels of a plan since only one of them runs at a time. Kernels reserve what they need when they are
/// built and ask for the address when they run, because a later reservation may move the memory.
/// </summary>
internal sealed unsafe class WorkerScratch : IDisposable
{
    private readonly NativeBuffer?[] _buffers;
    private NativeBuffer _zeros = new(0);
    private nint _floats;

    /// <summary>Creates empty scratch memory.</summary>
    /// <param name="workers">Number of workers of the pool that will run the kernels.</param>
    public WorkerScratch(int workers)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        _buffers = new NativeBuffer?[workers];
    }

    /// <summary>Number of workers.</summary>
    public int Workers => _buffers.Length;

    /// <summary>Makes sure that every worker has at least so many floats. Not while a kernel runs.</summary>
    /// <param name="floats">Floats per worker.</param>
    public void Reserve(nint floats)
    {
        if (floats <= _floats)
        {
            return;
        }

        _floats = floats;
        for (int i = 0; i < _buffers.Length; i++)
        {
            _buffers[i]?.Dispose();
            _buffers[i] = new NativeBuffer(floats);
        }
    }

    /// <summary>Makes sure that <see cref="Zeros"/> has at least so many floats. Not while a kernel runs.</summary>
    /// <param name="floats">Number of zeros.</param>
    public void ReserveZeros(nint floats)
    {
        if (floats > _zeros.Length)
        {
            _zeros.Dispose();
            _zeros = new NativeBuffer(floats);
        }
    }

    /// <summary>Memory that reads as zero and is never written: what convolutions see beyond the border.</summary>
    public float* Zeros => _zeros.Pointer;

    /// <summary>The scratch memory of one worker, aligned to a cache line; its content is whatever the last kernel left.</summary>
    /// <param name="worker">The worker.</param>
    public float* Of(int worker) => _buffers[worker] is { } buffer ? buffer.Pointer : null;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (NativeBuffer? buffer in _buffers)
        {
            buffer?.Dispose();
        }

        _zeros.Dispose();
    }

    /// <summary>Rounds up to whole cache lines, so that the pieces that a kernel cuts its scratch into stay aligned.</summary>
    /// <param name="floats">Number of floats.</param>
    public static nint Align(nint floats) => (floats + 15) & ~15;
}
