using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Tests.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The kernels of <c>linear.cu</c>.</summary>
public sealed class LinearKernelTests
{
    private const int RowsOfBlock = 8, FeaturesOfBlock = 4;

    /// <summary>The specification and the shipped kernel hold against float64, at extents that fill no warp, no block and no group of rows.</summary>
    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(3, 67, 5)]
    [InlineData(16, 192, 33)]
    [InlineData(9, 132, 10)]
    public void Both_kernels_equal_float64(int rows, int k, int m)
    {
        using CountedRun run = new();
        Operands operands = new(rows, k, m);
        double[] expected = operands.Expected();
        OpHarness.Matches(expected, operands.Launch(run, "linear_naive").Y, 1e-6, "naive");
        OpHarness.Matches(expected, operands.Launch(run, "linear").Y, 1e-6, "shipped");
    }

    /// <summary>A row has the same bits alone and among others.</summary>
    [Fact]
    public void A_row_does_not_depend_on_the_others()
    {
        using CountedRun run = new();
        Operands all = new(19, 260, 12);
        float[] together = all.Launch(run, "linear").Y;
        for (int row = 0; row < 19; row += 6)
        {
            Assert.Equal(together[(row * 12)..((row + 1) * 12)], all.Row(row).Launch(run, "linear").Y);
        }
    }

    /// <summary>
    /// A block's scale and shift in the 64x64 model, 768 features to 1536, at batch 8 and 16: every weight is read once for 8 rows, in whole sectors; x, bias and residual once per warp that
    /// needs them.
    /// </summary>
    [Theory]
    [InlineData(8)]
    [InlineData(16)]
    public void Weights_are_read_once_for_eight_rows(int rows)
    {
        const int K = 768, M = 1536;
        using CountedRun run = new();
        LaunchCounters counters = new Operands(rows, K, M).Launch(run, "linear").Counters;
        long weights = (long)rows / RowsOfBlock * M * K * sizeof(float), x = (long)rows * M * K * sizeof(float), rest = 2L * rows * M * sizeof(float);
        Assert.Equal(weights + x + rest, counters.GlobalReadBytes);
        Assert.Equal((long)sizeof(float) * ((M * K) + (rows * K) + M + (rows * M)), counters.DistinctReadBytes);
        Assert.Equal((long)rows * M * sizeof(float), counters.DistinctWrittenBytes);

        // The last few bytes, bias, residual and y, go by one feature a warp: 8 rows apart.
        long single = 3L * rows * M;
        Assert.InRange(counters.GlobalReadSectors + counters.GlobalWrittenSectors, 0, ((weights + x) / 32) + single);
    }

    [Fact]
    public void Nothing_spills()
    {
        string[] architectures = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"];
        PtxEmulator.Cuda.RequireMachineCode(architectures);
        KernelSources sources = KernelSources.Open();
        foreach (string architecture in architectures)
        {
            KernelSpec kernel = Operands.Kernel("linear", 768, 1536);
            CompiledKernels compiled = KernelCompiler.Compile(sources.Text(kernel.File), kernel.File, architecture, kernel.Options.Split('\n'), sources.Headers);
            Assert.All(compiled.Resources, r => Assert.Equal((0, 0, 0), (r.SpillStoreBytes, r.SpillLoadBytes, r.StackBytes)));
        }
    }

    private sealed class Operands
    {
        private readonly int _rows, _k, _m;
        private readonly float[] _x, _w, _bias, _residual;

        public Operands(int rows, int k, int m)
            : this(rows, k, m, Draw(1, rows * k), Draw(2, m * k), Draw(3, m), Draw(4, rows * m))
        {
        }

        private Operands(int rows, int k, int m, float[] x, float[] w, float[] bias, float[] residual) =>
            (_rows, _k, _m, _x, _w, _bias, _residual) = (rows, k, m, x, w, bias, residual);

        public static KernelSpec Kernel(string entry, int k, int m) =>
            new("linear.cu", entry, ("K", k), ("M", m), ("BIAS", true), ("RESIDUAL", true), ("ROWS", RowsOfBlock), ("FEATURES", FeaturesOfBlock));

        public Operands Row(int row) => new(1, _k, _m, _x[(row * _k)..((row + 1) * _k)], _w, _bias, _residual[(row * _m)..((row + 1) * _m)]);

        public double[] Expected() =>
        [
            .. Enumerable.Range(0, _rows * _m).Select(at =>
                _bias[at % _m] + _residual[at] + Enumerable.Range(0, _k).Sum(i => (double)_x[(at / _m * _k) + i] * _w[(at % _m * _k) + i])),
        ];

        public (float[] Y, LaunchCounters Counters) Launch(CountedRun run, string entry)
        {
            ulong y = run.New(_rows * _m * sizeof(float));
            LaunchGeometry geometry = entry == "linear"
                ? new((_m + FeaturesOfBlock - 1) / FeaturesOfBlock, (_rows + RowsOfBlock - 1) / RowsOfBlock, 1, FeaturesOfBlock * 32, 1, 1, 0)
                : LaunchGeometry.Linear(((_rows * _m) + 127) / 128, 128);
            LaunchArguments arguments = new LaunchArguments()
                .Add(run.Put<float>(_x)).Add(run.Put<float>(_w)).Add(run.Put<float>(_bias)).Add(run.Put<float>(_residual)).Add(y).Add(_rows);
            LaunchCounters counters = run.Launch(Kernel(entry, _k, _m), geometry, arguments.Bytes);
            return (run.Get(y, _rows * _m), counters);
        }

        private static float[] Draw(int seed, int count) => Array.ConvertAll(TestModels.Normals(new Random(seed), count), v => (float)v);
    }
}
