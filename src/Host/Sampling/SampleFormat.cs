namespace Kernels.Sampling;

/// <summary>The images of a job.</summary>
/// <param name="Count">How many will be sampled.</param>
/// <param name="Height">Height of one.</param>
/// <param name="Width">Width of one.</param>
/// <param name="Channels">Channels of one.</param>
/// <param name="Columns">Images per row of a picture of all; 0 for a square.</param>
public readonly record struct SampleFormat(int Count, int Height, int Width, int Channels, int Columns)
{
    /// <summary>Bytes of one image.</summary>
    public int ImageBytes => Height * Width * Channels;
}
