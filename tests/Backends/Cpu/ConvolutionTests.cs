using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

public sealed unsafe class ConvolutionTests
{
    // A sum of some thousand float32 products, each fused into the running sum, errs by several 1e-7; Winograd's transforms bring that to about 1e-6.
    private const double Tolerance = 1.5e-6;

    private static readonly ConvolutionShape[] s_shapes =
    [
        new(1, 32, 32, 32, 0, 64, 3, 3, 1, 1),
        new(1, 16, 16, 64, 0, 96, 3, 3, 1, 1),
        new(2, 8, 8, 160, 0, 128, 3, 3, 1, 1),
        new(1, 16, 16, 64, 32, 48, 3, 3, 1, 1),
        new(1, 8, 8, 40, 24, 64, 3, 3, 1, 1, Upsample: true),
        new(1, 16, 16, 3, 0, 32, 3, 3, 1, 1),
        new(1, 16, 16, 3, 3, 32, 3, 3, 1, 1),
        new(1, 16, 16, 64, 0, 3, 3, 3, 1, 1),
        new(1, 16, 16, 64, 0, 6, 3, 3, 1, 1),
        new(1, 16, 16, 64, 0, 64, 3, 3, 2, 1),
        new(1, 16, 16, 64, 0, 192, 1, 1),
        new(1, 16, 16, 32, 48, 32, 1, 1),
        new(3, 13, 10, 32, 0, 64, 3, 3, 1, 1),
        new(1, 9, 9, 96, 64, 96, 3, 3, 1, 1),
        new(1, 12, 12, 32, 0, 32, 3, 3, 1, 0),
        new(1, 12, 11, 32, 0, 48, 3, 3, 1, 2),
        new(1, 5, 6, 32, 32, 32, 3, 3, 1, 1, Upsample: true),
        new(2, 7, 9, 32, 0, 8, 3, 3, 1, 1),
        new(1, 8, 8, 24, 8, 4, 3, 3, 1, 1, Upsample: true),
        new(1, 8, 8, 16, 16, 7, 3, 3, 2, 1),
        new(3, 9, 11, 8, 0, 16, 3, 3, 1, 1),
        new(1, 1, 1, 1, 0, 1, 1, 1),
        new(1, 1, 1, 1, 0, 1, 3, 3, 1, 1),
        new(3, 5, 7, 17, 0, 33, 3, 3, 1, 1),
        new(3, 9, 5, 5, 17, 1, 3, 3, 2, 1),
        new(3, 7, 11, 33, 1, 5, 3, 3, 1, 1, Upsample: true),
        new(1, 6, 6, 3, 0, 5, 5, 3, 1, 2),
        new(2, 9, 10, 17, 0, 3, 4, 4, 3, 0),
        new(1, 3, 3, 5, 0, 17, 7, 7, 1, 3),
    ];

