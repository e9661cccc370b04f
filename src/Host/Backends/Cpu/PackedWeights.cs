using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// A weight in the order in which kernels read it: panels of <see cref="PanelColumns"/> output channels, [panel, tap, input channel, column], zero beyond the
/// last output channel; or, for a filter of very few outputs, <see cref="Rows"/>. Packed once, shared by every kernel that uses the same weight in the same
/// direction.
/// </summary>
internal sealed unsafe class PackedWeights : IDisposable
{
    // Kernels that read the taps side by side want them in different cache sets, which power-of-two strides would not give. Kernels for a few channels
    // want the taps without gaps instead.
    private const int SkewFrom = 16;

    // Up to here a panel would be so empty that products along the input channels are faster, even with the sum over lanes that they end with.
    private const int MostRows = 8;

    private readonly NativeBuffer _buffer;

    private PackedWeights(int taps, int inputs, int outputs, bool transposed)
    {
        Taps = taps;
        Inputs = inputs;
        Outputs = outputs;
        Transposed = transposed;
        PanelColumns = 2 * Simd.Count;
        Rows = taps > 1 && outputs <= MostRows && inputs % Simd.Count == 0;
        Panels = (outputs + PanelColumns - 1) / PanelColumns;
        TapFloats = Rows ? (nint)inputs * outputs : ((nint)inputs * PanelColumns) + (inputs >= SkewFrom ? PanelColumns : 0);
        _buffer = new NativeBuffer((Rows ? 1 : Panels) * PanelFloats);
    }

    /// <summary>Kernel positions: kh * kw, 1 for a matrix.</summary>
    public int Taps { get; }

    /// <summary>Channels summed over, per tap.</summary>
    public int Inputs { get; }

    /// <summary>Channels produced.</summary>
    public int Outputs { get; }

    /// <summary>Whether this computes the gradient with respect to the input of the layer that owns the weight.</summary>
    public bool Transposed { get; }

    /// <summary>Output channels per panel: two vectors of the width in force when the weight was packed.</summary>
    public int PanelColumns { get; }

    /// <summary>Whether the layout is [tap, output channel, input channel] instead of panels.</summary>
    public bool Rows { get; }

    /// <summary>Number of panels.</summary>
    public int Panels { get; }

    /// <summary>Floats from one panel to the next.</summary>
    public nint PanelFloats => Taps * TapFloats;

    /// <summary>Floats from one tap of a panel to the next.</summary>
    public nint TapFloats { get; }

    /// <summary>The first panel.</summary>
    public float* Pointer => _buffer.Pointer;

    /// <summary>Packs a convolution weight for the forward direction.</summary>
    /// <param name="weight">[Cout, Cin, kh, kw], as checkpoints hold it; a linear layer's [M, K] is the case of one tap.</param>
    /// <param name="outputs">Cout.</param>
    /// <param name="inputs">Cin.</param>
    /// <param name="taps">kh * kw.</param>
    public static PackedWeights Forward(float* weight, int outputs, int inputs, int taps)
    {
        var packed = new PackedWeights(taps, inputs, outputs, transposed: false);
        packed.Fill(weight, outputStride: (nint)inputs * taps, inputStride: taps);
        return packed;
    }

    /// <summary>Packs a convolution weight for the data gradient: the roles of the channels change, the taps keep their order.</summary>
    /// <param name="weight">[Cout, Cin, kh, kw] of the forward convolution.</param>
    /// <param name="outputs">Cout of the forward convolution: the channels that the gradient sums over.</param>
    /// <param name="inputs">Cin of the forward convolution: the channels that the gradient produces.</param>
    /// <param name="taps">kh * kw.</param>
    public static PackedWeights DataGradient(float* weight, int outputs, int inputs, int taps)
    {
        var packed = new PackedWeights(taps, outputs, inputs, transposed: true);
        packed.Fill(weight, outputStride: taps, inputStride: (nint)inputs * taps);
        return packed;
    }

    /// <inheritdoc/>
    public void Dispose() => _buffer.Dispose();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Fill(float* weight, nint outputStride, nint inputStride)
    {
        if (Rows)
        {
            FillRows(weight, outputStride, inputStride);
            return;
        }

        for (int panel = 0; panel < Panels; panel++)
        {
            int first = panel * PanelColumns;
            int columns = Math.Min(PanelColumns, Outputs - first);
            for (int tap = 0; tap < Taps; tap++)
            {
                float* target = Pointer + (panel * PanelFloats) + (tap * TapFloats);
                for (int input = 0; input < Inputs; input++, target += PanelColumns)
                {
                    float* source = weight + (first * outputStride) + (input * inputStride) + tap;
                    for (int column = 0; column < columns; column++)
                    {
                        target[column] = source[column * outputStride];
                    }
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void FillRows(float* weight, nint outputStride, nint inputStride)
    {
        float* target = Pointer;
        for (int tap = 0; tap < Taps; tap++)
        {
            for (int output = 0; output < Outputs; output++)
            {
                for (int input = 0; input < Inputs; input++)
                {
                    *target++ = weight[(output * outputStride) + (input * inputStride) + tap];
                }
            }
        }
    }
}
