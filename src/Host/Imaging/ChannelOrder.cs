namespace Kernels.Imaging;

/// <summary>Conversion between PyTorch's channels-first images and the engine's channels-last ones.</summary>
public static class ChannelOrder
{
    /// <summary><c>[N, C, H, W]</c> to <c>[N, H, W, C]</c>.</summary>
    /// <param name="source">Channels first.</param>
    /// <param name="channels">C.</param>
    /// <param name="pixels">H · W.</param>
    /// <param name="destination">Channels last; not the source.</param>
    public static void ToChannelsLast(ReadOnlySpan<float> source, int channels, int pixels, Span<float> destination) =>
        Transpose(source, channels, pixels, destination);

    /// <summary><c>[N, H, W, C]</c> to <c>[N, C, H, W]</c>.</summary>
    /// <param name="source">Channels last.</param>
    /// <param name="channels">C.</param>
    /// <param name="pixels">H · W.</param>
    /// <param name="destination">Channels first; not the source.</param>
    public static void ToChannelsFirst(ReadOnlySpan<float> source, int channels, int pixels, Span<float> destination) =>
        Transpose(source, pixels, channels, destination);

    private static void Transpose(ReadOnlySpan<float> source, int rows, int columns, Span<float> destination)
    {
        int size = rows * columns;
        for (int image = 0; image < source.Length; image += size)
        {
            for (int i = 0; i < rows; i++)
            {
                for (int j = 0; j < columns; j++)
                {
                    destination[image + (j * rows) + i] = source[image + (i * columns) + j];
                }
            }
        }
    }
}
