namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Floating point against exact rational arithmetic rounded once, approximate functions against their documented error.</summary>
internal static class FloatForms
{
    internal static Dictionary<string, Reference> All { get; } = new(
    [
        .. References.For(Arithmetic, "fma", "copysign"), .. References.For(Approximate, "rsqrt", "sin", "cos", "lg2", "ex2", "tanh"),
        .. new[] { "rcp", "sqrt" }.ToDictionary(name => name, _ => References.Each(form => (form.Has("approx") ? (Action<Form>)Approximate : Arithmetic)(form))),
        .. References.For(Test, "testp"),
    ]);

    internal static bool IsFloat(Form form) => form.Type.Contains('f', StringComparison.Ordinal);

    internal static FloatFormat Format(string type) => type switch
    {
        "f16" or "f16x2" => FloatFormat.Half,
        "bf16" or "bf16x2" => FloatFormat.Brain,
        "f64" => FloatFormat.Double,
        "tf32" => new FloatFormat("tf32", 10, 8),
        _ => FloatFormat.Single,
    };

    internal static ulong[][] Operands(FloatFormat format, int count) => PtxCase.Operands(count, format.Edges, format.Random);

    internal static ulong Flush(ulong x, FloatFormat format) => format.IsSubnormal(x) ? x & format.SignBit : x;

    internal static ulong One(FloatFormat format) => (ulong)format.Bias << format.FractionBits;

    /// <summary>Clamped to [0, 1]; NaN becomes +0.</summary>
    internal static ulong Saturate(ulong? x, FloatFormat format) => x is not { } bits || (bits & format.SignBit) != 0 ? 0 : Math.Min(bits, One(format));

    internal static void Arithmetic(Form form)
    {
        if (form.Has("approx") || form.Has("full"))
        {
            Approximate(form);
            return;
        }
        var format = Format(form.Type);
        var count = form.Name switch { "fma" or "mad" => 3, "rcp" or "sqrt" or "abs" or "neg" => 1, _ => 2 };
        // A sign may be changed without looking at the rest, or the NaN be replaced by the canonical one.
        var signs = form.Name is "neg" or "abs" or "copysign";
        Check(form, format, count, (a, b, c, actual) =>
        {
            var want = Evaluate(form, format, a, b, c);
            if (want is { } bits && bits == actual || signs && format.IsNaN(actual) && format.IsNaN(want ?? 0))
                return null;
            if (want is null && (form.Type == "f32" ? actual == 0x7FFFFFFF : format.IsNaN(actual)))
                return null;
            return want is { } w ? $"0x{w:x}" : "NaN";
        });
    }

    private static ulong? Evaluate(Form form, FloatFormat format, ulong a, ulong b, ulong c)
    {
        var ftz = form.Has("ftz");
        if (ftz)
            (a, b, c) = (Flush(a, format), Flush(b, format), Flush(c, format));
        // Sign-magnitude order puts -0 below +0.
        long Order(ulong x) => (x & format.SignBit) != 0 ? -(long)(x & ~format.SignBit) - 1 : (long)x;
        ulong? Choose(bool less) => format.IsNaN(a) || format.IsNaN(b)
            ? form.Has("NaN") || format.IsNaN(a) && format.IsNaN(b) ? null : format.IsNaN(a) ? b : a
            : Order(a) < Order(b) == less ? a : b;
        var result = form.Name switch
        {
            "add" => ExactFloat.MultiplyAdd(a, One(format), b, format, form.Rounding),
            "sub" => ExactFloat.MultiplyAdd(a, One(format), b ^ format.SignBit, format, form.Rounding),
            "mul" => ExactFloat.MultiplyAdd(a, b, null, format, form.Rounding),
            "fma" or "mad" => ExactFloat.MultiplyAdd(a, b, c, format, form.Rounding),
            "div" => ExactFloat.Divide(a, b, format, form.Rounding),
            "rcp" => ExactFloat.Divide(One(format), a, format, form.Rounding),
            "sqrt" => ExactFloat.SquareRoot(a, format, form.Rounding),
            "neg" => a ^ format.SignBit,
            "abs" => a & ~format.SignBit,
            "copysign" => (a & format.SignBit) | (b & ~format.SignBit),
            "min" => Choose(true),
            _ => Choose(false),
        };
        if (ftz && result is { } bits)
            result = Flush(bits, format);
        if (form.Has("sat"))
            return Saturate(result, format);
        return form.Has("relu") && result is { } negative && (negative & format.SignBit) != 0 ? 0 : result;
    }

    /// <summary>Runs the form; one that works on two values in a register has the operands of the neighbouring row in its upper halves.</summary>
    private static void Check(Form form, FloatFormat format, int count, Func<ulong, ulong, ulong, ulong, string?> judge)
    {
        var columns = Operands(format, count);
        var list = string.Join(", ", new[] { "{a}", "{b}", "{c}" }.Take(count));
        if (!form.Type.EndsWith("x2", StringComparison.Ordinal))
        {
            form.Compare($"{{op}} {{d}}, {list};", form.Type, [.. Enumerable.Repeat(form.Type, count)], columns, judge);
            return;
        }
        ulong[][] packed = [.. columns.Select(column => column.Select((low, i) => low | column[(i + 1) % column.Length] << 16).ToArray())];
        form.Compare($"{{op}} {{d}}, {list};", "b32", [.. Enumerable.Repeat("b32", count)], packed, (a, b, c, actual) =>
            judge(a & 0xFFFF, b & 0xFFFF, c & 0xFFFF, actual & 0xFFFF) ?? judge(a >> 16, b >> 16, c >> 16, actual >> 16));
    }

