using System.Runtime.InteropServices;

namespace Kernels.Backends.Cpu;

/// <summary>Owns a block of zeroed native memory, aligned to cache lines so that no vector straddles two of them.</summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    /// <summary>Alignment in bytes: a cache line, and the widest vector.</summary>
    public const int Alignment = 64;

    private float* _pointer;

    /// <summary>Allocates zeroed memory.</summary>
    /// <param name="length">Number of floats.</param>
    public NativeBuffer(nint length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        Length = length;
        nuint bytes = checked((nuint)length * sizeof(float));
        _pointer = (float*)NativeMemory.AlignedAlloc(nuint.Max(bytes, Alignment), Alignment);
        NativeMemory.Clear(_pointer, bytes);
    }

    /// <summary>Frees the memory if the owner forgot to.</summary>
    ~NativeBuffer() => Free();

    /// <summary>Number of floats.</summary>
    public nint Length { get; }

    /// <summary>The first float.</summary>
    public float* Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_pointer is null, this);
            return _pointer;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_pointer);
        _pointer = null;
    }
}
