namespace Kernels.Backends.Cpu;

/// <summary>Extents of a group normalisation over [N, Pixels, C], the C channels split evenly into consecutive groups.</summary>
/// <param name="N">Images.</param>
/// <param name="Pixels">H * W.</param>
/// <param name="C">Channels.</param>
/// <param name="Groups">Groups.</param>
/// <param name="Epsilon">Added to the variance.</param>
internal readonly record struct GroupNormShape(int N, int Pixels, int C, int Groups, float Epsilon = 1e-5f)
{
    /// <summary>Channels of a group.</summary>
    public int GroupChannels => C / Groups;

    /// <summary>Checks what the kernels rely on.</summary>
    public void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(Math.Min(N, Pixels), Math.Min(C, Groups)), 1, nameof(GroupNormShape));
        ArgumentOutOfRangeException.ThrowIfNotEqual(C % Groups, 0, nameof(GroupNormShape));
    }

    /// <summary>
    /// How many groups one part takes: all of them, so that pixels are read as they lie, unless there are too few images to keep the workers busy, or too much
    /// memory for the passes after the first to find it in the second-level cache. Then whole vectors, where the group size allows it. Groups do not
    /// mix, so the division does not show in the result.
    /// </summary>
    /// <param name="lanes">Floats in a vector.</param>
    /// <param name="workers">Workers that share the parts.</param>
    public int GroupsPerPart(int lanes, int workers)
    {
        const int CachedFloats = 100 * 1024, ParallelFloats = 16 * 1024, PartsPerWorker = 4;
        int unit = lanes / (int)System.Numerics.BigInteger.GreatestCommonDivisor(lanes, GroupChannels);
        long channels = Math.Max(1, CachedFloats / Pixels);
        if ((long)Pixels * C >= ParallelFloats)
        {
            int parts = Math.Max(1, workers * PartsPerWorker / N);
            channels = Math.Min(channels, C / parts);
        }

        long units = Math.Max(1, channels / ((long)unit * GroupChannels));
        return (int)Math.Min(Groups, units * unit);
    }
}

/// <summary>What a group normalisation reads: one tensor, or two whose channels lie side by side.</summary>
/// <param name="x">[N, Pixels, C - channels2].</param>
/// <param name="x2">[N, Pixels, channels2], or null.</param>
/// <param name="channels2">Channels of the second tensor, or 0.</param>
internal readonly unsafe struct GroupNormInput(float* x, float* x2 = null, int channels2 = 0)
{
    /// <summary>One tensor.</summary>
    /// <param name="x">[N, Pixels, C].</param>
    public static implicit operator GroupNormInput(float* x) => new(x);

    /// <summary>How many of some channels are those of the first tensor.</summary>
    public int Split(in GroupNormShape shape, int first, int channels) => Math.Clamp(shape.C - channels2 - first, 0, channels);

    /// <summary>The pixels of an image in the first tensor, from a channel on.</summary>
    public GroupNormRows First(in GroupNormShape shape, int image, int channel) =>
        new(x + ((nint)image * shape.Pixels * (shape.C - channels2)) + channel, shape.C - channels2);

    /// <summary>The pixels of an image in the second tensor, from a channel on, which counts those of the first.</summary>
    public GroupNormRows Second(in GroupNormShape shape, int image, int channel) =>
        new(x2 + ((nint)image * shape.Pixels * channels2) + channel - (shape.C - channels2), channels2);
}

/// <summary>Some channels of the pixels of an image.</summary>
/// <param name="start">The first channel of the first pixel.</param>
/// <param name="stride">Floats from one pixel to the next.</param>
internal readonly unsafe struct GroupNormRows(float* start, nint stride)
{
    /// <summary>Floats from one pixel to the next.</summary>
    public nint Stride => stride;

    /// <summary>The first channel of a pixel.</summary>
    public float* At(int pixel) => start + (pixel * stride);
}
