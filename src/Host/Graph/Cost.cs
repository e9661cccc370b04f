namespace Kernels;

/// <summary>The least work an op can do: every distinct input byte read once, every output byte written once, multiply-add counted as two.</summary>
/// <param name="BytesRead">Bytes that must be read.</param>
/// <param name="BytesWritten">Bytes that must be written.</param>
/// <param name="Flops">Floating-point operations.</param>
public readonly record struct Cost(long BytesRead, long BytesWritten, long Flops)
{
    /// <summary>Bytes read and written.</summary>
    public long Bytes => BytesRead + BytesWritten;

    /// <summary>Adds two costs.</summary>
    /// <param name="left">One cost.</param>
    /// <param name="right">Another cost.</param>
    public static Cost operator +(Cost left, Cost right) =>
        new(left.BytesRead + right.BytesRead, left.BytesWritten + right.BytesWritten, left.Flops + right.Flops);

    /// <summary>Adds two costs.</summary>
    /// <param name="left">One cost.</param>
    /// <param name="right">Another cost.</param>
    public static Cost Add(Cost left, Cost right) => left + right;
}
