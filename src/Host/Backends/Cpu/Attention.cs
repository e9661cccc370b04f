using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>Self-attention, forward and backward.</summary>
internal static unsafe class Attention
{
    /// <summary>out = softmax(q k^T / sqrt(HeadSize)) v, head by head.</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="qkv">[N, T, 3 C].</param>
    /// <param name="output">[N, T, C].</param>
    /// <param name="logSumExp">[N, Heads, T], the logarithm of each row's denominator, which the gradient needs; or null.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Forward(in AttentionShape shape, float* qkv, float* output, float* logSumExp, WorkerScratch scratch)
    {
        shape.Validate();
        return Simd.Bits switch
        {
            512 => new AttentionForward<Simd512>(shape, qkv, output, logSumExp, scratch),
            256 => new AttentionForward<Simd256>(shape, qkv, output, logSumExp, scratch),
            _ => new AttentionForward<Simd128>(shape, qkv, output, logSumExp, scratch),
        };
    }

    /// <summary>The gradient of <see cref="Forward"/> with respect to qkv.</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="qkv">[N, T, 3 C].</param>
    /// <param name="output">[N, T, C], what the forward direction gave.</param>
    /// <param name="logSumExp">[N, Heads, T], what the forward direction gave.</param>
    /// <param name="dOutput">[N, T, C].</param>
    /// <param name="dqkv">[N, T, 3 C].</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Backward(
        in AttentionShape shape, float* qkv, float* output, float* logSumExp, float* dOutput, float* dqkv, WorkerScratch scratch)
    {
        shape.Validate();
        return Simd.Bits switch
        {
            512 => new AttentionBackward<Simd512>(shape, qkv, output, logSumExp, dOutput, dqkv, scratch),
            256 => new AttentionBackward<Simd256>(shape, qkv, output, logSumExp, dOutput, dqkv, scratch),
            _ => new AttentionBackward<Simd128>(shape, qkv, output, logSumExp, dOutput, dqkv, scratch),
        };
    }
}

