using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Floating-point instructions against exact rational arithmetic rounded once. A NaN result is compared as NaN; binary32 ones must be canonical.</summary>
public sealed class FloatTests
{
    private static readonly string[] Modes = ["rn", "rz", "rm", "rp"];

    private static ulong[][] Operands(FloatFormat format, int count) => PtxCase.Operands(count, format.Edges, format.Random);

    /// <summary>Runs an instruction and compares; <paramref name="expected"/> gives null for NaN.</summary>
    private static void Check(string body, FloatFormat to, FloatFormat from, int operands, Func<ulong, ulong, ulong, ulong?> expected)
    {
        var columns = Operands(from, operands);
        var actual = PtxCase.Run(body, to.Name, [.. Enumerable.Repeat(from.Name, operands)], columns);
        for (var i = 0; i < actual.Length; i++)
        {
            var (a, b, c) = (columns[0][i], operands > 1 ? columns[1][i] : 0, operands > 2 ? columns[2][i] : 0);
            var want = expected(a, b, c);
            var right = want is { } bits ? bits == actual[i] : to == FloatFormat.Single ? actual[i] == 0x7FFFFFFF : to.IsNaN(actual[i]);
            Assert.True(right, $"{body}: a = 0x{a:x}, b = 0x{b:x}, c = 0x{c:x}: expected {(want is { } w ? $"0x{w:x}" : "NaN")}, got 0x{actual[i]:x}");
        }
    }

    private static ulong One(FloatFormat format) => (ulong)format.Bias << format.FractionBits;

