using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// Convolution to a handful of channels, such as the last one of a model or the gradient with respect to an image: the lanes are input channels, each output a
/// dot product whose lanes are added up at the end. A tile is four pixels by three outputs.
/// </summary>
internal sealed unsafe class DotConvolution<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    private const int TilePixels = 4, TileOutputs = 3;

    private readonly ConvolutionGeometry _geometry;
    private readonly ConvolutionInput _input;
    private readonly PackedWeights _weights;
    private readonly Epilogue _epilogue;
    private readonly WorkerScratch _scratch;
    private readonly (int Phase, int First, int End)[] _parts;

    public DotConvolution(
        ConvolutionGeometry geometry, PackedWeights weights, float* x1, int c1, float* x2, int c2, in Epilogue epilogue, WorkerScratch scratch)
    {
        _geometry = geometry;
        _input = new ConvolutionInput(geometry, x1, c1, x2, c2, scratch);
        _weights = weights;
        _epilogue = epilogue;
        _scratch = scratch;
        _parts = Split(geometry, weights);
        scratch.Reserve(TilePixels * geometry.Phases.Max(_input.PointersOf) * (sizeof(float*) / sizeof(float)));
    }

    public override int Parts => _parts.Length;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        (int phaseIndex, int first, int end) = _parts[part];
        ConvolutionGeometry.Phase phase = _geometry.Phases[phaseIndex];
        float** pointers = (float**)_scratch.Of(worker);
        float* sums = stackalloc float[TilePixels * TileOutputs];
        int* outputRows = stackalloc int[TilePixels];
        ConvolutionGeometry.Cursor at = ConvolutionGeometry.At(phase, first);
        for (; first < end; first += TilePixels)
        {
            int pixels = Math.Min(TilePixels, end - first);
            for (int pixel = 0, count; pixel < pixels; pixel += count)
            {
                count = Math.Min(pixels - pixel, at.LeftInRow(phase));
                _input.Locate(phase, at, count, pointers + pixel, TilePixels);
                int row = _geometry.OutputIndex(phase, at);
                for (int i = 0; i < count; i++)
                {
                    outputRows[pixel + i] = row + (i * phase.OutStep);
                }

                at.Advance(phase, count);
            }

            // The last tile may have fewer pixels: the others repeat its first, and are not written.
            for (int i = 0; pixels < TilePixels && i < _input.PointersOf(phase); i++)
            {
                new Span<nint>(pointers + (i * TilePixels) + pixels, TilePixels - pixels).Fill((nint)pointers[i * TilePixels]);
            }

            for (int output = 0; output < _weights.Outputs; output += TileOutputs)
            {
                Multiply(phase, pointers, output, sums);
                int outputs = Math.Min(TileOutputs, _weights.Outputs - output);
                _epilogue.Write<Simd1>(sums, TileOutputs, pixels, outputRows, output, outputs);
            }
        }
    }

    private static (int Phase, int First, int End)[] Split(ConvolutionGeometry geometry, PackedWeights weights)
    {
        const double OperationsPerPart = 500_000;
        var parts = new List<(int, int, int)>();
        for (int i = 0; i < geometry.Phases.Length; i++)
        {
            ConvolutionGeometry.Phase phase = geometry.Phases[i];
            int pixels = geometry.Images * phase.Rows * phase.Columns;
            int count = (int)Math.Clamp(2.0 * pixels * phase.Taps.Length * weights.Inputs * weights.Outputs / OperationsPerPart, 1, 64);
            for (int p = 0; p < count; p++)
            {
                parts.Add((i, (int)((long)pixels * p / count), (int)((long)pixels * (p + 1) / count)));
            }
        }

        return [.. parts];
    }

    // sums[pixel, output]; outputs beyond the last repeat it.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply(ConvolutionGeometry.Phase phase, float** pointers, int output, float* sums)
    {
        T s00 = T.Create(0f), s01 = s00, s02 = s00, s10 = s00, s11 = s00, s12 = s00;
        T s20 = s00, s21 = s00, s22 = s00, s30 = s00, s31 = s00, s32 = s00;
        int inputs = _weights.Inputs, last = _weights.Outputs - 1;
        nint row0 = (nint)output * inputs, row1 = (nint)Math.Min(output + 1, last) * inputs, row2 = (nint)Math.Min(output + 2, last) * inputs;
        for (int part = 0; part < (_input.C2 > 0 ? 2 : 1); part++)
        {
            int channels = part == 0 ? _input.C1 : _input.C2;
            float* weights = _weights.Pointer + (part == 0 ? 0 : _input.C1);
            foreach (ConvolutionGeometry.Tap tap in phase.Taps)
            {
                float* a0 = pointers[0], a1 = pointers[1], a2 = pointers[2], a3 = pointers[3];
                pointers += TilePixels;
                float* tapWeights = weights + (tap.Weight * _weights.TapFloats);
                float* b0 = tapWeights + row0, b1 = tapWeights + row1, b2 = tapWeights + row2;
                for (nint c = 0; c < channels; c += T.Count)
                {
                    T w0 = T.Load(b0 + c), w1 = T.Load(b1 + c), w2 = T.Load(b2 + c), x = T.Load(a0 + c);
                    s00 = T.MultiplyAdd(x, w0, s00);
                    s01 = T.MultiplyAdd(x, w1, s01);
                    s02 = T.MultiplyAdd(x, w2, s02);
                    x = T.Load(a1 + c);
                    s10 = T.MultiplyAdd(x, w0, s10);
                    s11 = T.MultiplyAdd(x, w1, s11);
                    s12 = T.MultiplyAdd(x, w2, s12);
                    x = T.Load(a2 + c);
                    s20 = T.MultiplyAdd(x, w0, s20);
                    s21 = T.MultiplyAdd(x, w1, s21);
                    s22 = T.MultiplyAdd(x, w2, s22);
                    x = T.Load(a3 + c);
                    s30 = T.MultiplyAdd(x, w0, s30);
                    s31 = T.MultiplyAdd(x, w1, s31);
                    s32 = T.MultiplyAdd(x, w2, s32);
                }
            }
        }

        sums[0] = T.Sum(s00);
        sums[1] = T.Sum(s01);
        sums[2] = T.Sum(s02);
        sums[3] = T.Sum(s10);
        sums[4] = T.Sum(s11);
        sums[5] = T.Sum(s12);
        sums[6] = T.Sum(s20);
        sums[7] = T.Sum(s21);
        sums[8] = T.Sum(s22);
        sums[9] = T.Sum(s30);
        sums[10] = T.Sum(s31);
        sums[11] = T.Sum(s32);
    }
}
