using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>Extents of y[M, N] = x[M, K] w[N, K]^T; the inputs of a row may lie in two tensors [M, K - K2] and [M, K2].</summary>
/// <param name="M">Rows.</param>
/// <param name="K">Inputs of a row.</param>
/// <param name="N">Outputs of a row.</param>
/// <param name="K2">Inputs of a row in the second tensor, 0 if there is none.</param>
internal readonly record struct LinearShape(int M, int K, int N, int K2 = 0)
{
    /// <summary>Inputs of a row in the first tensor.</summary>
    public int K1 => K - K2;
}

/// <summary>Linear layers: y = act(act(x) w^T + bias + residual).</summary>
internal static unsafe class Linear
{
    /// <summary>Builds the kernel. With <see cref="PackedWeights.DataGradient"/> of a weight [K, N] it computes y = x w instead, the data gradient.</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="weights">The packed weight, of one tap.</param>
    /// <param name="x">[M, K].</param>
    /// <param name="bias">[N], or null.</param>
    /// <param name="residual">[M, N], or null; may be <paramref name="y"/>.</param>
    /// <param name="y">[M, N].</param>
    /// <param name="siluInput">Whether SiLU is applied to x first.</param>
    /// <param name="siluOutput">Whether SiLU is applied last.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Create(
        in LinearShape shape, PackedWeights weights, float* x, float* bias, float* residual, float* y, bool siluInput, bool siluOutput, WorkerScratch scratch) =>
        Create(shape, weights, x, null, siluInput, new Epilogue(bias, residual, y, shape.N, siluOutput), scratch);

    /// <summary>Builds the kernel for a given way to memory.</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="weights">The packed weight, of one tap.</param>
    /// <param name="x">[M, K - K2].</param>
    /// <param name="x2">[M, K2], or null if K2 is 0.</param>
    /// <param name="siluInput">Whether SiLU is applied to x first; of one input only.</param>
    /// <param name="epilogue">The way to memory.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Create(in LinearShape shape, PackedWeights weights, float* x, float* x2, bool siluInput, in Epilogue epilogue, WorkerScratch scratch)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(Math.Min(shape.M, shape.N), shape.K1), 1, nameof(shape));
        if (weights.Taps != 1 || weights.Inputs != shape.K || weights.Outputs != shape.N)
        {
            throw new ArgumentException(
                $"weights packed as {weights.Taps} taps, {weights.Inputs} to {weights.Outputs} do not fit {shape.K} inputs to {shape.N} outputs", nameof(weights));
        }

        return weights.PanelColumns switch
        {
            32 => new LinearKernel<Simd512>(shape, weights, x, x2, siluInput, epilogue, scratch),
            16 => new LinearKernel<Simd256>(shape, weights, x, x2, siluInput, epilogue, scratch),
            _ => new LinearKernel<Simd128>(shape, weights, x, x2, siluInput, epilogue, scratch),
        };
    }
}

/// <summary>One vector width's <see cref="Linear"/>.</summary>
internal sealed unsafe class LinearKernel<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    // Rows that share one pass over a panel of weights.
    private const int BlockRows = 4 * MicroKernel<T>.MaxRows;

    private readonly LinearShape _shape;
    private readonly PackedWeights _weights;
    private readonly float* _x;
    private readonly float* _x2;
    private readonly bool _siluInput;
    private readonly Epilogue _epilogue;
    private readonly WorkerScratch _scratch;
    private readonly int _rowParts;
    private readonly int _panelParts;

    public LinearKernel(in LinearShape shape, PackedWeights weights, float* x, float* x2, bool siluInput, in Epilogue epilogue, WorkerScratch scratch)
    {
        const double OperationsPerPart = 4e6, WeightsPerPart = 64 * 1024;
        _shape = shape;
        _weights = weights;
        _x = x;
        _x2 = x2;
        _siluInput = siluInput;
        _epilogue = epilogue;
        _scratch = scratch;

        // Few rows are bound by reading the weights, many rows by arithmetic.
        double work = Math.Max(2.0 * shape.M * shape.K * shape.N / OperationsPerPart, (double)shape.K * shape.N / WeightsPerPart);
        int wanted = (int)Math.Clamp(work, 1, 128);
        _rowParts = Math.Min((shape.M + BlockRows - 1) / BlockRows, wanted);
        _panelParts = Math.Min(weights.Panels, (wanted + _rowParts - 1) / _rowParts);
        if (siluInput)
        {
            scratch.Reserve((nint)BlockRows * shape.K);
        }
    }

    public override int Parts => _rowParts * _panelParts;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int blocks = (_shape.M + BlockRows - 1) / BlockRows;
        int rowPart = part / _panelParts, panelPart = part % _panelParts;
        int from = (int)((long)blocks * rowPart / _rowParts) * BlockRows;
        int to = Math.Min(_shape.M, (int)((long)blocks * (rowPart + 1) / _rowParts) * BlockRows);
        int firstPanel = _weights.Panels * panelPart / _panelParts, endPanel = _weights.Panels * (panelPart + 1) / _panelParts;
        for (int first = from; first < to; first += BlockRows)
        {
            Block(first, Math.Min(BlockRows, to - first), firstPanel, endPanel, worker);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Block(int first, int count, int firstPanel, int endPanel, int worker)
    {
        int k = _shape.K1, k2 = _shape.K2, columns = MicroKernel<T>.Columns;
        float* x = _x + ((nint)first * k);
        if (_siluInput)
        {
            float* activated = _scratch.Of(worker);
            VectorMath.SiLU<T>(x, activated, (nint)count * k);
            x = activated;
        }
        else
        {
            // The next block's rows arrive while this one computes; beyond the last row there is nothing to gain and nothing to fear.
            Simd.PrefetchStretch(x + ((nint)count * k), (nint)count * k);
            Simd.PrefetchStretch(_x2 + ((nint)(first + count) * k2), (nint)count * k2);
        }

        float** pointers = stackalloc float*[BlockRows];
        float** pointers2 = stackalloc float*[BlockRows];
        int* outputRows = stackalloc int[BlockRows];
        for (int row = 0; row < count; row++)
        {
            pointers[row] = x + ((nint)row * k);
            pointers2[row] = _x2 + ((nint)(first + row) * k2);
            outputRows[row] = first + row;
        }

        float* tile = stackalloc float[MicroKernel<T>.MaxRows * columns];
        for (int panel = firstPanel; panel < endPanel; panel++)
        {
            float* weights = _weights.Pointer + (panel * _weights.PanelFloats);
            int channel = panel * columns, width = Math.Min(columns, _shape.N - channel);
            for (int done = 0, rows; done < count; done += rows)
            {
                rows = MicroKernel<T>.NextRows(count - done);
                MicroKernel<T>.Multiply(rows, pointers + done, 1, 1, k, weights, 0, tile, columns, accumulate: false);
                if (k2 > 0)
                {
                    MicroKernel<T>.Multiply(rows, pointers2 + done, 1, 1, k2, weights + ((nint)k * columns), 0, tile, columns, accumulate: true);
                }

                _epilogue.Write<T>(tile, columns, rows, outputRows + done, channel, width);
            }
        }
    }
}
