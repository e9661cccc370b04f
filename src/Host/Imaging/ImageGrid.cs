namespace Kernels.Imaging;

/// <summary>Many images in one picture.</summary>
public static class ImageGrid
{
    /// <summary>Lays images out in rows, from the left and from the top, with a border around each. A single image is left as it is.</summary>
    /// <param name="images">The samples of all images, <c>[N, H, W, C]</c>.</param>
    /// <param name="count">Number of images N.</param>
    /// <param name="height">Rows H of one image.</param>
    /// <param name="width">Pixels W in a row of one image.</param>
    /// <param name="channels">Channels C: 1, 3 or 4.</param>
    /// <param name="columns">Images in a row; 0 makes the grid as square as it gets, wider rather than higher.</param>
    /// <param name="padding">Pixels between images, and around them.</param>
    /// <param name="background">The value of the border and of cells that stay empty.</param>
    /// <exception cref="ArgumentException">The samples are not those of the images described, or the picture would be too large for one array.</exception>
    public static Image Compose(
        ReadOnlySpan<byte> images, int count, int height, int width, int channels, int columns = 0, int padding = 2, byte background = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        ArgumentOutOfRangeException.ThrowIfNegative(columns);
        ArgumentOutOfRangeException.ThrowIfNegative(padding);
        if ((Int128)count * height * width * channels != images.Length)
        {
            throw new ArgumentException($"{images.Length} samples are not those of {count} images [{height}, {width}, {channels}]", nameof(images));
        }

        padding = count == 1 ? 0 : padding;
        int across = Math.Min(count, columns > 0 ? columns : (int)Math.Ceiling(Math.Sqrt(count)));
        int down = (count + across - 1) / across;
        Int128 gridWidth = (((Int128)width + padding) * across) + padding;
        Int128 gridHeight = (((Int128)height + padding) * down) + padding;
        if (gridWidth * gridHeight * channels > Array.MaxLength)
        {
            throw new ArgumentException($"a grid of {gridWidth} x {gridHeight} pixels is too large for one picture", nameof(count));
        }

        byte[] pixels = new byte[(int)(gridWidth * gridHeight * channels)];
        pixels.AsSpan().Fill(background);
        int rowBytes = width * channels;
        for (int i = 0; i < count; i++)
        {
            int left = padding + (i % across * (width + padding));
            int top = padding + (i / across * (height + padding));
            for (int y = 0; y < height; y++)
            {
                images.Slice(((i * height) + y) * rowBytes, rowBytes).CopyTo(pixels.AsSpan((((top + y) * (int)gridWidth) + left) * channels));
            }
        }

        return new Image((int)gridWidth, (int)gridHeight, channels, pixels);
    }
}
