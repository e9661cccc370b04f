using System.Collections.ObjectModel;

namespace Kernels.Imaging;

/// <summary>A picture of 8-bit samples: rows from the top, pixels from the left, channels interleaved (HWC).</summary>
public sealed class Image
{
    /// <summary>Wraps samples; they are not copied.</summary>
    /// <param name="width">Pixels in a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="channels">1 grey, 3 RGB, 4 RGB and opacity.</param>
    /// <param name="pixels">The samples, <c>height * width * channels</c> of them.</param>
    /// <exception cref="ArgumentException">The numbers do not fit each other.</exception>
    public Image(int width, int height, int channels, byte[] pixels)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(height);
        ArgumentNullException.ThrowIfNull(pixels);
        if (channels is not (1 or 3 or 4))
        {
            throw new ArgumentException($"a picture has 1, 3 or 4 channels, not {channels}", nameof(channels));
        }

        if ((Int128)width * height * channels != pixels.Length)
        {
            throw new ArgumentException($"{pixels.Length} samples are not {height} rows of {width} pixels of {channels} channels", nameof(pixels));
        }

        Width = width;
        Height = height;
        Channels = channels;
        Pixels = pixels;
    }

    /// <summary>Pixels in a row.</summary>
    public int Width { get; }

    /// <summary>Rows.</summary>
    public int Height { get; }

    /// <summary>1 grey, 3 RGB, 4 RGB and opacity.</summary>
    public int Channels { get; }

    /// <summary>The samples, <c>[Height, Width, Channels]</c>.</summary>
    public byte[] Pixels { get; }

    /// <summary>Text that goes with the picture into the file, by keyword (<c>Software</c>, <c>Comment</c>, ...).</summary>
    public IReadOnlyDictionary<string, string> Text { get; init; } = ReadOnlyDictionary<string, string>.Empty;
}
