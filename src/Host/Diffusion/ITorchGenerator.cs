namespace Kernels.Diffusion;

/// <summary>One of PyTorch's generators: draws change its state, so order matters.</summary>
public interface ITorchGenerator
{
    /// <summary>The values of <c>torch.randn(n, channels, height, width)</c>, laid out with the channels innermost.</summary>
    /// <param name="channels">Channels per pixel.</param>
    /// <param name="pixels">height · width.</param>
    /// <param name="destination">Receives n images [height, width, channels].</param>
    /// <exception cref="ArgumentOutOfRangeException">The destination does not hold whole images.</exception>
    void RandnChannelsLast(int channels, int pixels, Span<float> destination);

    /// <summary>Integers in [0, <paramref name="high"/>) (<c>torch.randint(0, high, (n,))</c>).</summary>
    /// <param name="high">Exclusive upper bound.</param>
    /// <param name="destination">Receives the values.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="high"/> is not positive.</exception>
    void RandInt(int high, Span<int> destination);

    /// <summary>Leaves the state that <c>torch.randn</c> of so many values leaves.</summary>
    /// <param name="count">How many.</param>
    void SkipRandn(int count);
}

/// <summary>Where the value drawn at index i of [n, channels, pixels] lies in [n, pixels, channels].</summary>
/// <param name="Channels">Channels per pixel.</param>
/// <param name="Pixels">Pixels per image.</param>
internal readonly record struct ChannelsLast(int Channels, int Pixels)
{
    /// <summary>The place of a value.</summary>
    /// <param name="i">Its index as it was drawn.</param>
    public int Index(int i)
    {
        if (Channels == 1)
        {
            return i;
        }

        (int plane, int pixel) = Math.DivRem(i, Pixels);
        (int image, int channel) = Math.DivRem(plane, Channels);
        return (((image * Pixels) + pixel) * Channels) + channel;
    }
}
