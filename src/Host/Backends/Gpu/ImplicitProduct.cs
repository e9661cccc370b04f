namespace Kernels.Backends.Gpu;

/// <summary>
/// The matrix product that <c>convolution.cu</c> forms: output pixels times channels over window and input channels. A convolution, its data gradient and a linear layer are such.
/// </summary>
internal sealed record ImplicitProduct
{
    /// <summary>Images N.</summary>
    public required int Images { get; init; }

    /// <summary>Extents of x as stored.</summary>
    public required (int Height, int Width, int Channels) Input { get; init; }

    /// <summary>Channels of a second tensor of x's height and width, which follow those of x; 0 if there is none.</summary>
    public int SecondChannels { get; init; }

    /// <summary>Channels of the one or two tensors that a skip connection of one pixel's window adds to the sum; 0 where there is none.</summary>
    public (int First, int Second) Skip { get; init; }

    /// <summary>Extents of y.</summary>
    public required (int Height, int Width, int Channels) Output { get; init; }

    /// <summary>Extents of the window.</summary>
    public (int Height, int Width) Window { get; init; } = (1, 1);

    /// <summary>Step between windows.</summary>
    public int Stride { get; init; } = 1;

    /// <summary>Zeros before the first row and column; negative where rows are skipped.</summary>
    public (int Rows, int Columns) Padding { get; init; }

    /// <summary>Distance at which the pixels of x lie, zeros between: the stride of the convolution whose gradient this is.</summary>
    public int Spread { get; init; } = 1;

    /// <summary>Whether x is doubled by nearest neighbour.</summary>
    public bool Upsample { get; init; }

    /// <summary>Whether the checkpoint holds the weight as [inputs, outputs, …] and it is to be turned by half a circle: a data gradient.</summary>
    public bool Turned { get; init; }

    /// <summary>Channels that a tap of the window sums over.</summary>
    public int AllChannels => Input.Channels + SecondChannels;

    /// <summary>The tile for this product, by one image's extents. Rectangles come first, so that the order in which a sum runs depends on the product and not on the tile.</summary>
    /// <param name="precision">What is multiplied.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    /// <param name="converts">Whether x is stored in another type than the one that is multiplied.</param>
    public ConvolutionTile Tile(Precision precision, int sharedBytes, bool converts = false)
    {
        IReadOnlyList<ConvolutionTile> tiles = precision == Precision.Fp32 ? ConvolutionTile.OrdinaryCores : ConvolutionTile.TensorCores;
        ConvolutionTile[] rectangles = Window != (1, 1) && Stride == 1 && Spread == 1 && !converts
            ?
            [
                .. tiles.Where(t => Input.Channels % Span(t) == 0 && SecondChannels % Span(t) == 0)
                    .Select(t => t.AsRectangle((Output.Height, Output.Width), Window)).OfType<ConvolutionTile>().Select(t => t with { Skips = Skip.First > 0 }),
            ]
            : [];
        return ConvolutionTile.Choose(
            rectangles.Length > 0 ? rectangles : tiles,
            ((Output.Height + Spread - 1) / Spread) * ((Output.Width + Spread - 1) / Spread),
            Output.Channels,
            sharedBytes);

        int Span(ConvolutionTile tile) => tile.RowBytes / precision.Storage().SizeInBytes();
    }

