namespace Kernels.Backends.Gpu;

/// <summary>The tile that one block of <c>convolution.cu</c> makes, and how it goes about it.</summary>
/// <param name="Pixels">Rows BM: output pixels.</param>
/// <param name="Channels">Columns BN: output channels.</param>
/// <param name="RowBytes">Bytes of the summed index in one step.</param>
/// <param name="Stages">Steps in shared memory at a time.</param>
/// <param name="WarpsM">Parts along the pixels.</param>
/// <param name="WarpsN">Parts along the channels.</param>
internal readonly record struct ConvolutionTile(int Pixels, int Channels, int RowBytes, int Stages, int WarpsM, int WarpsN)
{
    /// <summary>Width of the rectangle of pixels, whose input is kept for all taps; 0 where the pixels are a run and every tap reads its own.</summary>
    public int Width { get; init; }

    /// <summary>Pixels of the input that the taps of a rectangle read.</summary>
    public int PatchPixels { get; init; }

    /// <summary>Whether a skip connection follows the taps, whose pixels are read without a patch.</summary>
    public bool Skips { get; init; }

    /// <summary>Bytes behind the patches that say what a norm does to every channel.</summary>
    public int TableBytes { get; init; }

    /// <summary>Threads of a block.</summary>
    public int Threads => WarpsM * WarpsN * 32;

    /// <summary>Shared memory of a block: the stages, or those of weights and two patches, in whose place the sums are staged afterwards.</summary>
    public int SharedBytes => Math.Max(
        Math.Max(Width == 0 || Skips ? Stages * (Pixels + Channels) * RowBytes : 0, (((Stages * Channels) + (2 * PatchPixels)) * RowBytes) + TableBytes),
        Pixels * (Channels % 16 == 8 ? Channels : Channels + 8) * sizeof(float));

    /// <summary>This tile as a rectangle of pixels with the least input that its taps read together.</summary>
    /// <param name="size">Height and width of the output.</param>
    /// <param name="window">Height and width of the window, whose neighbours are a step of one pixel apart.</param>
    /// <returns>The rectangle; null if none divides the output, or its input would arrive later than it is needed.</returns>
    public ConvolutionTile? AsRectangle((int Height, int Width) size, (int Height, int Width) window)
    {
        ConvolutionTile? best = null;

        // Eight neighbours are the rows of a fragment. Of two with equal inputs the wider one reads longer runs of memory.
        for (int width = 8; width <= Pixels; width *= 2)
        {
            int height = Pixels / width, patch = (height + window.Height - 1) * (width + window.Width - 1);
            int rounds = ((patch * RowBytes / 16) + Threads - 1) / Threads;
            bool fits = Pixels % width == 0 && size.Width % width == 0 && size.Height % height == 0 && (width + window.Width - 1) % 2 == 0
                && rounds + Stages - 1 <= window.Height * window.Width;
            if (fits && !(best?.PatchPixels < patch))
            {
                best = this with { Width = width, PatchPixels = patch };
            }
        }

        return best;
    }

    /// <summary>Tiles for tensor cores.</summary>
    public static IReadOnlyList<ConvolutionTile> TensorCores { get; } =
    [
        new(128, 128, 64, 4, 2, 4),
        new(128, 96, 64, 4, 4, 2),
        new(128, 64, 64, 4, 4, 2),
        new(64, 96, 64, 4, 2, 2),
        new(64, 64, 64, 4, 2, 2),
        new(64, 32, 64, 4, 2, 2),
        new(32, 32, 64, 4, 2, 2),
        new(128, 8, 64, 4, 8, 1),
        new(64, 8, 64, 4, 4, 1),
    ];

    /// <summary>Tiles for ordinary cores.</summary>
    public static IReadOnlyList<ConvolutionTile> OrdinaryCores { get; } =
    [
        new(128, 128, 64, 3, 4, 2),
        new(128, 64, 64, 3, 4, 1),
        new(64, 96, 64, 3, 2, 2),
        new(64, 64, 64, 3, 2, 2),
        new(64, 32, 64, 3, 2, 1),
        new(32, 32, 64, 3, 2, 2),
        new(128, 8, 64, 3, 8, 1),
        new(64, 8, 64, 3, 4, 1),
    ];

    /// <summary>
    /// Chooses by one image's output, never by the batch: the tile that computes least beyond the output, moves least for what it computes, and of which one image makes enough blocks.
    /// </summary>
    /// <param name="tiles">The tiles there are.</param>
    /// <param name="pixels">Output pixels of one image.</param>
    /// <param name="channels">Output channels.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    public static ConvolutionTile Choose(IReadOnlyList<ConvolutionTile> tiles, int pixels, int channels, int sharedBytes)
    {
        // Half of the multiprocessors of a large device: one image should not starve it, and several should not pay for small tiles.
        const double BlocksWanted = 64;

        // A product of BM by BN reads BM + BN operands per step for BM·BN multiply-adds: this many multiply-adds cost as much as an operand's way through shared memory.
        const double OperandCost = 24;
        return tiles.Where(t => t.SharedBytes <= sharedBytes).MinBy(Price);

        double Price(ConvolutionTile t)
        {
            double across = Math.Ceiling((double)pixels / t.Pixels), along = Math.Ceiling((double)channels / t.Channels);
            double computed = across * t.Pixels * along * t.Channels;
            double traffic = 1 + (OperandCost / t.Pixels) + (OperandCost / t.Channels);
            return computed * traffic * Math.Max(1, BlocksWanted / (across * along));
        }
    }
}
