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

    // With fewer channels than this the taps of a pixel are copied side by side: loops of three terms would be all overhead.
    private const int GatherBelow = 9;

    private readonly ConvolutionGeometry _geometry;
    private readonly PackedWeights _weights;
    private readonly WorkerScratch _scratch;
    private readonly Epilogue _epilogue;
    private readonly float* _x1;
    private readonly float* _x2;
    private readonly int _c1;
    private readonly int _c2;
    private readonly bool _gather;
    private readonly int _tableTaps;
    private readonly Part[] _parts;

    public DirectConvolution(
        ConvolutionGeometry geometry, PackedWeights weights, float* x1, int c1, float* x2, int c2, in Epilogue epilogue, WorkerScratch scratch)
    {
        _geometry = geometry;
        _weights = weights;
        _scratch = scratch;
        _epilogue = epilogue;
        _x1 = x1;
        _x2 = x2;
        _c1 = c1;
        _c2 = c2;
        _gather = c1 + c2 < GatherBelow && weights.Taps > 1 && geometry.Phases is [{ Runs: [{ First: 0, WeightStep: 1 }] }];
        _tableTaps = _gather ? 1 : weights.Taps * (c2 > 0 ? 2 : 1);
        _parts = Split(geometry, weights);
        scratch.ReserveZeros(Math.Max(c1, c2));
        scratch.Reserve(TableFloats + GatherFloats);
    }

    public override int Parts => _parts.Length;

    private nint TableFloats => WorkerScratch.Align((nint)BlockPixels * _tableTaps * (sizeof(float*) / sizeof(float)));

    private nint GatherFloats => _gather ? (nint)BlockPixels * _weights.Taps * (_c1 + _c2) : 0;

    public override void Run(int part, int worker)
    {
        ref Part p = ref _parts[part];
        float** table = (float**)_scratch.Of(worker);
        float* gathered = (float*)table + TableFloats;
        int* outputRows = stackalloc int[BlockPixels];
        for (int first = p.FirstPixel; first < p.EndPixel; first += BlockPixels)
        {
            int pixels = Math.Min(BlockPixels, p.EndPixel - first);
            Locate(_geometry.Phases[p.Phase], first, pixels, table, gathered, outputRows);
            Multiply(_geometry.Phases[p.Phase], pixels, table, outputRows, p.FirstPanel, p.EndPanel);
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

    // Fills the table of row pointers, [tile][input][tap][row of the tile], and where each pixel's result goes.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Locate(ConvolutionGeometry.Phase phase, int first, int pixels, float** table, float* gathered, int* outputRows)
    {
        ConvolutionGeometry g = _geometry;
        int seenH = g.Upsample ? 2 * g.InH : g.InH, seenW = g.Upsample ? 2 * g.InW : g.InW, shift = g.Upsample ? 1 : 0;
        int image = first / (phase.Rows * phase.Columns), rest = first % (phase.Rows * phase.Columns);
        int i = rest / phase.Columns, j = rest % phase.Columns;
        float* zeros = _scratch.Zeros;
        for (int done = 0, rows; done < pixels; done += rows, table += _tableTaps * rows)
        {
            rows = MicroKernel<T>.NextRows(pixels - done);
            for (int row = 0; row < rows; row++)
            {
                outputRows[done + row] = (((image * g.OutH) + phase.Top + (i * phase.OutStep)) * g.OutW) + phase.Left + (j * phase.OutStep);
                float** slot = table + row;
                float* copy = gathered + ((nint)(done + row) * _weights.Taps * (_c1 + _c2));
                if (_gather)
                {
                    *slot = copy;
                }

                foreach (ConvolutionGeometry.Tap tap in phase.Taps)
                {
                    int y = (i * phase.InStep) + tap.Y, x = (j * phase.InStep) + tap.X;
                    bool inside = (uint)y < (uint)seenH && (uint)x < (uint)seenW;
                    nint pixel = inside ? ((((nint)image * g.InH) + (y >> shift)) * g.InW) + (x >> shift) : 0;
                    float* from1 = inside ? _x1 + (pixel * _c1) : zeros;
                    float* from2 = inside && _c2 > 0 ? _x2 + (pixel * _c2) : zeros;
                    if (_gather)
                    {
                        copy = Copy(Copy(copy, from1, _c1), from2, _c2);
                        continue;
                    }

                    *slot = from1;
                    if (_c2 > 0)
                    {
                        slot[(nint)phase.Taps.Length * rows] = from2;
                    }

                    slot += rows;
                }

                if (++j == phase.Columns)
                {
                    j = 0;
                    if (++i == phase.Rows)
                    {
                        i = 0;
                        image++;
                    }
                }
            }
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

    private void Multiply(ConvolutionGeometry.Phase phase, int pixels, float** table, int* outputRows, int firstPanel, int endPanel)
    {
        int columns = MicroKernel<T>.Columns;
        float* tile = stackalloc float[MicroKernel<T>.MaxRows * columns];
        for (int panel = firstPanel; panel < endPanel; panel++)
        {
            float* weights = _weights.Pointer + (panel * _weights.PanelFloats);
            int channel = panel * columns, width = Math.Min(columns, _weights.Outputs - channel);
            float** tilePointers = table;
            for (int done = 0, rows; done < pixels; done += rows, tilePointers += _tableTaps * rows)
            {
                rows = MicroKernel<T>.NextRows(pixels - done);
                if (_gather)
                {
                    MicroKernel<T>.Multiply(rows, tilePointers, 1, _weights.Taps * (_c1 + _c2), weights, 0, tile, columns, accumulate: false);
                }
                else
                {
                    Sum(phase, rows, tilePointers, weights, tile);
                }

                _epilogue.Write<T>(tile, columns, rows, outputRows + done, channel, width);
            }
        }
    }

    private void Sum(ConvolutionGeometry.Phase phase, int rows, float** pointers, float* weights, float* tile)
    {
        int columns = MicroKernel<T>.Columns;
        nint tapFloats = _weights.TapFloats;
        bool accumulate = false;
        foreach ((int first, int count, int step) in phase.Runs)
        {
            float* run = weights + (phase.Taps[first].Weight * tapFloats);
            float** rowsOfRun = pointers + (first * rows);
            MicroKernel<T>.Multiply(rows, rowsOfRun, count, _c1, run, step * tapFloats, tile, columns, accumulate);
            accumulate = true;
            if (_c2 > 0)
            {
                float** second = rowsOfRun + (phase.Taps.Length * rows);
                MicroKernel<T>.Multiply(rows, second, count, _c2, run + ((nint)_c1 * columns), step * tapFloats, tile, columns, accumulate);
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
