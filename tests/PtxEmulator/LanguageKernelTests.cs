using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;
using static Kernels.Tests.PtxEmulator.OrdinaryKernels;

namespace Kernels.Tests.PtxEmulator;

/// <summary>What CUDA C++ compiles to: divergence, calls, structures, the mathematical functions, printf. Results and counters are worked out by hand beside them.</summary>
public sealed class LanguageKernelTests
{
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