    /// <summary>The constants of the kernel but for the types of its operands and what is added.</summary>
    /// <param name="precision">What is multiplied.</param>
    /// <param name="tile">The tile.</param>
    public IEnumerable<(string Name, object Value)> Constants(Precision precision, ConvolutionTile tile) =>
    [
        ("P", precision.Storage()), ("TENSOR_CORES", precision != Precision.Fp32), ("TF32", precision == Precision.Tf32),
        ("C1", Input.Channels), ("C2", SecondChannels), ("D1", Skip.First), ("D2", Skip.Second), ("H", Input.Height), ("W", Input.Width), ("O", Output.Channels), ("OH", Output.Height), ("OW", Output.Width),
        ("KH", Window.Height), ("KW", Window.Width), ("STRIDE", Stride), ("PADDING_H", Padding.Rows), ("PADDING_W", Padding.Columns),
        ("SPREAD", Spread), ("UPSAMPLE", Upsample),
        ("BM", tile.Pixels), ("BN", tile.Channels), ("ROW_BYTES", tile.RowBytes), ("STAGES", tile.Stages), ("WARPS_M", tile.WarpsM), ("WARPS_N", tile.WarpsN),
        .. tile.Width == 0 ? [] : new (string, object)[] { ("TILE_WIDTH", tile.Width) },
    ];

    /// <summary>Grid, block and shared memory.</summary>
    /// <param name="tile">The tile.</param>
    /// <param name="perImage">Whether tiles keep to one image each.</param>
    public LaunchGeometry Geometry(ConvolutionTile tile, bool perImage)
    {
        int pixels = ((Output.Height + Spread - 1) / Spread) * ((Output.Width + Spread - 1) / Spread);
        int across = perImage || tile.Width > 0 ? Images * Blocks(pixels, tile.Pixels) : Blocks(checked(Images * pixels), tile.Pixels);
        return new LaunchGeometry(across, Blocks(Output.Channels, tile.Channels), Spread * Spread, tile.Threads, 1, 1, tile.SharedBytes);
    }

    /// <summary>A name for the layout of the weight.</summary>
    /// <param name="precision">What is multiplied.</param>
    public string LayoutName(Precision precision) => $"[O, KH, KW, C]{(Turned ? " turned" : "")} {precision}";

    /// <summary>
    /// The weights in the type that is multiplied, rows of one output channel: <c>[KH, KW, CP]</c> and behind it the skip connection's <c>[DP]</c>, channels padded with zeros to whole
    /// pieces of 16 bytes; tf32 rounded as the tensor cores want it.
    /// </summary>
    /// <param name="values">The weight as the checkpoint holds it: [O, C, KH, KW], or [C, O, KH, KW] if <see cref="Turned"/>.</param>
    /// <param name="skip">The skip connection's [O, D]; empty if there is none.</param>
    /// <param name="precision">What is multiplied.</param>
    public byte[] Pack(ReadOnlySpan<float> values, ReadOnlySpan<float> skip, Precision precision)
    {
        (int c, int o, int taps, int d) = (AllChannels, Output.Channels, Window.Height * Window.Width, Skip.First + Skip.Second);
        int piece = 16 / precision.Storage().SizeInBytes(), padded = Blocks(c, piece) * piece, length = (taps * padded) + (Blocks(d, piece) * piece);
        float[] packed = new float[o * length];
        for (int row = 0; row < o; row++)
        {
            Span<float> target = packed.AsSpan(row * length, length);
            for (int column = 0; column < c; column++)
            {
                ReadOnlySpan<float> window = values.Slice((Turned ? (column * o) + row : (row * c) + column) * taps, taps);
                for (int tap = 0; tap < taps; tap++)
                {
                    target[(tap * padded) + column] = window[Turned ? taps - 1 - tap : tap];
                }
            }

            skip.Slice(row * d, d).CopyTo(target[(taps * padded)..]);
        }

        if (precision == Precision.Tf32)
        {
            foreach (ref float value in packed.AsSpan())
            {
                value = RoundToTf32(value);
            }
        }

        return DeviceWeights.Convert(packed, precision.Storage());
    }

    // 10 bits of fraction, ties away from zero, as cvt.rna does it; infinities and NaN stay what they are.
    private static float RoundToTf32(float value) =>
        float.IsFinite(value) ? BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(value) + 0x1000) & ~0x1fffu) : value;

    private static int Blocks(int extent, int tile) => (extent + tile - 1) / tile;
}
