using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// Gradient of attention, one head of one image per part. With q' = s q, k' = s k, P = exp(q' k'^T - logSumExp) and D = sum of dO * O over a row:
/// dV = P^T dO, dS = P * (dO V^T - D), dq = s dS k', dk = s dS^T q'. P is recomputed for a block of queries at a time (Dao et al., FlashAttention, 2022).
/// </summary>
internal sealed unsafe class AttentionBackward<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    // Queries per block: as many terms as the gradients of keys and values gain per pass over them, within what the second-level cache holds of scores.
    private const int BlockRows = 8 * MicroKernel<T>.MaxRows;

    private readonly AttentionShape _shape;
    private readonly float* _qkv;
    private readonly float* _output;
    private readonly float* _logSumExp;
    private readonly float* _dOutput;
    private readonly float* _dqkv;
    private readonly WorkerScratch _scratch;
    private readonly int _scoreRow;
    private readonly int _headRow;

    public AttentionBackward(
        in AttentionShape shape, float* qkv, float* output, float* logSumExp, float* dOutput, float* dqkv, WorkerScratch scratch)
    {
        _shape = shape;
        _qkv = qkv;
        _output = output;
        _logSumExp = logSumExp;
        _dOutput = dOutput;
        _dqkv = dqkv;
        _scratch = scratch;

        // Off the power of two, so that a column of scores does not fall into one cache set.
        _scoreRow = Panels<T>.RoundUp(shape.T) + T.Count;
        _headRow = Panels<T>.RoundUp(shape.HeadSize);
        Layout layout = default;
        scratch.Reserve(layout.Place(this, null));
    }

    public override int Parts => _shape.N * _shape.Heads;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int head = part % _shape.Heads, image = part / _shape.Heads, tokens = _shape.T, size = _shape.HeadSize, step = _shape.Step;
        nint stride = _shape.TokenStride, channels = _shape.C;
        float scale = _shape.Scale;
        float* q = _qkv + (image * tokens * stride) + _shape.Query(head);
        float* dq = _dqkv + (image * tokens * stride) + _shape.Query(head);
        nint outputOffset = (image * tokens * channels) + (head * size);
        float* dOutput = _dOutput + outputOffset;
        Layout s = default;
        s.Place(this, _scratch.Of(worker));
        Panels<T>.PackAllTransposed(q + step, stride, tokens, size, scale, s.KeysTransposed);
        Panels<T>.PackAllTransposed(q + (2 * step), stride, tokens, size, 1f, s.ValuesTransposed);
        Panels<T>.PackAll(q + step, stride, tokens, size, scale, s.Keys);

        for (int first = 0; first < tokens; first += BlockRows)
        {
            int rows = Math.Min(BlockRows, tokens - first);
            for (int row = 0; row < rows; row++)
            {
                AttentionRows.Scale(q + ((first + row) * stride), scale, s.Queries + (row * size), size);
            }

            float* dOutputBlock = dOutput + (first * channels);
            Panels<T>.Multiply(rows, s.Queries, size, 1, size, s.KeysTransposed, tokens, s.P, _scoreRow, accumulate: false);
            Panels<T>.Multiply(rows, dOutputBlock, channels, 1, size, s.ValuesTransposed, tokens, s.DS, _scoreRow, accumulate: false);
            float* lse = _logSumExp + ((((nint)image * _shape.Heads) + head) * tokens) + first;
            float* output = _output + outputOffset + (first * channels);
            for (int row = 0; row < rows; row++)
            {
                float d = Dot(output + (row * channels), dOutputBlock + (row * channels), size);
                Probabilities(s.P + ((nint)row * _scoreRow), s.DS + ((nint)row * _scoreRow), lse[row], d);
            }

            Panels<T>.Multiply(rows, s.DS, _scoreRow, 1, tokens, s.Keys, size, s.DQ, _headRow, accumulate: false);
            for (int row = 0; row < rows; row++)
            {
                AttentionRows.Scale(s.DQ + (row * _headRow), scale, dq + ((first + row) * stride), size);
            }

            // Keys are the rows of the other two products, so their left operands are used transposed.
            Panels<T>.PackAll(dOutputBlock, channels, rows, size, 1f, s.Block);
            Panels<T>.Multiply(tokens, s.P, 1, _scoreRow, rows, s.Block, size, s.DV, _headRow, accumulate: first > 0);
            Panels<T>.PackAll(s.Queries, size, rows, size, 1f, s.Block);
            Panels<T>.Multiply(tokens, s.DS, 1, _scoreRow, rows, s.Block, size, s.DK, _headRow, accumulate: first > 0);
        }

        for (int token = 0; token < tokens; token++)
        {
            AttentionRows.Scale(s.DK + ((nint)token * _headRow), scale, dq + step + (token * stride), size);
            AttentionRows.Scale(s.DV + ((nint)token * _headRow), 1f, dq + (2 * step) + (token * stride), size);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Dot(float* a, float* b, int count)
    {
        T sum = T.Create(0f);
        int i = 0;
        for (; i <= count - T.Count; i += T.Count)
        {
            sum = T.MultiplyAdd(T.Load(a + i), T.Load(b + i), sum);
        }

        float total = T.Sum(sum);
        for (; i < count; i++)
        {
            total += a[i] * b[i];
        }

        return total;
    }

    // p: scores to probabilities; ds: dP to dS. Columns beyond the tokens are computed too: nobody reads them.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Probabilities(float* p, float* ds, float logSumExp, float d)
    {
        T shift = T.Create(logSumExp), mean = T.Create(d);
        for (int i = 0; i < _shape.T; i += T.Count)
        {
            T value = VectorMath.Exp(T.Load(p + i) - shift);
            value.Store(p + i);
            (value * (T.Load(ds + i) - mean)).Store(ds + i);
        }
    }

    // Where each piece of the scratch memory lies.
    private struct Layout
    {
        public float* KeysTransposed, ValuesTransposed, Keys, Queries, P, DS, Block, DQ, DK, DV;

        public nint Place(AttentionBackward<T> owner, float* start)
        {
            int tokens = owner._shape.T, size = owner._shape.HeadSize;
            float* next = start;
            KeysTransposed = Take(ref next, Panels<T>.Floats(size, tokens));
            ValuesTransposed = Take(ref next, Panels<T>.Floats(size, tokens));
            Keys = Take(ref next, Panels<T>.Floats(tokens, size));
            Queries = Take(ref next, (nint)BlockRows * size);
            P = Take(ref next, (nint)BlockRows * owner._scoreRow);
            DS = Take(ref next, (nint)BlockRows * owner._scoreRow);
            Block = Take(ref next, Panels<T>.Floats(BlockRows, size));
            DQ = Take(ref next, (nint)BlockRows * owner._headRow);
            DK = Take(ref next, (nint)tokens * owner._headRow);
            DV = Take(ref next, (nint)tokens * owner._headRow);
            return (nint)(next - start);
        }

        private static float* Take(ref float* next, nint floats)
        {
            float* taken = next;
            next += WorkerScratch.Align(floats);
            return taken;
        }
    }
}
