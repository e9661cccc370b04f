using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.Imaging;

public sealed class ImageGridTests
{
    [Theory]
    [InlineData(1, 0, 0, 1, 1)]
    [InlineData(2, 0, 2, 2, 1)]
    [InlineData(3, 0, 0, 2, 2)]
    [InlineData(5, 0, 1, 3, 2)]
    [InlineData(7, 0, 2, 3, 3)]
    [InlineData(16, 0, 2, 4, 4)]
    [InlineData(5, 2, 3, 2, 3)]
    [InlineData(5, 8, 1, 5, 1)]
    [InlineData(20, 10, 0, 10, 2)]
    public void EveryPixelIsWhereItBelongs(int count, int columns, int padding, int across, int down)
    {
        const int Height = 3;
        const int Width = 5;
        const int Channels = 3;
        byte[] images = new byte[count * Height * Width * Channels];
        new Random(count).NextBytes(images);
        Image grid = ImageGrid.Compose(images, count, Height, Width, Channels, columns, padding, background: 77);

        Assert.Equal((across * (Width + padding)) + padding, grid.Width);
        Assert.Equal((down * (Height + padding)) + padding, grid.Height);
        for (int y = 0; y < grid.Height; y++)
        {
            for (int x = 0; x < grid.Width; x++)
            {
                // The definition, from the picture's side: which cell, and where in it.
                int row = Math.DivRem(y - padding, Height + padding, out int inY);
                int column = Math.DivRem(x - padding, Width + padding, out int inX);
                int image = (row * across) + column;
                bool inside = y >= padding && x >= padding && inY < Height && inX < Width && image < count;
                for (int c = 0; c < Channels; c++)
                {
                    byte expected = inside ? images[(((((image * Height) + inY) * Width) + inX) * Channels) + c] : (byte)77;
                    Assert.Equal(expected, grid.Pixels[(((y * grid.Width) + x) * Channels) + c]);
                }
            }
        }
    }

    [Fact]
    public void OneImageHasNoBorder() => Assert.Equal((5, 3), (ImageGrid.Compose(new byte[45], 1, 3, 5, 3).Width, ImageGrid.Compose(new byte[45], 1, 3, 5, 3).Height));

    [Fact]
    public void GridsThatCannotBeAreRefused()
    {
        Assert.Throws<ArgumentException>(() => ImageGrid.Compose(new byte[11], 1, 2, 2, 3));
        Assert.Throws<ArgumentOutOfRangeException>(() => ImageGrid.Compose([], 0, 2, 2, 3));
        Assert.Throws<ArgumentException>(() => ImageGrid.Compose(new byte[24], 2, 2, 2, 3, padding: 1 << 20));
    }
}
