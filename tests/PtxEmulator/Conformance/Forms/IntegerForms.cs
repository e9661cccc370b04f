using System.Globalization;
using System.Numerics;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Integers against arbitrary-precision arithmetic, bits against strings of digits.</summary>
internal static class IntegerForms
{
    internal static Dictionary<string, Reference> All { get; } = new(
    [
        new("add", References.Each(form => Sum(form, 1))), new("sub", References.Each(form => Sum(form, -1))),
        .. References.For(Carry, "addc", "subc", "madc"),
        new("mul", References.Each(form => (FloatForms.IsFloat(form) ? (Action<Form>)FloatForms.Arithmetic : Product)(form))),
        new("mad", References.Each(form => (FloatForms.IsFloat(form) ? FloatForms.Arithmetic : form.Has("cc") ? (Action<Form>)Carry : Product)(form))),
        new("mul24", References.Each(form => form.Check("{op} {d}, {a}, {b};", form.Type, [form.Type, form.Type], PtxCase.Integers(2), (a, b, _) => Bits(Low24(a, form) * Low24(b, form))))),
        .. References.For(Plain, "sad", "rem"),
        .. new[] { "div", "min", "max", "abs", "neg" }.ToDictionary(name => name, _ => References.Each(form => (FloatForms.IsFloat(form) ? (Action<Form>)FloatForms.Arithmetic : Plain)(form))),
        .. References.For(DotProduct, "dp4a"), .. References.For(Logic, "and", "or", "xor", "not", "cnot"), .. References.For(LogicTable, "lop3"),
        .. References.For(Shift, "shl", "shr"), .. References.For(FunnelShift, "shf"), .. References.For(CountBits, "popc", "clz", "brev", "bfind"),
        .. References.For(ExtractField, "bfe"), .. References.For(InsertField, "bfi"), .. References.For(Permute, "prmt"),
    ]);

    internal static BigInteger Value(ulong bits, string type)
    {
        var width = 8 * PtxCase.Bytes(type);
        var low = bits & PtxCase.Mask(type);
        return type[0] == 's' && (low >> (width - 1) & 1) != 0 ? new BigInteger(low) - (BigInteger.One << width) : low;
    }

    internal static ulong Bits(BigInteger value) => (ulong)(value & ulong.MaxValue);

    internal static (BigInteger Low, BigInteger High) Range(string type)
    {
        var width = 8 * PtxCase.Bytes(type);
        return type[0] == 's' ? (-(BigInteger.One << (width - 1)), (BigInteger.One << (width - 1)) - 1) : (BigInteger.Zero, (BigInteger.One << width) - 1);
    }

    private static void Sum(Form form, int sign)
    {
        if (FloatForms.IsFloat(form))
            FloatForms.Arithmetic(form);
        else if (form.Has("cc"))
            Carry(form);
        else
        {
            var (type, (low, high)) = (form.Type, Range(form.Type));
            form.Check("{op} {d}, {a}, {b};", type, [type, type], PtxCase.Integers(2), (a, b, _) =>
            {
                var sum = Value(a, type) + sign * Value(b, type);
                return Bits(form.Has("sat") ? BigInteger.Clamp(sum, low, high) : sum);
            });
        }
    }

    /// <summary>Value, and the carry that is left: taken from the upper bit of b, which is added to itself before.</summary>
    private static void Carry(Form form)
    {
        var (type, unsigned) = (form.Type, "u" + form.Bits.ToString(CultureInfo.InvariantCulture));
        var (subtracts, product) = (form.Name.StartsWith("sub", StringComparison.Ordinal), form.Name.StartsWith("mad", StringComparison.Ordinal));
        var takes = form.Name[^1] == 'c';
        BigInteger Exact(ulong a, ulong b, ulong c)
        {
            var (x, y, z) = (Value(a, unsigned), Value(b, unsigned), Value(c, unsigned));
            var carry = takes && b >> (form.Bits - 1) != 0 ? 1 : 0;
            if (!product)
                return subtracts ? x - y - carry : x + y + carry;
            var full = x * y;
            return (form.Has("hi") ? full >> form.Bits : full & PtxCase.Mask(type)) + z + carry;
        }

        var operands = product ? "{a}, {b}, {c}" : "{a}, {b}";
        string[] from = [.. Enumerable.Repeat(type, product ? 3 : 2)];
        var columns = PtxCase.Integers(from.Length);
        form.Check($"add.cc.{unsigned} {{d}}, {{b}}, {{b}}; {{op}} {{d}}, {operands};", type, from, columns, (a, b, c) => Bits(Exact(a, b, c)));
        form.Check($"add.cc.{unsigned} {{d}}, {{b}}, {{b}}; {{op}} {{d}}, {operands}; addc.{unsigned} {{d}}, 0, 0;", type, from, columns, (a, b, c) =>
            form.Has("cc") ? (Exact(a, b, c) < 0 || Exact(a, b, c) > PtxCase.Mask(type) ? 1UL : 0) : b >> (form.Bits - 1));
    }

