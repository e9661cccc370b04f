using System.Numerics;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Comparisons, selections and moves.</summary>
internal static class ComparisonForms
{
    // A predicate for the forms that take one: the lowest bit of c.
    private const string Third = "and.b32 %wc, %wc, 1; setp.ne.u32 %pe, %wc, 0; ";

    internal static Dictionary<string, Reference> All { get; } = new(
    [
        .. References.For(SetPredicates, "setp"), .. References.For(SetValue, "set"), .. References.For(Select, "selp"), .. References.For(Move, "mov"),
    ]);

    private static bool IsPacked(Form form) => form.Type.EndsWith("x2", StringComparison.Ordinal);

    /// <summary>Operand columns of a form's type; packed ones have the neighbouring row in the upper half, and c says what the form is combined with.</summary>
    private static ulong[][] Operands(Form form, string combine)
    {
        var count = combine.Length > 0 ? 3 : 2;
        if (!FloatForms.IsFloat(form))
            return PtxCase.Integers(count);
        var columns = FloatForms.Operands(FloatForms.Format(form.Type), count);
        return IsPacked(form) ? [.. columns.Select(column => column.Select((low, i) => low | column[(i + 1) % column.Length] << 16).ToArray())] : columns;
    }

    private static bool Holds(Form form, ulong a, ulong b)
    {
        var name = form.Modifiers[0];
        if (!FloatForms.IsFloat(form))
        {
            var order = IntegerForms.Value(a, form.Type).CompareTo(IntegerForms.Value(b, form.Type));
            return name switch { "eq" => order == 0, "ne" => order != 0, "lt" or "lo" => order < 0, "le" or "ls" => order <= 0, "gt" or "hi" => order > 0, _ => order >= 0 };
        }
        var format = FloatForms.Format(form.Type);
        if (form.Has("ftz"))
            (a, b) = (FloatForms.Flush(a, format), FloatForms.Flush(b, format));
        var unordered = format.IsNaN(a) || format.IsNaN(b);
        if (name is "num" or "nan")
            return unordered == (name == "nan");
        if (unordered)
            return name.Length == 3;
        // The exact values, scaled to integers; an infinity is beyond all of them.
        BigInteger Exact(ulong x)
        {
            if (format.IsInfinite(x))
                return (x & format.SignBit) != 0 ? -(BigInteger.One << 3000) : BigInteger.One << 3000;
            var (value, exponent) = ExactFloat.Decode(x, format);
            return value << (exponent + 1100);
        }

        var compared = Exact(a).CompareTo(Exact(b));
        return name[..2] switch { "eq" => compared == 0, "ne" => compared != 0, "lt" => compared < 0, "le" => compared <= 0, "gt" => compared > 0, _ => compared >= 0 };
    }

    private static bool Combined(bool holds, string combine, ulong c) => combine switch { "and" => holds && (c & 1) != 0, "or" => holds || (c & 1) == 0, "xor" => holds ^ (c & 1) != 0, _ => holds };

    private static void SetPredicates(Form form)
    {
        var combine = form.OneOf("and", "or", "xor");
        var type = IsPacked(form) ? "b32" : form.Type;
        // The negated predicate is written with .or.
        var with = combine.Length == 0 ? "" : combine == "or" ? ", !%pe" : ", %pe";
        form.Check(
            $"{(combine.Length > 0 ? Third : "")}{{op}} %pd|%pf, {{a}}, {{b}}{with}; selp.b32 %s0, 1, 0, %pd; selp.b32 %s1, 2, 0, %pf; add.u32 {{d}}, %s0, %s1;",
            "b32", combine.Length > 0 ? [type, type, "u32"] : [type, type], Operands(form, combine), (a, b, c) =>
            {
                // The second destination has the opposite comparison, or that of the upper halves.
                var (first, second) = IsPacked(form) ? (Holds(form, a & 0xFFFF, b & 0xFFFF), Holds(form, a >> 16, b >> 16)) : (Holds(form, a, b), !Holds(form, a, b));
                return (Combined(first, combine, c) ? 1UL : 0) | (Combined(second, combine, c) ? 2UL : 0);
            });
    }

    private static void SetValue(Form form)
    {
        var combine = form.OneOf("and", "or", "xor");
        var type = IsPacked(form) ? "b32" : form.Type;
        ulong one = form.Types[0] switch { "f32" => 0x3F800000, "f16" or "f16x2" => 0x3C00, "bf16" or "bf16x2" => 0x3F80, _ => uint.MaxValue };
        var with = combine.Length == 0 ? "" : combine == "or" ? ", !%pe" : ", %pe";
        form.Check(
            $"{(combine.Length > 0 ? Third : "")}{{op}} {{d}}, {{a}}, {{b}}{with};", IsPacked(form) ? "b32" : form.Types[0], combine.Length > 0 ? [type, type, "u32"] : [type, type],
            Operands(form, combine), (a, b, c) => IsPacked(form)
                ? (Combined(Holds(form, a & 0xFFFF, b & 0xFFFF), combine, c) ? one : 0) | (Combined(Holds(form, a >> 16, b >> 16), combine, c) ? one << 16 : 0)
                : Combined(Holds(form, a, b), combine, c) ? one : 0);
    }

    private static void Select(Form form) =>
        form.Check($"{Third}{{op}} {{d}}, {{a}}, {{b}}, %pe;", form.Type, [form.Type, form.Type, "u32"], PtxCase.Integers(3), (a, b, c) => (c & 1) != 0 ? a : b);

    private static void Move(Form form)
    {
        if (form.Type == "pred")
        {
            form.Check("setp.lt.s32 %pe, {a}, 0; {op} {d}, %pe;", "pred", ["s32"], PtxCase.Integers(1), (a, _, _) => (int)a < 0 ? 1UL : 0);
            return;
        }
        form.Check("{op} {d}, {a};", form.Type, [form.Type], PtxCase.Integers(1), (a, _, _) => a);
        if (form.Type == "b32")
        {
            form.Check("{op} {d}, {{b}, {a}};", "b32", ["b16", "b16"], PtxCase.Integers(2), (a, b, _) => b | a << 16);
            form.Check("{op} {%hb, %hc}, {a}; mov.b32 {d}, {%hc, %hb};", "b32", ["b32"], PtxCase.Integers(1), (a, _, _) => a >> 16 | a << 16);
        }
        if (form.Type == "b64")
        {
            form.Check("{op} {d}, {{b}, {a}};", "b64", ["b32", "b32"], PtxCase.Integers(2), (a, b, _) => b | a << 32);
            form.Check("{op} {_, {d}}, {a};", "b32", ["b64"], PtxCase.Integers(1), (a, _, _) => a >> 32);
            form.Check("{op} {%ha, %hb, %hc, %hd}, {a}; {op} {d}, {%hd, %hc, %hb, %ha};", "b64", ["b64"], PtxCase.Integers(1), (a, _, _) =>
                a << 48 | a << 16 & 0xFFFF00000000 | a >> 16 & 0xFFFF0000 | a >> 48);
        }
    }
}
