using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>What happens to a tile of sums on its way to memory: y = act(sum + bias + residual).</summary>
internal readonly unsafe struct Epilogue
{
    private readonly float* _bias;
    private readonly float* _residual;
    private readonly float* _output;
    private readonly int _channels;
    private readonly bool _silu;

    /// <summary>Describes the way to memory.</summary>
    /// <param name="bias">One value per output channel, or null.</param>
    /// <param name="residual">Added element by element, or null; may be <paramref name="output"/> itself.</param>
    /// <param name="output">Result, rows of <paramref name="channels"/>.</param>
    /// <param name="channels">Channels per row.</param>
    /// <param name="silu">Whether act is SiLU rather than the identity.</param>
    public Epilogue(float* bias, float* residual, float* output, int channels, bool silu)
    {
        _bias = bias;
        _residual = residual;
        _output = output;
        _channels = channels;
        _silu = silu;
    }

    /// <summary>Writes a tile.</summary>
    /// <param name="tile">The sums.</param>
    /// <param name="tileRow">Floats from one row of the tile to the next.</param>
    /// <param name="rows">Rows of the tile.</param>
    /// <param name="outputRows">For each row its row in the output.</param>
    /// <param name="channel">Output channel of the tile's first column.</param>
    /// <param name="columns">Columns to write.</param>
    public void Write<T>(float* tile, nint tileRow, int rows, int* outputRows, int channel, int columns)
        where T : unmanaged, ISimd<T>
    {
        if (columns == 2 * T.Count && !_silu)
        {
            WritePair<T>(tile, tileRow, rows, outputRows, channel);
        }
        else
        {
            WriteAny<T>(tile, tileRow, rows, outputRows, channel, columns);
        }
    }

    // The usual tile: whole, and without an activation.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void WritePair<T>(float* tile, nint tileRow, int rows, int* outputRows, int channel)
        where T : unmanaged, ISimd<T>
    {
        T bias0 = _bias is null ? T.Create(0f) : T.Load(_bias + channel);
        T bias1 = _bias is null ? T.Create(0f) : T.Load(_bias + channel + T.Count);
        nint channels = _channels;
        float* output = _output + channel;
        float* residual = _residual is null ? null : _residual + channel;
        for (int row = 0; row < rows; row++, tile += tileRow)
        {
            nint offset = outputRows[row] * channels;
            T value0 = T.Load(tile) + bias0, value1 = T.Load(tile + T.Count) + bias1;
            if (residual is not null)
            {
                value0 += T.Load(residual + offset);
                value1 += T.Load(residual + offset + T.Count);
            }

            value0.Store(output + offset);
            value1.Store(output + offset + T.Count);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void WriteAny<T>(float* tile, nint tileRow, int rows, int* outputRows, int channel, int columns)
        where T : unmanaged, ISimd<T>
    {
        int whole = columns - (columns % T.Count);
        for (int row = 0; row < rows; row++, tile += tileRow)
        {
            nint offset = ((nint)outputRows[row] * _channels) + channel;
            Write<T>(tile, offset, channel, 0, whole);
            Write<Simd1>(tile, offset, channel, whole, columns);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Write<T>(float* tile, nint offset, int channel, int from, int to)
        where T : unmanaged, ISimd<T>
    {
        for (int i = from; i < to; i += T.Count)
        {
            Store(T.Load(tile + i), offset + i, channel + i);
        }
    }

    /// <summary>Writes one vector.</summary>
    /// <param name="value">The sums.</param>
    /// <param name="offset">Where in the output.</param>
    /// <param name="channel">Output channel of the first lane.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store<T>(T value, nint offset, int channel)
        where T : unmanaged, ISimd<T>
    {
        if (_bias is not null)
        {
            value += T.Load(_bias + channel);
        }

        if (_residual is not null)
        {
            value += T.Load(_residual + offset);
        }

        if (_silu)
        {
            value = VectorMath.SiLU(value);
        }

        value.Store(_output + offset);
    }
}
