using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// Extents and strides, in floats, of c[b, m, n] = sum over k of a[b, m, k] * b[b, k, n] for every b of a batch. The unit stride of a is its K, of c its N;
/// of b it is N, or K if <paramref name="TransposedB"/> (then <paramref name="RowB"/> is the step from one n to the next).
/// </summary>
internal readonly record struct BatchedGemmShape(
    int Batch, int M, int N, int K, nint BatchA, nint RowA, nint BatchB, nint RowB, nint BatchC, nint RowC, bool TransposedB = false);

/// <summary>Matrix products whose right operand is not known in advance: it is packed, a panel at a time, by the worker that uses it.</summary>
internal static unsafe class BatchedGemm
{
    /// <summary>Builds the kernel.</summary>
    /// <param name="shape">Extents and strides.</param>
    /// <param name="a">Left operands.</param>
    /// <param name="b">Right operands.</param>
    /// <param name="c">Results; overlap neither operand.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Create(in BatchedGemmShape shape, float* a, float* b, float* c, WorkerScratch scratch)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(Math.Min(shape.M, shape.N), Math.Min(shape.K, shape.Batch)), 1, nameof(shape));
        return Simd.Bits switch
        {
            512 => new BatchedGemmKernel<Simd512>(shape, a, b, c, scratch),
            256 => new BatchedGemmKernel<Simd256>(shape, a, b, c, scratch),
            _ => new BatchedGemmKernel<Simd128>(shape, a, b, c, scratch),
        };
    }
}

/// <summary>One vector width's <see cref="BatchedGemm"/>.</summary>
internal sealed unsafe class BatchedGemmKernel<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    private readonly BatchedGemmShape _shape;
    private readonly float* _a;
    private readonly float* _b;
    private readonly float* _c;
    private readonly WorkerScratch _scratch;
    private readonly int _panels;

    public BatchedGemmKernel(in BatchedGemmShape shape, float* a, float* b, float* c, WorkerScratch scratch)
    {
        _shape = shape;
        _a = a;
        _b = b;
        _c = c;
        _scratch = scratch;
        _panels = (shape.N + MicroKernel<T>.Columns - 1) / MicroKernel<T>.Columns;
        scratch.Reserve((nint)shape.K * MicroKernel<T>.Columns);
    }

    public override int Parts => _shape.Batch * _panels;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int batch = part / _panels, first = part % _panels * MicroKernel<T>.Columns, columns = Math.Min(MicroKernel<T>.Columns, _shape.N - first);
        float* panel = _scratch.Of(worker);
        float* b = _b + (batch * _shape.BatchB);
        if (_shape.TransposedB)
        {
            Panels<T>.PackTransposed(b + (first * _shape.RowB), _shape.RowB, columns, _shape.K, 1f, panel);
        }
        else
        {
            Panels<T>.Pack(b + first, _shape.RowB, _shape.K, columns, 1f, panel);
        }

        float* a = _a + (batch * _shape.BatchA);
        float* c = _c + (batch * _shape.BatchC) + first;
        float** pointers = stackalloc float*[MicroKernel<T>.MaxRows];
        float* tile = stackalloc float[MicroKernel<T>.MaxRows * MicroKernel<T>.Columns];
        for (int done = 0, rows; done < _shape.M; done += rows)
        {
            rows = MicroKernel<T>.NextRows(_shape.M - done);
            for (int row = 0; row < rows; row++)
            {
                pointers[row] = a + ((done + row) * _shape.RowA);
            }

            bool whole = columns == MicroKernel<T>.Columns;
            float* target = c + (done * _shape.RowC);
            MicroKernel<T>.Multiply(
                rows, pointers, 1, 1, _shape.K, panel, 0, whole ? target : tile, whole ? _shape.RowC : MicroKernel<T>.Columns, accumulate: false);
            for (int row = 0; !whole && row < rows; row++)
            {
                new Span<float>(tile + (row * MicroKernel<T>.Columns), columns).CopyTo(new Span<float>(target + (row * _shape.RowC), columns));
            }
        }
    }
}
