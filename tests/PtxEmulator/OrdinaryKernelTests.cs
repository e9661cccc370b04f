using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>Ordinary kernels give right results with every check on, and their counters are the numbers worked out by hand beside them.</summary>
public sealed class OrdinaryKernelTests
{
    private static KernelRun Load(EmulatorOptions? options = null) => new(Cuda.Compile("ordinary.cu"), options);

    private static float[] Random(int count, int seed = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() * 2 - 1)];
    }

    private static LaunchArguments Arguments => new();

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

    [Fact]
    public void Divergent_loops()
    {
        using var run = Load();
        var steps = run.Driver.Allocate(500 * 4);
        run.Launch("collatz", 4, 128, Arguments.Add(steps).Add(500));
        var expected = Enumerable.Range(1, 500).Select(start =>
        {
            uint count = 0;
            for (var value = (long)start; value != 1; value = value % 2 == 0 ? value / 2 : 3 * value + 1)
                count++;
            return count;
        });
        Assert.Equal(expected, run.Get<uint>(steps, 500));

        // A warp loops as often as its slowest lane needs, and parts whenever some lanes are done and others are not. The compiler asks beforehand whether the value is 1, which
        // parts the first warp; the bounds check parts the last one, of 20 threads.
        var warps = expected.Chunk(32).Select(counts => counts.Where(count => count > 0).ToArray()).ToArray();
        Assert.Equal(16 + 16 + warps.Sum(counts => counts.Max()), run.Counters.Branches);
        Assert.Equal(1 + 1 + warps.Sum(counts => counts.Distinct().Count() - 1), run.Counters.DivergentBranches);
        Assert.Equal(1 - (double)run.Counters.DivergentBranches / run.Counters.Branches, run.Counters.BranchEfficiency);
        // Two comparisons before the loop, for the 512 and for the 500 in bounds, and two in every step: is it odd, is it 1.
        Assert.Equal(512 + 500 + 2 * expected.Sum(count => count), run.Counters.ByClass["Predicate"]);
        // All lanes are together again for the store: 15 full warps and 80 bytes.
        Assert.Equal((2000, 15 * 4 + 3, 2000), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors, run.Counters.DistinctWrittenBytes));
        Assert.Equal(0, run.Counters.GlobalReadBytes);
    }

    [Fact]
    public void Divergent_recursion()
    {
        using var run = Load();
        var y = run.Driver.Allocate(64 * 4);
        run.Launch("recursive", 1, 64, Arguments.Add(y));
        int[] fibonacci = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
        Assert.Equal(Enumerable.Range(0, 64).Select(t => fibonacci[t % 12]), run.Get<int>(y, 64));

        // fibonacci(n) makes 2 F(n + 1) - 1 calls in all, each with one comparison.
        Assert.Equal(Enumerable.Range(0, 64).Sum(t => 2 * (t % 12 < 11 ? fibonacci[t % 12 + 1] : 144) - 1), run.Counters.ByClass["Predicate"]);
        // Both warps hold every n from 0 to 11. Lanes with n below 2 return and wait; the others call with n - 1 together, then with n - 2.
        static (int Calls, int Parted) Tree(int low, int high)
        {
            if (high < 2)
                return (1, 0);
            var (from, parts) = (Math.Max(low, 2), low < 2 ? 1 : 0);
            var (first, second) = (Tree(from - 1, high - 1), Tree(from - 2, high - 2));
            return (1 + first.Calls + second.Calls, parts + first.Parted + second.Parted);
        }

        var (calls, parted) = Tree(0, 11);
        Assert.Equal((2 * calls, 2 * parted), (run.Counters.Branches, run.Counters.DivergentBranches));
        Assert.Equal((256, 8), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors));
        Assert.Equal(0, run.Counters.LocalBytes);
    }

    [Fact]
    public void Function_pointers_constants_and_device_variables()
    {
        using var run = Load();
        var y = run.Driver.Allocate(40 * 4);
        run.Launch("indirect", 1, 40, Arguments.Add(y));
        var expected = Enumerable.Range(0, 40).Select(t => (t % 3) switch { 0 => 2 * t, 1 => t * t, _ => -t } + 100 * ((t & 3) + 1) + 7);
        Assert.Equal(expected, run.Get<int>(y, 40));
        var (address, bytes) = run.Module.Variable("counter");
        Assert.Equal(4, bytes);
        Assert.Equal([7], run.Get<int>(address, 1));
        // The table of three pointers is written to local memory and one is read; every thread reads the counter, one sector per warp; 32 and 8 threads write.
        Assert.Equal(40 * (3 + 1) * 8, run.Counters.LocalBytes);
        Assert.Equal((40 * 4, 2, 4), (run.Counters.GlobalReadBytes, run.Counters.GlobalReadSectors, run.Counters.DistinctReadBytes));
        Assert.Equal((40 * 4, 4 + 1, 160), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors, run.Counters.DistinctWrittenBytes));
        Assert.Equal((0, 1.0), (run.Counters.Branches, run.Counters.BranchEfficiency));
    }

    [Fact]
    public void Switches_and_breaks()
    {
        using var run = Load();
        var x = Enumerable.Range(0, 64).Select(i => i * 5 % 9).ToArray();
        var y = run.Driver.Allocate(64 * 4);
        run.Launch("switches", 1, 64, Arguments.Add(run.Put(x)).Add(y));
        var expected = x.Select((v, t) => v switch
        {
            0 => 10,
            1 => 25,
            2 => 5,
            3 => Enumerable.Range(0, t).Where(i => i * i <= t).Sum(),
            4 => -1,
            5 => t,
            6 => 3 * t,
            _ => v,
        });
        Assert.Equal(expected, run.Get<int>(y, 64));
        // All lanes are together again for the store.
        Assert.Equal((256, 8), (run.Counters.GlobalReadBytes, run.Counters.GlobalReadSectors));
        Assert.Equal((256, 8), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors));
        // NVRTC 12 makes a tree of the cases, all of which both warps hold: above 2 parts; 0 and 1 part from 2, which is compared alone; above 4 parts; 3 parts from 4, which is
        // compared alone; 5 and 6 part from the rest; case 3 asks once whether there is a loop, whose bound is the root of t: 6, 15 and 24 leave after 3, 4 and 5 rounds, and 33, 42, 51
        // and 60 after 6, 7, 8 and 8.
        if (KernelCompiler.Version.Major == 12)
        {
            Assert.Equal(2 * 10 + 5 + 8, run.Counters.Branches);
            Assert.Equal(2 * 7 + 2 + 2, run.Counters.DivergentBranches);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Pair
    {
        internal int A;
        internal double B;
        internal short C0;
        internal short C1;
        internal short C2;
    }

    [Fact]
    public void Structs_local_arrays_and_long_division()
    {
        using var run = Load();
        var (y, z) = (run.Driver.Allocate(32 * 8), run.Driver.Allocate(32 * 8));
        run.Launch("structs", 1, 32, Arguments.Add(new Pair { A = 3, B = 1.5, C0 = 7, C1 = -8, C2 = 9 }).Add(y).Add(z));
        short[] c = [7, -8, 9];
        Assert.Equal(
            Enumerable.Range(0, 32).Select(t => (Math.FusedMultiplyAdd(1.5, t * 5 & 7, c[(t * 5 & 7) % 3])) / (3 + t)), run.Get<double>(y, 32));
        Assert.Equal(
            Enumerable.Range(0, 32).Select(t => 1000000007L * (t + 1) / (t - 40) + 1000000007L * t % (t + 3)), run.Get<long>(z, 32));
        // Eight doubles are written to local memory and one is read; two results of 8 bytes go out.
        Assert.Equal(32 * (8 + 1) * 8, run.Counters.LocalBytes);
        Assert.Equal((2 * 256, 2 * 8, 0), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors, run.Counters.GlobalReadBytes));
        // A long division whose operands have 32 bits is done in 32: never the first one, whose divisor is negative, and the second one for t to 4.
        Assert.Equal((2, 1), (run.Counters.Branches, run.Counters.DivergentBranches));
        // Eight multiply-adds (of which one is an addition, by 1) and one division.
        Assert.Equal(32 * (7 * 2 + 1 + 1), run.Counters.Flops);
    }

    [Fact]
    public void Votes_matches_and_reductions()
    {
        using var run = Load();
        var x = Enumerable.Range(0, 32).Select(i => i * 3 % 8).ToArray();
        var y = run.Driver.Allocate(32 * 4);
        run.Launch("votes", 1, 32, Arguments.Add(run.Put(x)).Add(y));
        var ballot = x.Select((v, i) => v > 3 ? 1u << i : 0).Aggregate((a, b) => a | b) ^ (1u << 9);
        var expected = x.Select(v => ballot + x.Select((w, i) => w == v ? 1u << i : 0).Aggregate((a, b) => a | b) + (uint)x.Sum() + (uint)x.Max() * 3 + 32);
        Assert.Equal(expected, run.Get<uint>(y, 32));
        // Three votes, a match, two reductions and the active mask.
        Assert.Equal(32 * (3 + 1 + 2 + 1), run.Counters.ByClass["Warp"]);
        Assert.Equal((128, 4), (run.Counters.GlobalReadBytes, run.Counters.GlobalReadSectors));
        Assert.Equal((128, 4), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors));
        Assert.Equal((0, 0, 0), (run.Counters.Branches, run.Counters.Barriers, run.Counters.SharedBytes));
    }

    [Fact]
    public void Math_functions_meet_their_bounds()
    {
        using var run = Load();
        const int N = 32;
        var x = Enumerable.Range(0, N).Select(i => (i - 15.5f) * 0.7f).ToArray();
        var y = run.Driver.Allocate(5 * N * 4);
        run.Launch("functions", 1, N, Arguments.Add(run.Put(x)).Add(y).Add(N));
        var result = run.Get<float>(y, 5 * N);
        for (var i = 0; i < N; i++)
        {
            double v = x[i], abs = Math.Abs(v);
            Close(Math.Sin(v) + Math.Cos(v), result[i], 3e-7);
            Close(Math.Exp(v) + Math.Log(abs + 1), result[N + i], 4e-7);
            Close(Math.Sqrt(abs) + 1 / Math.Sqrt(abs + 1) + 1 / (v * v + 1), result[2 * N + i], 4e-7);
            // The fast functions promise absolute errors near 2^-21 in [-pi, pi] only; the emulator is exact everywhere.
            Close(Math.Sin(v) * Math.Cos(v) + Math.Log(abs + 1), result[3 * N + i], 1e-6);
        }
        // One warp reads a row and writes five.
        Assert.Equal((128, 4), (run.Counters.GlobalReadBytes, run.Counters.GlobalReadSectors));
        Assert.Equal((5 * 128, 5 * 4), (run.Counters.GlobalWrittenBytes, run.Counters.GlobalWrittenSectors));

        static void Close(double expected, float actual, double tolerance) => Assert.Equal(expected, actual, tolerance * Math.Max(1, Math.Abs(expected)));
    }

    [Fact]
    public void Printf_writes_what_C_would()
    {
        using var output = new StringWriter();
        using var run = Load(new EmulatorOptions { Output = output });
        run.Launch("prints", 1, 32, Arguments.Add(3));
        Assert.Equal(
            "thread 0 of block 0: 0.000000 text 0x10000000000%\nthread 1 of block 0: 0.500000 text 0x10000000000%\nthread 2 of block 0: 1.000000 text 0x10000000000%\n",
            output.ToString());
    }
}
