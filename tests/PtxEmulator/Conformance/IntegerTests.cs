using System.Globalization;
using System.Numerics;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Integer instructions against arbitrary-precision arithmetic.</summary>
public sealed class IntegerTests
{
    private static BigInteger Value(ulong bits, string type)
    {
        var width = 8 * PtxCase.Bytes(type);
        var low = bits & PtxCase.Mask(type);
        return type[0] == 's' && (low >> (width - 1) & 1) != 0 ? new BigInteger(low) - (BigInteger.One << width) : low;
    }

    private static ulong Bits(BigInteger value) => (ulong)(value & ulong.MaxValue);

    private static BigInteger Clamp(BigInteger value, string type)
    {
        var width = 8 * PtxCase.Bytes(type);
        var (low, high) = type[0] == 's' ? (-(BigInteger.One << (width - 1)), (BigInteger.One << (width - 1)) - 1) : (BigInteger.Zero, (BigInteger.One << width) - 1);
        return BigInteger.Max(low, BigInteger.Min(high, value));
    }

    [Theory]
    [InlineData("add"), InlineData("sub"), InlineData("mul.lo"), InlineData("mul.hi"), InlineData("div"), InlineData("rem"), InlineData("min"), InlineData("max")]
    public void Binary_arithmetic(string operation)
    {
        foreach (var type in new[] { "u16", "s16", "u32", "s32", "u64", "s64" })
        {
            PtxCase.Check($"{operation}.{type} {{d}}, {{a}}, {{b}};", type, [type, type], PtxCase.Integers(2), (x, y, _) =>
            {
                var (a, b) = (Value(x, type), Value(y, type));
                return Bits(operation switch
                {
                    "add" => a + b,
                    "sub" => a - b,
                    "mul.lo" => a * b,
                    "mul.hi" => (a * b) >> (8 * PtxCase.Bytes(type)),
                    // Undefined by PTX; the hardware's sequence gives all ones.
                    "div" => b.IsZero ? -1 : BigInteger.Divide(a, b),
                    "rem" => b.IsZero ? -1 : BigInteger.Remainder(a, b),
                    "min" => BigInteger.Min(a, b),
                    _ => BigInteger.Max(a, b),
                });
            });
        }
    }

    [Fact]
    public void Wide_products_and_multiply_adds()
    {
        foreach (var (type, wide) in new[] { ("u16", "u32"), ("s16", "s32"), ("u32", "u64"), ("s32", "s64") })
        {
            PtxCase.Check($"mul.wide.{type} {{d}}, {{a}}, {{b}};", wide, [type, type], PtxCase.Integers(2), (x, y, _) => Bits(Value(x, type) * Value(y, type)));
            PtxCase.Check(
                $"mad.wide.{type} {{d}}, {{a}}, {{b}}, {{c}};", wide, [type, type, wide], PtxCase.Integers(3), (x, y, z) => Bits(Value(x, type) * Value(y, type) + Value(z, wide)));
        }
        foreach (var type in new[] { "u32", "s32", "u64", "s64" })
        {
            PtxCase.Check($"mad.lo.{type} {{d}}, {{a}}, {{b}}, {{c}};", type, [type, type, type], PtxCase.Integers(3), (x, y, z) => Bits(Value(x, type) * Value(y, type) + Value(z, type)));
            PtxCase.Check(
                $"mad.hi.{type} {{d}}, {{a}}, {{b}}, {{c}};", type, [type, type, type], PtxCase.Integers(3),
                (x, y, z) => Bits(((Value(x, type) * Value(y, type)) >> (8 * PtxCase.Bytes(type))) + Value(z, type)));
            PtxCase.Check(
                $"sad.{type} {{d}}, {{a}}, {{b}}, {{c}};", type, [type, type, type], PtxCase.Integers(3), (x, y, z) => Bits(BigInteger.Abs(Value(x, type) - Value(y, type)) + Value(z, type)));
        }
        PtxCase.Check("mul24.lo.s32 {d}, {a}, {b};", "s32", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => Bits(Low24(x, true) * Low24(y, true)));
        PtxCase.Check("mul24.lo.u32 {d}, {a}, {b};", "u32", ["u32", "u32"], PtxCase.Integers(2), (x, y, _) => Bits(Low24(x, false) * Low24(y, false)));

        static BigInteger Low24(ulong x, bool signed) => signed && (x & 0x800000) != 0 ? new BigInteger(x & 0xFFFFFF) - 0x1000000 : x & 0xFFFFFF;
    }

