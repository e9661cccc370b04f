namespace Kernels.Imaging;

/// <summary>The parts of the PNG specification (W3C) that the encoder and the decoder share.</summary>
internal static class PngFormat
{
    // Filter types, by row.
    public const byte FilterNone = 0;
    public const byte FilterSub = 1;
    public const byte FilterUp = 2;
    public const byte FilterAverage = 3;
    public const byte FilterPaeth = 4;
    public const int Filters = 5;

    /// <summary>Bytes around the content of a chunk: its length, type and CRC.</summary>
    public const int ChunkOverhead = 12;

    /// <summary>The first eight bytes.</summary>
    public static ReadOnlySpan<byte> Signature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];

    /// <summary>The colour type of a number of channels : greyscale, truecolour, truecolour with alpha.</summary>
    public static byte ColourType(int channels) => channels switch { 1 => 0, 3 => 2, _ => 6 };

    /// <summary>The number of channels of a colour type; 0 for those with a palette, or with grey and alpha.</summary>
    public static int Channels(byte colourType) => colourType switch { 0 => 1, 2 => 3, 6 => 4, _ => 0 };

    /// <summary>The predictor of filter 4: of left, above and upper left the one nearest to left + above - upper left.</summary>
    public static byte Paeth(int left, int above, int upperLeft)
    {
        int toLeft = Math.Abs(above - upperLeft);
        int toAbove = Math.Abs(left - upperLeft);
        int toUpperLeft = Math.Abs(left + above - (2 * upperLeft));
        return (byte)(toLeft <= toAbove && toLeft <= toUpperLeft ? left : toAbove <= toUpperLeft ? above : upperLeft);
    }
}
