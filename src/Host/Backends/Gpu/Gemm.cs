namespace Kernels.Backends.Gpu;

/// <summary>Who multiplies the matrices of linear layers on a GPU.</summary>
public enum GemmKind
{
    /// <summary>The kernel of <c>convolution.cu</c>: an image has the same bits whatever the batch, and a norm gets its statistics from it.</summary>
    Own,

    /// <summary>
    /// cuBLAS, for the shapes that it takes without detours. It chooses its algorithm by the shape of the whole product, the number of images included, and by its version: an image's
    /// bits may depend on both.
    /// </summary>
    Cublas,
}

/// <summary>
/// A product of matrices for every image: c[n] = a[n]·w, or a[n]·wᵀ, of <c>[Rows, Depth]</c> and <c>[Depth, Columns]</c>, all of them dense and row by row, summed in binary32.
/// </summary>
/// <param name="Images">Products; all with the same w.</param>
/// <param name="Rows">Rows of a and c.</param>
/// <param name="Columns">Columns of c.</param>
/// <param name="Depth">The index that is summed.</param>
/// <param name="Transposed">Whether w lies as <c>[Columns, Depth]</c>, as the weight of a linear layer does; otherwise as <c>[Depth, Columns]</c>.</param>
/// <param name="Operand">Element type of a and w.</param>
/// <param name="Result">Element type of c.</param>
/// <param name="Precision">How binary32 operands are multiplied: as they are, or as tf32.</param>
/// <param name="A">Address of a.</param>
/// <param name="W">Address of w.</param>
/// <param name="C">Address of c.</param>
public readonly record struct Gemm(
    int Images, int Rows, int Columns, int Depth, bool Transposed, DType Operand, DType Result, Precision Precision, ulong A, ulong W, ulong C)
{
    /// <summary>Bytes of every a together.</summary>
    public long BytesOfA => (long)Images * Rows * Depth * Operand.SizeInBytes();

    /// <summary>Bytes of w.</summary>
    public long BytesOfW => (long)Depth * Columns * Operand.SizeInBytes();

    /// <summary>Bytes of every c together.</summary>
    public long BytesOfC => (long)Images * Rows * Columns * Result.SizeInBytes();
}

/// <summary>A library of matrix products on a device: the seam beside <see cref="Driver"/>'s launches. Freed when disposed, before its driver.</summary>
public abstract class GemmLibrary : IDisposable
{
    /// <summary>Name and version, for messages.</summary>
    public abstract string Name { get; }

    /// <summary>Multiplies in stream order; may be captured.</summary>
    /// <param name="gemm">The product.</param>
    /// <param name="lane">0, or 1 for work that runs beside that of 0: each has scratch memory of its own.</param>
    /// <param name="stream">The stream.</param>
    /// <exception cref="DeviceException">The library refuses, or an operand is not in one allocation.</exception>
    public abstract void Multiply(in Gemm gemm, int lane, DriverStream stream);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees what the library holds.</summary>
    /// <param name="disposing">Whether it is called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}