    [Fact]
    public void Sums_products_and_fused_multiply_adds_in_every_rounding()
    {
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double })
        {
            foreach (var mode in Modes)
            {
                Check($"add.{mode}.{format.Name} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.MultiplyAdd(a, One(format), b, format, mode));
                Check($"sub.{mode}.{format.Name} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.MultiplyAdd(a, One(format), b ^ format.SignBit, format, mode));
                Check($"mul.{mode}.{format.Name} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.MultiplyAdd(a, b, null, format, mode));
                Check($"fma.{mode}.{format.Name} {{d}}, {{a}}, {{b}}, {{c}};", format, format, 3, (a, b, c) => ExactFloat.MultiplyAdd(a, b, c, format, mode));
            }
        }
    }

    [Fact]
    public void Quotients_and_roots()
    {
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double })
        {
            foreach (var mode in Modes)
            {
                Check($"div.{mode}.{format.Name} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.Divide(a, b, format, mode));
                Check($"sqrt.{mode}.{format.Name} {{d}}, {{a}};", format, format, 1, (a, _, _) => ExactFloat.SquareRoot(a, format, mode));
                Check($"rcp.{mode}.{format.Name} {{d}}, {{a}};", format, format, 1, (a, _, _) => ExactFloat.Divide(One(format), a, format, mode));
            }
        }
    }

    [Fact]
    public void Sixteen_bit_arithmetic_is_rounded_once()
    {
        foreach (var format in new[] { FloatFormat.Half, FloatFormat.Brain })
        {
            var f = format.Name;
            Check($"add.rn.{f} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.MultiplyAdd(a, One(format), b, format, "rn"));
            Check($"sub.rn.{f} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.MultiplyAdd(a, One(format), b ^ format.SignBit, format, "rn"));
            Check($"mul.rn.{f} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) => ExactFloat.MultiplyAdd(a, b, null, format, "rn"));
            Check($"fma.rn.{f} {{d}}, {{a}}, {{b}}, {{c}};", format, format, 3, (a, b, c) => ExactFloat.MultiplyAdd(a, b, c, format, "rn"));
            Check($"fma.rn.relu.{f} {{d}}, {{a}}, {{b}}, {{c}};", format, format, 3, (a, b, c) =>
                ExactFloat.MultiplyAdd(a, b, c, format, "rn") is { } r ? (r & format.SignBit) != 0 ? 0 : r : null);
            Check($"neg.{f} {{d}}, {{a}};", format, format, 1, (a, _, _) => format.IsNaN(a) ? null : a ^ format.SignBit);
            Check($"abs.{f} {{d}}, {{a}};", format, format, 1, (a, _, _) => format.IsNaN(a) ? null : a & ~format.SignBit);
            // Two at once give what each gives alone.
            foreach (var operation in new[] { "add.rn", "mul.rn", "sub.rn", "min", "max" })
            {
                PtxCase.Check(
                    $"mov.b32 %s0, {{{{a}}, {{b}}}}; mov.b32 %s1, {{{{b}}, {{a}}}}; {operation}.{f}x2 %t0, %s0, %s1; {operation}.{f} %hc, {{b}}, {{a}}; mov.b32 {{%ha, %hb}}, %t0; sub.u16 {{d}}, %hb, %hc;",
                    "u16", [f, f], Operands(format, 2), (_, _, _) => 0);
            }
        }
        Check("add.rn.sat.f16 {d}, {a}, {b};", FloatFormat.Half, FloatFormat.Half, 2, (a, b, _) =>
            ExactFloat.MultiplyAdd(a, One(FloatFormat.Half), b, FloatFormat.Half, "rn") is { } r ? (r & 0x8000) != 0 ? 0 : Math.Min(r, 0x3C00) : 0);
    }

    [Fact]
    public void Flushing_and_saturating()
    {
        var f = FloatFormat.Single;
        ulong Flush(ulong x) => f.IsSubnormal(x) ? x & f.SignBit : x;
        ulong? FlushResult(ulong? x) => x is { } bits ? Flush(bits) : null;
        Check("add.rn.ftz.f32 {d}, {a}, {b};", f, f, 2, (a, b, _) => FlushResult(ExactFloat.MultiplyAdd(Flush(a), One(f), Flush(b), f, "rn")));
        Check("mul.rn.ftz.f32 {d}, {a}, {b};", f, f, 2, (a, b, _) => FlushResult(ExactFloat.MultiplyAdd(Flush(a), Flush(b), null, f, "rn")));
        Check("fma.rn.ftz.f32 {d}, {a}, {b}, {c};", f, f, 3, (a, b, c) => FlushResult(ExactFloat.MultiplyAdd(Flush(a), Flush(b), Flush(c), f, "rn")));
        // Clamped to [0, 1]; NaN becomes +0.
        ulong Saturate(ulong? x) => x is not { } bits || (bits & f.SignBit) != 0 ? 0 : Math.Min(bits, 0x3F800000);
        Check("add.rn.sat.f32 {d}, {a}, {b};", f, f, 2, (a, b, _) => Saturate(ExactFloat.MultiplyAdd(a, One(f), b, f, "rn")));
        Check("fma.rn.sat.f32 {d}, {a}, {b}, {c};", f, f, 3, (a, b, c) => Saturate(ExactFloat.MultiplyAdd(a, b, c, f, "rn")));
        Check("mul.rn.ftz.sat.f32 {d}, {a}, {b};", f, f, 2, (a, b, _) => Saturate(FlushResult(ExactFloat.MultiplyAdd(Flush(a), Flush(b), null, f, "rn"))));
    }

    [Fact]
    public void Minimum_maximum_and_signs()
    {
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double, FloatFormat.Half, FloatFormat.Brain })
        {
            // Sign-magnitude order puts -0 below +0.
            long Order(ulong x) => (x & format.SignBit) != 0 ? -(long)(x & ~format.SignBit) - 1 : (long)x;
            foreach (var name in new[] { "min", "max" })
            {
                ulong Choose(ulong a, ulong b) => Order(a) < Order(b) == (name == "min") ? a : b;
                Check($"{name}.{format.Name} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) =>
                    format.IsNaN(a) ? format.IsNaN(b) ? null : b : format.IsNaN(b) ? a : Choose(a, b));
                if (format != FloatFormat.Double)
                {
                    Check($"{name}.NaN.{format.Name} {{d}}, {{a}}, {{b}};", format, format, 2, (a, b, _) =>
                        format.IsNaN(a) || format.IsNaN(b) ? null : Choose(a, b));
                }
            }
        }
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double })
        {
            var n = format.Name;
            PtxCase.Check($"neg.{n} {{d}}, {{a}};", n, [n], Operands(format, 1), (a, _, _) => a ^ format.SignBit);
            PtxCase.Check($"abs.{n} {{d}}, {{a}};", n, [n], Operands(format, 1), (a, _, _) => a & ~format.SignBit);
            PtxCase.Check($"copysign.{n} {{d}}, {{a}}, {{b}};", n, [n, n], Operands(format, 2), (a, b, _) => (a & format.SignBit) | (b & ~format.SignBit));
        }
    }

    [Fact]
    public void Comparisons_with_and_without_NaN()
    {
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double, FloatFormat.Half, FloatFormat.Brain })
        {
            foreach (var name in new[] { "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan" })
            {
                PtxCase.Check($"setp.{name}.{format.Name} {{d}}, {{a}}, {{b}};", "pred", [format.Name, format.Name], Operands(format, 2), (a, b, _) =>
                {
                    var unordered = format.IsNaN(a) || format.IsNaN(b);
                    double Value(ulong x) => BitConverter.UInt64BitsToDouble(ExactFloat.Convert(x, format, FloatFormat.Double, "rn") ?? 0x7FF8000000000000);
                    var (x, y) = (Value(a), Value(b));
                    return name switch
                    {
                        "num" => !unordered,
                        "nan" => unordered,
                        "eq" or "equ" => x == y || unordered && name.Length == 3,
                        "ne" or "neu" => !unordered && x != y || unordered && name.Length == 3,
                        "lt" or "ltu" => x < y || unordered && name.Length == 3,
                        "le" or "leu" => x <= y || unordered && name.Length == 3,
                        "gt" or "gtu" => x > y || unordered && name.Length == 3,
                        _ => x >= y || unordered && name.Length == 3,
                    } ? 1UL : 0;
                });
            }
        }
    }

    [Theory]
    [InlineData("f16"), InlineData("bf16")]
    public void Packed_comparisons_compare_each_half(string name)
    {
        var format = name == "f16" ? FloatFormat.Half : FloatFormat.Brain;
        var one = (ulong)format.Bias << format.FractionBits;
        bool Less(ulong x, ulong y) =>
            !format.IsNaN(x) && !format.IsNaN(y)
            && BitConverter.UInt64BitsToDouble(ExactFloat.Convert(x, format, FloatFormat.Double, "rn")!.Value) < BitConverter.UInt64BitsToDouble(ExactFloat.Convert(y, format, FloatFormat.Double, "rn")!.Value);
        // (a, b) against (b, a): the lower halves and the upper ones give different answers wherever a and b differ.
        const string Pack = "mov.b32 %s0, {{a}, {b}}; mov.b32 %s1, {{b}, {a}}; ";
        PtxCase.Check($"{Pack}setp.lt.{name}x2 {{d}}|%pe, %s0, %s1;", "pred", [name, name], Operands(format, 2), (a, b, _) => Less(a, b) ? 1UL : 0);
        PtxCase.Check($"{Pack}setp.lt.{name}x2 %pe|{{d}}, %s0, %s1;", "pred", [name, name], Operands(format, 2), (a, b, _) => Less(b, a) ? 1UL : 0);
        PtxCase.Check($"{Pack}setp.nan.{name}x2 {{d}}|%pe, %s0, %s0; setp.ge.or.{name}x2 %pe|{{d}}, %s0, %s1, {{d}};", "pred", [name, name], Operands(format, 2), (a, b, _) =>
            format.IsNaN(a) || (!format.IsNaN(a) && !format.IsNaN(b) && !Less(b, a)) ? 1UL : 0);
        PtxCase.Check($"{Pack}set.lt.{name}x2.{name}x2 {{d}}, %s0, %s1;", "b32", [name, name], Operands(format, 2), (a, b, _) => (Less(a, b) ? one : 0) | (Less(b, a) ? one << 16 : 0));
    }

    [Fact]
    public void Kinds_of_numbers()
    {
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double })
        {
            var infinity = (1UL << (format == FloatFormat.Single ? 8 : 11)) - 1 << format.FractionBits;
            foreach (var kind in new[] { "finite", "infinite", "number", "notanumber", "normal", "subnormal" })
            {
                PtxCase.Check($"testp.{kind}.{format.Name} {{d}}, {{a}};", "pred", [format.Name], Operands(format, 1), (a, _, _) =>
                {
                    var magnitude = a & ~format.SignBit;
                    var smallest = 1UL << format.FractionBits;
                    return kind switch
                    {
                        "finite" => magnitude < infinity,
                        "infinite" => magnitude == infinity,
                        "number" => magnitude <= infinity,
                        "notanumber" => magnitude > infinity,
                        "normal" => magnitude >= smallest && magnitude < infinity,
                        _ => magnitude > 0 && magnitude < smallest,
                    } ? 1UL : 0;
                });
            }
        }
    }

    public static TheoryData<string, double, double> Approximations => new()
    {
        // Instruction, relative bound, absolute bound, from the PTX documentation; sin and cos in [-pi, pi], lg2 near 1 absolutely.
        { "ex2", Math.Pow(2, -22), 0 },
        { "lg2", Math.Pow(2, -21), Math.Pow(2, -21) },
        { "sin", 0, Math.Pow(2, -20.5) },
        { "cos", 0, Math.Pow(2, -20.5) },
        { "tanh", Math.Pow(2, -11), 0 },
        { "rcp", Math.Pow(2, -23), 0 },
        { "sqrt", Math.Pow(2, -22), 0 },
        { "rsqrt", Math.Pow(2, -22.4), 0 },
    };

    [Theory]
    [MemberData(nameof(Approximations))]
    public void Approximate_functions_stay_within_their_documented_error(string name, double relative, double absolute)
    {
        var random = new Random(4);
        var inputs = Enumerable.Range(0, 2000).Select(i => name switch
        {
            "sin" or "cos" => (float)((random.NextDouble() * 2 - 1) * Math.PI),
            "ex2" => (float)((random.NextDouble() * 2 - 1) * 125),
            "tanh" => (float)((random.NextDouble() * 2 - 1) * 6),
            _ => (float)Math.Pow(2, (random.NextDouble() * 2 - 1) * 120),
        }).ToArray();
        var actual = PtxCase.Run($"{name}.approx.f32 {{d}}, {{a}};", "f32", ["f32"], [[.. inputs.Select(x => (ulong)BitConverter.SingleToUInt32Bits(x))]]);
        for (var i = 0; i < inputs.Length; i++)
        {
            double x = inputs[i], result = BitConverter.UInt32BitsToSingle((uint)actual[i]);
            var exact = name switch
            {
                "ex2" => Math.Pow(2, x),
                "lg2" => Math.Log2(x),
                "sin" => Math.Sin(x),
                "cos" => Math.Cos(x),
                "tanh" => Math.Tanh(x),
                "rcp" => 1 / x,
                "sqrt" => Math.Sqrt(x),
                _ => 1 / Math.Sqrt(x),
            };
            Assert.True(Math.Abs(result - exact) <= Math.Max(relative * Math.Abs(exact), absolute), $"{name}({x:R}) = {result:R}, exactly {exact:R}");
        }
        // What the documentation says of the ends.
        ulong[] ends = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000];
        float inf = float.PositiveInfinity, nan = float.NaN;
        float[] expected = name switch
        {
            "ex2" => [1, 1, inf, 0, nan],
            "lg2" => [-inf, -inf, inf, nan, nan],
            "sin" => [0, -0f, nan, nan, nan],
            "cos" => [1, 1, nan, nan, nan],
            "tanh" => [0, -0f, 1, -1, nan],
            "rcp" => [inf, -inf, 0, -0f, nan],
            "sqrt" => [0, -0f, inf, nan, nan],
            _ => [inf, -inf, 0, nan, nan],
        };
        var atEnds = PtxCase.Run($"{name}.approx.f32 {{d}}, {{a}};", "f32", ["f32"], [ends]);
        for (var i = 0; i < ends.Length; i++)
            Assert.Equal(float.IsNaN(expected[i]) ? 0x7FFFFFFF : BitConverter.SingleToUInt32Bits(expected[i]), atEnds[i]);
    }

    [Fact]
    public void Double_reciprocals_in_the_gross_form()
    {
        // Only the upper 32 bits of the operand count and only those of the result are set; 20 bits of fraction are left, subnormal values are zero.
        var columns = Operands(FloatFormat.Double, 1);
        foreach (var name in new[] { "rcp", "rsqrt" })
        {
            var actual = PtxCase.Run($"{name}.approx.ftz.f64 {{d}}, {{a}};", "f64", ["f64"], columns);
            for (var i = 0; i < actual.Length; i++)
            {
                var bits = FloatFormat.Double.IsSubnormal(columns[0][i]) ? columns[0][i] & FloatFormat.Double.SignBit : columns[0][i];
                var operand = BitConverter.UInt64BitsToDouble(FloatFormat.Double.IsNaN(bits) ? bits : bits & ~0xFFFFFFFFUL);
                var result = BitConverter.UInt64BitsToDouble(actual[i]);
                var exact = name == "rcp" ? 1 / operand : 1 / Math.Sqrt(operand);
                var right = double.IsNaN(exact) ? double.IsNaN(result)
                    : double.IsInfinity(exact) || exact == 0 ? result.Equals(exact) && double.IsNegative(result) == double.IsNegative(exact)
                    : Math.Abs(exact) < 2.3e-308 ? result == 0 || Math.Abs(result) < 2.3e-308
                    : (actual[i] & 0xFFFFFFFF) == 0 && Math.Abs(result - exact) <= Math.Abs(exact) * Math.Pow(2, -20);
                Assert.True(right, $"{name}.approx.ftz.f64(0x{columns[0][i]:x}): expected about {exact:R}, got 0x{actual[i]:x}");
            }
        }
        var random = new Random(8);
        ulong[] inputs = [.. Enumerable.Range(0, 500).Select(_ => BitConverter.DoubleToUInt64Bits(Math.Pow(2, random.NextDouble() * 1800 - 900)))];
        var roots = PtxCase.Run("rsqrt.approx.f64 {d}, {a};", "f64", ["f64"], [inputs]);
        for (var i = 0; i < inputs.Length; i++)
            Assert.Equal(1, BitConverter.UInt64BitsToDouble(roots[i]) * Math.Sqrt(BitConverter.UInt64BitsToDouble(inputs[i])), 1e-15);
    }

    [Fact]
    public void Conversions_between_float_formats()
    {
        var (half, brain, single, wide) = (FloatFormat.Half, FloatFormat.Brain, FloatFormat.Single, FloatFormat.Double);
        foreach (var (from, to) in new[] { (half, single), (brain, single), (single, wide), (half, wide) })
            Check($"cvt.{to.Name}.{from.Name} {{d}}, {{a}};", to, from, 1, (a, _, _) => ExactFloat.Convert(a, from, to, "rn"));
        foreach (var mode in Modes)
        {
            foreach (var (from, to) in new[] { (single, half), (wide, single), (wide, half) })
                Check($"cvt.{mode}.{to.Name}.{from.Name} {{d}}, {{a}};", to, from, 1, (a, _, _) => ExactFloat.Convert(a, from, to, mode));
        }
        foreach (var mode in new[] { "rn", "rz" })
            Check($"cvt.{mode}.bf16.f32 {{d}}, {{a}};", brain, single, 1, (a, _, _) => ExactFloat.Convert(a, single, brain, mode));
        foreach (var to in new[] { half, brain })
        {
            PtxCase.Check($"cvt.rn.{to.Name}x2.f32 {{d}}, {{a}}, {{b}};", "b32", ["f32", "f32"], Operands(single, 2), (a, b, _) =>
                (ExactFloat.Convert(a, single, to, "rn") ?? 0x7FFF) << 16 | (ExactFloat.Convert(b, single, to, "rn") ?? 0x7FFF));
        }
        var tf32 = new FloatFormat("b32", 10, 8);
        PtxCase.Check("cvt.rna.tf32.f32 {d}, {a};", "b32", ["f32"], Operands(single, 1), (a, _, _) =>
            ExactFloat.Convert(a, single, tf32, "rna") is { } bits ? bits << 13 : 0x7FFFFFFF);
    }

    [Fact]
    public void Conversions_between_floats_and_integers()
    {
        foreach (var format in new[] { FloatFormat.Single, FloatFormat.Double, FloatFormat.Half })
        {
            foreach (var type in new[] { "s8", "u8", "u16", "s16", "u32", "s32", "u64", "s64" })
            {
                var (low, high) = IntegerRange(type);
                var register = PtxCase.Bytes(type) == 1 ? "u16" : type;
                foreach (var (mode, apply) in new (string, Func<double, double>)[] { ("rni", x => Math.Round(x, MidpointRounding.ToEven)), ("rzi", Math.Truncate), ("rmi", Math.Floor), ("rpi", Math.Ceiling) })
                {
                    PtxCase.Check($"cvt.{mode}.{type}.{format.Name} {{d}}, {{a}};", register, [format.Name], Operands(format, 1), (a, _, _) =>
                    {
                        if (ExactFloat.Convert(a, format, FloatFormat.Double, "rn") is not { } bits)
                            return 0;
                        var value = apply(BitConverter.UInt64BitsToDouble(bits));
                        var clamped = value <= (double)low ? low : value >= (double)high ? high : (Int128)value;
                        return (ulong)(UInt128)clamped;
                    });
                }
                if (PtxCase.Bytes(type) == 1)
                    continue;
                foreach (var mode in Modes)
                {
                    PtxCase.Check($"cvt.{mode}.{format.Name}.{type} {{d}}, {{a}};", format.Name, [type], PtxCase.Integers(1), (a, _, _) =>
                    {
                        var width = 8 * PtxCase.Bytes(type);
                        Int128 value = a & PtxCase.Mask(type);
                        if (type[0] == 's' && value >> (width - 1) != 0)
                            value -= Int128.One << width;
                        return value == 0 ? 0 : ExactFloat.Round((System.Numerics.BigInteger)value, 0, false, format, mode);
                    });
                }
            }
        }
        foreach (var mode in new[] { "rni", "rzi", "rmi", "rpi" })
        {
            Check($"cvt.{mode}.f32.f32 {{d}}, {{a}};", FloatFormat.Single, FloatFormat.Single, 1, (a, _, _) => FloatFormat.Single.IsNaN(a) ? null : BitConverter.SingleToUInt32Bits(mode switch
            {
                "rni" => MathF.Round(BitConverter.UInt32BitsToSingle((uint)a), MidpointRounding.ToEven),
                "rzi" => MathF.Truncate(BitConverter.UInt32BitsToSingle((uint)a)),
                "rmi" => MathF.Floor(BitConverter.UInt32BitsToSingle((uint)a)),
                _ => MathF.Ceiling(BitConverter.UInt32BitsToSingle((uint)a)),
            }));
        }
        PtxCase.Check("cvt.sat.f32.f32 {d}, {a};", "f32", ["f32"], Operands(FloatFormat.Single, 1), (a, _, _) =>
            FloatFormat.Single.IsNaN(a) || (a & 0x80000000) != 0 ? 0 : Math.Min(a, 0x3F800000));
    }

    [Fact]
    public void Conversions_between_integers()
    {
        string[] types = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];
        foreach (var to in types)
        {
            foreach (var from in types.Where(t => PtxCase.Bytes(t) > 1))
            {
                foreach (var sat in new[] { "", ".sat" })
                {
                    // A signed result is extended to the register, so 8-bit results are read as 16.
                    var register = PtxCase.Bytes(to) == 1 ? "u16" : to;
                    PtxCase.Check($"cvt{sat}.{to}.{from} {{d}}, {{a}};", register, [from], PtxCase.Integers(1), (a, _, _) =>
                    {
                        var (low, high) = IntegerRange(from);
                        Int128 value = a & PtxCase.Mask(from);
                        if (value > high)
                            value -= Int128.One << (8 * PtxCase.Bytes(from));
                        (low, high) = IntegerRange(to);
                        if (sat.Length > 0)
                            value = Int128.Clamp(value, low, high);
                        value &= (Int128)PtxCase.Mask(to);
                        return (ulong)(UInt128)(value > high ? value - (Int128.One << (8 * PtxCase.Bytes(to))) : value);
                    });
                }
            }
        }
    }

    private static (Int128 Low, Int128 High) IntegerRange(string type)
    {
        var width = 8 * PtxCase.Bytes(type);
        return type[0] == 's' ? (-(Int128.One << (width - 1)), (Int128.One << (width - 1)) - 1) : (0, (Int128.One << width) - 1);
    }
}
