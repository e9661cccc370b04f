namespace Kernels.Imaging;

/// <summary>Between the models' range [-1, 1] and bytes.</summary>
public static class Images
{
    /// <summary>
    /// Converts samples in [-1, 1] to bytes: <c>clamp((x + 1) * 127.5, 0, 255)</c>, the fraction cut off, in binary32, as guided-diffusion's
    /// <c>image_sample.py</c> does. NaN becomes 0.
    /// </summary>
    /// <param name="x">The samples, in any layout.</param>
    /// <param name="bytes">Receives one byte per sample, in the same layout.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ToBytes(ReadOnlySpan<float> x, Span<byte> bytes)
    {
        Require(x.Length, bytes.Length);
        for (int i = 0; i < x.Length; i++)
        {
            float scaled = (x[i] + 1f) * 127.5f;
            bytes[i] = scaled >= 255f ? byte.MaxValue : scaled >= 0f ? (byte)scaled : byte.MinValue;
        }
    }

    /// <summary>Converts samples as <see cref="ToBytes(ReadOnlySpan{float}, Span{byte})"/> does.</summary>
    /// <param name="x">The samples, in any layout.</param>
    public static byte[] ToBytes(ReadOnlySpan<float> x)
    {
        byte[] bytes = new byte[x.Length];
        ToBytes(x, bytes);
        return bytes;
    }

    /// <summary>
    /// Converts bytes to [-1, 1]: <c>b / 127.5 - 1</c> in binary32, as guided-diffusion's <c>image_datasets.py</c> and <c>super_res_sample.py</c> do.
    /// </summary>
    /// <param name="bytes">The samples, in any layout.</param>
    /// <param name="x">Receives one value per byte, in the same layout.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void FromBytes(ReadOnlySpan<byte> bytes, Span<float> x)
    {
        Require(bytes.Length, x.Length);
        for (int i = 0; i < bytes.Length; i++)
        {
            x[i] = (bytes[i] / 127.5f) - 1f;
        }
    }

    private static void Require(int source, int destination)
    {
        if (source != destination)
        {
            throw new ArgumentException($"{source} samples do not go into {destination}");
        }
    }
}
