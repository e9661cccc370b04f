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

    /// <summary>Writes the pointers of one output pixel, all taps of the first input before those of the second.</summary>
    /// <param name="phase">The phase.</param>
    /// <param name="at">The pixel.</param>
    /// <param name="slot">The first pointer.</param>
    /// <param name="slots">Pointers from one tap to the next.</param>
    public void Locate(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, float** slot, int slots)
    {
        Locate(phase, at, _x1, C1, slot, slots);
        if (C2 > 0)
        {
            Locate(phase, at, _x2, C2, slot + ((nint)phase.Taps.Length * slots), slots);
        }
    }

    /// <summary>
    /// Writes the pointers of one output pixel, one per row of the filter, to what the taps of that row see side by side: in the input itself where it lies
    /// there like that, else in a copy.
    /// </summary>
    /// <param name="phase">The phase.</param>
    /// <param name="at">The pixel.</param>
    /// <param name="slot">The first pointer.</param>
    /// <param name="slots">Pointers from one row to the next.</param>
    /// <param name="copy">Room for taps times channels.</param>
    public void LocateRows(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, float** slot, int slots, float* copy)
    {
        ConvolutionGeometry g = _geometry;
        int rows = phase.Taps.Length / phase.RowTaps;
        if (C2 == 0 && phase.RowsAscend && Inside(phase, at))
        {
            nint row0 = ((nint)at.Image * g.InH) + (at.Row * phase.InStep) + phase.Reach.Top;
            float* corner = _x1 + (((row0 * g.InW) + (at.Column * phase.InStep) + phase.Reach.Left) * C1);
            for (int row = 0; row < rows; row++, slot += slots, corner += (nint)g.InW * C1)
            {
                *slot = corner;
            }

            return;
        }

        Gather(phase, at, copy);
        for (int row = 0; row < rows; row++, slot += slots, copy += phase.RowTaps * (C1 + C2))
        {
            *slot = copy;
        }
    }

    // Copies what the taps see, both inputs of a tap before the next tap.
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

    // Whether every tap of a pixel is inside an input that is read as it lies in memory.
    private bool Inside(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at)
    {
        ConvolutionGeometry g = _geometry;
        int row = at.Row * phase.InStep, column = at.Column * phase.InStep;
        (int top, int bottom, int left, int right) = phase.Reach;
        return !g.Upsample && row + top >= 0 && row + bottom < g.InH && column + left >= 0 && column + right < g.InW;
    }

    private void Locate(ConvolutionGeometry.Phase phase, in ConvolutionGeometry.Cursor at, float* x, int channels, float** slot, int slots)
    {
        ConvolutionGeometry g = _geometry;
        int top = at.Row * phase.InStep, left = at.Column * phase.InStep;
        x += (nint)at.Image * g.InH * g.InW * channels;
        if (Inside(phase, at))
        {
            foreach (ConvolutionGeometry.Tap tap in phase.Taps)
            {
                *slot = x + ((nint)(((top + tap.Y) * g.InW) + left + tap.X) * channels);
                slot += slots;
            }

            if (phase.Taps.Length == 1)
            {
                // A wider filter has met most of its pixels before; here each is new.
                Simd.PrefetchStretch(slot[-slots], channels);
            }

            return;
        }

        float* zeros = _scratch.Zeros;
        int shift = g.Upsample ? 1 : 0, seenH = g.InH << shift, seenW = g.InW << shift;
        foreach (ConvolutionGeometry.Tap tap in phase.Taps)
        {
            int row = top + tap.Y, column = left + tap.X;
            bool inside = (uint)row < (uint)seenH && (uint)column < (uint)seenW;
            *slot = inside ? x + ((nint)(((row >> shift) * g.InW) + (column >> shift)) * channels) : zeros;
            slot += slots;
        }
    }

    private static float* Copy(float* target, float* source, int count)
    {
        for (int i = 0; i < count; i++)
        {
            target[i] = source[i];
        }

        return target + count;
    }
}
