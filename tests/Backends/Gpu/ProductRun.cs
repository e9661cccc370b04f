using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Tests.Support;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>An implicit product with random operands: launched as the naive or the tiled kernel of <c>convolution.cu</c>, and computed in float64 by loops of its own.</summary>
internal sealed class ProductRun
{
    /// <summary>What every architecture from sm_80 on gives a block.</summary>
    public const int SharedBytes = 99 << 10;

    private readonly ImplicitProduct _product;
    private readonly Precision _precision;
    private readonly int _resample;
    private readonly double[] _x, _second, _skipped, _skippedSecond, _w, _v, _bias, _skipBias, _residual;

    /// <param name="product">Extents.</param>
    /// <param name="precision">What is stored and multiplied.</param>
    /// <param name="resample">0: the residual is at the output's resolution, 1: at half, 2: at twice.</param>
    public ProductRun(ImplicitProduct product, Precision precision, int resample = 0)
    {
        (_product, _precision, _resample) = (product, precision, resample);
        Random random = new(5);
        (int height, int width, int outputs) = product.Output;
        int stored = product.Images * product.Input.Height * product.Input.Width, made = product.Images * height * width;
        DType type = precision.Storage();
        _x = Draw(stored * product.Input.Channels, 1, type);
        _second = Draw(stored * product.SecondChannels, 1, type);
        _skipped = Draw(made * product.Skip.First, 1, type);
        _skippedSecond = Draw(made * product.Skip.Second, 1, type);

        // The tensor cores' operands, so that only sums are rounded. What tf32 keeps, the 16-bit types' fractions fit into.
        _w = Draw(outputs * product.AllChannels * product.Window.Height * product.Window.Width, 0.1, precision == Precision.Tf32 ? DType.F16 : type);
        _v = Draw(outputs * (product.Skip.First + product.Skip.Second), 0.1, precision == Precision.Tf32 ? DType.F16 : type);
        if (precision == Precision.Tf32)
        {
            foreach (double[] values in new[] { _x, _second, _skipped, _skippedSecond })
            {
                Round(values, DType.F16);
            }
        }

        _bias = Draw(outputs, 1, DType.F32);
        _skipBias = Draw(outputs, 1, DType.F32);
        _residual = Draw(_resample switch { 1 => made / 4, 2 => made * 4, _ => made } * outputs, 1, type);

        double[] Draw(int count, double scale, DType dtype)
        {
            double[] values = TestModels.Normals(random, count, scale);
            Round(values, dtype);
            return values;
        }
    }

    public bool Bias { get; init; }

    public bool Residual { get; init; }

    public bool SiLU { get; init; }

    public bool Statistics { get; init; }

    private int Elements => _product.Images * _product.Output.Height * _product.Output.Width * _product.Output.Channels;

    /// <summary>y of the naive kernel.</summary>
    public float[] Naive(CountedRun run) => Launch(run, _product.Tile(_precision, SharedBytes), naive: true).Y;

    /// <summary>y, what was counted, and the partial statistics, of the tiled kernel.</summary>
    public (float[] Y, LaunchCounters Counters, float[] Partials) Tiled(CountedRun run, ConvolutionTile? tile = null) =>
        Launch(run, tile ?? _product.Tile(_precision, SharedBytes), naive: false);

    /// <summary>y in float64.</summary>
    public double[] Expected()
    {
        (int height, int width, int outputs) = _product.Output;
        int window = _product.Window.Height * _product.Window.Width, scale = _product.Upsample ? 2 : _product.Spread;
        double[] y = new double[Elements];
        for (int at = 0; at < y.Length; at++)
        {
            (int o, int j, int i, int n) = (at % outputs, at / outputs % width, at / outputs / width % height, at / outputs / width / height);
            double sum = (Bias ? _bias[o] : 0) + (_product.Skip.First > 0 ? _skipBias[o] : 0) + (Residual ? ResidualAt(n, i, j, o) : 0);
            for (int tap = 0; tap < window; tap++)
            {
                int v = (i * _product.Stride) + (tap / _product.Window.Width) - _product.Padding.Rows;
                int u = (j * _product.Stride) + (tap % _product.Window.Width) - _product.Padding.Columns;
                if (v < 0 || u < 0 || v >= _product.Input.Height * scale || u >= _product.Input.Width * scale || (!_product.Upsample && (v % scale != 0 || u % scale != 0)))
                {
                    continue;
                }

                int pixel = (((n * _product.Input.Height) + (v / scale)) * _product.Input.Width) + (u / scale);
                for (int c = 0; c < _product.AllChannels; c++)
                {
                    sum += Of(_x, _product.Input.Channels, _second, _product.SecondChannels, pixel, c) * WeightAt(o, c, tap);
                }
            }

            for (int d = 0; d < _product.Skip.First + _product.Skip.Second; d++)
            {
                sum += Of(_skipped, _product.Skip.First, _skippedSecond, _product.Skip.Second, at / outputs, d) * _v[(o * (_product.Skip.First + _product.Skip.Second)) + d];
            }

            y[at] = SiLU ? sum / (1 + Math.Exp(-sum)) : sum;
        }

        return y;
    }

