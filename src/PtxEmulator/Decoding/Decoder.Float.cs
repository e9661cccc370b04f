using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Floating-point arithmetic.</content>
internal sealed partial class Decoder
{
    private Instruction? DecodeFloat()
    {
        if (op.Name == "cvt")
            return Convert();
        if (op.Type.Length == 0)
            return null;
        var decoded = op.Type switch
        {
            "f32" => Float32(),
            "f64" => Float64(),
            "f16" => Float16<HalfFormat>(false),
            "bf16" => Float16<BrainFormat>(false),
            "f16x2" => Float16<HalfFormat>(true),
            "bf16x2" => Float16<BrainFormat>(true),
            _ => null,
        };
        if (decoded is null)
            return null;
        var lanes = op.Type.EndsWith("x2", StringComparison.Ordinal) ? 2 : 1;
        decoded.Flops = op.Name switch { "fma" or "mad" => 2 * lanes, "neg" or "abs" or "copysign" or "min" or "max" => 0, _ => lanes };
        return decoded;
    }

    private Rounding RoundingMode() => op.OneOf("rn", "rz", "rm", "rp", "rna") switch
    {
        "rz" => Rounding.Zero,
        "rm" => Rounding.Down,
        "rp" => Rounding.Up,
        "rna" => Rounding.NearestAway,
        _ => Rounding.Nearest,
    };

    private Instruction F1<T>(bool ftz, bool sat = false, InstructionClass kind = InstructionClass.Float)
        where T : struct, IUnary32 => (ftz, sat) switch
        {
            (false, false) => U32<T>(kind),
            (true, false) => U32<Ftz1<T>>(kind),
            (false, true) => U32<Sat1<T>>(kind),
            _ => U32<Sat1<Ftz1<T>>>(kind),
        };

    private Instruction F2<T>(bool ftz, bool sat)
        where T : struct, IBinary32 => (ftz, sat) switch
        {
            (false, false) => B32<T>(InstructionClass.Float),
            (true, false) => B32<Ftz2<T>>(InstructionClass.Float),
            (false, true) => B32<Sat2<T>>(InstructionClass.Float),
            _ => B32<Sat2<Ftz2<T>>>(InstructionClass.Float),
        };

    private Instruction F3<T>(bool ftz, bool sat)
        where T : struct, ITernary32 => (ftz, sat) switch
        {
            (false, false) => T32<T>(InstructionClass.Float),
            (true, false) => T32<Ftz3<T>>(InstructionClass.Float),
            (false, true) => T32<Sat3<T>>(InstructionClass.Float),
            _ => T32<Sat3<Ftz3<T>>>(InstructionClass.Float),
        };

