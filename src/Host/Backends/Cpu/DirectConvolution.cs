using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// Convolution as an implicit matrix product: output pixels are the rows, output channels the columns, and the sum over taps and input channels reads the
/// input through pointers, so that no patch matrix is ever written. Any filter, stride, padding, and the data gradient of all of these.
/// </summary>
internal sealed unsafe class DirectConvolution<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    // Pixels whose row pointers are computed once and used for every panel of weights; a panel then comes from the second-level cache for all but
    // the first tile.
    private const int BlockPixels = 8 * MicroKernel<T>.MaxRows;

    // With fewer channels than this a row of the filter is one stretch of terms: loops of three would be all overhead.
    private const int RowsBelow = 9;

    // Terms after which a sum starts anew and is added to what came before: rounding grows with the length of a sum.
    private const int LongestSum = 1024;

    private readonly ConvolutionGeometry _geometry;
    private readonly ConvolutionInput _input;
    private readonly PackedWeights _weights;
    private readonly WorkerScratch _scratch;
    private readonly Epilogue _epilogue;
    private readonly bool _byRows;
    private readonly nint _tableFloats;
    private readonly Part[] _parts;

    public DirectConvolution(
        ConvolutionGeometry geometry, PackedWeights weights, float* x1, int c1, float* x2, int c2, in Epilogue epilogue, WorkerScratch scratch)
    {
        _geometry = geometry;
        _input = new ConvolutionInput(geometry, x1, c1, x2, c2, scratch);
        _weights = weights;
        _scratch = scratch;
        _epilogue = epilogue;
        _byRows = c1 + c2 < RowsBelow && weights.Taps > 1 && geometry.Phases is [{ Runs: [{ First: 0, WeightStep: 1 }] }];
        _parts = Split(geometry, weights);
        _tableFloats = WorkerScratch.Align((nint)BlockPixels * geometry.Phases.Max(PointersOf) * (sizeof(float*) / sizeof(float)));
        scratch.Reserve(_tableFloats + (_byRows ? BlockPixels * CopyFloats : 0));
    }

    public override int Parts => _parts.Length;

    private nint CopyFloats => (nint)_weights.Taps * _weights.Inputs;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        ref Part p = ref _parts[part];
        ConvolutionGeometry.Phase phase = _geometry.Phases[p.Phase];
        float** table = (float**)_scratch.Of(worker);
        float* copies = (float*)table + _tableFloats;
        int* outputRows = stackalloc int[BlockPixels];
        for (int first = p.FirstPixel; first < p.EndPixel; first += BlockPixels)
        {
            int pixels = Math.Min(BlockPixels, p.EndPixel - first);
            Locate(phase, first, pixels, table, copies, outputRows);
            Multiply(phase, pixels, table, outputRows, p.FirstPanel, p.EndPanel);
        }
    }

    // Enough parts for many workers to share evenly, none so small that claiming it shows. A function of the whole problem, yet harmless to
    // reproducibility: every output element is summed by one part in one order.
    private static Part[] Split(ConvolutionGeometry geometry, PackedWeights weights)
    {
        const double OperationsPerPart = 4e6;
        const int MostParts = 128;
        var parts = new List<Part>();
        for (int i = 0; i < geometry.Phases.Length; i++)
        {
            ConvolutionGeometry.Phase phase = geometry.Phases[i];
            int pixels = geometry.Images * phase.Rows * phase.Columns;
            double operations = 2.0 * pixels * Math.Max(1, phase.Taps.Length) * weights.Inputs * weights.Panels * weights.PanelColumns;
            int wanted = (int)Math.Clamp(operations / OperationsPerPart, 1, MostParts);
            int blocks = (pixels + BlockPixels - 1) / BlockPixels;
            int pixelParts = Math.Min(blocks, wanted);
            int panelParts = Math.Min(weights.Panels, (wanted + pixelParts - 1) / pixelParts);
            for (int b = 0; b < pixelParts; b++)
            {
                int from = (int)((long)blocks * b / pixelParts) * BlockPixels;
                int to = Math.Min(pixels, (int)((long)blocks * (b + 1) / pixelParts) * BlockPixels);
                for (int c = 0; c < panelParts; c++)
                {
                    parts.Add(new Part(i, from, to, weights.Panels * c / panelParts, weights.Panels * (c + 1) / panelParts));
                }
            }
        }

        return [.. parts];
    }

    private int PointersOf(ConvolutionGeometry.Phase phase) => _byRows ? phase.Taps.Length / phase.RowTaps : _input.PointersOf(phase);

    // Fills the table of row pointers, [tile][input][tap][row of the tile], and where each pixel's result goes.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Locate(ConvolutionGeometry.Phase phase, int first, int pixels, float** table, float* copies, int* outputRows)
    {
        int pointers = PointersOf(phase);
        ConvolutionGeometry.Cursor at = ConvolutionGeometry.At(phase, first);
        for (int done = 0, rows; done < pixels; done += rows, table += pointers * rows)
        {
            rows = MicroKernel<T>.NextRows(pixels - done);
            for (int row = 0, count; row < rows; row += count, copies += count * CopyFloats)
            {
                count = Math.Min(rows - row, at.LeftInRow(phase));
                if (_byRows)
                {
                    _input.LocateRows(phase, at, count, table + row, rows, copies);
                }
                else
                {
                    _input.Locate(phase, at, count, table + row, rows);
                }

                int output = _geometry.OutputIndex(phase, at);
                for (int pixel = 0; pixel < count; pixel++)
                {
                    outputRows[done + row + pixel] = output + (pixel * phase.OutStep);
                }

                at.Advance(phase, count);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply(ConvolutionGeometry.Phase phase, int pixels, float** table, int* outputRows, int firstPanel, int endPanel)
    {
        int columns = MicroKernel<T>.Columns, pointers = PointersOf(phase), rowTerms = phase.RowTaps * _weights.Inputs;
        float* tile = stackalloc float[MicroKernel<T>.MaxRows * columns];
        for (int panel = firstPanel; panel < endPanel; panel++)
        {
            float* weights = _weights.Pointer + (panel * _weights.PanelFloats);
            int channel = panel * columns, width = Math.Min(columns, _weights.Outputs - channel);
            float** tilePointers = table;
            for (int done = 0, rows; done < pixels; done += rows, tilePointers += pointers * rows)
            {
                rows = MicroKernel<T>.NextRows(pixels - done);
                if (_byRows)
                {
                    MicroKernel<T>.Multiply(rows, tilePointers, 1, pointers, rowTerms, weights, (nint)rowTerms * columns, tile, columns, accumulate: false);
                }
                else
                {
                    Sum(phase, rows, tilePointers, weights, tile);
                }

                _epilogue.Write<T>(tile, columns, rows, outputRows + done, channel, width);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Sum(ConvolutionGeometry.Phase phase, int rows, float** pointers, float* weights, float* tile)
    {
        int columns = MicroKernel<T>.Columns;
        nint tapFloats = _weights.TapFloats;
        bool accumulate = false;
        int piece = Math.Max(1, LongestSum / _weights.Inputs);
        foreach ((int runFirst, int runCount, int step) in phase.Runs)
        {
            for (int first = runFirst, left = runCount, count; left > 0; first += count, left -= count)
            {
                count = Math.Min(piece, left);
                float* run = weights + (phase.Taps[first].Weight * tapFloats);
                float** rowsOfRun = pointers + (first * rows);
                MicroKernel<T>.Multiply(rows, rowsOfRun, 1, count, _input.C1, run, step * tapFloats, tile, columns, accumulate);
                accumulate = true;
                if (_input.C2 > 0)
                {
                    float** second = rowsOfRun + (phase.Taps.Length * rows);
                    MicroKernel<T>.Multiply(rows, second, 1, count, _input.C2, run + ((nint)_input.C1 * columns), step * tapFloats, tile, columns, accumulate);
                }
            }
        }

        if (!accumulate)
        {
            // A filter smaller than its stride leaves pixels that no output depends on.
            NativeMemory.Clear(tile, (nuint)(rows * columns * sizeof(float)));
        }
    }

    private readonly record struct Part(int Phase, int FirstPixel, int EndPixel, int FirstPanel, int EndPanel);
}