/// <summary>
/// One head of one image, some of its queries, at a time. The scores of a block of queries against all keys fit the cache (the whole T * T matrix of a
/// large image would not), so the softmax is the plain one: row maximum, exponentials, sum.
/// </summary>
internal sealed unsafe class AttentionForward<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    private const int BlockRows = MicroKernel<T>.MaxRows, PartsPerWorker = 8;

    private readonly AttentionShape _shape;
    private readonly float* _qkv;
    private readonly float* _output;
    private readonly float* _logSumExp;
    private readonly WorkerScratch _scratch;
    private readonly int _queryParts;
    private readonly int _scoreRow;
    private readonly int _outputRow;

    public AttentionForward(in AttentionShape shape, float* qkv, float* output, float* logSumExp, WorkerScratch scratch)
    {
        _shape = shape;
        _qkv = qkv;
        _output = output;
        _logSumExp = logSumExp;
        _scratch = scratch;

        // Every part packs the keys and values of its head anew, so a head is cut only as far as the workers need it.
        int blocks = (shape.T + BlockRows - 1) / BlockRows, heads = shape.N * shape.Heads;
        _queryParts = Math.Clamp(PartsPerWorker * scratch.Workers / heads, 1, blocks);

        // Off the power of two, so that the rows of a block do not fall into the same cache sets.
        _scoreRow = Panels<T>.RoundUp(shape.T) + T.Count;
        _outputRow = Panels<T>.RoundUp(shape.HeadSize);
        scratch.Reserve(KeyFloats + ValueFloats + QueryFloats + ScoreFloats + ((nint)BlockRows * _outputRow));
    }

    public override int Parts => _shape.N * _shape.Heads * _queryParts;

    private nint KeyFloats => Panels<T>.Floats(_shape.HeadSize, _shape.T);

    private nint ValueFloats => Panels<T>.Floats(_shape.T, _shape.HeadSize);

    private nint QueryFloats => WorkerScratch.Align((nint)BlockRows * _shape.HeadSize);

    private nint ScoreFloats => (nint)BlockRows * _scoreRow;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int queryPart = part % _queryParts, head = part / _queryParts % _shape.Heads, image = part / _queryParts / _shape.Heads;
        nint stride = _shape.TokenStride;
        int size = _shape.HeadSize, tokens = _shape.T;
        float* q = _qkv + (image * tokens * stride) + _shape.Query(head);
        float* output = _output + ((nint)image * tokens * _shape.C) + (head * size);
        float* logSumExp = _logSumExp is null ? null : _logSumExp + ((((nint)image * _shape.Heads) + head) * tokens);

        float* keys = _scratch.Of(worker);
        float* values = keys + KeyFloats;
        float* queries = values + ValueFloats;
        float* scores = queries + QueryFloats;
        float* result = scores + ScoreFloats;
        Panels<T>.PackAllTransposed(q + _shape.Step, stride, tokens, size, _shape.Scale, keys);
        Panels<T>.PackAll(q + (2 * _shape.Step), stride, tokens, size, 1f, values);

        float* sums = stackalloc float[BlockRows];
        int blocks = (tokens + BlockRows - 1) / BlockRows;
        int from = blocks * queryPart / _queryParts * BlockRows, to = Math.Min(tokens, blocks * (queryPart + 1) / _queryParts * BlockRows);
        for (int first = from; first < to; first += BlockRows)
        {
            int rows = Math.Min(BlockRows, to - first);
            for (int row = 0; row < rows; row++)
            {
                AttentionRows.Scale(q + ((first + row) * stride), _shape.Scale, queries + (row * size), size);
            }

            Panels<T>.Multiply(rows, queries, size, 1, size, keys, tokens, scores, _scoreRow, accumulate: false);
            for (int row = 0; row < rows; row++)
            {
                sums[row] = AttentionRows.Exponentials<T>(scores + ((nint)row * _scoreRow), tokens, out float maximum);
                if (logSumExp is not null)
                {
                    logSumExp[first + row] = maximum + MathF.Log(sums[row]);
                }
            }

            // The division by the row sums waits until after the product: HeadSize divisions instead of T.
            Panels<T>.Multiply(rows, scores, _scoreRow, 1, tokens, values, size, result, _outputRow, accumulate: false);
            for (int row = 0; row < rows; row++)
            {
                AttentionRows.Scale(result + (row * _outputRow), 1f / sums[row], output + ((nint)(first + row) * _shape.C), size);
            }
        }
    }
}

/// <summary>Row operations of attention.</summary>
internal static unsafe class AttentionRows
{
    /// <summary>target = scale * source.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(float* source, float scale, float* target, int count)
    {
        int i = 0;
        for (; i <= count - Simd256.Count; i += Simd256.Count)
        {
            (Simd256.Create(scale) * Simd256.Load(source + i)).Store(target + i);
        }

        for (; i < count; i++)
        {
            target[i] = scale * source[i];
        }
    }

    /// <summary>row = exp(row - max(row)); returns the sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Exponentials<T>(float* row, int count, out float maximum)
        where T : unmanaged, ISimd<T>
    {
        int whole = count - (count % T.Count), i = 0;
        T largest = T.Create(float.NegativeInfinity), second = largest, third = largest, fourth = largest;
        for (; i <= whole - (4 * T.Count); i += 4 * T.Count)
        {
            // Four, since a maximum takes longer than a load.
            largest = T.Max(largest, T.Load(row + i));
            second = T.Max(second, T.Load(row + i + T.Count));
            third = T.Max(third, T.Load(row + i + (2 * T.Count)));
            fourth = T.Max(fourth, T.Load(row + i + (3 * T.Count)));
        }

        for (; i < whole; i += T.Count)
        {
            largest = T.Max(largest, T.Load(row + i));
        }

        maximum = T.MaxLane(T.Max(T.Max(largest, second), T.Max(third, fourth)));
        for (; i < count; i++)
        {
            maximum = MathF.Max(maximum, row[i]);
        }

        T shift = T.Create(maximum), total = T.Create(0f);
        for (i = 0; i < whole; i += T.Count)
        {
            T value = VectorMath.Exp(T.Load(row + i) - shift);
            value.Store(row + i);
            total += value;
        }

        float sum = T.Sum(total);
        for (; i < count; i++)
        {
            VectorMath.Exp(Simd1.Create(row[i] - maximum)).Store(row + i);
            sum += row[i];
        }

        return sum;
    }
}
