using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// The inner loop of every matrix product here: tile[r, j] (+)= sum over taps t and k of a[t][r][k] * b[t][k][j], for up to 14 rows and two vectors of
/// columns. The accumulators fill the register file: 28 of 32 vectors with 14 rows, so that each step is 28 multiply-adds for 16 loads.
/// </summary>
/// <remarks>
/// Rows come as pointers, so that a convolution reads its pixels where they lie instead of from a copy that is nine times as large (Dukhan, "The
/// Indirect Convolution Algorithm", 2019). One element is always summed over t, then k, in that order, whatever the number of rows: how pixels are
/// grouped into tiles does not show in the result. What the tile already holds is added last, so that sums cut into pieces round like the pieces.
/// </remarks>
internal static unsafe class MicroKernel<T>
    where T : unmanaged, ISimd<T>
{
    /// <summary>The most rows of a tile.</summary>
    public const int MaxRows = 14;

    // s_split[n]: the rows of the first tile when n rows are left, for the fewest cycles over all of them.
    // Floats ahead in the right operand. A weight comes from memory while its first tile computes, faster than the hardware would foresee by itself.
    private const int PrefetchDistance = 2048;

    private static readonly int[] s_split = new int[2 * MaxRows + 1];
    private static readonly int[] s_cycles = new int[2 * MaxRows + 1];

    static MicroKernel() => PlanSplit();

    /// <summary>Columns of a tile: two vectors.</summary>
    public static int Columns
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => 2 * T.Count;
    }

    /// <summary>How many rows the next tile should have.</summary>
    /// <param name="left">Rows that are left, at least 1.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int NextRows(int left) => s_split[Math.Min(left, s_split.Length - 1)];

    /// <summary>Cycles per inner term that so many rows take, cut into tiles by <see cref="NextRows"/>.</summary>
    /// <param name="rows">Number of rows.</param>
    public static int Cycles(int rows)
    {
        int whole = Math.Max(0, (rows - MaxRows - 1) / T.TileRows);
        return (whole * T.TileRows) + s_cycles[rows - (whole * T.TileRows)];
    }

    /// <summary>Computes a tile.</summary>
    /// <param name="rows">Number of rows, one that <see cref="NextRows"/> returned.</param>
    /// <param name="a">Row pointers, [taps, rows].</param>
    /// <param name="aStep">Floats from one term of a row to the next: 1, or the row length of a left operand that is used transposed.</param>
    /// <param name="taps">Number of outer terms.</param>
    /// <param name="k">Number of inner terms.</param>
    /// <param name="b">Right operand, [taps, k, Columns].</param>
    /// <param name="bTap">Floats from one tap of <paramref name="b"/> to the next.</param>
    /// <param name="tile">Result, rows of Columns.</param>
    /// <param name="tileRow">Floats from one row of <paramref name="tile"/> to the next.</param>
    /// <param name="accumulate">Whether to add to what the tile holds.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(int rows, float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        switch (rows)
        {
            case 14:
                Multiply14(a, aStep, taps, k, b, bTap, tile, tileRow, accumulate);
                break;
            case 8:
                Multiply8(a, aStep, taps, k, b, bTap, tile, tileRow, accumulate);
                break;
            case 6:
                Multiply6(a, aStep, taps, k, b, bTap, tile, tileRow, accumulate);
                break;
            case 4:
                Multiply4(a, aStep, taps, k, b, bTap, tile, tileRow, accumulate);
                break;
            case 2:
                Multiply2(a, aStep, taps, k, b, bTap, tile, tileRow, accumulate);
                break;
            default:
                Multiply1(a, aStep, taps, k, b, bTap, tile, tileRow, accumulate);
                break;
        }
    }

    private static void PlanSplit()
    {
        // Two multiply-adds a cycle with a latency of four: below four rows a tile takes as long as with four.
        ReadOnlySpan<(int Rows, int Cycles)> tiles = [(14, 14), (8, 8), (6, 6), (4, 4), (2, 4), (1, 4)];
        for (int n = 1; n < s_split.Length; n++)
        {
            s_cycles[n] = int.MaxValue;
            foreach ((int rows, int cycles) in tiles)
            {
                if (rows <= n && rows <= T.TileRows && cycles + s_cycles[n - rows] < s_cycles[n])
                {
                    s_cycles[n] = cycles + s_cycles[n - rows];
                    s_split[n] = rows;
                }
            }
        }

        // More rows than the table holds start with the widest tile.
        s_split[^1] = T.TileRows;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply14(float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        Row r0 = default, r1 = default, r2 = default, r3 = default, r4 = default, r5 = default, r6 = default;
        Row r7 = default, r8 = default, r9 = default, r10 = default, r11 = default, r12 = default, r13 = default;
        nint terms = k * aStep;
        for (int tap = 0; tap < taps; tap++, a += 14, b += bTap)
        {
            float* p0 = a[0], p1 = a[1], p2 = a[2], p3 = a[3], p4 = a[4], p5 = a[5], p6 = a[6];
            float* p7 = a[7], p8 = a[8], p9 = a[9], p10 = a[10], p11 = a[11], p12 = a[12], p13 = a[13];
            float* panel = b;
            for (nint i = 0; i < terms; i += aStep, panel += Columns)
            {
                Simd.Prefetch(panel + PrefetchDistance);
                Simd.Prefetch(panel + PrefetchDistance + T.Count);
                T b0 = T.Load(panel), b1 = T.Load(panel + T.Count);
                r0.MultiplyAdd(p0[i], b0, b1);
                r1.MultiplyAdd(p1[i], b0, b1);
                r2.MultiplyAdd(p2[i], b0, b1);
                r3.MultiplyAdd(p3[i], b0, b1);
                r4.MultiplyAdd(p4[i], b0, b1);
                r5.MultiplyAdd(p5[i], b0, b1);
                r6.MultiplyAdd(p6[i], b0, b1);
                r7.MultiplyAdd(p7[i], b0, b1);
                r8.MultiplyAdd(p8[i], b0, b1);
                r9.MultiplyAdd(p9[i], b0, b1);
                r10.MultiplyAdd(p10[i], b0, b1);
                r11.MultiplyAdd(p11[i], b0, b1);
                r12.MultiplyAdd(p12[i], b0, b1);
                r13.MultiplyAdd(p13[i], b0, b1);
            }
        }

        if (accumulate)
        {
            r0.Add(tile);
            r1.Add(tile + tileRow);
            r2.Add(tile + (2 * tileRow));
            r3.Add(tile + (3 * tileRow));
            r4.Add(tile + (4 * tileRow));
            r5.Add(tile + (5 * tileRow));
            r6.Add(tile + (6 * tileRow));
            r7.Add(tile + (7 * tileRow));
            r8.Add(tile + (8 * tileRow));
            r9.Add(tile + (9 * tileRow));
            r10.Add(tile + (10 * tileRow));
            r11.Add(tile + (11 * tileRow));
            r12.Add(tile + (12 * tileRow));
            r13.Add(tile + (13 * tileRow));
        }

        r0.Store(tile);
        r1.Store(tile + tileRow);
        r2.Store(tile + (2 * tileRow));
        r3.Store(tile + (3 * tileRow));
        r4.Store(tile + (4 * tileRow));
        r5.Store(tile + (5 * tileRow));
        r6.Store(tile + (6 * tileRow));
        r7.Store(tile + (7 * tileRow));
        r8.Store(tile + (8 * tileRow));
        r9.Store(tile + (9 * tileRow));
        r10.Store(tile + (10 * tileRow));
        r11.Store(tile + (11 * tileRow));
        r12.Store(tile + (12 * tileRow));
        r13.Store(tile + (13 * tileRow));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply8(float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        Row r0 = default, r1 = default, r2 = default, r3 = default, r4 = default, r5 = default, r6 = default;
        Row r7 = default;
        nint terms = k * aStep;
        for (int tap = 0; tap < taps; tap++, a += 8, b += bTap)
        {
            float* p0 = a[0], p1 = a[1], p2 = a[2], p3 = a[3], p4 = a[4], p5 = a[5], p6 = a[6];
            float* p7 = a[7];
            float* panel = b;
            for (nint i = 0; i < terms; i += aStep, panel += Columns)
            {
                Simd.Prefetch(panel + PrefetchDistance);
                Simd.Prefetch(panel + PrefetchDistance + T.Count);
                T b0 = T.Load(panel), b1 = T.Load(panel + T.Count);
                r0.MultiplyAdd(p0[i], b0, b1);
                r1.MultiplyAdd(p1[i], b0, b1);
                r2.MultiplyAdd(p2[i], b0, b1);
                r3.MultiplyAdd(p3[i], b0, b1);
                r4.MultiplyAdd(p4[i], b0, b1);
                r5.MultiplyAdd(p5[i], b0, b1);
                r6.MultiplyAdd(p6[i], b0, b1);
                r7.MultiplyAdd(p7[i], b0, b1);
            }
        }

        if (accumulate)
        {
            r0.Add(tile);
            r1.Add(tile + tileRow);
            r2.Add(tile + (2 * tileRow));
            r3.Add(tile + (3 * tileRow));
            r4.Add(tile + (4 * tileRow));
            r5.Add(tile + (5 * tileRow));
            r6.Add(tile + (6 * tileRow));
            r7.Add(tile + (7 * tileRow));
        }

        r0.Store(tile);
        r1.Store(tile + tileRow);
        r2.Store(tile + (2 * tileRow));
        r3.Store(tile + (3 * tileRow));
        r4.Store(tile + (4 * tileRow));
        r5.Store(tile + (5 * tileRow));
        r6.Store(tile + (6 * tileRow));
        r7.Store(tile + (7 * tileRow));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply6(float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        Row r0 = default, r1 = default, r2 = default, r3 = default, r4 = default, r5 = default;
        nint terms = k * aStep;
        for (int tap = 0; tap < taps; tap++, a += 6, b += bTap)
        {
            float* p0 = a[0], p1 = a[1], p2 = a[2], p3 = a[3], p4 = a[4], p5 = a[5];
            float* panel = b;
            for (nint i = 0; i < terms; i += aStep, panel += Columns)
            {
                Simd.Prefetch(panel + PrefetchDistance);
                Simd.Prefetch(panel + PrefetchDistance + T.Count);
                T b0 = T.Load(panel), b1 = T.Load(panel + T.Count);
                r0.MultiplyAdd(p0[i], b0, b1);
                r1.MultiplyAdd(p1[i], b0, b1);
                r2.MultiplyAdd(p2[i], b0, b1);
                r3.MultiplyAdd(p3[i], b0, b1);
                r4.MultiplyAdd(p4[i], b0, b1);
                r5.MultiplyAdd(p5[i], b0, b1);
            }
        }

        if (accumulate)
        {
            r0.Add(tile);
            r1.Add(tile + tileRow);
            r2.Add(tile + (2 * tileRow));
            r3.Add(tile + (3 * tileRow));
            r4.Add(tile + (4 * tileRow));
            r5.Add(tile + (5 * tileRow));
        }

        r0.Store(tile);
        r1.Store(tile + tileRow);
        r2.Store(tile + (2 * tileRow));
        r3.Store(tile + (3 * tileRow));
        r4.Store(tile + (4 * tileRow));
        r5.Store(tile + (5 * tileRow));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply4(float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        Row r0 = default, r1 = default, r2 = default, r3 = default;
        nint terms = k * aStep;
        for (int tap = 0; tap < taps; tap++, a += 4, b += bTap)
        {
            float* p0 = a[0], p1 = a[1], p2 = a[2], p3 = a[3];
            float* panel = b;
            for (nint i = 0; i < terms; i += aStep, panel += Columns)
            {
                Simd.Prefetch(panel + PrefetchDistance);
                Simd.Prefetch(panel + PrefetchDistance + T.Count);
                T b0 = T.Load(panel), b1 = T.Load(panel + T.Count);
                r0.MultiplyAdd(p0[i], b0, b1);
                r1.MultiplyAdd(p1[i], b0, b1);
                r2.MultiplyAdd(p2[i], b0, b1);
                r3.MultiplyAdd(p3[i], b0, b1);
            }
        }

        if (accumulate)
        {
            r0.Add(tile);
            r1.Add(tile + tileRow);
            r2.Add(tile + (2 * tileRow));
            r3.Add(tile + (3 * tileRow));
        }

        r0.Store(tile);
        r1.Store(tile + tileRow);
        r2.Store(tile + (2 * tileRow));
        r3.Store(tile + (3 * tileRow));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply2(float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        Row r0 = default, r1 = default;
        nint terms = k * aStep;
        for (int tap = 0; tap < taps; tap++, a += 2, b += bTap)
        {
            float* p0 = a[0], p1 = a[1];
            float* panel = b;
            for (nint i = 0; i < terms; i += aStep, panel += Columns)
            {
                Simd.Prefetch(panel + PrefetchDistance);
                Simd.Prefetch(panel + PrefetchDistance + T.Count);
                T b0 = T.Load(panel), b1 = T.Load(panel + T.Count);
                r0.MultiplyAdd(p0[i], b0, b1);
                r1.MultiplyAdd(p1[i], b0, b1);
            }
        }

        if (accumulate)
        {
            r0.Add(tile);
            r1.Add(tile + tileRow);
        }

        r0.Store(tile);
        r1.Store(tile + tileRow);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply1(float** a, nint aStep, int taps, int k, float* b, nint bTap, float* tile, nint tileRow, bool accumulate)
    {
        Row r0 = default;
        nint terms = k * aStep;
        for (int tap = 0; tap < taps; tap++, a += 1, b += bTap)
        {
            float* p0 = a[0];
            float* panel = b;
            for (nint i = 0; i < terms; i += aStep, panel += Columns)
            {
                Simd.Prefetch(panel + PrefetchDistance);
                Simd.Prefetch(panel + PrefetchDistance + T.Count);
                T b0 = T.Load(panel), b1 = T.Load(panel + T.Count);
                r0.MultiplyAdd(p0[i], b0, b1);
            }
        }

        if (accumulate)
        {
            r0.Add(tile);
        }

        r0.Store(tile);
    }

    // The accumulators of one row. Every method inlines, and the JIT then keeps both fields in registers.
    private struct Row
    {
        private T _c0, _c1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void MultiplyAdd(float a, T b0, T b1)
        {
            T value = T.Create(a);
            _c0 = T.MultiplyAdd(value, b0, _c0);
            _c1 = T.MultiplyAdd(value, b1, _c1);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Add(float* source)
        {
            _c0 += T.Load(source);
            _c1 += T.Load(source + T.Count);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void Store(float* target)
        {
            _c0.Store(target);
            _c1.Store(target + T.Count);
        }
    }
}
