using System.Globalization;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Operations among the lanes of a warp: of whole warps, and of the 20 lanes that stay behind when the others branch away.</summary>
internal static class WarpForms
{
    private const string Part = "mov.u32 %s0, %laneid; setp.lt.u32 %pd, %s0, 20; mov.b32 {d}, 7; @!%pd bra AWAY; ";
    private const uint Members = 0x000FFFFF;

    private static ulong[] Values { get; } = [.. Enumerable.Range(0, 96).Select(i => (ulong)(i * 2654435761) & 0xFFFFFFFF)];

    internal static Dictionary<string, Reference> All { get; } = new(
    [
        .. References.For(Shuffle, "shfl"), .. References.For(Vote, "vote"), .. References.For(Match, "match"), .. References.For(Reduce, "redux"),
        .. References.For(form => OfPart(form, "{op} %s1|%pe, {m}; selp.b32 {d}, 100, %s1, %pe;", Values, (_, lane) => lane == 0 ? 100u : 0), "elect"),
        .. References.For(form => OfPart(form, "{op} {d};", Values, (_, _) => Members), "activemask"),
    ]);

    /// <summary>Runs a form on 20 lanes of each of three warps; <paramref name="expected"/> takes the values of the lanes that take part, and the lane.</summary>
    private static void OfPart(Form form, string body, ulong[] values, Func<uint[], int, uint> expected)
    {
        var members = Members.ToString(CultureInfo.InvariantCulture);
        var actual = PtxCase.Run($"{Part}{body} AWAY:".Replace("{op}", form.Text, StringComparison.Ordinal).Replace("{m}", members, StringComparison.Ordinal), "b32", ["b32"], [values]);
        for (var i = 0; i < 96; i++)
        {
            var want = i % 32 < 20 ? expected([.. values.Skip(i / 32 * 32).Take(20).Select(v => (uint)v)], i % 32) : 7;
            Assert.True(want == actual[i], $"{form.Text}: thread {i}: expected 0x{want:x}, got 0x{actual[i]:x}");
        }
    }

    private static void Shuffle(Form form)
    {
        var kind = form.OneOf("up", "down", "bfly", "idx");
        foreach (var width in new[] { 32, 16, 8, 2 })
        {
            for (var offset = 0; offset < 32; offset += 3)
            {
                // As CUDA writes it: the clamp is 0 for up and 31 otherwise, the segment mask the complement of the width.
                var control = (32 - width) << 8 | (kind == "up" ? 0 : 31);
                var body = FormattableString.Invariant($"{form.Text} %s0|%pe, {{a}}, {offset}, {control}, 0xffffffff; selp.b32 %s1, 1, 0, %pe; mov.b64 {{d}}, {{%s0, %s1}};");
                var actual = PtxCase.Run(body, "b64", ["b32"], [Values]);
                for (var i = 0; i < Values.Length; i++)
                {
                    var lane = i % 32;
                    var start = lane / width * width;
                    var source = kind switch { "up" => lane - offset, "down" => lane + offset, "bfly" => lane ^ offset, _ => start + offset % width };
                    // A butterfly may reach down into an earlier segment: only its upper bound is clamped.
                    var valid = source < start + width && (kind == "bfly" || source >= start);
                    var want = Values[i / 32 * 32 + (valid ? source : lane)] | (valid ? 1UL << 32 : 0);
                    Assert.True(want == actual[i], $"{body}: lane {lane}: expected 0x{want:x}, got 0x{actual[i]:x}");
                }
            }
        }
    }

    private static void Vote(Form form)
    {
        // None, some and all of the lanes vote for it.
        foreach (var (test, votes) in new (string, Func<uint, bool>)[] { ("setp.eq.u32 %pe, {a}, 3", v => v == 3), ("setp.gt.s32 %pe, {a}, 0", v => (int)v > 0), ("setp.ne.u32 %pe, {a}, 3", v => v != 3) })
        {
            if (form.Has("ballot"))
                OfPart(form, test + "; {op} {d}, %pe, {m};", Values, (warp, _) => warp.Select((v, i) => votes(v) ? 1u << i : 0).Aggregate((a, b) => a | b));
            else
            {
                OfPart(form, test + "; {op} %pf, %pe, {m}; selp.b32 {d}, 1, 0, %pf;", Values, (warp, _) =>
                    (form.Modifiers[1] switch { "all" => warp.All(votes), "any" => warp.Any(votes), _ => warp.All(votes) || !warp.Any(votes) }) ? 1u : 0);
            }
        }
    }

    private static void Match(Form form)
    {
        var widen = form.Bits == 64 ? "mov.b64 %q0, {{a}, {a}}; " : "";
        var operand = form.Bits == 64 ? "%q0" : "{a}";
        if (form.Has("any"))
        {
            OfPart(form, $"{widen}{{op}} {{d}}, {operand}, {{m}};", [.. Values.Select(v => v % 5)], (warp, lane) =>
                warp.Select((v, i) => v == warp[lane] ? 1u << i : 0).Aggregate((a, b) => a | b));
            return;
        }
        foreach (var values in new[] { [.. Values.Select(v => v % 5)], Enumerable.Repeat(3UL, 96).ToArray() })
            OfPart(form, $"{widen}{{op}} %s1|%pe, {operand}, {{m}}; selp.b32 {{d}}, %s1, 99, %pe;", values, (warp, _) => warp.Distinct().Count() == 1 ? Members : 99);
        // Only the upper half differs.
        if (form.Bits == 64)
            OfPart(form, "mov.b64 %q0, {0, {a}}; {op} %s1|%pe, %q0, {m}; selp.b32 {d}, %s1, 99, %pe;", Values, (_, _) => 99);
    }

    private static void Reduce(Form form) => OfPart(form, "{op} {d}, {a}, {m};", Values, (warp, _) => (form.Modifiers[1], form.Type) switch
    {
        ("add", _) => warp.Aggregate((a, b) => a + b),
        ("min", "u32") => warp.Min(),
        ("max", "u32") => warp.Max(),
        ("min", _) => (uint)warp.Min(v => (int)v),
        ("max", _) => (uint)warp.Max(v => (int)v),
        ("and", _) => warp.Aggregate((a, b) => a & b),
        ("or", _) => warp.Aggregate((a, b) => a | b),
        _ => warp.Aggregate((a, b) => a ^ b),
    });
}
