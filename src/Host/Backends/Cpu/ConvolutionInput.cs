using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>The one or two tensors that a direct convolution reads, and where in them each tap of an output pixel looks.</summary>
internal sealed unsafe class ConvolutionInput
{
    private readonly ConvolutionGeometry _geometry;
    private readonly WorkerScratch _scratch;
    private readonly float* _x1;
    private readonly float* _x2;

    /// <param name="geometry">Which pixels meet which taps.</param>
    /// <param name="x1">First input.</param>
    /// <param name="c1">Its channels.</param>
    /// <param name="x2">Second input, or null.</param>
    /// <param name="c2">Its channels, or 0.</param>
    /// <param name="scratch">Holds the zeros that taps outside the input see.</param>
    public ConvolutionInput(ConvolutionGeometry geometry, float* x1, int c1, float* x2, int c2, WorkerScratch scratch)
    {
        _geometry = geometry;
        _scratch = scratch;
        _x1 = x1;
        _x2 = x2;
        C1 = c1;
        C2 = c2;
        scratch.ReserveZeros(Math.Max(c1, c2));
    }

    /// <summary>Channels of the first input.</summary>
    public int C1 { get; }

    /// <summary>Channels of the second input, or 0.</summary>
    public int C2 { get; }

    /// <summary>Pointers per pixel: one for every tap and input.</summary>
    public int PointersOf(ConvolutionGeometry.Phase phase) => phase.Taps.Length * (C2 > 0 ? 2 : 1);

    /// <summary>Writes the pointers of some neighbouring output pixels of one row, all taps of the first input before those of the second.</summary>
    /// <param name="phase">The phase.</param>
    /// <param name="at">The first pixel.</param>
    /// <param name="count">Number of pixels, no more than are left in the row.</param>
    /// <param name="slot">The first pointer; the pixels' pointers of a tap lie side by side.</param>
    /// <param name="slots">Pointers from one tap to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Locate(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, int count, float** slot, int slots)
    {
        Locate(phase, at, count, _x1, C1, slot, slots);
        if (C2 > 0)
        {
            Locate(phase, at, count, _x2, C2, slot + ((nint)phase.Taps.Length * slots), slots);
        }
    }

    /// <summary>
    /// Writes the pointers of some neighbouring output pixels of one row, one per row of the filter, to what the taps of that row see side by side: in the
    /// input itself where it lies there like that, else in a copy.
    /// </summary>
    /// <param name="phase">The phase.</param>
    /// <param name="at">The first pixel.</param>
    /// <param name="count">Number of pixels, no more than are left in the row.</param>
    /// <param name="slot">The first pointer; the pixels' pointers of a row of the filter lie side by side.</param>
    /// <param name="slots">Pointers from one row of the filter to the next.</param>
    /// <param name="copies">Room for taps times channels, for each pixel.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void LocateRows(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, int count, float** slot, int slots, float* copies)
    {
        ConvolutionGeometry g = _geometry;
        int rows = phase.Taps.Length / phase.RowTaps, rowFloats = phase.RowTaps * (C1 + C2);
        (int reachTop, int reachBottom, int reachLeft, int reachRight) = phase.Reach;
        int top = (at.Row * phase.InStep) + reachTop;
        bool rowsInside = C2 == 0 && phase.RowsAscend && !g.Upsample && top >= 0 && top - reachTop + reachBottom < g.InH;
        nint stride = (nint)g.InW * C1;
        float* start = _x1 + ((((nint)at.Image * g.InH) + top) * stride);
        for (int pixel = 0; pixel < count; pixel++, copies += rows * rowFloats)
        {
            int left = ((at.Column + pixel) * phase.InStep) + reachLeft;
            bool inside = rowsInside && left >= 0 && left - reachLeft + reachRight < g.InW;
            if (!inside)
            {
                Gather(phase, at with { Column = at.Column + pixel }, copies);
            }

            float* from = inside ? start + ((nint)left * C1) : copies;
            nint step = inside ? stride : rowFloats;
            for (int row = 0; row < rows; row++, from += step)
            {
                slot[(row * slots) + pixel] = from;
            }
        }
    }

    // Copies what the taps see, both inputs of a tap before the next tap.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Gather(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, float* target)
    {
        ConvolutionGeometry g = _geometry;
        int shift = g.Upsample ? 1 : 0, seenH = g.InH << shift, seenW = g.InW << shift;
        int top = at.Row * phase.InStep, left = at.Column * phase.InStep;
        foreach (ConvolutionGeometry.Tap tap in phase.Taps)
        {
            int row = top + tap.Y, column = left + tap.X;
            bool inside = (uint)row < (uint)seenH && (uint)column < (uint)seenW;
            nint pixel = ((((nint)at.Image * g.InH) + (row >> shift)) * g.InW) + (column >> shift);
            target = Copy(target, inside ? _x1 + (pixel * C1) : _scratch.Zeros, C1);
            target = Copy(target, inside ? _x2 + (pixel * C2) : _scratch.Zeros, C2);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Locate(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, int count, float* x, int channels, float** slot, int slots)
    {
        ConvolutionGeometry g = _geometry;
        float* zeros = _scratch.Zeros;
        int shift = g.Upsample ? 1 : 0, seenH = g.InH << shift, seenW = g.InW << shift, step = phase.InStep;
        x += (nint)at.Image * g.InH * g.InW * channels;
        foreach (ConvolutionGeometry.Tap tap in phase.Taps)
        {
            int row = (at.Row * step) + tap.Y, column = (at.Column * step) + tap.X;
            float* start = x + ((nint)(row >> shift) * g.InW * channels);
            int width = (uint)row < (uint)seenH ? seenW : 0;
            for (int pixel = 0; pixel < count; pixel++, column += step)
            {
                slot[pixel] = (uint)column < (uint)width ? start + ((nint)(column >> shift) * channels) : zeros;
            }

            slot += slots;
        }

        if (phase.Taps.Length == 1)
        {
            // A wider filter has met most of its pixels before; here each is new.
            for (int pixel = 0; pixel < count; pixel++)
            {
                Simd.PrefetchStretch(slot[pixel - slots], channels);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float* Copy(float* target, float* source, int count)
    {
        for (int i = 0; i < count; i++)
        {
            target[i] = source[i];
        }

        return target + count;
    }
}
