using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// 3x3 convolution of stride 1 by F(4x4, 3x3): per block of tiles, transform the input, then for each panel of output channels transform its weights,
/// multiply 36 matrices [tiles, Cin] x [Cin, columns], and transform back into the epilogue.
/// </summary>
/// <remarks>
/// Weights are transformed where they are used, not stored transformed: that costs some fifty cycles per vector against hundreds of multiply-adds, and
/// reads a quarter of the memory, which is what bounds a large model at small batches. Sums over channels are cut into pieces of a fixed length; the
/// pieces round like short sums, and how the work is divided does not show in the result.
/// </remarks>
internal sealed unsafe class WinogradConvolution<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    private const int Products = WinogradTransforms<T>.Products;

    // A stretch of channels: its 36 blocks of transformed weights fit the second-level cache beside the products of a block of tiles.
    private const int LongestPiece = 128;

    // Keeps the 36 streams of a transform from falling into the same cache sets.
    private const int Skew = 16;

    private readonly ConvolutionShape _shape;
    private readonly PackedWeights _weights;
    private readonly bool _turned;
    private readonly float* _x1;
    private readonly float* _x2;
    private readonly Epilogue _epilogue;
    private readonly WorkerScratch _scratch;
    private readonly int _tilesX;
    private readonly int _tilesPerImage;
    private readonly int _piece;
    private readonly WinogradPartition _partition;

    /// <param name="shape">Extents, with the channels that the kernel reads and writes.</param>
    /// <param name="weights">The weight, 9 taps.</param>
    /// <param name="turned">Whether the filter is to be turned by half a circle: the data gradient.</param>
    /// <param name="x1">First input.</param>
    /// <param name="x2">Second input, or null.</param>
    /// <param name="epilogue">The way to memory.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public WinogradConvolution(
        in ConvolutionShape shape, PackedWeights weights, bool turned, float* x1, float* x2, in Epilogue epilogue, WorkerScratch scratch)
    {
        _shape = shape;
        _weights = weights;
        _turned = turned;
        _x1 = x1;
        _x2 = x2;
        _epilogue = epilogue;
        _scratch = scratch;
        _tilesX = (shape.OutW + 3) / 4;
        _tilesPerImage = _tilesX * ((shape.OutH + 3) / 4);
        int pieces = (shape.Cin + LongestPiece - 1) / LongestPiece;
        _piece = (((shape.Cin + pieces - 1) / pieces) + T.Count - 1) / T.Count * T.Count;
        _partition = WinogradPartition.Choose<T>(shape.N * _tilesPerImage, shape.Cin, weights.Panels, scratch.Workers);
        scratch.ReserveZeros(Math.Max(shape.C1, shape.C2));
        scratch.Reserve(BufferFloats + InputFloats + WeightFloats + (Products * SumStride));
    }

    public override int Parts => _partition.Blocks * _partition.PanelGroups;

    private static nint BufferFloats => WorkerScratch.Align(WinogradTransforms<T>.BufferVectors * T.Count);

    // Transformed input: [piece, product, tile, channel of the piece].
    private nint InputStride => ((nint)_partition.BlockTiles * _piece) + Skew;

    private nint InputFloats => (_shape.Cin + _piece - 1) / _piece * Products * InputStride;

    // Transformed weights of one piece and panel: [product, channel of the piece, column].
    private nint WeightStride => ((nint)_piece * MicroKernel<T>.Columns) + Skew;

    private nint WeightFloats => Products * WeightStride;

    // Sums of one panel: [product, tile, column].
    private nint SumStride => ((nint)_partition.BlockTiles * MicroKernel<T>.Columns) + Skew;

    /// <summary>
    /// Whether this beats the direct sum for an image of this shape, by multiply-adds and transforms counted in vectors. The batch does not enter: an image's
    /// result must not depend on it.
    /// </summary>
    public static bool Suits(in ConvolutionShape shape)
    {
        if (shape is not { KernelH: 3, KernelW: 3, Stride: 1 } || shape.C1 % T.Count != 0 || shape.C2 % T.Count != 0 || shape.Cout % T.Count != 0)
        {
            return false;
        }

        const double TransformOfTile = 200, TransformOfWeights = 100;
        double tiles = ((shape.OutW + 3) / 4) * (double)((shape.OutH + 3) / 4), vectorsIn = (double)shape.Cin / T.Count, vectorsOut = (double)shape.Cout / T.Count;
        double direct = 9.0 * shape.OutH * shape.OutW * shape.Cin * vectorsOut;
        double winograd = ((Products * shape.Cin * vectorsOut) + (TransformOfTile * (vectorsIn + vectorsOut))) * Math.Max(tiles, 4);
        return winograd + (TransformOfWeights * shape.Cin * vectorsOut) < direct;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int block = part / _partition.PanelGroups, group = part % _partition.PanelGroups;
        int first = block * _partition.BlockTiles, tiles = Math.Min(_partition.BlockTiles, (_shape.N * _tilesPerImage) - first);
        float* buffer = _scratch.Of(worker);
        float* input = buffer + BufferFloats;
        float* weights = input + InputFloats;
        float* sums = weights + WeightFloats;
        TransformInput(first, tiles, input, buffer);

        int columns = MicroKernel<T>.Columns;
        nint tapStride = _turned ? -_weights.TapFloats : _weights.TapFloats;
        for (int panel = _weights.Panels * group / _partition.PanelGroups; panel < _weights.Panels * (group + 1) / _partition.PanelGroups; panel++)
        {
            float* packed = _weights.Pointer + (panel * _weights.PanelFloats) + (_turned ? 8 * _weights.TapFloats : 0);
            float* piece = input;
            for (int channel = 0; channel < _shape.Cin; channel += _piece, piece += Products * InputStride)
            {
                int channels = Math.Min(_piece, _shape.Cin - channel);
                WinogradTransforms<T>.Weights(packed + ((nint)channel * columns), tapStride, channels * columns, weights, WeightStride);
                Multiply(tiles, channels, piece, weights, sums, accumulate: channel > 0);
            }

            TransformOutput(first, tiles, panel * columns, sums, buffer);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void TransformInput(int first, int tiles, float* input, float* buffer)
    {
        float** pixels1 = stackalloc float*[Products];
        float** pixels2 = stackalloc float*[Products];
        for (int tile = 0; tile < tiles; tile++)
        {
            int image = (first + tile) / _tilesPerImage, rest = (first + tile) % _tilesPerImage;
            int top = (rest / _tilesX * 4) - _shape.Pad, left = (rest % _tilesX * 4) - _shape.Pad;
            Locate(_x1, _shape.C1, image, top, left, pixels1);
            if (_shape.C2 > 0)
            {
                Locate(_x2, _shape.C2, image, top, left, pixels2);
            }

            float* target = input + ((nint)tile * _piece);
            for (int channel = 0; channel < _shape.Cin; channel += _piece, target += Products * InputStride)
            {
                int end = Math.Min(channel + _piece, _shape.Cin), split = Math.Clamp(_shape.C1, channel, end);
                WinogradTransforms<T>.Input(pixels1, channel, split - channel, target, InputStride, buffer);
                WinogradTransforms<T>.Input(pixels2, split - _shape.C1, end - split, target + (split - channel), InputStride, buffer);
            }
        }
    }

    // The 36 pixels of a tile; what lies outside the image is zeros.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Locate(float* x, int channels, int image, int top, int left, float** pixels)
    {
        float* zeros = _scratch.Zeros;
        int shift = _shape.Upsample ? 1 : 0, seenH = _shape.SeenH, seenW = _shape.SeenW;
        nint* columns = stackalloc nint[6];
        for (int j = 0; j < 6; j++)
        {
            int column = left + j;
            columns[j] = (uint)column < (uint)seenW ? (nint)(column >> shift) * channels : -1;
        }

        for (int i = 0; i < 6; i++, pixels += 6)
        {
            int row = top + i;
            bool inside = (uint)row < (uint)seenH;
            float* start = x + ((((nint)image * _shape.H) + (row >> shift)) * _shape.W * channels);
            for (int j = 0; j < 6; j++)
            {
                pixels[j] = inside && columns[j] >= 0 ? start + columns[j] : zeros;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply(int tiles, int channels, float* input, float* weights, float* sums, bool accumulate)
    {
        float** rows = stackalloc float*[MicroKernel<T>.MaxRows];
        int columns = MicroKernel<T>.Columns;
        for (int product = 0; product < Products; product++, input += InputStride, weights += WeightStride, sums += SumStride)
        {
            for (int done = 0, count; done < tiles; done += count)
            {
                count = MicroKernel<T>.NextRows(tiles - done);
                for (int row = 0; row < count; row++)
                {
                    rows[row] = input + ((nint)(done + row) * _piece);
                }

                MicroKernel<T>.Multiply(count, rows, 1, 1, channels, weights, 0, sums + ((nint)done * columns), columns, accumulate);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void TransformOutput(int first, int tiles, int channel, float* sums, float* buffer)
    {
        int columns = MicroKernel<T>.Columns, width = Math.Min(columns, _shape.Cout - channel);
        int outH = _shape.OutH, outW = _shape.OutW;
        for (int tile = 0; tile < tiles; tile++, sums += columns)
        {
            int image = (first + tile) / _tilesPerImage, rest = (first + tile) % _tilesPerImage;
            int top = rest / _tilesX * 4, left = rest % _tilesX * 4;
            int height = Math.Min(4, outH - top), breadth = Math.Min(4, outW - left);
            nint corner = ((((((nint)image * outH) + top) * outW) + left) * _shape.Cout) + channel;
            for (int c = 0; c < width; c += T.Count)
            {
                WinogradTransforms<T>.Output(
                    sums + c, SumStride, _epilogue, corner + c, _shape.Cout, (nint)outW * _shape.Cout, channel + c, height, breadth, buffer);
            }
        }
    }
}