    private static void Product(Form form)
    {
        var type = form.Type;
        var result = form.Has("wide") ? type[..1] + (2 * form.Bits).ToString(CultureInfo.InvariantCulture) : type;
        BigInteger Half(ulong a, ulong b) => form.Has("hi") ? (Value(a, type) * Value(b, type)) >> form.Bits : Value(a, type) * Value(b, type);
        if (form.Name == "mul")
            form.Check("{op} {d}, {a}, {b};", result, [type, type], PtxCase.Integers(2), (a, b, _) => Bits(Half(a, b)));
        else
            form.Check("{op} {d}, {a}, {b}, {c};", result, [type, type, result], PtxCase.Integers(3), (a, b, c) => Bits(Half(a, b) + Value(c, result)));
    }

    private static BigInteger Low24(ulong x, Form form) => form.Type[0] == 's' && (x & 0x800000) != 0 ? new BigInteger(x & 0xFFFFFF) - 0x1000000 : x & 0xFFFFFF;

    private static void Plain(Form form)
    {
        var type = form.Type;
        var count = form.Name switch { "sad" => 3, "abs" or "neg" => 1, _ => 2 };
        form.Check($"{{op}} {{d}}, {string.Join(", ", new[] { "{a}", "{b}", "{c}" }.Take(count))};", type, [.. Enumerable.Repeat(type, count)], PtxCase.Integers(count), (x, y, z) =>
        {
            var (a, b, c) = (Value(x, type), Value(y, type), Value(z, type));
            return Bits(form.Name switch
            {
                "sad" => BigInteger.Abs(a - b) + c,
                // Undefined by PTX for zero; the hardware's sequence gives all ones.
                "div" => b.IsZero ? -1 : BigInteger.Divide(a, b),
                "rem" => b.IsZero ? -1 : BigInteger.Remainder(a, b),
                "min" => BigInteger.Min(a, b),
                "max" => BigInteger.Max(a, b),
                "abs" => BigInteger.Abs(a),
                _ => -a,
            });
        });
    }

    private static void DotProduct(Form form) => form.Check("{op} {d}, {a}, {b}, {c};", "s32", ["b32", "b32", "b32"], PtxCase.Integers(3), (x, y, z) =>
    {
        long sum = (int)z;
        for (var i = 0; i < 32; i += 8)
            sum += (form.Types[0][0] == 's' ? (sbyte)(x >> i) : (byte)(x >> i)) * (form.Types[1][0] == 's' ? (sbyte)(y >> i) : (byte)(y >> i));
        return (ulong)sum;
    });

    private static void Logic(Form form)
    {
        ulong Apply(ulong a, ulong b) => form.Name switch { "and" => a & b, "or" => a | b, "xor" => a ^ b, "not" => ~a, _ => a == 0 ? 1UL : 0 };
        var one = form.Name is "not" or "cnot";
        if (form.Type == "pred")
        {
            form.Check(
                $"setp.lt.s32 %pe, {{a}}, 0; setp.gt.s32 %pf, {{b}}, 9; {{op}} {{d}}, %pe{(one ? "" : ", %pf")};", "pred", ["s32", "s32"], PtxCase.Integers(2),
                (a, b, _) => Apply((int)a < 0 ? 1UL : 0, (int)b > 9 ? 1UL : 0) & 1);
        }
        else if (one)
            form.Check("{op} {d}, {a};", form.Type, [form.Type], PtxCase.Integers(1), (a, _, _) => Apply(a, 0));
        else
            form.Check("{op} {d}, {a}, {b};", form.Type, [form.Type, form.Type], PtxCase.Integers(2), (a, b, _) => Apply(a, b));
    }

