using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

public sealed unsafe class LinearTests
{
    private const double Tolerance = 1e-6;

    public static TheoryData<int, int, int, int> ShapesAndWidths()
    {
        var data = new TheoryData<int, int, int, int>();
        (int M, int K, int N)[] shapes = [(1, 1, 1), (1, 256, 1024), (2, 192, 768), (16, 128, 512), (3, 5, 17), (33, 17, 3), (100, 64, 192), (5, 33, 33), (129, 96, 40)];
        foreach ((int m, int k, int n) in shapes)
        {
            foreach (int bits in KernelTest.Widths)
            {
                data.Add(m, k, n, bits);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Forward_equals_the_float64_sum(int m, int k, int n, int bits)
    {
        using GuardedArray x = GuardedArray.Random(m * k, 1), w = GuardedArray.Random(n * k, 2), bias = GuardedArray.Random(n, 3);
        double[] expected = Reference.Linear(x.ToDoubles(), m, k, w.ToDoubles(), bias.ToDoubles(), n);
        using var y = new GuardedArray(m * n);
        Run(bits, w, n, k, false, (packed, scratch) => Linear.Create(new(m, k, n), packed, x, bias, null, y, false, false, scratch));
        KernelTest.Matches(expected, y, Tolerance, "plain");

        expected = Reference.SiLU(Reference.Linear(Reference.SiLU(x.ToDoubles()), m, k, w.ToDoubles(), null, n));
        Run(bits, w, n, k, false, (packed, scratch) => Linear.Create(new(m, k, n), packed, x, null, null, y, true, true, scratch));
        KernelTest.Matches(expected, y, Tolerance, "SiLU before and after");

        expected = Reference.Add(y.ToDoubles(), Reference.Linear(x.ToDoubles(), m, k, w.ToDoubles(), null, n));
        Run(bits, w, n, k, false, (packed, scratch) => Linear.Create(new(m, k, n), packed, x, null, y, y, false, false, scratch));
        KernelTest.Matches(expected, y, Tolerance, "added to what was there");
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Data_gradient_is_dy_times_the_weight(int m, int k, int n, int bits)
    {
        using GuardedArray dy = GuardedArray.Random(m * n, 1), w = GuardedArray.Random(n * k, 2), dx = new(m * k);
        double[] expected = Reference.Linear(dy.ToDoubles(), m, n, Reference.Transpose(w.ToDoubles(), n, k), null, k);
        Run(bits, w, n, k, true, (packed, scratch) => Linear.Create(new(m, n, k), packed, dy, null, null, dx, false, false, scratch));
        KernelTest.Matches(expected, dx, Tolerance, "dx");
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Batched_products_equal_the_float64_sum(int m, int k, int n, int bits)
    {
        const int Batch = 3;
        using GuardedArray a = GuardedArray.Random(Batch * m * k, 1), b = GuardedArray.Random(Batch * n * k, 2), c = new(Batch * m * n);
        foreach (bool transposed in new[] { false, true })
        {
            c.Span.Fill(float.NaN);
            KernelTest.Run(bits, 2, scratch => BatchedGemm.Create(
                new(Batch, m, n, k, m * k, k, n * k, transposed ? k : n, m * n, n, transposed), a, b, c, scratch));
            double[] expected = [.. Enumerable.Range(0, Batch).SelectMany(i =>
            {
                double[] right = b.ToDoubles()[(i * n * k)..((i + 1) * n * k)];
                return Reference.Linear(a.ToDoubles()[(i * m * k)..((i + 1) * m * k)], m, k, transposed ? right : Reference.Transpose(right, k, n), null, n);
            })];
            KernelTest.Matches(expected, c, Tolerance, transposed ? "transposed" : "plain");
        }
    }

    [Fact]
    public void A_row_does_not_depend_on_the_rows_beside_it()
    {
        const int Rows = 19, K = 70, N = 50;
        using GuardedArray x = GuardedArray.Random(Rows * K, 1), w = GuardedArray.Random(N * K, 2), all = new(Rows * N), single = new(Rows * N);
        Run(Simd.Widest, w, N, K, false, (packed, scratch) => Linear.Create(new(Rows, K, N), packed, x, null, null, all, true, false, scratch));
        for (int row = 0; row < Rows; row++)
        {
            Run(Simd.Widest, w, N, K, false, (packed, scratch) =>
                Linear.Create(new(1, K, N), packed, (float*)x + (row * K), null, null, (float*)single + (row * N), true, false, scratch));
        }

        Assert.True(all.Span.SequenceEqual(single.Span));
    }

    private static void Run(int bits, GuardedArray w, int outputs, int inputs, bool gradient, Func<PackedWeights, WorkerScratch, CpuKernel> build)
    {
        PackedWeights? packed = null;
        try
        {
            KernelTest.Run(bits, 2, scratch =>
            {
                packed = gradient ? PackedWeights.DataGradient(w, outputs, inputs, 1) : PackedWeights.Forward(w, outputs, inputs, 1);
                return build(packed, scratch);
            });
        }
        finally
        {
            packed?.Dispose();
        }
    }
}