    [Fact]
    public void Saturating_sums_and_carries()
    {
        PtxCase.Check("add.sat.s32 {d}, {a}, {b};", "s32", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => Bits(Clamp(Value(x, "s32") + Value(y, "s32"), "s32")));
        PtxCase.Check("sub.sat.s32 {d}, {a}, {b};", "s32", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => Bits(Clamp(Value(x, "s32") - Value(y, "s32"), "s32")));
        // 64-bit sums made of 32-bit halves.
        const string Split = "mov.b64 {%wa, %wb}, %da; mov.b64 {%wc, %wd}, %db; ";
        PtxCase.Check(
            Split + "add.cc.u32 %s0, %wa, %wc; addc.u32 %s1, %wb, %wd; mov.b64 {d}, {%s0, %s1};", "u64", ["u64", "u64"], PtxCase.Integers(2), (x, y, _) => x + y);
        PtxCase.Check(
            Split + "sub.cc.u32 %s0, %wa, %wc; subc.u32 %s1, %wb, %wd; mov.b64 {d}, {%s0, %s1};", "u64", ["u64", "u64"], PtxCase.Integers(2), (x, y, _) => x - y);
        PtxCase.Check(
            Split + "mul.lo.u32 %s0, %wa, %wc; mul.hi.u32 %s1, %wa, %wc; mad.lo.cc.u32 %s1, %wa, %wd, %s1; madc.hi.u32 %t1, 0, 0, 0; mad.lo.u32 %s1, %wb, %wc, %s1; mov.b64 {d}, {%s0, %s1};",
            "u64", ["u64", "u64"], PtxCase.Integers(2), (x, y, _) => x * y);
    }

    [Fact]
    public void Logic_and_signs()
    {
        foreach (var width in new[] { 16, 32, 64 })
        {
            var b = "b" + width.ToString(CultureInfo.InvariantCulture);
            var s = "s" + width.ToString(CultureInfo.InvariantCulture);
            PtxCase.Check($"and.{b} {{d}}, {{a}}, {{b}};", b, [b, b], PtxCase.Integers(2), (x, y, _) => x & y);
            PtxCase.Check($"or.{b} {{d}}, {{a}}, {{b}};", b, [b, b], PtxCase.Integers(2), (x, y, _) => x | y);
            PtxCase.Check($"xor.{b} {{d}}, {{a}}, {{b}};", b, [b, b], PtxCase.Integers(2), (x, y, _) => x ^ y);
            PtxCase.Check($"not.{b} {{d}}, {{a}};", b, [b], PtxCase.Integers(1), (x, _, _) => ~x);
            PtxCase.Check($"cnot.{b} {{d}}, {{a}};", b, [b], PtxCase.Integers(1), (x, _, _) => (x & PtxCase.Mask(b)) == 0 ? 1UL : 0);
            PtxCase.Check($"neg.{s} {{d}}, {{a}};", s, [s], PtxCase.Integers(1), (x, _, _) => 0 - x);
            PtxCase.Check($"abs.{s} {{d}}, {{a}};", s, [s], PtxCase.Integers(1), (x, _, _) => Bits(BigInteger.Abs(Value(x, s))));
        }
        foreach (var table in new[] { 0x80, 0xFE, 0x96, 0xE8, 0x1B, 0xCA, 0x00, 0xFF })
        {
            PtxCase.Check(
                $"lop3.b32 {{d}}, {{a}}, {{b}}, {{c}}, {table.ToString(CultureInfo.InvariantCulture)};", "b32", ["b32", "b32", "b32"], PtxCase.Integers(3), (x, y, z) =>
                {
                    ulong result = 0;
                    for (var bit = 0; bit < 32; bit++)
                        result |= (ulong)(table >> (int)((x >> bit & 1) * 4 + (y >> bit & 1) * 2 + (z >> bit & 1)) & 1) << bit;
                    return result;
                });
        }
    }

