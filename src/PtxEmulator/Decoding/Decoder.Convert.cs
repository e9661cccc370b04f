using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Conversions.</content>
internal sealed partial class Decoder
{
    private Instruction Convert()
    {
        var (to, from) = (op.Types[0], op.Types[^1]);
        var ftz = op.Has("ftz");
        var sat = op.Has("sat");
        var relu = op.Has("relu");
        var integral = op.OneOf("rni", "rzi", "rmi", "rpi");
        var rounding = integral switch
        {
            "rni" => Rounding.Nearest,
            "rzi" => Rounding.Zero,
            "rmi" => Rounding.Down,
            "rpi" => Rounding.Up,
            _ => RoundingMode(),
        };
        var instruction = Packed(to, relu, rounding) ?? Vectorized(to, from, ftz, sat, relu, integral, rounding) ?? General(to, from, ftz, sat, relu, integral, rounding);
        instruction.Class = InstructionClass.Conversion;
        return instruction;
    }

    private Instruction? Packed(string to, bool relu, Rounding rounding)
    {
        if (to is not ("f16x2" or "bf16x2"))
            return null;
        if (rounding != Rounding.Nearest)
            throw Unknown("only rounding to nearest is supported here");
        var (d, a, b) = (D(), S(1, "f32"), S(2, "f32"));
        return (to, relu) switch
        {
            ("f16x2", false) => new Binary32<Conversions.PackHalves>(d, a, b),
            ("f16x2", true) => new Binary32<Then2<Conversions.PackHalves, Both1<ReluNarrow<HalfFormat>>>>(d, a, b),
            (_, false) => new Binary32<Conversions.PackBrains>(d, a, b),
            _ => new Binary32<Then2<Conversions.PackBrains, Both1<ReluNarrow<BrainFormat>>>>(d, a, b),
        };
    }

    private int RegisterBits(int index) => Operand(index).Register is { } register ? TokenReader.SizeOf(register.Type) * 8 : 64;

    private Instruction? Vectorized(string to, string from, bool ftz, bool sat, bool relu, string integral, Rounding rounding)
    {
        // Registers as wide as their types, and no modifier that needs care.
        if (ftz || relu || RegisterBits(0) != TokenReader.SizeOf(to) * 8 || Operand(1).Kind == OperandKind.Register && RegisterBits(1) != TokenReader.SizeOf(from) * 8)
            return null;
        var (d, a) = (D(), S(1, from));
        if (sat)
            return (to, from, integral) == ("f32", "f32", "") ? new Unary32<Sat1<Conversions.CopySingle>>(d, a) : null;
        return (to, from, integral) switch
        {
            ("f32", "s32", "") when rounding == Rounding.Nearest => new Unary32<Conversions.SignedToSingle>(d, a),
            ("f32", "u32", "") when rounding == Rounding.Nearest => new Unary32<Each<Conversions.UnsignedToSingle>>(d, a),
            ("s32", "f32", "rzi") => new Unary32<Conversions.SingleToSigned>(d, a),
            ("f32", "f32", "rmi") => new Unary32<Conversions.FloorSingle>(d, a),
            ("f32", "f32", "rpi") => new Unary32<Conversions.CeilingSingle>(d, a),
            ("f32", "f32", "rni") => new Unary32<Conversions.RoundSingle>(d, a),
            ("f32", "f32", "rzi") => new Unary32<Conversions.TruncateSingle>(d, a),
            ("f32", "f16", "") => new Unary32<Conversions.FromHalf>(d, a),
            ("f32", "bf16", "") => new Unary32<Conversions.FromBrain>(d, a),
            ("f16", "f32", "") when rounding == Rounding.Nearest => new Unary32<Conversions.ToHalf>(d, a),
            ("bf16", "f32", "") when rounding == Rounding.Nearest => new Unary32<Conversions.ToBrain>(d, a),
            ("f64", "f32", "") => new Widen<Conversions.SingleToDouble>(d, a),
            ("f32", "f64", "") when rounding == Rounding.Nearest => new Narrow<Conversions.DoubleToSingle>(d, a),
            ("u64" or "s64", "u32", "") => new Widen<Integers64.ZeroExtend>(d, a),
            ("u64" or "s64", "s32", "") => new Widen<Integers64.SignExtend>(d, a),
            ("u32" or "s32", "u64" or "s64", "") => new Narrow<Integers64.Truncate>(d, a),
            ("u32" or "s32", "u16", "") => new Unary32<Integers.Move>(d, a),
            ("u32" or "s32", "s16", "") => new Unary32<Conversions.SignedWord>(d, a),
            ("u16" or "s16", "u32" or "s32", "") => new Unary32<Conversions.Word>(d, a),
            _ => null,
        };
    }

    private ConvertLane General(string to, string from, bool ftz, bool sat, bool relu, string integral, Rounding rounding)
    {
        if (to.EndsWith("x2", StringComparison.Ordinal) || from.EndsWith("x2", StringComparison.Ordinal) || to[0] == 'e' || from[0] == 'e')
            throw Unknown("the emulator does not know this conversion");
        var target = Element(Operand(0), to, false);
        var source = Operand(1).Kind == OperandKind.Register ? Element(Operand(1), from, false) : new ElementSlot(S(1, from), IsWide(from));
        return new ConvertLane(NumberType.Parse(to), NumberType.Parse(from), rounding, integral.Length > 0, ftz, sat, relu, target, source)
        {
            RegisterBits = RegisterBits(0),
        };
    }
}
