using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Ops;
using Kernels.Tests.Support;
using Xunit;
using Attention = Kernels.Ops.Attention;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The kernels of <c>attention.cu</c> and <c>attention_backward.cu</c> at the sizes of models: against float64 and their specifications, what they move, and what they need.</summary>
public sealed class AttentionKernelTests
{
    private static readonly string[] s_architectures = ["sm_80", "sm_86", "sm_89", "sm_90"];

    /// <summary>Tokens, heads and head sizes: several blocks of queries and of keys, the last ones partial, wide heads, and heads that no tile takes.</summary>
    public static TheoryData<Precision, int, int, int> Sizes()
    {
        TheoryData<Precision, int, int, int> data = [];
        foreach (Precision precision in Enum.GetValues<Precision>())
        {
            data.Add(precision, 150, 2, 64);
            data.Add(precision, 300, 1, 24);
            data.Add(precision, 140, 1, 128);
            data.Add(precision, 20, 1, 136);
        }

        return data;
    }

    /// <summary>The classifier's <c>AttentionPool2d</c>, 64 tokens and their mean, runs through the same kernels, forward and backward; what it projects afterwards is one token.</summary>
    [Fact]
    public void The_attention_pool_is_fused_attention()
    {
        ModelConfig config = Presets.Find("classifier64").Model;
        Assert.Equal("attention", config.Pool);
        using DryRunBackend backend = new(new GpuOptions { Precision = Precision.Fp16 });
        Graph graph = Rewrites.Apply(ModelGraphs.Classifier(config, 1, 64, 64, 1)).Step;
        using Executor executor = backend.Compile(backend.Plan(graph), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        KernelCall[] pool = [.. backend.Calls.Where(c => c.Node.Name.Contains("out.2.attention", StringComparison.Ordinal))];
        Assert.Equal(["attention_forward", "attention_backward"], pool.Select(c => c.Kernel.Entry));
        Assert.All(pool, c => Assert.Contains("-DTOKENS=65", c.Kernel.Options, StringComparison.Ordinal));
        Assert.Equal([1, 1000], backend.Calls.Single(c => c.Node.Op is Kernels.Ops.Linear && c.Node.Name.Contains("out.2.c_proj", StringComparison.Ordinal)).Node.Output.Shape);
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Forward_and_backward_equal_float64(Precision precision, int tokens, int heads, int size)
    {
        using CountedRun run = new(precision);
        int channels = heads * size;
        Shape qkv = [1, tokens, 3 * channels], y = [1, tokens, channels], lse = [1, heads, tokens];
        Attention forward = new(heads, QkvOrder.Legacy);
        AttentionGradient backward = new(heads, QkvOrder.Legacy);
        float[] x = Values(qkv.Elements, 1), dout = Values(y.Elements, 2);
        double[][] expected = ReferenceInterpreter.Evaluate(forward, [qkv], [Widen(x)]);
        double[][] gradient = ReferenceInterpreter.Evaluate(backward, [y, qkv, y, lse], [Widen(dout), Widen(x), expected[0], expected[1]]);
        double tolerance = precision switch { Precision.Fp32 => 2e-6, Precision.Bf16 => Math.ScaleB(1, -6), _ => Math.ScaleB(1, -9) };
        OpRun there = run.Run(forward, (qkv, x));
        OpHarness.Matches(expected[0], there.Outputs[0], tolerance, "out");
        OpHarness.Matches(expected[1], there.Outputs[1], tolerance, "log-sum-exp");
        OpRun back = run.Run(backward, (y, dout), (qkv, x), (y, Narrow(expected[0])), (lse, Narrow(expected[1])));
        OpHarness.Matches(gradient[0], back.Outputs[0], tolerance, "dqkv");
    }

    [Theory]
    [InlineData(QkvOrder.Legacy)]
    [InlineData(QkvOrder.New)]
    public void The_specifications_equal_what_is_shipped(QkvOrder order)
    {
        using CountedRun run = new();
        const int N = 2, Tokens = 40, Heads = 2, Size = 12, Channels = Heads * Size;
        Shape qkv = [N, Tokens, 3 * Channels], y = [N, Tokens, Channels], lse = [N, Heads, Tokens];
        float[] x = Values(qkv.Elements, 1), dout = Values(y.Elements, 2);
        OpRun there = run.Run(new Attention(Heads, order), (qkv, x));
        ulong dx = run.Put<float>(x), dy = run.New(4 * y.Elements), dlse = run.New(4 * lse.Elements), ddqkv = run.New(4 * qkv.Elements);
        (string, object)[] constants =
        [
            ("MODE", 0), ("ELEMENT", DType.F32), ("QKV", DType.F32), ("OUT", DType.F32), ("LSE", DType.F32), ("DOUT", DType.F32), ("DQKV", DType.F32), ("HS", Size), ("HEADS", Heads),
            ("TOKENS", Tokens), ("NEW_ORDER", order == QkvOrder.New), ("SCALE", 1 / MathF.Sqrt(Size)), ("BLOCK_WARPS", 1), ("MT", 1), ("BN", 16), ("STAGES", 1),
        ];
        LaunchGeometry geometry = new(Tokens, Heads, N, 32, 1, 1, 0);
        run.Launch(new KernelSpec("attention.cu", "attention_naive", constants), geometry, new LaunchArguments().Add(dx).Add(dy).Add(dlse).Bytes);
        OpHarness.Matches(Widen(run.Get(dy, y.Elements)), there.Outputs[0], 1e-6, "out");
        OpHarness.Matches(Widen(run.Get(dlse, lse.Elements)), there.Outputs[1], 1e-6, "log-sum-exp");

        OpRun back = run.Run(new AttentionGradient(Heads, order), (y, dout), (qkv, x), (y, there.Outputs[0]), (lse, there.Outputs[1]));
        run.Launch(
            new KernelSpec("attention_backward.cu", "attention_backward_naive", constants),
            geometry,
            new LaunchArguments().Add(run.Put<float>(dout)).Add(dx).Add(dy).Add(dlse).Add(ddqkv).Bytes);
        OpHarness.Matches(Widen(run.Get(ddqkv, qkv.Elements)), back.Outputs[0], 2e-6, "dqkv");
    }

    /// <summary>The bits of an image are the same alone and as the last of three.</summary>
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Fp16)]
    public void Bits_do_not_depend_on_the_batch(Precision precision)
    {
        using CountedRun run = new(precision);
        const int Tokens = 65, Heads = 2, Channels = 64, Image = Tokens * Channels;
        float[] x = Values(9 * Image, 1), dout = Values(3 * Image, 2), y = Values(3 * Image, 3), lse = Values(3 * Heads * Tokens, 4, 5);
        float[][] Of(int n, int from)
        {
            Shape qkv = [n, Tokens, 3 * Channels], small = [n, Tokens, Channels];
            return
            [
                .. run.Run(new Attention(Heads, QkvOrder.New), (qkv, x[(from * 3 * Image)..])).Outputs,
                .. run.Run(
                    new AttentionGradient(Heads, QkvOrder.New),
                    (small, dout[(from * Image)..]),
                    (qkv, x[(from * 3 * Image)..]),
                    (small, y[(from * Image)..]),
                    ([n, Heads, Tokens], lse[(from * Heads * Tokens)..])).Outputs,
            ];
        }

        foreach ((float[] all, float[] one) in Of(3, 0).Zip(Of(1, 2)))
        {
            Assert.Equal(all[(all.Length / 3 * 2)..], one);
        }
    }

