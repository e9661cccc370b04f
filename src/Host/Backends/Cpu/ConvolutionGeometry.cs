namespace Kernels.Backends.Cpu;

/// <summary>
/// Where each output pixel of a direct convolution finds its inputs. A forward convolution is one phase: the pixel (i, j) of the grid sums over taps the
/// input at (i, j) * InStep + tap. The data gradient of a convolution with stride s has s * s phases, one per residue of the pixel's coordinates, because
/// only the taps of one residue reach such a pixel.
/// </summary>
internal sealed class ConvolutionGeometry
{
    private ConvolutionGeometry(int images, int inH, int inW, bool upsample, int outH, int outW, Phase[] phases)
    {
        Images = images;
        InH = inH;
        InW = inW;
        Upsample = upsample;
        OutH = outH;
        OutW = outW;
        Phases = phases;
    }

    /// <summary>Images in the batch.</summary>
    public int Images { get; }

    /// <summary>Input height in memory.</summary>
    public int InH { get; }

    /// <summary>Input width in memory.</summary>
    public int InW { get; }

    /// <summary>Whether taps address the input doubled in both directions.</summary>
    public bool Upsample { get; }

    /// <summary>Output height.</summary>
    public int OutH { get; }

    /// <summary>Output width.</summary>
    public int OutW { get; }

    /// <summary>The phases; together they cover every output pixel once.</summary>
    public Phase[] Phases { get; }

    /// <summary>The forward convolution.</summary>
    public static ConvolutionGeometry Forward(in ConvolutionShape shape)
    {
        var taps = new List<Tap>(shape.Taps);
        for (int kh = 0; kh < shape.KernelH; kh++)
        {
            for (int kw = 0; kw < shape.KernelW; kw++)
            {
                taps.Add(new Tap(kh - shape.Pad, kw - shape.Pad, taps.Count));
            }
        }

        var phase = new Phase(0, 0, OutStep: 1, InStep: shape.Stride, shape.OutH, shape.OutW, [.. taps]);
        return new ConvolutionGeometry(shape.N, shape.H, shape.W, shape.Upsample, shape.OutH, shape.OutW, [phase]);
    }

    /// <summary>The gradient with respect to the input of the convolution that <paramref name="shape"/> describes: reads dy, writes dx.</summary>
    public static ConvolutionGeometry DataGradient(in ConvolutionShape shape)
    {
        int s = shape.Stride;
        var phases = new List<Phase>();
        for (int top = 0; top < Math.Min(s, shape.H); top++)
        {
            for (int left = 0; left < Math.Min(s, shape.W); left++)
            {
                // dx[h] sums w[kh] dy[(h + pad - kh) / s] over the kh that divide; with h = top + s i that is dy[i + (top + pad - kh) / s].
                var taps = new List<Tap>();
                for (int kh = (top + shape.Pad) % s; kh < shape.KernelH; kh += s)
                {
                    for (int kw = (left + shape.Pad) % s; kw < shape.KernelW; kw += s)
                    {
                        taps.Add(new Tap((top + shape.Pad - kh) / s, (left + shape.Pad - kw) / s, (kh * shape.KernelW) + kw));
                    }
                }

                phases.Add(new Phase(top, left, s, InStep: 1, (shape.H - top + s - 1) / s, (shape.W - left + s - 1) / s, [.. taps]));
            }
        }

        return new ConvolutionGeometry(shape.N, shape.OutH, shape.OutW, upsample: false, shape.H, shape.W, [.. phases]);
    }

    /// <summary>The output pixel at a position of a phase's grid, counted over all images: which image, row and column of the grid.</summary>
    public static Cursor At(Phase phase, int position)
    {
        int pixels = phase.Rows * phase.Columns;
        return new Cursor { Image = position / pixels, Row = position % pixels / phase.Columns, Column = position % phase.Columns };
    }

    /// <summary>Index of the output pixel at a cursor, over all images.</summary>
    public int OutputIndex(Phase phase, in Cursor at) =>
        (((at.Image * OutH) + phase.Top + (at.Row * phase.OutStep)) * OutW) + phase.Left + (at.Column * phase.OutStep);

    /// <summary>A place in a phase's grid.</summary>
    internal struct Cursor
    {
        public int Image, Row, Column;

        /// <summary>Pixels left in the row, this one among them.</summary>
        public readonly int LeftInRow(Phase phase) => phase.Columns - Column;

        /// <summary>Moves on by some pixels, no more than are left in the row.</summary>
        public void Advance(Phase phase, int count)
        {
            Column += count;
            if (Column == phase.Columns)
            {
                Column = 0;
                if (++Row == phase.Rows)
                {
                    Row = 0;
                    Image++;
                }
            }
        }
    }

    /// <summary>One filter position: the offset of the input it reads and which tap of the weight it multiplies.</summary>
    internal readonly record struct Tap(int Y, int X, int Weight);

    /// <summary>A grid of output pixels that share their taps.</summary>
    internal sealed record Phase(int Top, int Left, int OutStep, int InStep, int Rows, int Columns, Tap[] Taps)
    {
        /// <summary>The least and greatest offsets of the taps: where all of them are inside the input, none needs a look of its own.</summary>
        public (int Top, int Bottom, int Left, int Right) Reach { get; } = Taps.Length == 0
            ? default
            : (Taps.Min(t => t.Y), Taps.Max(t => t.Y), Taps.Min(t => t.X), Taps.Max(t => t.X));

        /// <summary>Taps in a row of the filter.</summary>
        public int RowTaps { get; } = Taps.Count(t => t.Y == Taps[0].Y);

        /// <summary>Whether the taps of a row see neighbouring pixels from left to right.</summary>
        public bool RowsAscend { get; } = Taps.Zip(Taps.Skip(1)).All(pair => pair.First.Y != pair.Second.Y || pair.Second.X == pair.First.X + 1);

        /// <summary>Stretches of taps whose weights are evenly spaced: each is one call of the micro-kernel.</summary>
        public (int First, int Count, int WeightStep)[] Runs { get; } = FindRuns(Taps);

        private static (int First, int Count, int WeightStep)[] FindRuns(Tap[] taps)
        {
            var runs = new List<(int, int, int)>();
            for (int first = 0, count; first < taps.Length; first += count)
            {
                int step = first + 1 < taps.Length ? taps[first + 1].Weight - taps[first].Weight : 1;
                for (count = 1; first + count < taps.Length && taps[first + count].Weight - taps[first + count - 1].Weight == step; count++)
                {
                }

                runs.Add((first, count, step));
            }

            return [.. runs];
        }
    }
}