    private Instruction? Float32()
    {
        var ftz = op.Has("ftz");
        var sat = op.Has("sat");
        var approximate = op.OneOf("approx", "full");
        var rounding = RoundingMode();
        switch (op.Name)
        {
            case "add":
                return rounding switch
                {
                    Rounding.Zero => F2<Each2<Directed.Add<Directed.TowardZero>>>(ftz, sat),
                    Rounding.Down => F2<Each2<Directed.Add<Directed.Down>>>(ftz, sat),
                    Rounding.Up => F2<Each2<Directed.Add<Directed.Up>>>(ftz, sat),
                    _ => F2<Floats.Add>(ftz, sat),
                };
            case "sub":
                return rounding switch
                {
                    Rounding.Zero => F2<Each2<Directed.Sub<Directed.TowardZero>>>(ftz, sat),
                    Rounding.Down => F2<Each2<Directed.Sub<Directed.Down>>>(ftz, sat),
                    Rounding.Up => F2<Each2<Directed.Sub<Directed.Up>>>(ftz, sat),
                    _ => F2<Floats.Sub>(ftz, sat),
                };
            case "mul":
                return rounding switch
                {
                    Rounding.Zero => F2<Each2<Directed.Mul<Directed.TowardZero>>>(ftz, sat),
                    Rounding.Down => F2<Each2<Directed.Mul<Directed.Down>>>(ftz, sat),
                    Rounding.Up => F2<Each2<Directed.Mul<Directed.Up>>>(ftz, sat),
                    _ => F2<Floats.Mul>(ftz, sat),
                };
            case "fma" or "mad":
                return rounding switch
                {
                    Rounding.Zero => F3<Each3<Directed.Fma<Directed.TowardZero>>>(ftz, sat),
                    Rounding.Down => F3<Each3<Directed.Fma<Directed.Down>>>(ftz, sat),
                    Rounding.Up => F3<Each3<Directed.Fma<Directed.Up>>>(ftz, sat),
                    _ => F3<Floats.Fma>(ftz, sat),
                };
            case "div":
                return rounding switch
                {
                    Rounding.Zero => F2<Each2<Directed.Div<Directed.TowardZero>>>(ftz, sat),
                    Rounding.Down => F2<Each2<Directed.Div<Directed.Down>>>(ftz, sat),
                    Rounding.Up => F2<Each2<Directed.Div<Directed.Up>>>(ftz, sat),
                    _ => F2<Floats.Div>(ftz, sat),
                };
            case "rcp":
                if (rounding != Rounding.Nearest)
                {
                    return rounding switch
                    {
                        Rounding.Zero => F1<Each<Directed.Rcp<Directed.TowardZero>>>(ftz),
                        Rounding.Down => F1<Each<Directed.Rcp<Directed.Down>>>(ftz),
                        _ => F1<Each<Directed.Rcp<Directed.Up>>>(ftz),
                    };
                }
                return F1<Floats.Rcp>(ftz, kind: approximate.Length > 0 ? InstructionClass.Special : InstructionClass.Float);
            case "sqrt":
                return rounding switch
                {
                    Rounding.Zero => F1<Each<Directed.Sqrt<Directed.TowardZero>>>(ftz),
                    Rounding.Down => F1<Each<Directed.Sqrt<Directed.Down>>>(ftz),
                    Rounding.Up => F1<Each<Directed.Sqrt<Directed.Up>>>(ftz),
                    _ => F1<Floats.Sqrt>(ftz, kind: approximate.Length > 0 ? InstructionClass.Special : InstructionClass.Float),
                };
            case "rsqrt":
                return F1<Each<Floats.Rsqrt>>(ftz, kind: InstructionClass.Special);
            case "ex2":
                return F1<Floats.Ex2>(ftz, kind: InstructionClass.Special);
            case "lg2":
                return F1<Each<Floats.Lg2>>(ftz, kind: InstructionClass.Special);
            case "sin":
                return F1<Each<Floats.Sin>>(ftz, kind: InstructionClass.Special);
            case "cos":
                return F1<Each<Floats.Cos>>(ftz, kind: InstructionClass.Special);
            case "tanh":
                return F1<Each<Floats.Tanh>>(ftz, kind: InstructionClass.Special);
            case "neg":
                return F1<Floats.Neg>(ftz);
            case "abs":
                return F1<Floats.Abs>(ftz);
            case "copysign":
                return B32<Floats.CopySign>(InstructionClass.Float);
            case "min":
                return op.Has("NaN") ? F2<Floats.MinNaN>(ftz, false) : F2<Floats.Min>(ftz, false);
            case "max":
                return op.Has("NaN") ? F2<Floats.MaxNaN>(ftz, false) : F2<Floats.Max>(ftz, false);
            default:
                return null;
        }
    }

    private Instruction? Float64()
    {
        var approximate = op.Has("approx");
        var gross = op.Has("ftz") && approximate;
        var rounding = RoundingMode();
        const InstructionClass Kind = InstructionClass.Double;
        switch (op.Name)
        {
            case "add":
                return rounding switch
                {
                    Rounding.Zero => B64<EachWide2<Directed.AddWide<Directed.TowardZero>>>(Kind),
                    Rounding.Down => B64<EachWide2<Directed.AddWide<Directed.Down>>>(Kind),
                    Rounding.Up => B64<EachWide2<Directed.AddWide<Directed.Up>>>(Kind),
                    _ => B64<Doubles.Add>(Kind),
                };
            case "sub":
                return rounding switch
                {
                    Rounding.Zero => B64<EachWide2<Directed.SubWide<Directed.TowardZero>>>(Kind),
                    Rounding.Down => B64<EachWide2<Directed.SubWide<Directed.Down>>>(Kind),
                    Rounding.Up => B64<EachWide2<Directed.SubWide<Directed.Up>>>(Kind),
                    _ => B64<Doubles.Sub>(Kind),
                };
            case "mul":
                return rounding switch
                {
                    Rounding.Zero => B64<EachWide2<Directed.MulWide<Directed.TowardZero>>>(Kind),
                    Rounding.Down => B64<EachWide2<Directed.MulWide<Directed.Down>>>(Kind),
                    Rounding.Up => B64<EachWide2<Directed.MulWide<Directed.Up>>>(Kind),
                    _ => B64<Doubles.Mul>(Kind),
                };
            case "neg":
                return U64<Doubles.Neg>(Kind);
            case "abs":
                return U64<Doubles.Abs>(Kind);
            case "copysign":
                return B64<Doubles.CopySign>(Kind);
            case "min":
                return B64<Doubles.Min>(Kind);
            case "max":
                return B64<Doubles.Max>(Kind);
            default:
                return rounding switch
                {
                    Rounding.Zero => DirectedDouble<Directed.TowardZero>(),
                    Rounding.Down => DirectedDouble<Directed.Down>(),
                    Rounding.Up => DirectedDouble<Directed.Up>(),
                    _ => NearestDouble(approximate, gross),
                };
        }
    }