    [Fact]
    public void Shifts_clamp_their_counts()
    {
        foreach (var width in new[] { 16, 32, 64 })
        {
            var n = width.ToString(CultureInfo.InvariantCulture);
            BigInteger Count(ulong y) => BigInteger.Min(y & 0xFFFFFFFF, width);
            PtxCase.Check($"shl.b{n} {{d}}, {{a}}, {{b}};", "b" + n, ["b" + n, "u32"], PtxCase.Integers(2), (x, y, _) => Bits(Value(x, "u" + n) << (int)Count(y)));
            PtxCase.Check($"shr.u{n} {{d}}, {{a}}, {{b}};", "u" + n, ["u" + n, "u32"], PtxCase.Integers(2), (x, y, _) => Bits(Value(x, "u" + n) >> (int)Count(y)));
            PtxCase.Check($"shr.s{n} {{d}}, {{a}}, {{b}};", "s" + n, ["s" + n, "u32"], PtxCase.Integers(2), (x, y, _) => Bits(Value(x, "s" + n) >> (int)Count(y)));
        }
        foreach (var (mode, wraps) in new[] { ("wrap", true), ("clamp", false) })
        {
            int Count(ulong z) => (int)(wraps ? z & 31 : Math.Min(z & 0xFFFFFFFF, 32));
            PtxCase.Check(
                $"shf.l.{mode}.b32 {{d}}, {{a}}, {{b}}, {{c}};", "b32", ["b32", "b32", "b32"], PtxCase.Integers(3),
                (x, y, z) => Bits(((Value(y, "u32") << 32 | Value(x, "u32")) << Count(z)) >> 32));
            PtxCase.Check(
                $"shf.r.{mode}.b32 {{d}}, {{a}}, {{b}}, {{c}};", "b32", ["b32", "b32", "b32"], PtxCase.Integers(3),
                (x, y, z) => Bits((Value(y, "u32") << 32 | Value(x, "u32")) >> Count(z)));
        }
    }

    [Fact]
    public void Bit_counts_and_fields()
    {
        foreach (var width in new[] { 32, 64 })
        {
            var n = width.ToString(CultureInfo.InvariantCulture);
            string Binary(ulong x) => Convert.ToString((long)(x & PtxCase.Mask("b" + n)), 2).PadLeft(64, '0')[(64 - width)..];
            PtxCase.Check($"popc.b{n} {{d}}, {{a}};", "u32", ["b" + n], PtxCase.Integers(1), (x, _, _) => (ulong)Binary(x).Count(bit => bit == '1'));
            PtxCase.Check($"clz.b{n} {{d}}, {{a}};", "u32", ["b" + n], PtxCase.Integers(1), (x, _, _) => (ulong)Binary(x).TakeWhile(bit => bit == '0').Count());
            PtxCase.Check($"brev.b{n} {{d}}, {{a}};", "b" + n, ["b" + n], PtxCase.Integers(1), (x, _, _) => Convert.ToUInt64(new string([.. Binary(x).Reverse()]), 2));
            foreach (var sign in new[] { "u", "s" })
            {
                ulong Find(ulong x, bool shift)
                {
                    var digits = Binary(x);
                    var wanted = sign == "s" && digits[0] == '1' ? '0' : '1';
                    var lead = digits.IndexOf(wanted, StringComparison.Ordinal);
                    return lead < 0 ? 0xFFFFFFFF : (ulong)(shift ? lead : width - 1 - lead);
                }

                PtxCase.Check($"bfind.{sign}{n} {{d}}, {{a}};", "u32", [sign + n], PtxCase.Integers(1), (x, _, _) => Find(x, false));
                PtxCase.Check($"bfind.shiftamt.{sign}{n} {{d}}, {{a}};", "u32", [sign + n], PtxCase.Integers(1), (x, _, _) => Find(x, true));
                PtxCase.Check($"bfe.{sign}{n} {{d}}, {{a}}, {{b}}, {{c}};", sign + n, [sign + n, "u32", "u32"], PtxCase.Integers(3), (x, y, z) =>
                {
                    var (position, length) = ((int)(y & 255), (int)(z & 255));
                    var digits = Binary(x);
                    char Digit(int i) => i < width ? digits[width - 1 - i] : sign == "s" ? digits[0] : '0';
                    var fill = length == 0 || sign == "u" ? '0' : Digit(Math.Min(position + length - 1, width - 1));
                    ulong result = 0;
                    for (var i = 0; i < width; i++)
                        result |= (i < length && position + i < width ? Digit(position + i) : fill) == '1' ? 1UL << i : 0;
                    return result;
                });
            }
            PtxCase.Check($"bfi.b{n} {{d}}, {{a}}, {{b}}, %t1, %t2;".Insert(0, "mov.u32 %t1, 5; mov.u32 %t2, 9; "), "b" + n, ["b" + n, "b" + n], PtxCase.Integers(2), (x, y, _) => (y & ~(0x1FFUL << 5)) | (x & 0x1FF) << 5);
            PtxCase.Check($"bfi.b{n} {{d}}, {{a}}, {{a}}, {{b}}, {{c}};", "b" + n, ["b" + n, "u32", "u32"], PtxCase.Integers(3), (x, y, z) =>
            {
                var (position, length) = ((int)(y & 255), (int)(z & 255));
                var result = x;
                for (var i = 0; i < length && position + i < width; i++)
                {
                    var bit = i < width ? x >> i & 1 : 0;
                    result = (result & ~(1UL << (position + i))) | bit << (position + i);
                }
                return result;
            });
        }
    }