    public static TheoryData<int, int> ShapesAndWidths()
    {
        var data = new TheoryData<int, int>();
        for (int shape = 0; shape < s_shapes.Length; shape++)
        {
            foreach (int bits in KernelTest.Widths)
            {
                data.Add(shape, bits);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Forward_equals_the_float64_sum(int index, int bits)
    {
        ConvolutionShape s = s_shapes[index];
        using GuardedArray x1 = GuardedArray.Random(s.N * s.H * s.W * s.C1, 1), x2 = GuardedArray.Random(s.N * s.H * s.W * s.C2, 2);
        using GuardedArray w = GuardedArray.Random(s.Cout * s.Cin * s.Taps, 3), bias = GuardedArray.Random(s.Cout, 4);
        double[] x = s.C2 > 0 ? Reference.Concatenate(x1.ToDoubles(), s.C1, x2.ToDoubles(), s.C2) : x1.ToDoubles();
        x = s.Upsample ? Reference.Upsample(x, s.N, s.H, s.W, s.Cin) : x;
        double[] plain = Reference.Convolution(
            x, s.N, s.SeenH, s.SeenW, s.Cin, w.ToDoubles(), bias.ToDoubles(), s.Cout, s.KernelH, s.KernelW, s.Stride, s.Pad);

        using var y = new GuardedArray(plain.Length);
        Forward(bits, s, w, x1, x2, bias, null, y, silu: false);
        KernelTest.Matches(plain, y, Tolerance, $"{s}");

        // In place: the residual is the output's old content.
        using GuardedArray inPlace = GuardedArray.Random(plain.Length, 5);
        double[] residual = inPlace.ToDoubles();
        Forward(bits, s, w, x1, x2, bias, inPlace, inPlace, silu: true);
        KernelTest.Matches(Reference.SiLU(Reference.Add(plain, residual)), inPlace, Tolerance, $"{s} + residual, SiLU");
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Data_gradient_equals_the_float64_sum(int index, int bits)
    {
        ConvolutionShape s = s_shapes[index] with { C1 = s_shapes[index].Cin, C2 = 0, Upsample = false };
        using GuardedArray dy = GuardedArray.Random(s.N * s.OutH * s.OutW * s.Cout, 1), w = GuardedArray.Random(s.Cout * s.Cin * s.Taps, 2);
        double[] expected = Reference.ConvolutionDataGradient(
            dy.ToDoubles(), s.N, s.H, s.W, s.Cin, w.ToDoubles(), s.Cout, s.KernelH, s.KernelW, s.Stride, s.Pad);

        using var dx = new GuardedArray(expected.Length);
        DataGradient(bits, s, w, dy, null, dx);
        KernelTest.Matches(expected, dx, Tolerance, $"{s}");

        using GuardedArray sum = GuardedArray.Random(expected.Length, 3);
        double[] before = sum.ToDoubles();
        DataGradient(bits, s, w, dy, sum, sum);
        KernelTest.Matches(Reference.Add(expected, before), sum, Tolerance, $"{s} added");
    }

    [Theory]
    [InlineData(32, 32, 32, 64, 3, 1)]
    [InlineData(16, 16, 96, 33, 3, 1)]
    [InlineData(8, 8, 128, 128, 3, 1)]
    [InlineData(7, 5, 17, 33, 3, 1)]
    [InlineData(7, 5, 17, 33, 3, 2)]
    [InlineData(9, 9, 64, 64, 1, 1)]
    [InlineData(6, 6, 3, 5, 3, 1)]
    public void An_image_depends_neither_on_its_batch_nor_on_the_number_of_workers(int h, int w, int cin, int cout, int kernel, int stride)
    {
        var one = new ConvolutionShape(1, h, w, cin, 0, cout, kernel, kernel, stride, kernel / 2);
        ConvolutionShape four = one with { N = 4 };
        using GuardedArray x = GuardedArray.Random(4 * h * w * cin, 1), weight = GuardedArray.Random(cout * cin * one.Taps, 2);
        int outputs = one.OutH * one.OutW * cout;
        using var batch = new GuardedArray(4 * outputs);
        using var alone = new GuardedArray(4 * outputs);
        Forward(Simd.Widest, four, weight, x, null, null, null, batch, silu: false, workers: 2);
        for (int image = 0; image < 4; image++)
        {
            Run(Simd.Widest, 1, weight, one, false, (packed, scratch) =>
                Convolution.Forward(one, packed, (float*)x + (image * h * w * cin), null, null, null, (float*)alone + (image * outputs), false, scratch));
        }

        Assert.True(batch.Span.SequenceEqual(alone.Span));
    }

    [Fact]
    public void The_shapes_above_exercise_both_algorithms()
    {
        Assert.True(WinogradConvolution<Simd512>.Suits(s_shapes[0]));
        Assert.True(WinogradConvolution<Simd256>.Suits(s_shapes[3] with { N = 100 }));
        Assert.InRange(s_shapes.Count(s => WinogradConvolution<Simd512>.Suits(s)), 8, s_shapes.Length - 8);

        // One pixel would waste most of a tile; a stride, a wide filter or odd channels do not fit.
        Assert.False(WinogradConvolution<Simd512>.Suits(new(1, 1, 1, 64, 0, 64, 3, 3, 1, 1)));
        Assert.False(WinogradConvolution<Simd512>.Suits(new(1, 32, 32, 64, 0, 64, 3, 3, 2, 1)));
        Assert.False(WinogradConvolution<Simd512>.Suits(new(1, 32, 32, 64, 0, 64, 5, 5, 1, 2)));
        Assert.False(WinogradConvolution<Simd512>.Suits(new(1, 32, 32, 60, 0, 64, 3, 3, 1, 1)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(64)]
    public void Winograd_divisions_cover_every_tile_and_panel(int workers)
    {
        foreach (int tiles in new[] { 1, 4, 15, 16, 17, 255, 1024, 4097 })
        {
            foreach ((int channels, int panels) in new[] { (32, 1), (192, 6), (1536, 24) })
            {
                WinogradPartition partition = WinogradPartition.Choose<Simd512>(tiles, channels, panels, workers);
                Assert.InRange(partition.PanelGroups, 1, panels);
                Assert.InRange(partition.BlockTiles * partition.Blocks, tiles, tiles + partition.BlockTiles - 1);
            }
        }
    }

    [Fact]
    public void Weights_of_another_layer_are_refused()
    {
        using GuardedArray w = GuardedArray.Random(8 * 4, 1), x = GuardedArray.Random(16, 2), y = new(32);
        using PackedWeights packed = PackedWeights.Forward(w, 8, 4, 1);
        using var scratch = new WorkerScratch(1);
        Assert.Throws<ArgumentException>(() => Convolution.Forward(new(1, 2, 2, 3, 0, 8, 1, 1), packed, x, null, null, null, y, false, scratch));
        Assert.Throws<ArgumentException>(() => Convolution.DataGradient(new(1, 2, 2, 4, 0, 8, 1, 1), packed, y, null, x, scratch));
    }

    private static void Forward(
        int bits, ConvolutionShape s, GuardedArray w, GuardedArray x1, GuardedArray? x2, GuardedArray? bias, GuardedArray? residual, GuardedArray y, bool silu, int workers = 2) =>
        Run(bits, workers, w, s, false, (packed, scratch) => Convolution.Forward(s, packed, x1, x2, bias, residual, y, silu, scratch));

    private static void DataGradient(int bits, ConvolutionShape s, GuardedArray w, GuardedArray dy, GuardedArray? residual, GuardedArray dx) =>
        Run(bits, 2, w, s, true, (packed, scratch) => Convolution.DataGradient(s, packed, dy, residual, dx, scratch));

    private static void Run(int bits, int workers, GuardedArray w, ConvolutionShape s, bool gradient, Func<PackedWeights, WorkerScratch, CpuKernel> build)
    {
        PackedWeights? packed = null;
        try
        {
            KernelTest.Run(bits, workers, scratch =>
            {
                packed = gradient ? PackedWeights.DataGradient(w, s.Cout, s.Cin, s.Taps) : PackedWeights.Forward(w, s.Cout, s.Cin, s.Taps);
                return build(packed, scratch);
            });
        }
        finally
        {
            packed?.Dispose();
        }
    }
}