    /// <summary>
    /// Nine heads of 64 over 256 tokens in 16 bits, as the 64x64 model has at 16x16: a block has a head, reads its q, k and v once, and no two threads meet in a bank.
    /// </summary>
    [Fact]
    public void Up_to_256_tokens_are_read_once_without_bank_conflicts()
    {
        using CountedRun run = new(Precision.Fp16);
        const int Tokens = 256, Heads = 9, Channels = 64 * Heads;
        OpRun ran = run.Run(new Attention(Heads, QkvOrder.Legacy), ([1, Tokens, 3 * Channels], Values(3 * Tokens * Channels, 1)));
        LaunchCounters counters = Assert.Single(ran.Counters);
        Assert.Equal(Heads, ran.Calls[0].Geometry.Blocks);
        Assert.Equal(2 * 3 * Tokens * Channels, counters.GlobalReadBytes);
        Assert.Equal(counters.GlobalReadBytes, 32 * counters.GlobalReadSectors);
        Assert.Equal((2 * Tokens * Channels) + (4 * Heads * Tokens), counters.GlobalWrittenBytes);
        Assert.Equal(counters.GlobalWrittenBytes, 32 * counters.GlobalWrittenSectors);
        Assert.Equal(4L * Tokens * Tokens * Channels, counters.TensorFlops);
        Assert.Equal(0, counters.SharedExtraWavefronts);
    }