    [Fact]
    public void Byte_permutations_and_dot_products()
    {
        PtxCase.Check("prmt.b32 {d}, {a}, {b}, {c};", "b32", ["b32", "b32", "b32"], PtxCase.Integers(3), (x, y, z) =>
        {
            var bytes = BitConverter.GetBytes((uint)x).Concat(BitConverter.GetBytes((uint)y)).ToArray();
            ulong result = 0;
            for (var i = 0; i < 4; i++)
            {
                var selector = (int)(z >> (4 * i)) & 15;
                var chosen = bytes[selector & 7];
                result |= (ulong)((selector & 8) == 0 ? chosen : (sbyte)chosen < 0 ? 255 : 0) << (8 * i);
            }
            return result;
        });
        foreach (var (a, b) in new[] { ("s32", "s32"), ("u32", "u32"), ("s32", "u32"), ("u32", "s32") })
        {
            PtxCase.Check($"dp4a.{a}.{b} {{d}}, {{a}}, {{b}}, {{c}};", "s32", ["b32", "b32", "b32"], PtxCase.Integers(3), (x, y, z) =>
            {
                long sum = (int)z;
                for (var i = 0; i < 32; i += 8)
                    sum += (a[0] == 's' ? (sbyte)(x >> i) : (byte)(x >> i)) * (b[0] == 's' ? (sbyte)(y >> i) : (byte)(y >> i));
                return (ulong)sum;
            });
        }
    }

    [Fact]
    public void Comparisons()
    {
        foreach (var type in new[] { "u16", "s16", "u32", "s32", "u64", "s64" })
        {
            foreach (var comparison in new[] { "eq", "ne", "lt", "le", "gt", "ge" })
            {
                PtxCase.Check($"setp.{comparison}.{type} {{d}}, {{a}}, {{b}};", "pred", [type, type], PtxCase.Integers(2), (x, y, _) =>
                {
                    var order = Value(x, type).CompareTo(Value(y, type));
                    return comparison switch { "eq" => order == 0, "ne" => order != 0, "lt" => order < 0, "le" => order <= 0, "gt" => order > 0, _ => order >= 0 } ? 1UL : 0;
                });
            }
        }
        PtxCase.Check("setp.lo.u32 %pe, {a}, 100; setp.hi.or.u32 {d}, {b}, 1000, %pe;", "pred", ["u32", "u32"], PtxCase.Integers(2), (x, y, _) => (uint)x < 100 || (uint)y > 1000 ? 1UL : 0);
        PtxCase.Check("setp.lt.and.s32 {d}|%pe, {a}, {b}, %pe;".Insert(0, "setp.ne.s32 %pe, {a}, 7; "), "pred", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => (int)x < (int)y && (int)x != 7 ? 1UL : 0);
        PtxCase.Check("setp.lt.s32 {d}, {a}, {b}; setp.eq.s32 %pe, {a}, 0; xor.pred {d}, {d}, %pe; not.pred {d}, {d};", "pred", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => (int)x < (int)y ^ (int)x == 0 ? 0UL : 1);
        PtxCase.Check("set.gt.u32.s32 {d}, {a}, {b};", "u32", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => (int)x > (int)y ? 0xFFFFFFFF : 0);
        PtxCase.Check("setp.ge.s64 %pe, {a}, {b}; selp.b64 {d}, {a}, {b}, %pe;", "b64", ["s64", "s64"], PtxCase.Integers(2), (x, y, _) => (long)x >= (long)y ? x : y);
        PtxCase.Check("setp.ge.s32 %pe, {a}, {b}; @%pe mov.b32 {d}, {a}; @!%pe mov.b32 {d}, {b};", "b32", ["s32", "s32"], PtxCase.Integers(2), (x, y, _) => (int)x >= (int)y ? x : y);
    }
}
