using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Operations among the lanes of a warp and the threads of a block.</summary>
public sealed class WarpTests
{
    private static readonly ulong[] Values = [.. Enumerable.Range(0, 96).Select(i => (ulong)(i * 2654435761) & 0xFFFFFFFF)];

    [Theory]
    [InlineData("up"), InlineData("down"), InlineData("bfly"), InlineData("idx")]
    public void Shuffles_within_segments(string kind)
    {
        foreach (var width in new[] { 32, 16, 8, 2 })
        {
            for (var offset = 0; offset < 32; offset += 3)
            {
                // As CUDA writes it: the clamp is 0 for up and 31 otherwise, the segment mask the complement of the width.
                var control = (32 - width) << 8 | (kind == "up" ? 0 : 31);
                var body = FormattableString.Invariant($"shfl.sync.{kind}.b32 %s0|%pe, {{a}}, {offset}, {control}, 0xffffffff; selp.b32 %s1, 1, 0, %pe; mov.b64 {{d}}, {{%s0, %s1}};");
                PtxCaseAt(body, lane =>
                {
                    var start = lane / width * width;
                    var source = kind switch { "up" => lane - offset, "down" => lane + offset, "bfly" => lane ^ offset, _ => start + offset % width };
                    var valid = source >= start && source < start + width;
                    // A butterfly may reach down into an earlier segment: only its upper bound is clamped.
                    if (kind == "bfly")
                        valid = source < start + width;
                    return (valid ? source : lane, valid);
                });
            }
        }
    }

    private static void PtxCaseAt(string body, Func<int, (int Source, bool Valid)> expected)
    {
        var actual = PtxCase.Run(body, "b64", ["b32"], [Values]);
        for (var i = 0; i < Values.Length; i++)
        {
            var (source, valid) = expected(i % 32);
            Assert.True((Values[i / 32 * 32 + source] | (valid ? 1UL << 32 : 0)) == actual[i], $"{body}: lane {i % 32}: got 0x{actual[i]:x}");
        }
    }

    [Fact]
    public void Votes_and_reductions_of_part_of_a_warp()
    {
        const string Part = "mov.u32 %s0, %laneid; setp.lt.u32 %pd, %s0, 20; mov.b32 {d}, 7; @!%pd bra AWAY; ";
        const uint Members = 0x000FFFFF;
        foreach (var (operation, apply) in new (string, Func<IEnumerable<uint>, uint>)[]
        {
            ("add.u32", v => v.Aggregate((a, b) => a + b)), ("min.s32", v => (uint)v.Min(x => (int)x)), ("max.u32", v => v.Max()),
            ("and.b32", v => v.Aggregate((a, b) => a & b)), ("or.b32", v => v.Aggregate((a, b) => a | b)), ("xor.b32", v => v.Aggregate((a, b) => a ^ b)),
        })
        {
            Check($"{Part}redux.sync.{operation} {{d}}, {{a}}, {Members.ToString(CultureInfo.InvariantCulture)}; AWAY:", warp => apply(warp.Take(20)));
        }
        Check($"{Part}setp.gt.s32 %pe, {{a}}, 0; vote.sync.ballot.b32 {{d}}, %pe, {Members.ToString(CultureInfo.InvariantCulture)}; AWAY:", warp =>
            warp.Take(20).Select((v, i) => (int)v > 0 ? 1u << i : 0).Aggregate((a, b) => a | b));
        Check($"{Part}activemask.b32 {{d}}; AWAY:", _ => Members);

        static void Check(string body, Func<uint[], uint> expected)
        {
            var actual = PtxCase.Run(body, "b32", ["b32"], [Values]);
            for (var i = 0; i < 96; i++)
                Assert.Equal(i % 32 < 20 ? expected([.. Values.Skip(i / 32 * 32).Take(32).Select(v => (uint)v)]) : 7, (uint)actual[i]);
        }
    }