    private static double Of(double[] first, int firstChannels, double[] second, int secondChannels, int pixel, int c) =>
        c < firstChannels ? first[(pixel * firstChannels) + c] : second[(pixel * secondChannels) + c - firstChannels];

    private static void Round(double[] values, DType type)
    {
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = type switch
            {
                DType.F16 => (double)(Half)values[i],
                DType.BF16 => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits((float)values[i]) & 0xffff0000),
                _ => (float)values[i],
            };
        }
    }

    private double WeightAt(int o, int c, int tap)
    {
        int taps = _product.Window.Height * _product.Window.Width;
        return _product.Turned
            ? _w[(((c * _product.Output.Channels) + o) * taps) + taps - 1 - tap]
            : _w[(((o * _product.AllChannels) + c) * taps) + tap];
    }

    private double ResidualAt(int n, int i, int j, int o)
    {
        (int height, int width, int outputs) = _product.Output;
        return _resample switch
        {
            1 => _residual[(((((n * (height / 2)) + (i / 2)) * (width / 2)) + (j / 2)) * outputs) + o],
            2 => Enumerable.Range(0, 4).Average(q => _residual[(((((n * 2 * height) + (2 * i) + (q / 2)) * 2 * width) + (2 * j) + (q % 2)) * outputs) + o]),
            _ => _residual[(((((n * height) + i) * width) + j) * outputs) + o],
        };
    }

    private (float[] Y, LaunchCounters Counters, float[] Partials) Launch(CountedRun run, ConvolutionTile tile, bool naive)
    {
        DType type = _precision.Storage();
        ulong Put(double[] values, DType dtype) => values.Length == 0 ? 0 : run.Put<byte>(DeviceWeights.Convert(Array.ConvertAll(values, v => (float)v), dtype));
        float[] w = Array.ConvertAll(_w, v => (float)v), skip = Array.ConvertAll(_v, v => (float)v);
        ulong y = run.New((long)Elements * type.SizeInBytes());
        int pixels = _product.Output.Height * _product.Output.Width, partialCount = 2 * _product.Images * ((pixels + tile.Pixels - 1) / tile.Pixels) * _product.Output.Channels;
        ulong partials = Statistics ? run.New(partialCount * sizeof(float)) : 0;
        LaunchArguments arguments = new LaunchArguments()
            .Add(Put(_x, type)).Add(Put(_second, type)).Add(Put(_skipped, type)).Add(Put(_skippedSecond, type)).Add(run.Put<byte>(_product.Pack(w, skip, _precision)))
            .Add(Bias ? Put(_bias, DType.F32) : 0).Add(_product.Skip.First > 0 ? Put(_skipBias, DType.F32) : 0).Add(Residual ? Put(_residual, type) : 0).Add(y);

        // The groups, which the last block of an image makes of the partials, and what the gradient of a norm wants are tested with the norms that take them.
        arguments = (naive ? arguments : Enumerable.Range(0, 9).Aggregate(arguments.Add(partials), (a, _) => a.Add(0UL))).Add(_product.Images);
        KernelSpec kernel = new(
            "convolution.cu",
            naive ? "convolution_naive" : "convolution",
            [
                ("X", type), ("Y", type), ("R", type), .. _product.Constants(_precision, tile),
                ("BIAS", Bias), ("RESIDUAL", Residual), ("RESAMPLE", _resample), ("SILU", SiLU), ("STATISTICS", Statistics),
            ]);
        LaunchCounters counters = run.Launch(
            kernel, naive ? LaunchGeometry.Linear((Elements + 127) / 128, 128) : _product.Geometry(tile, Statistics), arguments.Bytes);
        return (run.Get(y, Elements, type), counters, Statistics ? run.Get(partials, partialCount) : []);
    }
}
