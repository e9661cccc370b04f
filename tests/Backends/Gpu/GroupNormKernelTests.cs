using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Ops;
using Kernels.Tests.Support;
using Xunit;
using Convolution = Kernels.Ops.Convolution;
using GroupNorm = Kernels.Ops.GroupNorm;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The kernels of <c>group_norm.cu</c> and <c>group_norm_backward.cu</c> at the sizes of models: which are launched, against float64 and their specifications, what they move and need.</summary>
public sealed class GroupNormKernelTests
{
    private static readonly string[] s_architectures = ["sm_80", "sm_86", "sm_89", "sm_90"];

    /// <summary>
    /// Images whose groups do not fit into a block's registers take three launches: the last tile is partial, groups lie across packs, two tensors meet within a group, results are
    /// pooled, residuals are added.
    /// </summary>
    [Theory]
    [InlineData(Precision.Fp32, false)]
    [InlineData(Precision.Fp32, true)]
    [InlineData(Precision.Fp16, false)]
    [InlineData(Precision.Fp16, true)]
    public void Two_launches_equal_float64(Precision precision, bool pool)
    {
        using CountedRun run = new(precision);
        const int Groups = 2, N = 2, Height = 66, Width = 64, Channels = 24;
        int second = pool ? 0 : 12;
        GroupNorm forward = new(Groups, ScaleShift: true, SiLU: true, Pool: pool, TwoInputs: !pool);
        Shape x = [N, Height, Width, Channels], y = [N, pool ? Height / 2 : Height, pool ? Width / 2 : Width, Channels + second];
        List<(Shape Shape, Array Values)> inputs =
        [
            (x, Values(x.Elements, 1, 2, 5)), ([Channels + second], Values(Channels + second, 2)), ([Channels + second], Values(Channels + second, 3)),
            ([N, 2 * (Channels + second)], Values(2 * N * (Channels + second), 4)),
        ];
        if (!pool)
        {
            inputs.Add((x.With(-1, second), Values(x.Elements / Channels * second, 5, 1, -3)));
        }

        double[][] expected = Reference(forward, inputs);
        OpRun there = run.Run(forward, [.. inputs]);
        Assert.Equal(["group_norm_partials", "group_norm_apply"], there.Calls.Select(c => c.Kernel.Entry));
        OpHarness.Matches(expected[0], there.Outputs[0], Tolerance(precision), "y");
        OpHarness.Matches(expected[1], there.Outputs[1], Tolerance(precision), "statistics");

        GroupNormGradient backward = new(Groups, ScaleShift: true, SiLU: true, Pool: pool, Residual: true, ResidualPool: pool);
        Shape wide = x.With(-1, Channels), dy = pool ? y : wide;
        double[] statistics = Reference(new GroupNorm(Groups), [inputs[0], ([Channels], new float[Channels]), ([Channels], new float[Channels])])[1];
        (Shape, Array)[] gradientInputs =
        [
            (dy, Values(dy.Elements, 6)), inputs[0], ([N, Groups, 2], Array.ConvertAll(statistics, v => (float)v)), ([Channels], Values(Channels, 2)), ([Channels], Values(Channels, 3)),
            ([N, 2 * Channels], Values(2 * N * Channels, 4)), (dy, Values(dy.Elements, 7)),
        ];
        OpRun back = run.Run(backward, gradientInputs);
        Assert.Equal(["group_norm_backward_partials", "group_norm_backward_apply"], back.Calls.Select(c => c.Kernel.Entry));
        OpHarness.Matches(Reference(backward, gradientInputs)[0], back.Outputs[0], Tolerance(precision), "dx");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void The_specifications_equal_what_is_shipped(int quad)
    {
        using CountedRun run = new();
        const int Groups = 4, N = 2, Height = 6, Width = 4, Channels = 24, Elements = N * Height * Width * Channels;
        bool pool = quad == 4;
        Shape x = [N, Height, Width, Channels], y = pool ? [N, Height / 2, Width / 2, Channels] : x;
        float[] values = Values(Elements, 1), gamma = Values(Channels, 2), beta = Values(Channels, 3), modulation = Values(2 * N * Channels, 4), dy = Values(y.Elements, 5);
        ulong dX = run.Put<float>(values), dGamma = run.Put<float>(gamma), dBeta = run.Put<float>(beta), dModulation = run.Put<float>(modulation);
        ulong dY = run.New(4 * y.Elements), dStatistics = run.New(8 * N * Groups), dDX = run.New(4 * Elements);
        (string, object)[] constants =
        [
            ("CHANNELS", Channels), ("SPLIT", Channels), ("GROUPS", Groups), ("PIXELS", Height * Width), ("WIDTH", Width), ("QUAD", quad), ("V", 1), ("COLUMNS", Channels), ("ROWS", 1),
            ("STEPS", 1), ("SCALE_SHIFT", DType.F32), ("SILU", true), ("EPSILON", 1e-5f), ("POOL", pool),
        ];
        OpRun there = run.Run(new GroupNorm(Groups, 1e-5f, true, true, pool), (x, values), ([Channels], gamma), ([Channels], beta), ([N, 2 * Channels], modulation));
        run.Launch(
            new KernelSpec("group_norm.cu", "group_norm_naive", constants),
            new LaunchGeometry(Groups, N, 1, 256, 1, 1, 0),
            new LaunchArguments().Add(dX).Add(0UL).Add(dGamma).Add(dBeta).Add(dModulation).Add(dY).Add(dStatistics).Bytes);
        OpHarness.Matches(Widen(run.Get(dY, y.Elements)), there.Outputs[0], 1e-6, "y");
        OpHarness.Matches(Widen(run.Get(dStatistics, 2 * N * Groups)), there.Outputs[1], 1e-6, "statistics");

        OpRun back = run.Run(
            new GroupNormGradient(Groups, true, true, pool), (y, dy), (x, values), ([N, Groups, 2], there.Outputs[1]), ([Channels], gamma), ([Channels], beta), ([N, 2 * Channels], modulation));
        run.Launch(
            new KernelSpec("group_norm_backward.cu", "group_norm_backward_naive", constants),
            new LaunchGeometry(Groups, N, 1, 256, 1, 1, 0),
            new LaunchArguments().Add(run.Put<float>(dy)).Add(dX).Add(dStatistics).Add(dGamma).Add(dBeta).Add(dModulation).Add(0UL).Add(dDX).Bytes);
        OpHarness.Matches(Widen(run.Get(dDX, Elements)), back.Outputs[0], 2e-6, "dx");
    }

    /// <summary>The bits of an image are the same alone and as the last of three, in one launch and in three.</summary>
    [Theory]
    [InlineData(8, 8, 48, "group_norm_fused")]
    [InlineData(66, 64, 24, "group_norm_partials")]
    public void Bits_do_not_depend_on_the_batch(int height, int width, int channels, string first)
    {
        using CountedRun run = new(Precision.Fp16);
        int image = height * width * channels;
        float[] x = Values(3 * image, 1, 2, 5), gamma = Values(channels, 2), beta = Values(channels, 3), dy = Values(3 * image, 4), statistics = Values(12, 5, 0.1, 1);
        float[][] Of(int n, int from)
        {
            Shape shape = [n, height, width, channels];
            OpRun there = run.Run(new GroupNorm(2, SiLU: true), (shape, x[(from * image)..]), ([channels], gamma), ([channels], beta));
            Assert.Equal(first, there.Calls[0].Kernel.Entry);
            OpRun back = run.Run(
                new GroupNormGradient(2, SiLU: true), (shape, dy[(from * image)..]), (shape, x[(from * image)..]), ([n, 2, 2], statistics[(from * 4)..]), ([channels], gamma), ([channels], beta));
            return [.. there.Outputs, .. back.Outputs];
        }

        foreach ((float[] all, float[] one) in Of(3, 0).Zip(Of(1, 2)))
        {
            Assert.Equal(all[(all.Length / 3 * 2)..], one);
        }
    }

    /// <summary>The shapes of the 64x64 model whose groups fit: x is read once and y written once, in whole sectors; parameters and statistics are what little comes on top.</summary>
    [Theory]
    [InlineData(Precision.Fp16, 32, 384)]
    [InlineData(Precision.Fp16, 16, 576)]
    [InlineData(Precision.Fp16, 8, 768)]
    [InlineData(Precision.Fp32, 32, 384)]
    [InlineData(Precision.Fp32, 8, 768)]
    public void Where_groups_fit_nothing_is_moved_twice(Precision precision, int size, int channels)
    {
        using CountedRun run = new(precision);
        long least = 2L * size * size * channels * precision.Storage().SizeInBytes();
        LaunchCounters counters = Assert.Single(Forward(run, size, channels).Counters);
        Assert.InRange(32 * (counters.GlobalReadSectors + counters.GlobalWrittenSectors), least, 1.1 * least);
    }

    /// <summary>
    /// 64x64 pixels of 192 channels, 6 to a group: the eight groups that make up whole sectors are 384 KB. Two launches read x twice and write y once, half as much again; partials, a
    /// pair per channel and tile, are written, and read by the last block.
    /// </summary>
    [Fact]
    public void Where_groups_do_not_fit_x_is_read_twice()
    {
        using CountedRun run = new(Precision.Fp16);
        const long X = 64 * 64 * 192 * 2;
        OpRun ran = Forward(run, 64, 192);
        Assert.Equal(2, ran.Counters.Count);
        (LaunchCounters partials, LaunchCounters apply) = (ran.Counters[0], ran.Counters[1]);
        LaunchGeometry grid = ran.Calls[0].Geometry;
        long tiles = grid.GridY, pairs = tiles * 192 * 8, draws = 4L * grid.Blocks, groups = 32 * 2 * 4;

        // The last block reads the means alone, then means with sums of squares, and writes the groups'; every block draws a ticket, which counts as a write.
        Assert.Equal((X + (pairs / 2) + pairs, pairs + groups + draws), (partials.GlobalReadBytes, partials.GlobalWrittenBytes));
        Assert.Equal(X + groups, apply.GlobalWrittenBytes);

        // y in whole sectors; the groups' statistics, a handful of bytes, in as many as the warps that write them.
        Assert.InRange(32 * apply.GlobalWrittenSectors, X + groups, X + (2 * groups));
        long moved = 32 * ran.Counters.Sum(c => c.GlobalReadSectors + c.GlobalWrittenSectors);
        Assert.InRange(moved, 3 * X, 1.1 * 3 * X);
    }

    /// <summary>Behind a convolution the partials of its epilogue, in tiles of its own, take the place of the first launch: the norm reads x once. Pixels do not fill the last tile.</summary>
    [Theory]
    [InlineData(Precision.Fp32, false)]
    [InlineData(Precision.Fp16, true)]
    public void Statistics_of_a_convolution_are_taken(Precision precision, bool pool)
    {
        Dictionary<string, (Shape, float[])> weights = new()
        {
            ["w"] = ([48, 16, 3, 3], Values(48 * 16 * 9, 1, 0.1)), ["bias"] = ([48], Values(48, 2, 1, 20)), ["gamma"] = ([48], Values(48, 3)), ["beta"] = ([48], Values(48, 4)),
        };
        float[] x = Values(2 * 10 * 18 * 16, 5);
        float[][] results = new float[2][];
        foreach (bool fused in new[] { false, true })
        {
            using GpuBackend backend = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = false, DisabledFusions = fused ? [] : ["group_norm_statistics"] });
            GraphBuilder builder = new();
            Tensor y = builder.Add(
                "convolution", new Convolution(Padding: 1, Bias: true), builder.Input("x", [2, 10, 18, 16]), builder.Weight("w", [48, 16, 3, 3]), builder.Weight("bias", [48]));
            builder.Output("y", builder.Add("norm", new GroupNorm(8, SiLU: true, Pool: pool), y, builder.Weight("gamma", [48]), builder.Weight("beta", [48])));
            using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(builder.Build()), Weights.FromArrays(weights));
            executor.Write("x", x);
            executor.Run();
            results[fused ? 1 : 0] = executor.Read("y");
            Assert.Equal(
                fused ? ["group_norm_apply"] : new[] { "group_norm_fused" },
                executor.Calls.Where(c => c.Node.Name == "norm").Select(c => c.Kernel.Entry));
        }

        // Each by itself is held against float64; a mean of 20 would show digits lost in E[x^2] - E[x]^2.
        OpHarness.Matches(Widen(results[0]), results[1], 2e-6, "y");
    }

    /// <summary>No architecture runs out of registers at the sizes of models: 64x64 and 256x256 UNets, forward, and the classifier's, backward.</summary>
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Fp16)]
    public void No_kernel_spills(Precision precision)
    {
        PtxEmulator.Cuda.Require();
        foreach ((int size, int channels) in new[] { (64, 192), (32, 384), (16, 576), (8, 768), (16, 1344), (64, 512) })
        {
            Shape x = [1, size, size, channels];
            Resources.Check(precision, s_architectures, new GroupNorm(32, 1e-5f, true, true), x, [channels], [channels], [1, 2 * channels]);
        }

        foreach ((int size, int channels) in new[] { (64, 128), (32, 256), (16, 384), (8, 512) })
        {
            Shape x = [1, size, size, channels];
            Resources.Check(precision, s_architectures, new GroupNormGradient(32, true, true, Residual: true), x, x, [1, 32, 2], [channels], [channels], [1, 2 * channels], x);
        }

        Shape image = [1, 32, 32, 256], half = [1, 16, 16, 256];
        Resources.Check(precision, s_architectures, new GroupNorm(32, 1e-5f, false, true, Pool: true), image, [256], [256]);
        Resources.Check(precision, s_architectures, new GroupNormGradient(32, false, true, Pool: true, Residual: true, ResidualPool: true), half, image, [1, 32, 2], [256], [256], half);
    }

    private static OpRun Forward(CountedRun run, int size, int channels) => run.Run(
        new GroupNorm(32, SiLU: true), ([1, size, size, channels], Values(size * size * channels, 1)), ([channels], Values(channels, 2)), ([channels], Values(channels, 3)));

    private static double[][] Reference(Op op, IEnumerable<(Shape Shape, Array Values)> inputs) =>
        ReferenceInterpreter.Evaluate(op, [.. inputs.Select(i => i.Shape)], [.. inputs.Select(i => Widen((float[])i.Values))]);

    private static double Tolerance(Precision precision) => precision == Precision.Fp32 ? 2e-6 : Math.ScaleB(1, -9);

    private static float[] Values(int count, int seed, double scale = 1, double offset = 0) =>
        [.. TestModels.Normals(new Random(seed), count, scale, offset).Select(v => (float)(Half)v)];

    private static double[] Widen(float[] values) => Array.ConvertAll(values, v => (double)v);
}
