using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

public sealed unsafe class GroupNormTests
{
    private const double Tolerance = 1e-6;

    public static TheoryData<int, int, int, int, int> ShapesAndWidths()
    {
        var data = new TheoryData<int, int, int, int, int>();
        (int N, int Pixels, int C, int Groups)[] shapes =
        [
            (1, 1024, 192, 32), (2, 256, 384, 32), (1, 64, 576, 32), (4, 64, 32, 32), (1, 256, 2048, 32),
            (1, 1, 32, 32), (1, 1, 1, 1), (3, 35, 17, 1), (3, 35, 33, 11), (2, 77, 5, 5), (1, 130, 3, 3), (1, 67, 96, 32),
        ];
        foreach ((int n, int pixels, int c, int groups) in shapes)
        {
            foreach (int bits in KernelTest.Widths)
            {
                data.Add(n, pixels, c, groups, bits);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Forward_equals_float64(int n, int pixels, int c, int groups, int bits)
    {
        var shape = new GroupNormShape(n, pixels, c, groups);
        using var data = new Data(shape);
        foreach ((bool modulated, bool silu) in new[] { (false, false), (false, true), (true, false), (true, true) })
        {
            (double[] expected, double[] expectedStatistics) = Reference.GroupNorm(
                data.X.ToDoubles(), n, pixels, c, groups, data.Gamma.ToDoubles(), data.Beta.ToDoubles(), modulated ? data.ScaleShift.ToDoubles() : null, silu);
            using GuardedArray y = new(data.X.Length), statistics = new(n * groups * 2);
            KernelTest.Run(bits, 2, scratch =>
                GroupNorm.Forward(shape, (float*)data.X, data.Gamma, data.Beta, modulated ? data.ScaleShift : null, silu, 0, y, statistics, scratch));
            KernelTest.Matches(expected, y, Tolerance, $"{shape} modulated {modulated} SiLU {silu}");
            KernelTest.Matches(expectedStatistics, statistics, Tolerance, "statistics");
        }
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Backward_equals_float64(int n, int pixels, int c, int groups, int bits)
    {
        var shape = new GroupNormShape(n, pixels, c, groups);
        using var data = new Data(shape);
        foreach ((bool modulated, bool silu, bool inPlace) in new[] { (false, false, false), (false, true, true), (true, false, true), (true, true, false) })
        {
            float* scaleShift = modulated ? data.ScaleShift : null;
            using GuardedArray dy = GuardedArray.Random(data.X.Length, 5), separate = new(data.X.Length), y = new(data.X.Length), statistics = new(n * groups * 2);
            double[] expected = Reference.GroupNormBackward(
                data.X.ToDoubles(), dy.ToDoubles(), n, pixels, c, groups, data.Gamma.ToDoubles(), data.Beta.ToDoubles(), modulated ? data.ScaleShift.ToDoubles() : null, silu);
            GuardedArray dx = inPlace ? dy : separate;
            KernelTest.Run(bits, 1, scratch => GroupNorm.Forward(shape, (float*)data.X, data.Gamma, data.Beta, scaleShift, silu, 0, y, statistics, scratch));
            KernelTest.Run(bits, 2, scratch => GroupNorm.Backward(shape, data.X, statistics, data.Gamma, data.Beta, scaleShift, silu, dy, default, dx, scratch));

            // One element per group has variance zero: x drops out and the exact gradient is zero, so what is left is rounding of terms of this size.
            if (pixels * shape.GroupChannels == 1)
            {
                Assert.All(dx.Span.ToArray(), v => Assert.InRange(Math.Abs(v), 0, 1e-2));
                continue;
            }

            KernelTest.Matches(expected, dx, 2e-6, $"{shape} modulated {modulated} SiLU {silu}");
        }
    }

    [Fact]
    public void A_large_mean_does_not_spoil_the_variance()
    {
        var shape = new GroupNormShape(1, 400, 32, 4);
        using GuardedArray x = GuardedArray.Random(400 * 32, 1, scale: 0.25, offset: 1000), gamma = GuardedArray.Random(32, 2), beta = GuardedArray.Random(32, 3);
        using GuardedArray y = new(x.Length), statistics = new(8);
        (double[] expected, _) = Reference.GroupNorm(x.ToDoubles(), 1, 400, 32, 4, gamma.ToDoubles(), beta.ToDoubles(), null, false);
        KernelTest.Run(Simd.Widest, 2, scratch => GroupNorm.Forward(shape, (float*)x, gamma, beta, null, false, 0, y, statistics, scratch));

        // The mean is rounded to float: half a unit of 1000 in the last place, against a deviation of 0.25, is 1.2e-4. E[x^2] - E[x]^2 in float32 would lose it all.
        KernelTest.Matches(expected, y, 1.5e-4, "large mean");
    }

    [Theory]
    [InlineData(256, 192, 32)]
    [InlineData(1024, 32, 32)]
    [InlineData(35, 33, 11)]
    public void An_image_depends_neither_on_its_batch_nor_on_the_number_of_workers(int pixels, int c, int groups)
    {
        GroupNormShape one = new(1, pixels, c, groups), four = one with { N = 4 };
        using var data = new Data(four);
        using GuardedArray dy = GuardedArray.Random(data.X.Length, 5);
        using GuardedArray y4 = new(data.X.Length), dx4 = new(data.X.Length), statistics4 = new(8 * groups);
        using GuardedArray y1 = new(data.X.Length), dx1 = new(data.X.Length), statistics1 = new(8 * groups);
        KernelTest.Run(Simd.Widest, 2, s => GroupNorm.Forward(four, (float*)data.X, data.Gamma, data.Beta, data.ScaleShift, true, 0, y4, statistics4, s));
        KernelTest.Run(Simd.Widest, 2, s => GroupNorm.Backward(four, data.X, statistics4, data.Gamma, data.Beta, data.ScaleShift, true, dy, default, dx4, s));
        for (int image = 0; image < 4; image++)
        {
            int at = image * pixels * c;
            float* modulation = (float*)data.ScaleShift + (image * 2 * c);
            float* statistics = (float*)statistics1 + (image * 2 * groups);
            KernelTest.Run(Simd.Widest, 1, s =>
                GroupNorm.Forward(one, (float*)data.X + at, data.Gamma, data.Beta, modulation, true, 0, (float*)y1 + at, statistics, s));
            KernelTest.Run(Simd.Widest, 1, s =>
                GroupNorm.Backward(one, (float*)data.X + at, statistics, data.Gamma, data.Beta, modulation, true, (float*)dy + at, default, (float*)dx1 + at, s));
        }

        Assert.True(y4.Span.SequenceEqual(y1.Span));
        Assert.True(dx4.Span.SequenceEqual(dx1.Span));
        Assert.True(statistics4.Span.SequenceEqual(statistics1.Span));
    }

    private sealed class Data(GroupNormShape shape) : IDisposable
    {
        public GuardedArray X { get; } = GuardedArray.Random(shape.N * shape.Pixels * shape.C, 1, scale: 2, offset: 0.5);

        public GuardedArray Gamma { get; } = GuardedArray.Random(shape.C, 2);

        public GuardedArray Beta { get; } = GuardedArray.Random(shape.C, 3);

        public GuardedArray ScaleShift { get; } = GuardedArray.Random(shape.N * 2 * shape.C, 4, scale: 0.5);

        public void Dispose()
        {
            X.Dispose();
            Gamma.Dispose();
            Beta.Dispose();
            ScaleShift.Dispose();
        }
    }
}
