using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Barriers of warps and blocks: values pass through shared memory, which the race checks watch.</summary>
internal static class BarrierForms
{
    internal static Dictionary<string, Reference> All { get; } = References.For(Check, "bar", "barrier");

    private static ulong[] Values { get; } = [.. Enumerable.Range(0, 96).Select(i => (ulong)((i + 1) * 2654435761) & 0xFFFFFFFF)];

    private static void Check(Form form)
    {
        if (form.Has("warp"))
            Exchange(form, "{op} 0xffffffff;", 16);
        else if (form.Has("red"))
            Reduce(form);
        else if (form.Has("arrive"))
            HandOver(form);
        else
        {
            // All threads of the block, at the barrier's implicit and at an explicit count; and, as a partner of its own arrivals, the named one.
            Exchange(form, "{op} 0;", 32);
            Exchange(form, "{op} 5, 96;", 64);
        }
    }

    /// <summary>Every thread reads what the thread so many places on has stored.</summary>
    private static void Exchange(Form form, string barrier, int distance)
    {
        var next = distance == 16 ? "xor.b32 %wc, %wc, 16; " : FormattableString.Invariant($"add.u32 %wc, %wc, {distance}; rem.u32 %wc, %wc, 96; ");
        var actual = PtxCase.Run(
            ".shared .align 4 .b8 box[384]; mov.u32 %wc, %tid.x; mov.u32 %s0, box; mad.lo.s32 %s1, %wc, 4, %s0; st.shared.b32 [%s1], {a}; "
            + barrier.Replace("{op}", form.Text, StringComparison.Ordinal) + " " + next + "mad.lo.s32 %s1, %wc, 4, %s0; ld.shared.b32 {d}, [%s1];",
            "b32", ["b32"], [Values]);
        for (var i = 0; i < 96; i++)
            Assert.True(Values[distance == 16 ? i ^ 16 : (i + distance) % 96] == actual[i], $"{form.Text}: thread {i}: got 0x{actual[i]:x}");
    }

    private static void Reduce(Form form)
    {
        foreach (var (test, votes) in new (string, Func<ulong, bool>)[] { ("setp.eq.u32 %pe, {a}, 1", v => v == 1), ("setp.gt.s32 %pe, {a}, 0", v => (int)v > 0), ("setp.ne.u32 %pe, {a}, 1", v => v != 1) })
        {
            foreach (var barrier in new[] { "0", "2, 96" })
            {
                var body = form.Type == "u32" ? $"{test}; {form.Text} {{d}}, {barrier}, %pe;" : $"{test}; {form.Text} %pf, {barrier}, %pe; selp.b32 {{d}}, 1, 0, %pf;";
                var want = form.Has("popc") ? Values.Count(votes) : (form.Has("and") ? Values.All(votes) : Values.Any(votes)) ? 1 : 0;
                Assert.All(PtxCase.Run(body, "b32", ["b32"], [Values]), value => Assert.True((ulong)want == value, $"{body}: expected {want}, got {value}"));
            }
        }
    }

    /// <summary>Two warps arrive and go on; the third waits for them and reads what they have stored.</summary>
    private static void HandOver(Form form)
    {
        var actual = PtxCase.Run(
            ".shared .b32 box[64]; mov.u32 %s0, %tid.x; mov.u32 %s1, box; setp.ge.u32 %pe, %s0, 64; @%pe bra READ; mad.lo.s32 %s1, %s0, 4, %s1; st.shared.b32 [%s1], {a}; "
            + form.Text + " 3, 96; mov.b32 {d}, 0; bra DONE; READ: " + form.Text.Replace("arrive", "sync", StringComparison.Ordinal)
            + " 3, 96; sub.s32 %s0, %s0, 64; mad.lo.s32 %s1, %s0, 4, %s1; ld.shared.b32 %wc, [%s1]; ld.shared.b32 %s0, [%s1+128]; add.s32 {d}, %wc, %s0; DONE:",
            "b32", ["b32"], [Values]);
        Assert.Equal(Values.Select((_, i) => i < 64 ? 0 : (Values[i - 64] + Values[i - 32]) & 0xFFFFFFFF), actual);
    }
}