    private static void LogicTable(Form form)
    {
        foreach (var table in new[] { 0x80, 0xFE, 0x96, 0xE8, 0x1B, 0xCA, 0x00, 0xFF, 0x35, 0x6A })
        {
            form.Check(FormattableString.Invariant($"{{op}} {{d}}, {{a}}, {{b}}, {{c}}, {table};"), "b32", ["b32", "b32", "b32"], PtxCase.Integers(3), (x, y, z) =>
            {
                ulong result = 0;
                for (var bit = 0; bit < 32; bit++)
                {
                    var index = (int)((x >> bit & 1) << 2 | (y >> bit & 1) << 1 | (z >> bit & 1));
                    result |= (ulong)(table >> index & 1) << bit;
                }
                return result;
            });
        }
    }

    private static void Shift(Form form)
    {
        var type = form.Type;
        form.Check("{op} {d}, {a}, {b};", type, [type, "u32"], PtxCase.Integers(2), (a, b, _) =>
        {
            // Counts beyond the width shift everything out.
            var count = (int)Math.Min(b, 200);
            return Bits(form.Name == "shl" ? Value(a, type) << count : Value(a, type) >> count);
        });
    }

    private static void FunnelShift(Form form) => form.Check("{op} {d}, {a}, {b}, {c};", "b32", ["b32", "b32", "u32"], PtxCase.Integers(3), (a, b, c) =>
    {
        var count = (int)(form.Has("wrap") ? c & 31 : Math.Min(c, 32));
        var both = (BigInteger)b << 32 | a;
        return Bits(form.Has("l") ? (both << count) >> 32 : both >> count);
    });

    private static string Binary(ulong x, Form form) => Convert.ToString((long)(x & PtxCase.Mask(form.Type)), 2).PadLeft(64, '0')[(64 - form.Bits)..];

    private static void CountBits(Form form) => form.Check("{op} {d}, {a};", form.Name == "brev" ? form.Type : "u32", [form.Type], PtxCase.Integers(1), (a, _, _) =>
    {
        var digits = Binary(a, form);
        switch (form.Name)
        {
            case "popc":
                return (ulong)digits.Count(digit => digit == '1');
            case "clz":
                return (ulong)digits.TakeWhile(digit => digit == '0').Count();
            case "brev":
                return Convert.ToUInt64(new string([.. digits.Reverse()]), 2);
            default:
                var lead = digits.IndexOf(form.Type[0] == 's' && digits[0] == '1' ? '0' : '1', StringComparison.Ordinal);
                return lead < 0 ? 0xFFFFFFFF : (ulong)(form.Has("shiftamt") ? lead : form.Bits - 1 - lead);
        }
    });

    private static void ExtractField(Form form) => form.Check("{op} {d}, {a}, {b}, {c};", form.Type, [form.Type, "u32", "u32"], PtxCase.Integers(3), (a, b, c) =>
    {
        var (position, length, digits) = ((int)(b & 255), (int)(c & 255), Binary(a, form));
        char Digit(int i) => i < form.Bits ? digits[form.Bits - 1 - i] : form.Type[0] == 's' ? digits[0] : '0';
        var fill = length == 0 || form.Type[0] == 'u' ? '0' : Digit(Math.Min(position + length - 1, form.Bits - 1));
        ulong result = 0;
        for (var i = 0; i < form.Bits; i++)
            result |= (i < length && position + i < form.Bits ? Digit(position + i) : fill) == '1' ? 1UL << i : 0;
        return result;
    });

    private static void InsertField(Form form)
    {
        // The operands are a, inserted into its own complement at b, c bits.
        form.Check($"not.{form.Type} {{d}}, {{a}}; {{op}} {{d}}, {{a}}, {{d}}, {{b}}, {{c}};", form.Type, [form.Type, "u32", "u32"], PtxCase.Integers(3), (a, b, c) =>
        {
            var (position, length, result) = ((int)(b & 255), (int)(c & 255), ~a);
            for (var i = 0; i < length && position + i < form.Bits; i++)
                result = (result & ~(1UL << (position + i))) | (i < form.Bits ? a >> i & 1 : 0) << (position + i);
            return result;
        });
    }

    private static void Permute(Form form) => form.Check("{op} {d}, {a}, {b}, {c};", "b32", ["b32", "b32", "b32"], PtxCase.Integers(3), (a, b, c) =>
    {
        var bytes = BitConverter.GetBytes((uint)a).Concat(BitConverter.GetBytes((uint)b)).ToArray();
        ulong result = 0;
        for (var i = 0; i < 4; i++)
        {
            var selector = (int)(c >> (4 * i)) & 15;
            var chosen = bytes[selector & 7];
            result |= (ulong)((selector & 8) == 0 ? chosen : (sbyte)chosen < 0 ? 255 : 0) << (8 * i);
        }
        return result;
    });
}
