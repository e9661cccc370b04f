using System.Globalization;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Loads, stores, address spaces and atomics.</summary>
public sealed class MemoryTests
{
    private static string Kernel(string body) => ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb)\n{\n.reg .pred %q<4>;\n.reg .b16 %h<8>;\n.reg .b32 %r<16>;\n.reg .b64 %d<8>, %pa, %pb, %o;\n"
        + "mov.u32 %r0, %tid.x;\nld.param.u64 %pa, [pa];\nld.param.u64 %pb, [pb];\n" + body + "\nret;\n}\n";

    private static KernelRun Load(string body) => new(Encoding.UTF8.GetBytes(Kernel(body)), "memory.ptx", new EmulatorOptions { Workers = 1, InstructionBudget = 100_000, Counters = true });

    private static LaunchArguments Pair(ulong a, ulong b) => new LaunchArguments().Add(a).Add(b);

    [Theory]
    [InlineData("u8", "%h1", "b16", 1), InlineData("s8", "%h1", "b16", 1), InlineData("s8", "%r1", "b32", 1), InlineData("u16", "%r1", "b32", 2)]
    [InlineData("s16", "%r1", "b32", 2), InlineData("s16", "%d1", "b64", 2), InlineData("s32", "%d1", "b64", 4), InlineData("u32", "%d1", "b64", 4), InlineData("b64", "%d1", "b64", 8)]
    public void Narrow_loads_are_extended_to_their_register(string type, string register, string stored, int bytes)
    {
        var values = Enumerable.Range(0, 32).Select(i => unchecked((long)(0x9E3779B97F4A7C15UL * (ulong)(i + 1)))).ToArray();
        foreach (var cache in new[] { "", ".nc", ".ca", ".cg", ".cs", ".cv", ".volatile", ".relaxed.gpu", ".nc.L1::no_allocate.L2::128B" })
        {
            var modifier = cache == ".volatile" || cache.StartsWith(".relaxed", StringComparison.Ordinal) ? $"{cache}.global" : $".global{cache}";
            using var run = Load($"mul.wide.u32 %o, %r0, 8;\nadd.s64 %pa, %pa, %o;\nadd.s64 %pb, %pb, %o;\nld{modifier}.{type} {register}, [%pa];\nst.global.{stored} [%pb], {register};");
            var result = run.Put(new long[32]);
            run.Launch("k", 1, 32, Pair(run.Put(values), result));
            var shift = 64 - 8 * bytes;
            var mask = stored == "b16" ? 0xFFFF : stored == "b32" ? 0xFFFFFFFF : ulong.MaxValue;
            var expected = values.Select(v => (type[0] == 's' ? (ulong)(v << shift >> shift) : (ulong)v << shift >> shift) & mask);
            Assert.Equal(expected, run.Get<ulong>(result, 32));
        }
    }

    [Theory]
    [InlineData("v2.b32", 2, 4), InlineData("v4.b32", 4, 4), InlineData("v2.b64", 2, 8), InlineData("v4.b16", 4, 2), InlineData("v2.b8", 2, 1)]
    public void Vectors_go_through_every_space(string type, int elements, int bytes)
    {
        var prefix = bytes switch { 8 => "%d", 4 => "%r", _ => "%h" };
        var first = bytes == 4 ? 4 : 1;
        var list = "{" + string.Join(", ", Enumerable.Range(first, elements).Select(i => prefix + i.ToString(CultureInfo.InvariantCulture))) + "}";
        var size = elements * bytes;
        var n = size.ToString(CultureInfo.InvariantCulture);
        // Global to shared, generic to local, local back to global.
        using var run = Load(
            $".shared .align 16 .b8 s[1024];\n.local .align 16 .b8 l[32];\n.reg .b64 %l, %g;\nmul.wide.u32 %o, %r0, {n};\nadd.s64 %pa, %pa, %o;\nadd.s64 %pb, %pb, %o;\n"
            + $"ld.global.{type} {list}, [%pa];\nmov.u32 %r1, s;\nmad.lo.s32 %r1, %r0, {n}, %r1;\nst.shared.{type} [%r1], {list};\nbar.warp.sync 0xffffffff;\n"
            + $"xor.b32 %r2, %r0, 1;\nmov.u64 %g, s;\ncvta.shared.u64 %g, %g;\nmul.wide.u32 %o, %r2, {n};\nadd.s64 %g, %g, %o;\nisspacep.shared %q1, %g;\n@!%q1 trap;\nld.{type} {list}, [%g];\n"
            + $"mov.u64 %l, l;\nst.local.{type} [%l], {list};\ncvta.local.u64 %g, %l;\nld.{type} {list}, [%g];\nst.global.{type} [%pb], {list};");
        var values = Enumerable.Range(0, 32 * size).Select(i => (byte)(i * 37 + 5)).ToArray();
        var result = run.Put(new byte[32 * size]);
        run.Launch("k", 1, 32, Pair(run.Put(values), result));
        Assert.Equal(Enumerable.Range(0, 32).SelectMany(lane => values.Skip((lane ^ 1) * size).Take(size)), run.Get<byte>(result, 32 * size));
        Assert.Equal(2L * 32 * size, run.Counters.LocalBytes);
    }

    [Fact]
    public void Compare_and_swap_counts_up()
    {
        using var run = Load("LOOP:\nld.volatile.global.u32 %r1, [%pa];\nadd.s32 %r2, %r1, 1;\natom.global.cas.b32 %r3, [%pa], %r1, %r2;\nsetp.ne.u32 %q1, %r3, %r1;\n@%q1 bra LOOP;");
        var counter = run.Put(new uint[1]);
        // 64 threads of one block race for it; the other blocks' plain reads would be a race of blocks.
        run.Launch("k", 1, 64, Pair(counter, 0));
        Assert.Equal(64u, run.Get<uint>(counter, 1)[0]);
    }

    [Fact]
    public void Mbarrier_hands_data_from_producer_to_consumer()
    {
        // Warp 0 copies asynchronously and arrives; warp 1 waits for the phase, reads, and the roles' barrier is used for two phases.
        using var run = Load(
            ".shared .align 16 .b8 s[128];\n.shared .align 8 .b8 m[8];\nmov.u32 %r1, m;\nmov.u32 %r2, s;\nsetp.eq.u32 %q1, %r0, 0;\n@%q1 mbarrier.init.shared.b64 [%r1], 32;\nbar.sync 0;\n"
            + "and.b32 %r3, %r0, 31;\nmad.lo.s32 %r2, %r3, 4, %r2;\nmul.wide.u32 %o, %r3, 4;\nadd.s64 %pa, %pa, %o;\nadd.s64 %pb, %pb, %o;\nsetp.lt.u32 %q2, %r0, 32;\n@!%q2 bra CONSUMER;\n"
            + "cp.async.ca.shared.global [%r2], [%pa], 4;\ncp.async.mbarrier.arrive.noinc.shared.b64 [%r1];\nbra DONE;\n"
            + "CONSUMER:\nWAIT:\nmbarrier.try_wait.parity.shared.b64 %q3, [%r1], 0;\n@!%q3 bra WAIT;\nld.shared.u32 %r4, [%r2];\nadd.s32 %r4, %r4, 1;\nst.global.u32 [%pb], %r4;\nDONE:");
        var values = Enumerable.Range(10, 32).ToArray();
        var result = run.Put(new int[32]);
        run.Launch("k", 1, 64, Pair(run.Put(values), result));
        Assert.Equal(values.Select(v => v + 1), run.Get<int>(result, 32));
    }

    [Fact]
    public void An_mbarrier_that_misses_an_arrival_is_a_deadlock()
    {
        using var run = Load(
            ".shared .align 8 .b8 m[8];\nmov.u32 %r1, m;\nsetp.eq.u32 %q1, %r0, 0;\n@%q1 mbarrier.init.shared.b64 [%r1], 33;\nbar.sync 0;\nmbarrier.arrive.shared.b64 %d1, [%r1];\nWAIT:\nmbarrier.try_wait.shared.b64 %q3, [%r1], %d1;\n@!%q3 bra WAIT;");
        var finding = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 32), Pair(0, 0)));
        Assert.Equal(FindingKind.Deadlock, finding.Kind);
        Assert.Contains("misses 1 arrivals", finding.Message, StringComparison.Ordinal);
    }
}