    private Instruction? DirectedDouble<T>()
        where T : struct, Directed.IDirection => op.Name switch
        {
            "fma" or "mad" => T64<EachWide3<Directed.FmaWide<T>>>(InstructionClass.Double),
            "div" => B64<EachWide2<Directed.DivWide<T>>>(InstructionClass.Double),
            "rcp" => U64<EachWide<Directed.RcpWide<T>>>(InstructionClass.Double),
            "sqrt" => U64<EachWide<Directed.SqrtWide<T>>>(InstructionClass.Double),
            _ => null,
        };

    private Instruction? NearestDouble(bool approximate, bool gross)
    {
        const InstructionClass Kind = InstructionClass.Double;
        return op.Name switch
        {
            "fma" or "mad" => T64<Doubles.Fma>(Kind),
            "div" => B64<Doubles.Div>(Kind),
            "rcp" when gross => U64<EachWide<Doubles.RcpGross>>(InstructionClass.Special),
            "rcp" => U64<Doubles.Rcp>(approximate ? InstructionClass.Special : Kind),
            "sqrt" => U64<Doubles.Sqrt>(Kind),
            "rsqrt" when gross => U64<EachWide<Doubles.RsqrtGross>>(InstructionClass.Special),
            "rsqrt" => U64<Doubles.Rsqrt>(InstructionClass.Special),
            _ => null,
        };
    }

    private Instruction? Float16<TFormat>(bool packed)
        where TFormat : struct, IFormat16
    {
        op.Ignore("rn", "approx");
        // The one form of ex2.bf16 is written with .ftz.
        if (op.Name == "ex2")
            op.Ignore("ftz");
        var sat = op.Has("sat");
        var relu = op.Has("relu");
        return op.Name switch
        {
            "add" => After2<TFormat, Narrow2<TFormat, Floats.Add>>(packed, sat, relu),
            "sub" => After2<TFormat, Narrow2<TFormat, Floats.Sub>>(packed, sat, relu),
            "mul" => After2<TFormat, Narrow2<TFormat, Floats.Mul>>(packed, sat, relu),
            "min" when op.Has("NaN") => Pack2<Narrow2<TFormat, Floats.MinNaN>>(packed),
            "max" when op.Has("NaN") => Pack2<Narrow2<TFormat, Floats.MaxNaN>>(packed),
            "min" => Pack2<Narrow2<TFormat, Floats.Min>>(packed),
            "max" => Pack2<Narrow2<TFormat, Floats.Max>>(packed),
            "fma" when sat => Pack3<Then3<Each3<Fma16<TFormat>>, SatNarrow<TFormat>>>(packed),
            "fma" when relu => Pack3<Then3<Each3<Fma16<TFormat>>, ReluNarrow<TFormat>>>(packed),
            "fma" => Pack3<Each3<Fma16<TFormat>>>(packed),
            "neg" => packed ? U32<Signs.Neg16x2>(InstructionClass.Half) : U32<Signs.Neg16>(InstructionClass.Half),
            "abs" => packed ? U32<Signs.Abs16x2>(InstructionClass.Half) : U32<Signs.Abs16>(InstructionClass.Half),
            "ex2" => Pack1<Narrow1<TFormat, Floats.Ex2>>(packed),
            "tanh" => Pack1<Narrow1<TFormat, Each<Floats.Tanh>>>(packed),
            _ => null,
        };
    }

    private Instruction After2<TFormat, T>(bool packed, bool sat, bool relu)
        where TFormat : struct, IFormat16
        where T : struct, IBinary32 =>
        sat ? Pack2<Then2<T, SatNarrow<TFormat>>>(packed) : relu ? Pack2<Then2<T, ReluNarrow<TFormat>>>(packed) : Pack2<T>(packed);

    private Instruction Pack1<T>(bool packed) where T : struct, IUnary32 => packed ? U32<Both1<T>>(InstructionClass.Half) : U32<T>(InstructionClass.Half);

    private Instruction Pack2<T>(bool packed) where T : struct, IBinary32 => packed ? B32<Both2<T>>(InstructionClass.Half) : B32<T>(InstructionClass.Half);

    private Instruction Pack3<T>(bool packed) where T : struct, ITernary32 => packed ? T32<Both3<T>>(InstructionClass.Half) : T32<T>(InstructionClass.Half);
}