    /// <summary>Rows of tiles lie in different banks in every precision, forward and backward.</summary>
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Tf32)]
    [InlineData(Precision.Fp16)]
    [InlineData(Precision.Bf16)]
    public void No_two_threads_meet_in_a_bank(Precision precision)
    {
        using CountedRun run = new(precision);
        const int Tokens = 128, Heads = 2, Channels = 64 * Heads;
        OpRun ran = run.Run(new Attention(Heads, QkvOrder.New), ([1, Tokens, 3 * Channels], Values(3 * Tokens * Channels, 1)));
        OpRun back = run.Run(
            new AttentionGradient(Heads, QkvOrder.New),
            ([1, Tokens, Channels], Values(Tokens * Channels, 1)),
            ([1, Tokens, 3 * Channels], Values(3 * Tokens * Channels, 2)),
            ([1, Tokens, Channels], Values(Tokens * Channels, 3)),
            ([1, Heads, Tokens], Values(Heads * Tokens, 4, 6)));
        Assert.Equal((0, 0), (Assert.Single(ran.Counters).SharedExtraWavefronts, Assert.Single(back.Counters).SharedExtraWavefronts));
        Assert.Equal(precision == Precision.Fp32, ran.Counters[0].TensorFlops == 0);
    }

    /// <summary>The gradient, six heads of the classifier's 16x16: keys and values are read by each of four blocks of queries, queries and dout by each of four blocks of keys.</summary>
    [Fact]
    public void The_gradient_reads_what_passes_by_for_four_blocks_without_bank_conflicts()
    {
        using CountedRun run = new(Precision.Fp16);
        const int Tokens = 256, Heads = 6, Channels = 64 * Heads, Half = 2 * Tokens * Channels;
        OpRun ran = run.Run(
            new AttentionGradient(Heads, QkvOrder.New),
            ([1, Tokens, Channels], Values(Tokens * Channels, 1)),
            ([1, Tokens, 3 * Channels], Values(3 * Tokens * Channels, 2)),
            ([1, Tokens, Channels], Values(Tokens * Channels, 3)),
            ([1, Heads, Tokens], Values(Heads * Tokens, 4, 6)));
        LaunchCounters counters = Assert.Single(ran.Counters);

        // Blocks of queries: q once; dout for its tile and, with out, for D, once each; k and v four times; log-sum-exp by the four lanes of a row, in 16 bits here.
        const int Queries = (4 * Half) + (4 * 2 * Half) + (4 * 2 * Heads * Tokens);

        // Blocks of keys: k and v once; q and dout four times, dout and out for D as well; log-sum-exp four times.
        const int Keys = (2 * Half) + (4 * 2 * Half) + (4 * 2 * Half) + (4 * 2 * Heads * Tokens);
        Assert.Equal(Queries + Keys, counters.GlobalReadBytes);
        Assert.Equal(3 * Half, counters.GlobalWrittenBytes);
        Assert.Equal(14L * Tokens * Tokens * Channels, counters.TensorFlops);
        Assert.Equal(0, counters.SharedExtraWavefronts);
    }

    /// <summary>No architecture runs out of registers or of shared memory at the sizes of models.</summary>
    [Theory]
    [InlineData(Precision.Fp32, 1024, 64)]
    [InlineData(Precision.Fp32, 256, 128)]
    [InlineData(Precision.Tf32, 1024, 64)]
    [InlineData(Precision.Tf32, 256, 64)]
    [InlineData(Precision.Fp16, 1024, 64)]
    [InlineData(Precision.Fp16, 256, 64)]
    [InlineData(Precision.Fp16, 256, 128)]
    [InlineData(Precision.Bf16, 64, 64)]
    public void No_kernel_spills(Precision precision, int tokens, int size)
    {
        PtxEmulator.Cuda.Require();
        const int Heads = 4;
        Shape qkv = [1, tokens, 3 * Heads * size], y = [1, tokens, Heads * size], lse = [1, Heads, tokens];
        Resources.Check(precision, s_architectures, new Attention(Heads, QkvOrder.New), qkv);
        Resources.Check(precision, s_architectures, new AttentionGradient(Heads, QkvOrder.New), y, qkv, y, lse);
    }

    private static float[] Values(int count, int seed, double offset = 0) => [.. TestModels.Normals(new Random(seed), count, 1, offset).Select(v => (float)(Half)v)];

    private static double[] Widen(float[] values) => Array.ConvertAll(values, v => (double)v);

    private static float[] Narrow(double[] values) => Array.ConvertAll(values, v => (float)v);
}