    /// <summary>Relative and absolute bounds as PTX documents them (sin and cos in [-pi, pi]); half a last place more for what the format rounds.</summary>
    private static (double Relative, double Absolute) Bound(Form form)
    {
        var (relative, absolute) = form.Name switch
        {
            "ex2" => (Math.Pow(2, -22), 0),
            "lg2" => (Math.Pow(2, -22), Math.Pow(2, -22)),
            "sin" or "cos" => (0, Math.Pow(2, -20.5)),
            "tanh" => (Math.Pow(2, -10.987), 0),
            "rcp" => (Math.Pow(2, -23), 0),
            "sqrt" => (Math.Pow(2, -23), 0),
            "rsqrt" => (Math.Pow(2, -22.9), 0),
            _ => (Math.Pow(2, -22), 0.0),
        };
        return (form.Name, form.Type) switch
        {
            ("ex2", "f16" or "f16x2") => (Math.Pow(2, -9.9), 0),
            ("tanh", "f16" or "f16x2") => (Math.Pow(2, -10.987), 0),
            ("ex2", "bf16" or "bf16x2") => (Math.Pow(2, -7), 0),
            ("tanh", "bf16" or "bf16x2") => (Math.Pow(2, -8), 0),
            ("rsqrt", "f64") => (1e-15, 0),
            _ => (relative, absolute),
        };
    }

    private static double Value(ulong bits, FloatFormat format) => BitConverter.UInt64BitsToDouble(ExactFloat.Convert(bits, format, FloatFormat.Double, "rn") ?? 0x7FF8000000000000);

    private static void Approximate(Form form)
    {
        var format = Format(form.Type);
        // The double forms with .ftz know the operand's upper 32 bits and set only those of the result.
        var gross = form.Type == "f64" && form.Has("ftz");
        var (relative, absolute) = gross ? (Math.Pow(2, -20), 0) : Bound(form);
        var largest = Value(format.Infinity - 1, format);
        var smallest = Value(1UL << format.FractionBits, format);
        Check(form, format, form.Name == "div" ? 2 : 1, (a, b, _, actual) =>
        {
            if (form.Has("ftz"))
                (a, b) = (Flush(a, format), Flush(b, format));
            var (x, y) = (Value(gross && !format.IsNaN(a) ? a & ~0xFFFFFFFFUL : a, format), Value(b, format));
            var exact = form.Name switch
            {
                "ex2" => Math.Pow(2, x),
                "lg2" => Math.Log2(x),
                "sin" => Math.Sin(x),
                "cos" => Math.Cos(x),
                "tanh" => Math.Tanh(x),
                "rcp" => 1 / x,
                "sqrt" => Math.Sqrt(x),
                "div" => x / y,
                _ => 1 / Math.Sqrt(x),
            };
            var result = Value(actual, format);
            bool right;
            if (double.IsNaN(exact))
                right = double.IsNaN(result) && (form.Type != "f32" || actual == 0x7FFFFFFF);
            else if (Math.Abs(exact) > largest * (1 + Math.Pow(2, -format.FractionBits - 1)) || exact == 0)
                right = result.Equals(exact == 0 ? exact : Math.CopySign(double.PositiveInfinity, exact)) && double.IsNegative(result) == double.IsNegative(exact);
            else if (Math.Abs(exact) < smallest)
                // .ftz flushes what is subnormal; the approximate forms without it keep some of it.
                right = Math.Abs(result - exact) <= Math.Max(smallest * Math.Pow(2, -format.FractionBits), absolute) || form.Has("ftz") && result == 0;
            else
                right = Math.Abs(result - exact) <= Math.Max(relative * Math.Abs(exact), absolute) || Math.Abs(exact) > largest * 0.999 && double.IsInfinity(result);
            return right && !(gross && (actual & 0xFFFFFFFF) != 0 && !double.IsNaN(exact)) ? null : $"about {exact:R}, which is not {result:R}";
        });
    }

    private static void Test(Form form)
    {
        var format = Format(form.Type);
        form.Check("{op} {d}, {a};", "pred", [form.Type], Operands(format, 1), (a, _, _) =>
        {
            var (magnitude, smallest) = (a & (format.SignBit - 1), 1UL << format.FractionBits);
            return form.Modifiers[0] switch
            {
                "finite" => magnitude < format.Infinity,
                "infinite" => magnitude == format.Infinity,
                "number" => magnitude <= format.Infinity,
                "notanumber" => magnitude > format.Infinity,
                "normal" => magnitude >= smallest && magnitude < format.Infinity,
                _ => magnitude > 0 && magnitude < smallest,
            } ? 1UL : 0;
        });
    }
}
