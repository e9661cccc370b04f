using System.Numerics;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary><c>cvt</c>: the source's exact value, rounded once.</summary>
internal static class ConversionForms
{
    internal static Dictionary<string, Reference> All { get; } = References.For(Convert, "cvt");

    private static bool IsInteger(string type) => type[0] is 'u' or 's';

    private static void Convert(Form form)
    {
        var (to, from) = (form.Types[0], form.Type);
        if (to.EndsWith("x2", StringComparison.Ordinal))
        {
            var single = FloatFormat.Single;
            form.Check("{op} {d}, {a}, {b};", "b32", ["f32", "f32"], FloatForms.Operands(single, 2), (a, b, _) => FromFloat(form, a)!.Value << 16 | FromFloat(form, b)!.Value);
            return;
        }
        var columns = IsInteger(from) ? PtxCase.Integers(1) : FloatForms.Operands(FloatForms.Format(from), 1);
        // Registers are at least 16 bits wide; a result of 8 bits is extended to its register.
        form.Compare("{op} {d}, {a};", PtxCase.Bytes(to) == 1 ? "u16" : to == "tf32" ? "b32" : to, [from], columns, (a, _, _, actual) =>
        {
            var want = (IsInteger(from) ? FromInteger(form, IntegerForms.Value(a, from)) : FromFloat(form, a)) & PtxCase.Mask(PtxCase.Bytes(to) == 1 ? "u16" : to);
            // Which NaN a double is, is not defined.
            var right = want is { } bits ? bits == actual || to == "f64" && FloatFormat.Double.IsNaN(bits) && FloatFormat.Double.IsNaN(actual) : false;
            return right ? null : $"0x{want:x}";
        });
    }

    private static ulong? FromInteger(Form form, BigInteger value)
    {
        var to = form.Types[0];
        if (!IsInteger(to))
            return value.IsZero ? 0 : ExactFloat.Round(value, 0, false, FloatForms.Format(to), form.Rounding);
        var (low, high) = IntegerForms.Range(to);
        return IntegerForms.Bits(IntegerForms.Value(IntegerForms.Bits(form.Has("sat") ? BigInteger.Clamp(value, low, high) : value), to));
    }

    private static ulong? FromFloat(Form form, ulong bits)
    {
        var to = form.Types[0];
        var format = FloatForms.Format(form.Type);
        if (form.Has("ftz") && form.Type == "f32")
            bits = FloatForms.Flush(bits, format);
        var negative = (bits & format.SignBit) != 0;
        var integral = form.OneOf("rni", "rzi", "rmi", "rpi");
        if (IsInteger(to))
        {
            var (low, high) = IntegerForms.Range(to);
            if (format.IsNaN(bits))
                return 0;
            return IntegerForms.Bits(format.IsInfinite(bits) ? negative ? low : high : BigInteger.Clamp(Whole(bits, format, integral), low, high));
        }
        var target = FloatForms.Format(to);
        var shift = to == "tf32" ? 13 : 0;
        ulong nan = to switch { "f64" => 0x7FFFFFFFFFFFFFFF, "f32" or "tf32" => 0x7FFFFFFF, _ => 0x7FFF };
        ulong? result;
        if (integral.Length > 0 && !format.IsNaN(bits) && !format.IsInfinite(bits))
        {
            var whole = Whole(bits, format, integral);
            result = whole.IsZero ? negative ? target.SignBit : 0 : ExactFloat.Round(whole, 0, false, target, "rn");
        }
        else
        {
            result = ExactFloat.Convert(bits, format, target, form.Rounding);
        }
        if (form.Has("ftz") && to == "f32" && result is { } tiny)
            result = FloatForms.Flush(tiny, target);
        if (form.Has("sat"))
            return FloatForms.Saturate(result, target);
        if (result is not { } value)
            return nan;
        return form.Has("relu") && (value & target.SignBit) != 0 ? 0 : value << shift;
    }

    /// <summary>The value rounded to an integer.</summary>
    private static BigInteger Whole(ulong bits, FloatFormat format, string mode)
    {
        var (value, exponent) = ExactFloat.Decode(bits, format);
        if (exponent >= 0)
            return value << exponent;
        var (floor, half) = (value >> -exponent, BigInteger.One << (-exponent - 1));
        var rest = value - (floor << -exponent);
        var up = mode switch
        {
            "rni" => rest > half || rest == half && !floor.IsEven,
            "rzi" => value.Sign < 0 && !rest.IsZero,
            "rmi" => false,
            _ => !rest.IsZero,
        };
        return up ? floor + 1 : floor;
    }
}
