using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Special registers in a grid of three dimensions, and the clocks.</summary>
public sealed class SpecialRegisterTests
{
    private static uint[] Read(string body)
    {
        // Threads are numbered over blocks and then within the block.
        var text = ".version 8.4\n.target sm_90\n.address_size 64\n.extern .shared .align 4 .b8 more[];\n.visible .entry k(.param .u64 po)\n{\n.reg .pred %q;\n.reg .b32 %r<16>;\n.reg .b64 %d<8>;\n.shared .align 4 .b8 s[24];\n"
            + "mov.u32 %r1, %ctaid.z;\nmov.u32 %r2, %nctaid.y;\nmov.u32 %r3, %ctaid.y;\nmad.lo.u32 %r1, %r1, %r2, %r3;\nmov.u32 %r2, %nctaid.x;\nmov.u32 %r3, %ctaid.x;\nmad.lo.u32 %r1, %r1, %r2, %r3;\n"
            + "mov.u32 %r4, %tid.z;\nmov.u32 %r2, %ntid.y;\nmov.u32 %r3, %tid.y;\nmad.lo.u32 %r4, %r4, %r2, %r3;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r3, %tid.x;\nmad.lo.u32 %r4, %r4, %r2, %r3;\nmad.lo.u32 %r1, %r1, 60, %r4;\n"
            + "mov.u32 %r5, more;\nmov.u32 %r5, s;\n" + body + "\nld.param.u64 %d1, [po];\nmul.wide.u32 %d2, %r1, 4;\nadd.s64 %d1, %d1, %d2;\nst.global.u32 [%d1], %r9;\nret;\n}\n";
        using var run = new KernelRun(Encoding.UTF8.GetBytes(text), "special.ptx", new EmulatorOptions { Workers = 1 });
        var result = run.Put(new uint[12 * 60]);
        run.Launch("k", new LaunchGeometry(3, 2, 2, 5, 4, 3, 40), new LaunchArguments().Add(result));
        return run.Get<uint>(result, 12 * 60);
    }

    [Theory]
    [InlineData("%tid.x"), InlineData("%tid.y"), InlineData("%tid.z"), InlineData("%ntid.x"), InlineData("%ntid.y"), InlineData("%ntid.z")]
    [InlineData("%ctaid.x"), InlineData("%ctaid.y"), InlineData("%ctaid.z"), InlineData("%nctaid.x"), InlineData("%nctaid.y"), InlineData("%nctaid.z")]
    [InlineData("%laneid"), InlineData("%warpid"), InlineData("%nwarpid"), InlineData("%lanemask_eq"), InlineData("%lanemask_le"), InlineData("%lanemask_lt"), InlineData("%lanemask_ge"), InlineData("%lanemask_gt")]
    [InlineData("%cluster_ctaid.x"), InlineData("%cluster_ctaid.y"), InlineData("%cluster_ctaid.z"), InlineData("%cluster_ctarank"), InlineData("%cluster_nctaid.x"), InlineData("%cluster_nctaid.y")]
    [InlineData("%cluster_nctaid.z"), InlineData("%cluster_nctarank"), InlineData("%dynamic_smem_size")]
    public void Each_tells_where_the_thread_is(string name)
    {
        var actual = Read($"mov.u32 %r9, {name};");
        for (var i = 0; i < actual.Length; i++)
        {
            var (block, thread) = (i / 60, i % 60);
            var lane = thread % 32;
            var expected = name switch
            {
                "%tid.x" => thread % 5,
                "%tid.y" => thread / 5 % 4,
                "%tid.z" => thread / 20,
                "%ntid.x" => 5,
                "%ntid.y" => 4,
                "%ntid.z" => 3,
                "%ctaid.x" => block % 3,
                "%ctaid.y" => block / 3 % 2,
                "%ctaid.z" => block / 6,
                "%nctaid.x" => 3,
                "%nctaid.y" or "%nctaid.z" => 2,
                "%laneid" => lane,
                "%warpid" => thread / 32,
                "%nwarpid" => 2,
                "%lanemask_eq" => 1L << lane,
                "%lanemask_le" => (2L << lane) - 1,
                "%lanemask_lt" => (1L << lane) - 1,
                "%lanemask_ge" => 0xFFFFFFFF & (-1L << lane),
                "%lanemask_gt" => 0xFFFFFFFF & (-2L << lane),
                // Every block is a cluster of its own.
                "%cluster_nctaid.x" or "%cluster_nctaid.y" or "%cluster_nctaid.z" or "%cluster_nctarank" => 1,
                "%dynamic_smem_size" => 40,
                _ => 0,
            };
            Assert.Equal((uint)expected, actual[i]);
        }
    }

    [Fact]
    public void What_depends_on_the_device_is_consistent()
    {
        // The static part, aligned, and the dynamic one.
        Assert.All(Read("mov.u32 %r9, %total_smem_size;"), bytes => Assert.InRange(bytes, 64u, 1024u + 96u));
        Assert.All(Read("mov.u32 %r8, %smid;\nmov.u32 %r7, %nsmid;\nsetp.lt.u32 %q, %r8, %r7;\nselp.u32 %r9, 1, 0, %q;"), below => Assert.Equal(1u, below));
        Assert.Single(Read("mov.u32 %r9, %gridid;").Distinct());
    }

    [Theory]
    [InlineData("%clock", "u32"), InlineData("%clock64", "u64"), InlineData("%globaltimer", "u64")]
    public void Clocks_do_not_run_backwards(string clock, string type)
    {
        var (first, second) = type == "u64" ? ("%d3", "%d4") : ("%r7", "%r8");
        var differences = Read(
            $"mov.{type} {first}, {clock};\nmov.u32 %r6, 0;\nLOOP:\nadd.u32 %r6, %r6, 1;\nsetp.lt.u32 %q, %r6, 100;\n@%q bra LOOP;\nmov.{type} {second}, {clock};\n"
            + $"sub.{type} {second}, {second}, {first};\n{(type == "u64" ? "cvt.u32.u64 %r9, %d4;" : "mov.u32 %r9, %r8;")}");
        // The cycle counters count a warp's instructions: the loop takes 300 of them. The timer tells nanoseconds of a coarse clock.
        foreach (var difference in differences)
            Assert.InRange(difference, clock == "%globaltimer" ? 0u : 300u, clock == "%globaltimer" ? uint.MaxValue : 310u);
    }
}
