using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>Packs activations into the panels that <see cref="MicroKernel{T}"/> reads: rows of Columns floats, zero beyond the last column.</summary>
internal static unsafe class Panels<T>
    where T : unmanaged, ISimd<T>
{
    /// <summary>panel[k, j] = scale * source[k, j] for j below <paramref name="columns"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Pack(float* source, nint sourceRow, int k, int columns, float scale, float* panel)
    {
        T factor = T.Create(scale);
        for (int i = 0; i < k; i++, source += sourceRow, panel += MicroKernel<T>.Columns)
        {
            if (columns == MicroKernel<T>.Columns)
            {
                (factor * T.Load(source)).Store(panel);
                (factor * T.Load(source + T.Count)).Store(panel + T.Count);
                continue;
            }

            for (int j = 0; j < MicroKernel<T>.Columns; j++)
            {
                panel[j] = j < columns ? scale * source[j] : 0f;
            }
        }
    }

    /// <summary>panel[k, j] = scale * source[j, k] for j below <paramref name="columns"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackTransposed(float* source, nint sourceRow, int columns, int k, float scale, float* panel)
    {
        int blockColumns = columns & ~3, blockTerms = k & ~3;
        for (int j = 0; j < blockColumns; j += 4)
        {
            float* from = source + (j * sourceRow);
            float* to = panel + j;
            for (int i = 0; i < blockTerms; i += 4, to += 4 * MicroKernel<T>.Columns)
            {
                Block4.Transpose(from + i, sourceRow, scale, to, MicroKernel<T>.Columns);
            }
        }

        for (int i = 0; i < k; i++)
        {
            for (int j = i < blockTerms ? blockColumns : 0; j < MicroKernel<T>.Columns; j++)
            {
                panel[((nint)i * MicroKernel<T>.Columns) + j] = j < columns ? scale * source[(j * sourceRow) + i] : 0f;
            }
        }
    }

    /// <summary>Floats of the panels that hold <paramref name="k"/> rows of <paramref name="columns"/> columns.</summary>
    public static nint Floats(int k, int columns) => (nint)k * RoundUp(columns);

    /// <summary>Columns rounded up to whole panels.</summary>
    public static int RoundUp(int columns) => (columns + MicroKernel<T>.Columns - 1) / MicroKernel<T>.Columns * MicroKernel<T>.Columns;

    /// <summary>Packs as many panels as the columns need, one behind the other.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackAll(float* source, nint sourceRow, int k, int columns, float scale, float* panels)
    {
        for (int first = 0; first < columns; first += MicroKernel<T>.Columns, panels += (nint)k * MicroKernel<T>.Columns)
        {
            Pack(source + first, sourceRow, k, Math.Min(MicroKernel<T>.Columns, columns - first), scale, panels);
        }
    }

    /// <summary>Packs as many transposed panels as the columns need, one behind the other.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackAllTransposed(float* source, nint sourceRow, int columns, int k, float scale, float* panels)
    {
        for (int first = 0; first < columns; first += MicroKernel<T>.Columns, panels += (nint)k * MicroKernel<T>.Columns)
        {
            PackTransposed(source + (first * sourceRow), sourceRow, Math.Min(MicroKernel<T>.Columns, columns - first), k, scale, panels);
        }
    }

    /// <summary>c[rows, panels] (+)= a[rows, k] times packed panels; c has room for whole panels.</summary>
    /// <param name="rows">Any number of rows.</param>
    /// <param name="a">Left operand.</param>
    /// <param name="aRow">Floats from one row of <paramref name="a"/> to the next.</param>
    /// <param name="aStep">Floats from one term of a row to the next; 1 with rows as they are, and the two exchanged for the transpose.</param>
    /// <param name="k">Terms.</param>
    /// <param name="panels">Packed right operand.</param>
    /// <param name="columns">Columns; what lies between them and the end of the last panel is written too.</param>
    /// <param name="c">Result.</param>
    /// <param name="cRow">Floats from one row of <paramref name="c"/> to the next, at least <see cref="RoundUp"/> of the columns.</param>
    /// <param name="accumulate">Whether to add to what <paramref name="c"/> holds.</param>
    public static void Multiply(int rows, float* a, nint aRow, nint aStep, int k, float* panels, int columns, float* c, nint cRow, bool accumulate)
    {
        float** pointers = stackalloc float*[MicroKernel<T>.MaxRows];
        for (int first = 0; first < columns; first += MicroKernel<T>.Columns, panels += (nint)k * MicroKernel<T>.Columns)
        {
            for (int done = 0, count; done < rows; done += count)
            {
                count = MicroKernel<T>.NextRows(rows - done);
                for (int row = 0; row < count; row++)
                {
                    pointers[row] = a + ((done + row) * aRow);
                }

                MicroKernel<T>.Multiply(count, pointers, aStep, 1, k, panels, 0, c + (done * cRow) + first, cRow, accumulate);
            }
        }
    }
}
