using System.Buffers;
using System.Runtime.InteropServices;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>
/// A named tensor of a checkpoint. Its elements stay in the file until they are asked for, are delivered dense and in row-major order
/// whatever their strides are there, and are not kept: a caller that lays weights out for the device needs one tensor at a time.
/// </summary>
/// <remarks>Safe for concurrent reads, until the <see cref="Checkpoint"/> is disposed.</remarks>
public sealed class CheckpointTensor
{
    private readonly ByteSource _source;
    private readonly long _start;
    private readonly long[]? _strides;

    /// <param name="name">The key in the state dict.</param>
    /// <param name="dtype">The element type.</param>
    /// <param name="shape">The extents.</param>
    /// <param name="source">The storage, known to hold every element.</param>
    /// <param name="start">Offset of the first element in the storage, in bytes.</param>
    /// <param name="strides">Distances in elements, one per axis; null if the elements are dense and in row-major order.</param>
    internal CheckpointTensor(string name, DType dtype, Shape shape, ByteSource source, long start = 0, long[]? strides = null)
    {
        Name = name;
        DType = dtype;
        Shape = shape;
        _source = source;
        _start = start;
        _strides = strides;
    }

    /// <summary>The key in the state dict, as <c>input_blocks.7.1.qkv.weight</c>.</summary>
    public string Name { get; }

    /// <summary>The element type in the file.</summary>
    public DType DType { get; }

    /// <summary>The extents, outermost first, as PyTorch gives them.</summary>
    public Shape Shape { get; }

    /// <summary>Size of the elements in bytes; no more than an array holds.</summary>
    public int Bytes => Shape.Elements * DType.SizeInBytes();

    /// <summary>Makes a tensor of values in memory, to be written.</summary>
    /// <param name="name">The key in the state dict.</param>
    /// <param name="shape">The extents.</param>
    /// <param name="values">The elements in row-major order; copied.</param>
    /// <exception cref="ArgumentException">The number of values is not that of the shape.</exception>
    public static CheckpointTensor FromFloat32(string name, Shape shape, ReadOnlySpan<float> values) =>
        FromBytes(name, DType.F32, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>Makes a tensor of elements in memory, to be written.</summary>
    /// <param name="name">The key in the state dict.</param>
    /// <param name="dtype">The element type.</param>
    /// <param name="shape">The extents.</param>
    /// <param name="bytes">The elements in row-major order, little-endian; not copied.</param>
    /// <exception cref="ArgumentException">The number of bytes is not that of the shape and type.</exception>
    public static CheckpointTensor FromBytes(string name, DType dtype, Shape shape, ReadOnlyMemory<byte> bytes) =>
        bytes.Length == (long)shape.Elements * dtype.SizeInBytes()
            ? new CheckpointTensor(name, dtype, shape, new MemorySource("(memory)", bytes))
            : throw new ArgumentException($"'{name}' of shape {shape} and {dtype} does not take {bytes.Length} bytes", nameof(bytes));

    /// <summary>The elements as the file has them: dense, row-major, little-endian.</summary>
    /// <exception cref="InvalidFileException">The file is damaged or cannot be read.</exception>
    public byte[] ToBytes()
    {
        byte[] bytes = GC.AllocateUninitializedArray<byte>(Bytes);
        CopyTo(bytes);
        return bytes;
    }

    /// <summary>Copies the elements as the file has them: dense, row-major, little-endian.</summary>
    /// <param name="destination">Receives <see cref="Bytes"/> bytes.</param>
    /// <exception cref="InvalidFileException">The file is damaged or cannot be read.</exception>
    /// <exception cref="ArgumentException"><paramref name="destination"/> has another size.</exception>
    public void CopyTo(Span<byte> destination)
    {
        Require(destination.Length, Bytes);
        if (_strides is null)
        {
            _source.Read(_start, destination);
        }
        else
        {
            Strided.Gather(_source, _start, DType, Shape, _strides, destination);
        }
    }

    /// <summary>
    /// Copies the elements as binary32: exact from narrower types, rounded to nearest from binary64 and integers. Values of that type go from
    /// the file into <paramref name="destination"/> without a stop.
    /// </summary>
    /// <param name="destination">Receives one value per element, in row-major order.</param>
    /// <exception cref="InvalidFileException">The file is damaged or cannot be read.</exception>
    /// <exception cref="ArgumentException"><paramref name="destination"/> has another size.</exception>
    public void CopyTo(Span<float> destination)
    {
        Require(destination.Length, Shape.Elements);
        if (DType == DType.F32)
        {
            CopyTo(MemoryMarshal.AsBytes(destination));
        }
        else
        {
            byte[] rented = ArrayPool<byte>.Shared.Rent(Bytes);
            try
            {
                Span<byte> bytes = rented.AsSpan(0, Bytes);
                CopyTo(bytes);
                ElementConversion.ToFloat32(DType, bytes, destination);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(rented);
            }
        }
    }

    /// <summary>The elements as binary32, as <see cref="CopyTo(Span{float})"/> gives them.</summary>
    /// <exception cref="InvalidFileException">The file is damaged or cannot be read.</exception>
    public float[] ToFloat32()
    {
        float[] values = GC.AllocateUninitializedArray<float>(Shape.Elements);
        CopyTo(values);
        return values;
    }

    /// <summary>The elements as binary64; exact, but for integers beyond 2^53.</summary>
    /// <exception cref="InvalidFileException">The file is damaged or cannot be read.</exception>
    public double[] ToFloat64()
    {
        double[] values = GC.AllocateUninitializedArray<double>(Shape.Elements);
        ElementConversion.ToFloat64(DType, ToBytes(), values);
        return values;
    }

    /// <summary>The elements as 64-bit integers; truth values become 0 and 1.</summary>
    /// <exception cref="InvalidFileException">The elements are not integers, or the file is damaged or cannot be read.</exception>
    public long[] ToInt64()
    {
        if (DType.IsFloatingPoint())
        {
            throw new InvalidFileException(_source.File, $"tensor '{Name}'", $"holds {DType} where integers are expected");
        }

        long[] values = GC.AllocateUninitializedArray<long>(Shape.Elements);
        ElementConversion.ToInt64(DType, ToBytes(), values);
        return values;
    }

    /// <summary>The same tensor under another name.</summary>
    internal CheckpointTensor Renamed(string name) => new(name, DType, Shape, _source, _start, _strides);

    private void Require(int length, int needed)
    {
        if (length != needed)
        {
            throw new ArgumentException($"'{Name}' needs room for {needed}, not {length}");
        }
    }
}