    [Fact]
    public void Matches_and_elections()
    {
        var few = Values.Select(v => v % 5).ToArray();
        var any = PtxCase.Run("match.any.sync.b32 {d}, {a}, 0xffffffff;", "b32", ["b32"], [few]);
        for (var i = 0; i < 96; i++)
            Assert.Equal(Enumerable.Range(0, 32).Where(j => few[i / 32 * 32 + j] == few[i]).Aggregate(0UL, (m, j) => m | 1UL << j), any[i]);
        Assert.All(PtxCase.Run("match.all.sync.b64 %s0|%pe, {a}, 0xffffffff; selp.b32 {d}, %s0, 9, %pe;", "b32", ["b64"], [[.. Enumerable.Repeat(3UL, 96)]]), r => Assert.Equal(0xFFFFFFFFUL, r));
        Assert.All(PtxCase.Run("match.all.sync.b32 %s0|%pe, {a}, 0xffffffff; selp.b32 {d}, 1, %s0, %pe;", "b32", ["b32"], [few]), r => Assert.Equal(0UL, r));
        var elected = PtxCase.Run("elect.sync _|%pe, 0xffffffff; selp.b32 {d}, 1, 0, %pe;", "b32", ["b32"], [Values]);
        Assert.Equal(Enumerable.Range(0, 96).Select(i => i % 32 == 0 ? 1UL : 0), elected);
    }

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
    public void Barrier_reductions_and_named_barriers()
    {
        var counts = PtxCase.Run("setp.gt.s32 %pe, {a}, 0; bar.red.popc.u32 {d}, 0, %pe;", "b32", ["b32"], [Values]);
        Assert.All(counts, c => Assert.Equal((ulong)Values.Count(v => (int)v > 0), c));
        Assert.All(PtxCase.Run("setp.ne.s32 %pe, {a}, 0; bar.red.or.pred %pd, 0, %pe; selp.b32 {d}, 5, 6, %pd;", "b32", ["b32"], [Values]), r => Assert.Equal(5UL, r));
        Assert.All(PtxCase.Run("setp.ne.s32 %pe, {a}, 0; bar.red.and.pred %pd, 0, %pe; selp.b32 {d}, 5, 6, %pd;", "b32", ["b32"], [Values]), r => Assert.Equal(6UL, r));
        // Warps 0 and 1 arrive at barrier 3, warp 2 waits for them: a value passes one way without stopping the writers.
        var passed = PtxCase.Run(
            ".shared .b32 box[64]; mov.u32 %s0, %tid.x; mov.u32 %s1, box; setp.ge.u32 %pe, %s0, 64; @%pe bra READ; mad.lo.s32 %s1, %s0, 4, %s1; st.shared.b32 [%s1], {a}; bar.arrive 3, 96; mov.b32 {d}, 0; bra DONE; "
            + "READ: bar.sync 3, 96; sub.s32 %s0, %s0, 64; mad.lo.s32 %s1, %s0, 4, %s1; ld.shared.b32 %wc, [%s1]; ld.shared.b32 %s0, [%s1+128]; add.s32 {d}, %wc, %s0; DONE:",
            "b32", ["b32"], [Values]);
        Assert.Equal(Values.Select((_, i) => i < 64 ? 0 : (Values[i - 64] + Values[i - 32]) & 0xFFFFFFFF), passed);
    }

    [Fact]
    public void Jump_tables()
    {
        var selectors = Enumerable.Range(0, 96).Select(i => (ulong)(i * 7 % 3)).ToArray();
        var actual = PtxCase.Run(
            "brx.idx {a}, TABLE; TABLE: .branchtargets L0, L1, L2; L0: mov.b32 {d}, 100; bra DONE; L1: mov.b32 {d}, 200; bra DONE; L2: mov.b32 {d}, 300; DONE:",
            "b32", ["b32"], [selectors]);
        Assert.Equal(selectors.Select(s => 100 * (s + 1)), actual);
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
