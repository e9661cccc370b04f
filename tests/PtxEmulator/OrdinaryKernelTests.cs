using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;
using static Kernels.Tests.PtxEmulator.OrdinaryKernels;

namespace Kernels.Tests.PtxEmulator;

/// <summary>The module of ordinary kernels, and short words for launching them.</summary>
internal static class OrdinaryKernels
{
    internal static LaunchArguments Arguments => new();

    internal static KernelRun Load(EmulatorOptions? options = null) => new(Cuda.Compile("ordinary.cu"), options);

    internal static float[] Random(int count, int seed = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() * 2 - 1)];
    }
}

/// <summary>Ordinary kernels give right results with every check on, and their counters are the numbers worked out by hand beside them.</summary>
public sealed class OrdinaryKernelTests
{
    [Fact]
    public void Saxpy_counts_its_traffic()
    {
        using var run = Load();
        var (x, y) = (Random(1000), Random(1000, 2));
        var (dx, dy) = (run.Put(x), run.Put(y));
        run.Launch("saxpy", 8, 128, Arguments.Add(2.5f).Add(dx).Add(dy).Add(1000));
        Assert.Equal(x.Zip(y, (a, b) => MathF.FusedMultiplyAdd(2.5f, a, b)), run.Get<float>(dy, 1000));

        // 1000 threads read x and y and write y, 4 bytes each; a warp's 128 bytes are 4 sectors, 31 full warps and one of 8 threads (1 sector).
        var counters = run.Counters;
        Assert.Equal(2 * 4000, counters.GlobalReadBytes);
        Assert.Equal(4000, counters.GlobalWrittenBytes);
        Assert.Equal(2 * (31 * 4 + 1), counters.GlobalReadSectors);
        Assert.Equal(31 * 4 + 1, counters.GlobalWrittenSectors);
        Assert.Equal(8000, counters.DistinctReadBytes);
        Assert.Equal(4000, counters.DistinctWrittenBytes);
        Assert.Equal(2000, counters.Flops);
        // Every one of 32 warps executes the bounds check; it parts the lanes of the last one only.
        Assert.Equal(32, counters.Branches);
        Assert.Equal(1, counters.DivergentBranches);
    }

    [Fact]
    public void Tiled_gemm_counts_flops_and_barriers()
    {
        using var run = Load();
        const int M = 32, N = 48, K = 64;
        var (a, b) = (Random(M * K), Random(K * N, 2));
        var dc = run.Driver.Allocate(M * N * 4);
        run.Launch("gemm_tiled", new LaunchGeometry(N / 16, M / 16, 1, 16, 16, 1, 0), Arguments.Add(run.Put(a)).Add(run.Put(b)).Add(dc).Add(M).Add(N).Add(K));
        var c = run.Get<float>(dc, M * N);
        for (var i = 0; i < M; i++)
        {
            for (var j = 0; j < N; j++)
            {
                var sum = 0f;
                for (var k = 0; k < K; k++)
                    sum = MathF.FusedMultiplyAdd(a[i * K + k], b[k * N + j], sum);
                Assert.Equal(sum, c[i * N + j]);
            }
        }
        var counters = run.Counters;
        Assert.Equal(2L * M * N * K, counters.Flops);
        // 6 blocks of 8 warps, 4 tiles, 2 barriers each.
        Assert.Equal(6 * 8 * 4 * 2, counters.Barriers);
        // Every block reads 4 tiles of A and of B, 1 KiB each.
        Assert.Equal(6 * 4 * 2 * 1024, counters.GlobalReadBytes);
        Assert.Equal(counters.GlobalReadBytes / 32, counters.GlobalReadSectors);
        Assert.Equal(1.0, counters.CoalescingEfficiency);
        Assert.Equal((M * K + K * N) * 4, counters.DistinctReadBytes);
        // A warp is two rows of 16: writing the tiles touches every bank once. Reading B, both rows want the same 16 words; reading A, two words: no conflicts.
        Assert.Equal(0, counters.SharedExtraWavefronts);
    }

