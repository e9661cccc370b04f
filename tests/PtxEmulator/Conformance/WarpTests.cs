using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Operations among the lanes of a warp and the threads of a block.</summary>
public sealed class WarpTests
{
    private static readonly ulong[] Values = [.. Enumerable.Range(0, 96).Select(i => (ulong)(i * 2654435761) & 0xFFFFFFFF)];

    [Fact]
    public void Warp_operations_meet_across_divergent_paths()
    {
        // Each half waits at a barrier of the warp of its own; independent thread scheduling lets them meet.
        var actual = PtxCase.Run(
            ".shared .b32 box[96]; mov.u32 %s0, %laneid; mov.u32 %s1, box; mov.u32 %wc, %tid.x; mad.lo.s32 %s1, %wc, 4, %s1; setp.lt.u32 %pe, %s0, 16; @%pe bra LOW; "
            + "st.shared.b32 [%s1], {a}; bar.warp.sync 0xffffffff; xor.b32 %wc, %wc, 16; mov.u32 %s1, box; mad.lo.s32 %s1, %wc, 4, %s1; ld.shared.b32 {d}, [%s1]; bra DONE; "
            + "LOW: st.shared.b32 [%s1], {a}; bar.warp.sync 0xffffffff; xor.b32 %wc, %wc, 16; mov.u32 %s1, box; mad.lo.s32 %s1, %wc, 4, %s1; ld.shared.b32 {d}, [%s1]; DONE:",
            "b32", ["b32"], [Values]);
        Assert.Equal(Values.Select((_, i) => Values[i ^ 16]), actual);
    }

    [Fact]
    public void Declarations_as_other_compiler_versions_write_them()
    {
        // 11.8 writes plain parameters and .f32 registers; 12.8 and 13 add pointer attributes and name the space of a kernel's parameter.
        foreach (var (version, parameter, space) in new[] { ("7.8", ".param .u64 p", "param"), ("8.7", ".param .u64 .ptr .align 1 p", "param"), ("9.0", ".param .u64 .ptr .global .align 4 p", "param::entry") })
        {
            var text = $".version {version}\n.target sm_90\n.address_size 64\n.visible .entry k(\n\t{parameter}\n)\n.maxntid 64, 1, 1\n.minnctapersm 2\n{{\n.reg .f32 %f<2>;\n.reg .b64 %rd<3>;\n.loc 1 3 0\n"
                + $"ld.{space}.u64 %rd1, [p];\ncvta.to.global.u64 %rd2, %rd1;\nmov.f32 %f1, 0f3FC00000;\n.pragma \"nounroll\";\nst.global.f32 [%rd2], %f1;\nret;\n}}\n.file 1 \"/a/b/k.cu\"\n";
            using var run = new KernelRun(System.Text.Encoding.UTF8.GetBytes(text), "versions.ptx");
            var x = run.Put(new float[1]);
            run.Launch("k", 1, 1, new LaunchArguments().Add(x));
            Assert.Equal([1.5f], run.Get<float>(x, 1));
            var finding = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 1), new LaunchArguments().Add(x + 4)));
            Assert.Equal(("k.cu", 3), (finding.Source.File, finding.Source.Line));
            Assert.Contains("at most 64 threads", Assert.Throws<DeviceException>(() => run.Launch("k", 1, 65, new LaunchArguments().Add(x))).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Unknown_instructions_and_modifiers_are_refused_at_load()
    {
        foreach (var (body, named) in new[] { ("frobnicate.b32 {d}, {a};", "frobnicate"), ("add.weird.s32 {d}, {a}, {a};", ".weird"), ("mov.u32 {d}, %nonsense;", "%nonsense"), ("bra NOWHERE;", "NOWHERE") })
        {
            var error = Assert.Throws<PtxException>(() => new KernelRun(System.Text.Encoding.UTF8.GetBytes(PtxCase.Kernel(body, "b32", "b32")), "unknown.ptx"));
            Assert.Contains(named, error.Message, StringComparison.Ordinal);
            Assert.Contains("unknown.ptx", error.Message, StringComparison.Ordinal);
            Assert.Contains("line ", error.Message, StringComparison.Ordinal);
        }
    }
}
