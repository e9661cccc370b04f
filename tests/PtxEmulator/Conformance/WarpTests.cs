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
}
