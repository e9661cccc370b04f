namespace Kernels.Backends.Cpu;

/// <summary>Extents of a convolution over NHWC images; the input may be two tensors side by side in the channels, and may be doubled in height and width.</summary>
/// <param name="N">Images.</param>
/// <param name="H">Height of the input in memory, before up-sampling.</param>
/// <param name="W">Width of the input in memory, before up-sampling.</param>
/// <param name="C1">Channels of the first input.</param>
/// <param name="C2">Channels of the second input, 0 if there is none.</param>
/// <param name="Cout">Channels of the output.</param>
/// <param name="KernelH">Height of the filter.</param>
/// <param name="KernelW">Width of the filter.</param>
/// <param name="Stride">Step in both directions.</param>
/// <param name="Pad">Zeros on each side.</param>
/// <param name="Upsample">Whether the filter sees every input pixel as a square of two by two (nearest-neighbour up-sampling).</param>
internal readonly record struct ConvolutionShape(
    int N, int H, int W, int C1, int C2, int Cout, int KernelH, int KernelW, int Stride = 1, int Pad = 0, bool Upsample = false)
{
    /// <summary>All channels that the filter sums over.</summary>
    public int Cin => C1 + C2;

    /// <summary>Filter positions.</summary>
    public int Taps => KernelH * KernelW;

    /// <summary>Height that the filter sees.</summary>
    public int SeenH => Upsample ? 2 * H : H;

    /// <summary>Width that the filter sees.</summary>
    public int SeenW => Upsample ? 2 * W : W;

    /// <summary>Height of the output.</summary>
    public int OutH => ((SeenH + (2 * Pad) - KernelH) / Stride) + 1;

    /// <summary>Width of the output.</summary>
    public int OutW => ((SeenW + (2 * Pad) - KernelW) / Stride) + 1;

    /// <summary>Checks what the kernels rely on.</summary>
    public void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(Math.Min(N, H), Math.Min(W, C1)), 1, nameof(ConvolutionShape));
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(Math.Min(Cout, Stride), Taps), 1, nameof(ConvolutionShape));
        ArgumentOutOfRangeException.ThrowIfNegative(Math.Min(C2, Pad), nameof(ConvolutionShape));
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(SeenH + (2 * Pad) - KernelH, SeenW + (2 * Pad) - KernelW), 0, nameof(ConvolutionShape));
    }
}