    [Fact]
    public void Block_sum_with_shuffles()
    {
        using var run = Load();
        var x = Random(1000);
        var partial = run.Driver.Allocate(16);
        run.Launch("block_sum", 4, 256, Arguments.Add(run.Put(x)).Add(partial).Add(1000));
        Assert.Equal(x.Sum(v => (double)v), run.Get<float>(partial, 4).Sum(v => (double)v), 1e-4);
        // 8 warps store one word each and the first one reads 8 words.
        Assert.Equal(4 * (8 * 4 + 8 * 4), run.Counters.SharedBytes);
        Assert.Equal(4 * 8, run.Counters.Barriers);
        Assert.Equal(0, run.Counters.SharedExtraWavefronts);
        // 1000 floats, 31 full warps and a quarter; one word per block.
        Assert.Equal((4000, 125, 4000), (run.Counters.GlobalReadBytes, run.Counters.GlobalReadSectors, run.Counters.DistinctReadBytes));
        Assert.Equal((16, 4, 16), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors, run.Counters.DistinctWrittenBytes));
        // Five shuffles by every thread, three more by the first warp of each block; an addition after each.
        Assert.Equal(5 * 1024 + 3 * 4 * 32, run.Counters.ByClass["Warp"]);
        Assert.Equal(5 * 1024 + 3 * 4 * 32, run.Counters.Flops);
        // All 32 warps: the bounds check parts the last one, lane 0 parts from its warp in each, the first warp of a block goes on whole; there, 8 of 32 lanes read and one writes.
        Assert.Equal(3 * 32 + 2 * 4, run.Counters.Branches);
        Assert.Equal(1 + 32 + 2 * 4, run.Counters.DivergentBranches);
    }

    [Fact]
    public void Scan_in_dynamic_shared_memory()
    {
        using var run = Load();
        var x = Enumerable.Range(0, 512).Select(i => i * 7 % 13).ToArray();
        var y = run.Driver.Allocate(512 * 4);
        run.Launch("scan_block", LaunchGeometry.Linear(2, 256, 2 * 256 * 4), Arguments.Add(run.Put(x)).Add(y));
        var result = run.Get<int>(y, 512);
        for (var i = 0; i < 512; i++)
            Assert.Equal(x[(i & ~255)..(i + 1)].Sum(), result[i]);
        // One barrier after the load and one per doubling: 9, by 8 warps of 2 blocks.
        Assert.Equal(9 * 8 * 2, run.Counters.Barriers);
        Assert.Equal((2048, 64), (run.Counters.GlobalReadBytes, run.Counters.GlobalReadSectors));
        Assert.Equal((2048, 64), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors));
        // Per block: 256 words in and out, and in each of 8 steps 256 written, 256 read, and 256 - offset read; the offsets sum to 255. Neighbours lie in different banks.
        Assert.Equal(2 * 4 * (2 * 256 + 8 * 3 * 256 - 255), run.Counters.SharedBytes);
        Assert.Equal(0, run.Counters.SharedExtraWavefronts);
        // Each of 16 warps: once whether there is a loop, and in each of 8 steps the comparison with the offset and the loop's own. Offsets 1 to 16 part the first warp of both blocks.
        Assert.Equal(16 * (1 + 8 * 2), run.Counters.Branches);
        Assert.Equal(2 * 5, run.Counters.DivergentBranches);
    }

    [Fact]
    public void Histogram_with_atomics()
    {
        using var run = Load();
        var random = new Random(3);
        var x = Enumerable.Range(0, 5000).Select(_ => (uint)random.Next()).ToArray();
        var bins = run.Put(new uint[64]);
        run.Launch("histogram", 4, 128, Arguments.Add(run.Put(x)).Add(bins).Add(5000));
        var expected = new uint[64];
        foreach (var value in x)
            expected[value & 63]++;
        Assert.Equal(expected, run.Get<uint>(bins, 64));
        Assert.Equal(5000 * 4, run.Counters.GlobalReadBytes);
        Assert.Equal(4 * 64 * 4, run.Counters.GlobalWrittenBytes);
        Assert.Equal(5000 + 4 * 64, run.Counters.ByClass["Atomic"]);
        // 156 full warps' loads and a quarter of one; per block 64 bins of 4 bytes.
        Assert.Equal(156 * 4 + 1, run.Counters.GlobalReadSectors);
        Assert.Equal(4 * 8, run.Counters.GlobalWrittenSectors);
        Assert.Equal((20000, 256), (run.Counters.DistinctReadBytes, run.Counters.DistinctWrittenBytes));
        // Bins are cleared, counted up 5000 times and read.
        Assert.Equal(4 * (4 * 64 + 5000 + 4 * 64), run.Counters.SharedBytes);
        Assert.Equal(2 * 16, run.Counters.Barriers);
        // 16 warps: thread below 64 twice, anything to do once. 5000 = 9 * 512 + 12 * 32 + 8: 12 warps loop 10 times, the next 10 times with 8 lanes staying for the last, three 9 times.
        Assert.Equal(3 * 16 + 13 * 10 + 3 * 9, run.Counters.Branches);
        Assert.Equal(1, run.Counters.DivergentBranches);
    }

    [Theory]
    [InlineData("transpose_conflicts", 31)]
    [InlineData("transpose_padded", 0)]
    public void Transpose_shows_its_bank_conflicts(string kernel, int extraPerRead)
    {
        using var run = Load();
        var x = Random(64 * 64);
        var y = run.Driver.Allocate(64 * 64 * 4);
        run.Launch(kernel, new LaunchGeometry(2, 2, 1, 32, 8, 1, 0), Arguments.Add(run.Put(x)).Add(y).Add(64));
        var result = run.Get<float>(y, 64 * 64);
        for (var i = 0; i < 64; i++)
        {
            for (var j = 0; j < 64; j++)
                Assert.Equal(x[i * 64 + j], result[j * 64 + i]);
        }
        // 4 blocks of 8 warps, each 4 times: a row is written in one wavefront, a column of an unpadded tile is read from one bank in 32.
        const int Accesses = 4 * 8 * 4;
        Assert.Equal(Accesses * extraPerRead, run.Counters.SharedExtraWavefronts);
        Assert.Equal(Accesses * (2 + extraPerRead), run.Counters.SharedWavefronts);
        Assert.Equal(1.0, run.Counters.CoalescingEfficiency);
    }

    [Fact]
    public void Flash_attention_matches_softmax()
    {
        using var run = Load();
        const int T = 64;
        var (q, k, v) = (Random(T * 64), Random(T * 64, 2), Random(T * 64, 3));
        var dOut = run.Driver.Allocate(T * 64 * 4);
        run.Launch("flash_attention", T / 32, 32, Arguments.Add(run.Put(q)).Add(run.Put(k)).Add(run.Put(v)).Add(dOut).Add(T));
        var result = run.Get<float>(dOut, T * 64);
        for (var row = 0; row < T; row++)
        {
            var scores = Enumerable.Range(0, T).Select(j => Enumerable.Range(0, 64).Sum(i => (double)q[row * 64 + i] * k[j * 64 + i]) / 8).ToArray();
            var weights = scores.Select(s => Math.Exp(s - scores.Max())).ToArray();
            for (var i = 0; i < 64; i++)
            {
                var expected = Enumerable.Range(0, T).Sum(j => weights[j] * v[j * 64 + i]) / weights.Sum();
                Assert.Equal(expected, result[row * 64 + i], 2e-6);
            }
        }

        // Two blocks of 32 queries: each reads its queries once and all keys and values, 256 bytes a row.
        var counters = run.Counters;
        Assert.Equal(T * 256 + 2 * 2 * T * 256, counters.GlobalReadBytes);
        Assert.Equal(3 * T * 256, counters.DistinctReadBytes);
        Assert.Equal(T * 256, counters.GlobalWrittenBytes);
        // Every block fills both tiles twice and reads them once per thread; all threads of the warp read the same word, which is no conflict.
        Assert.Equal(2 * 2 * (2 * 32 * 256) + (long)T * T * 2 * 256, counters.SharedBytes);
        Assert.Equal(0, counters.SharedExtraWavefronts);
        Assert.Equal(2 * 2 * 2, counters.Barriers);
        // Per query and key: 64 multiply-adds, two differences, two exponentials of a product and ex2 each, one multiply-add, 64 products and 64 multiply-adds; per query 64 scalings and 64 divisions.
        Assert.Equal((long)T * T * (128 + 2 + 4 + 2 + 64 + 128) + T * 128, counters.Flops);
    }

    [Fact]
    public void Async_copies_arrive_when_waited_for()
    {
        using var run = Load();
        const int Tiles = 7, Blocks = 2;
        var x = Random(Tiles * Blocks * 512);
        var y = run.Driver.Allocate(x.Length * 4);
        run.Launch("async_pipeline", Blocks, 128, Arguments.Add(run.Put(x)).Add(y).Add(Tiles));
        Assert.Equal(x.Select(value => 2 * value), run.Get<float>(y, x.Length));
        Assert.Equal(x.Length * 4, run.Counters.GlobalWrittenBytes);
        Assert.Equal(x.Length * 4, run.Counters.GlobalReadBytes);
        Assert.Equal(1.0, run.Counters.CoalescingEfficiency);
        // Copied in and read once; 16-byte accesses in a row are free of conflicts, forward and backward.
        Assert.Equal(2 * x.Length * 4, run.Counters.SharedBytes);
        Assert.Equal(0, run.Counters.SharedExtraWavefronts);
        Assert.Equal(Blocks * 4 * Tiles, run.Counters.Barriers);
        Assert.Equal(x.Length, run.Counters.Flops);
    }
}
