using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// The transforms of Winograd's minimal filtering F(4x4, 3x3): 16 outputs of a 3x3 filter from 36 products instead of 144, as A^T ((G g G^T) * (B^T d B)) A
/// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
/// </summary>
/// <remarks>
/// The points are 0, 5/8, -5/8, 3/2, -3/2 and infinity. Their powers are exact in binary, and among the points that are multiples of 1/16 these
/// lose least: half of what the usual 0, 1, -1, 2, -2 loses (on why points matter: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution", 2020).
/// </remarks>
internal static unsafe class WinogradTransforms<T>
    where T : unmanaged, ISimd<T>
{
    private const float A = 0.625f, B = 1.5f, A2 = A * A, B2 = B * B;

    /// <summary>Products per tile: 6 by 6.</summary>
    public const int Products = 36;

    /// <summary>Vectors of working memory that a transform needs.</summary>
    public const int BufferVectors = Products;

    // Floats. The nine streams of a weight are too many for the hardware to foresee, and the arithmetic between two loads too long for it to overlap them.
    private const int PrefetchDistance = 256;

    /// <summary>B^T d B of one tile for some channels: target[f, c], f = 6 row + column.</summary>
    /// <param name="pixels">The 36 pixels of the tile, row by row.</param>
    /// <param name="channel">First channel to read of every pixel.</param>
    /// <param name="count">Channels, a multiple of the vector.</param>
    /// <param name="target">Result for the first channel.</param>
    /// <param name="productStride">Floats from one of the 36 to the next.</param>
    /// <param name="buffer">Working memory of <see cref="BufferVectors"/> vectors.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Input(float** pixels, nint channel, int count, float* target, nint productStride, float* buffer)
    {
        for (nint end = channel + count; channel < end; channel += T.Count, target += T.Count)
        {
            float* line = buffer;
            for (int j = 0; j < 6; j++, line += T.Count)
            {
                InputLine(
                    T.Load(pixels[j] + channel),
                    T.Load(pixels[6 + j] + channel),
                    T.Load(pixels[12 + j] + channel),
                    T.Load(pixels[18 + j] + channel),
                    T.Load(pixels[24 + j] + channel),
                    T.Load(pixels[30 + j] + channel),
                    line,
                    6 * T.Count);
            }

            line = buffer;
            float* to = target;
            for (int i = 0; i < 6; i++, line += 6 * T.Count, to += 6 * productStride)
            {
                InputLine(
                    T.Load(line),
                    T.Load(line + T.Count),
                    T.Load(line + (2 * T.Count)),
                    T.Load(line + (3 * T.Count)),
                    T.Load(line + (4 * T.Count)),
                    T.Load(line + (5 * T.Count)),
                    to,
                    productStride);
            }
        }
    }

    /// <summary>G g G^T of a stretch of packed weights: target[f, i].</summary>
    /// <param name="weights">The stretch in the first tap.</param>
    /// <param name="tapStride">Floats from one tap to the next; negative to turn the filter around.</param>
    /// <param name="count">Floats, a multiple of the vector.</param>
    /// <param name="target">Result for the first float.</param>
    /// <param name="productStride">Floats from one of the 36 to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Weights(float* weights, nint tapStride, int count, float* target, nint productStride)
    {
        for (int i = 0; i < count; i += T.Count, weights += T.Count, target += T.Count)
        {
            WeightColumn(weights, tapStride, out T a0, out T a1, out T a2, out T a3, out T a4, out T a5);
            WeightColumn(weights + tapStride, tapStride, out T b0, out T b1, out T b2, out T b3, out T b4, out T b5);
            WeightColumn(weights + (2 * tapStride), tapStride, out T c0, out T c1, out T c2, out T c3, out T c4, out T c5);
            nint row = 6 * productStride;
            WeightRow(a0, b0, c0, target, productStride);
            WeightRow(a1, b1, c1, target + row, productStride);
            WeightRow(a2, b2, c2, target + (2 * row), productStride);
            WeightRow(a3, b3, c3, target + (3 * row), productStride);
            WeightRow(a4, b4, c4, target + (4 * row), productStride);
            WeightRow(a5, b5, c5, target + (5 * row), productStride);
        }
    }

    /// <summary>A^T m A of one tile for one vector of channels, through the epilogue.</summary>
    /// <param name="products">The first product.</param>
    /// <param name="productStride">Floats from one of the 36 to the next.</param>
    /// <param name="epilogue">The way to memory.</param>
    /// <param name="offset">Where the tile's first pixel lies in the output.</param>
    /// <param name="pixelStride">Floats from one pixel of the output to the next.</param>
    /// <param name="rowStride">Floats from one row of the output to the next.</param>
    /// <param name="channel">Output channel of the first lane.</param>
    /// <param name="rows">Rows of the tile inside the image.</param>
    /// <param name="columns">Columns of the tile inside the image.</param>
    /// <param name="buffer">Working memory of <see cref="BufferVectors"/> vectors.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Output(
        float* products,
        nint productStride,
        in Epilogue epilogue,
        nint offset,
        nint pixelStride,
        nint rowStride,
        int channel,
        int rows,
        int columns,
        float* buffer)
    {
        nint down = 6 * productStride;
        for (int j = 0; j < 6; j++, products += productStride)
        {
            OutputLine(
                T.Load(products),
                T.Load(products + down),
                T.Load(products + (2 * down)),
                T.Load(products + (3 * down)),
                T.Load(products + (4 * down)),
                T.Load(products + (5 * down)),
                buffer + (j * T.Count),
                6 * T.Count);
        }

        float* result = buffer + (24 * T.Count);
        for (int i = 0; i < rows; i++, buffer += 6 * T.Count, offset += rowStride)
        {
            OutputLine(
                T.Load(buffer),
                T.Load(buffer + T.Count),
                T.Load(buffer + (2 * T.Count)),
                T.Load(buffer + (3 * T.Count)),
                T.Load(buffer + (4 * T.Count)),
                T.Load(buffer + (5 * T.Count)),
                result,
                T.Count);
            for (int j = 0; j < columns; j++)
            {
                epilogue.Store(T.Load(result + (j * T.Count)), offset + (j * pixelStride), channel);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T Plus(T even, T odd, float p) => T.MultiplyAdd(odd, T.Create(p), even);

    // B^T applied to a row.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void InputLine(T d0, T d1, T d2, T d3, T d4, T d5, float* target, nint stride)
    {
        T minusSum = T.Create(-(A2 + B2)), product = T.Create(A2 * B2);
        T.MultiplyAdd(d0, product, T.MultiplyAdd(d2, minusSum, d4)).Store(target);
        T even = T.MultiplyAdd(d2, T.Create(-B2), d4), odd = T.MultiplyAdd(d1, T.Create(-B2), d3);
        Plus(even, odd, A).Store(target + stride);
        Plus(even, odd, -A).Store(target + (2 * stride));
        even = T.MultiplyAdd(d2, T.Create(-A2), d4);
        odd = T.MultiplyAdd(d1, T.Create(-A2), d3);
        Plus(even, odd, B).Store(target + (3 * stride));
        Plus(even, odd, -B).Store(target + (4 * stride));
        T.MultiplyAdd(d1, product, T.MultiplyAdd(d3, minusSum, d5)).Store(target + (5 * stride));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WeightColumn(float* weights, nint tapStride, out T u0, out T u1, out T u2, out T u3, out T u4, out T u5)
    {
        float* middle = weights + (3 * tapStride);
        float* last = middle + (3 * tapStride);
        Simd.Prefetch(weights + PrefetchDistance);
        Simd.Prefetch(middle + PrefetchDistance);
        Simd.Prefetch(last + PrefetchDistance);
        WeightLine(T.Load(weights), T.Load(middle), T.Load(last), out u0, out u1, out u2, out u3, out u4, out u5);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WeightRow(T g0, T g1, T g2, float* target, nint stride)
    {
        WeightLine(g0, g1, g2, out T u0, out T u1, out T u2, out T u3, out T u4, out T u5);
        u0.Store(target);
        u1.Store(target + stride);
        u2.Store(target + (2 * stride));
        u3.Store(target + (3 * stride));
        u4.Store(target + (4 * stride));
        u5.Store(target + (5 * stride));
    }

    // G: the filter's value at each point, over the product of the point's distances to the others.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WeightLine(T g0, T g1, T g2, out T u0, out T u1, out T u2, out T u3, out T u4, out T u5)
    {
        const double ScaleA = 1 / (2.0 * A2 * (A2 - B2)), ScaleB = 1 / (2.0 * B2 * (B2 - A2));
        u0 = g0 * T.Create((float)(1 / ((double)A2 * B2)));
        T even = T.MultiplyAdd(g2, T.Create((float)(ScaleA * A2)), g0 * T.Create((float)ScaleA));
        u1 = Plus(even, g1, (float)(ScaleA * A));
        u2 = Plus(even, g1, (float)(-ScaleA * A));
        even = T.MultiplyAdd(g2, T.Create((float)(ScaleB * B2)), g0 * T.Create((float)ScaleB));
        u3 = Plus(even, g1, (float)(ScaleB * B));
        u4 = Plus(even, g1, (float)(-ScaleB * B));
        u5 = g2;
    }

    // A^T: row i sums the products times the i-th power of their points.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void OutputLine(T m0, T m1, T m2, T m3, T m4, T m5, float* target, nint stride)
    {
        T evenA = m1 + m2, oddA = m1 - m2, evenB = m3 + m4, oddB = m3 - m4;
        (m0 + evenA + evenB).Store(target);
        T.MultiplyAdd(oddA, T.Create(A), oddB * T.Create(B)).Store(target + stride);
        T.MultiplyAdd(evenA, T.Create(A2), evenB * T.Create(B2)).Store(target + (2 * stride));
        T.MultiplyAdd(oddA, T.Create(A2 * A), T.MultiplyAdd(oddB, T.Create(B2 * B), m5)).Store(target + (3 * stride));
    }
}
