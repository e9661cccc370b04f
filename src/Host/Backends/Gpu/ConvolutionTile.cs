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
    /// <summary>Threads of a block.</summary>
    public int Threads => WarpsM * WarpsN * 32;

    /// <summary>Shared memory of a block: the stages, in whose place the sums are staged afterwards.</summary>
    public int SharedBytes => Math.Max(Stages * (Pixels + Channels) * RowBytes, Pixels * (Channels % 16 == 8 ? Channels : Channels + 8) * sizeof(float));

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
    /// Chooses by one image's output, never by the batch: of the tiles that waste least, the largest of which one image still makes <paramref name="blocksWanted"/> blocks.
    /// </summary>
    /// <param name="tiles">The tiles there are, largest first.</param>
    /// <param name="pixels">Output pixels of one image.</param>
    /// <param name="channels">Output channels.</param>
    /// <param name="blocksWanted">Blocks that keep a device busy.</param>
    public static ConvolutionTile Choose(IReadOnlyList<ConvolutionTile> tiles, int pixels, int channels, int blocksWanted = 64)
    {
        return tiles.MinBy(Price);

        // Time in units of a multiply-add: what is computed, waste included, at the pace of blocks that are too few; a small tile moves more bytes for its products.
        double Price(ConvolutionTile t)
        {
            double across = Math.Ceiling((double)pixels / t.Pixels), along = Math.Ceiling((double)channels / t.Channels);
            double computed = across * t.Pixels * along * t.Channels;
            double traffic = 1 + (24.0 / t.Pixels) + (24.0 / t.Channels);
            return computed * traffic * Math.Max(1, blocksWanted / (across * along));
        }
    }
}
