using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Integer arithmetic and bits.</content>
internal sealed partial class Decoder
{
    private Unary32<T> U32<T>(InstructionClass kind = InstructionClass.Integer) where T : struct, IUnary32 => new(D(), S(1)) { Class = kind };

    private Binary32<T> B32<T>(InstructionClass kind = InstructionClass.Integer) where T : struct, IBinary32 => new(D(), S(1), S(2)) { Class = kind };

    private Ternary32<T> T32<T>(InstructionClass kind = InstructionClass.Integer) where T : struct, ITernary32 => new(D(), S(1), S(2), S(3)) { Class = kind };

    private Unary64<T> U64<T>(InstructionClass kind = InstructionClass.Integer) where T : struct, IUnary64 => new(D(), S(1)) { Class = kind };

    private Binary64<T> B64<T>(InstructionClass kind = InstructionClass.Integer) where T : struct, IBinary64 => new(D(), S(1), S(2)) { Class = kind };

    private Ternary64<T> T64<T>(InstructionClass kind = InstructionClass.Integer) where T : struct, ITernary64 => new(D(), S(1), S(2), S(3)) { Class = kind };

    private Narrow<T> N64<T>() where T : struct, INarrow => new(D(), S(1)) { Class = InstructionClass.Integer };

    private Instruction? DecodeInteger()
    {
        var type = op.Type;
        if (type.Length == 0)
            return null;
        if (op.Name == "lop3")
        {
            op.Ignore("b32");
            return new LogicTable(D(), S(1), S(2), S(3), (int)Operand(4).Bits & 255) { Class = InstructionClass.Integer };
        }
        if (op.Name is "and" or "or" or "xor" or "not" or "cnot")
            return Logic();
        if (IsFloat(type))
            return null;
        if (CarryForm() is { } carry)
            return carry;
        return TokenReader.SizeOf(type) switch
        {
            2 => Integer16(IsSigned(type)),
            4 => Integer32(IsSigned(type)),
            8 => Integer64(IsSigned(type)),
            _ => null,
        };
    }

    private Instruction Logic()
    {
        var wide = IsWide(op.Type);
        return op.Name switch
        {
            "and" => wide ? B64<Integers64.And>() : B32<Integers.And>(),
            "or" => wide ? B64<Integers64.Or>() : B32<Integers.Or>(),
            "xor" => wide ? B64<Integers64.Xor>() : B32<Integers.Xor>(),
            "cnot" => wide ? U64<Integers64.CNot>() : U32<Integers.CNot>(),
            _ => wide ? U64<Integers64.Not>() : TokenReader.SizeOf(op.Type) == 2 ? U32<Integers.Not16>() : U32<Integers.Not>(),
        };
    }

    private CarryArithmetic? CarryForm()
    {
        var takes = op.Name is "addc" or "subc" or "madc";
        var gives = op.Has("cc");
        if (!takes && !gives)
            return null;
        var wide = IsWide(op.Type);
        if (op.Name is "mad" or "madc")
        {
            var high = op.OneOf("hi", "lo") == "hi";
            if (high && IsSigned(op.Type))
                throw Unknown("the signed high product with carry is not supported");
            return new CarryArithmetic(wide, false, takes, gives, high ? 1 : -1, D(), S(1), S(2), S(3)) { Class = InstructionClass.Integer };
        }
        return new CarryArithmetic(wide, op.Name.StartsWith("sub", StringComparison.Ordinal), takes, gives, 0, D(), S(1), S(2), 0)
        {
            Class = InstructionClass.Integer,
        };
    }

    private Instruction? Integer16(bool signed)
    {
        switch (op.Name)
        {
            case "add":
                return B32<Low16U<Integers.Add>>();
            case "sub":
                return B32<Low16U<Integers.Sub>>();
            case "mul":
                return op.OneOf("hi", "lo", "wide") switch
                {
                    "lo" => B32<Low16U<Integers.MulLo>>(),
                    "hi" => signed ? B32<Each2<Integers.MulHi16S>>() : B32<Each2<Integers.MulHi16U>>(),
                    _ => signed ? B32<Integers.MulWide16S>() : B32<Integers.MulWide16U>(),
                };
            case "mad":
                if (op.OneOf("lo", "wide") == "lo")
                    return T32<Low16T<Integers.MadLo>>();
                return signed
                    ? new Ternary32<Integers.MadWide16S>(D(), S(1), S(2), S(3, "s32")) { Class = InstructionClass.Integer }
                    : new Ternary32<Integers.MadLo>(D(), S(1), S(2), S(3, "u32")) { Class = InstructionClass.Integer };
            case "div":
                return signed ? B32<Low16S<Each2<Integers.DivS>>>() : B32<Low16U<Each2<Integers.DivU>>>();
            case "rem":
                return signed ? B32<Low16S<Each2<Integers.RemS>>>() : B32<Low16U<Each2<Integers.RemU>>>();
            case "min":
                return signed ? B32<Low16S<Integers.MinS>>() : B32<Integers.MinU>();
            case "max":
                return signed ? B32<Low16S<Integers.MaxS>>() : B32<Integers.MaxU>();
            case "neg":
                return U32<Low16S1<Integers.Neg>>();
            case "abs":
                return U32<Low16S1<Integers.Abs>>();
            case "shl":
                return new Binary32<Each2<Integers.Shl16>>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer };
            case "shr":
                return signed
                    ? new Binary32<Each2<Integers.ShrS16>>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer }
                    : new Binary32<Integers.ShrU>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer };
            default:
                return null;
        }
    }

    private Instruction? Integer32(bool signed)
    {
        switch (op.Name)
        {
            case "add":
                return op.Has("sat") ? B32<Each2<Integers.AddSat>>() : B32<Integers.Add>();
            case "sub":
                return op.Has("sat") ? B32<Each2<Integers.SubSat>>() : B32<Integers.Sub>();
            case "mul":
                switch (op.OneOf("hi", "lo", "wide"))
                {
                    case "lo":
                        return B32<Integers.MulLo>();
                    case "hi":
                        return signed ? B32<Each2<Integers.MulHiS>>() : B32<Each2<Integers.MulHiU>>();
                    default:
                        return signed
                            ? new WideProduct<Integers64.MulWideS>(D(), S(1), S(2)) { Class = InstructionClass.Integer }
                            : new WideProduct<Integers64.MulWideU>(D(), S(1), S(2)) { Class = InstructionClass.Integer };
                }
            case "mad":
                switch (op.OneOf("hi", "lo", "wide"))
                {
                    case "lo":
                        return T32<Integers.MadLo>();
                    case "hi":
                        return signed ? T32<Each3<Integers.MadHiS>>() : T32<Each3<Integers.MadHiU>>();
                    default:
                        return signed
                            ? new WideProductAdd<Integers64.MulWideS>(D(), S(1), S(2), S(3, "s64")) { Class = InstructionClass.Integer }
                            : new WideProductAdd<Integers64.MulWideU>(D(), S(1), S(2), S(3, "u64")) { Class = InstructionClass.Integer };
                }
            case "mul24":
                op.Has("lo");
                return signed ? B32<Each2<Integers.Mul24S>>() : B32<Integers.Mul24U>();
            case "sad":
                return signed ? T32<Each3<Integers.SadS>>() : T32<Each3<Integers.SadU>>();
            case "div":
                return signed ? B32<Each2<Integers.DivS>>() : B32<Each2<Integers.DivU>>();
            case "rem":
                return signed ? B32<Each2<Integers.RemS>>() : B32<Each2<Integers.RemU>>();
            case "min":
                return signed ? B32<Integers.MinS>() : B32<Integers.MinU>();
            case "max":
                return signed ? B32<Integers.MaxS>() : B32<Integers.MaxU>();
            case "neg":
                return U32<Integers.Neg>();
            case "abs":
                return U32<Integers.Abs>();
            case "shl":
                return new Binary32<Integers.Shl>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer };
            case "shr":
                return signed
                    ? new Binary32<Integers.ShrS>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer }
                    : new Binary32<Integers.ShrU>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer };
            case "shf":
                var left = op.OneOf("l", "r") == "l";
                var wraps = op.OneOf("wrap", "clamp") == "wrap";
                return (left, wraps) switch
                {
                    (true, true) => T32<Each3<Integers.ShfLeftWrap>>(),
                    (true, false) => T32<Each3<Integers.ShfLeftClamp>>(),
                    (false, true) => T32<Each3<Integers.ShfRightWrap>>(),
                    _ => T32<Each3<Integers.ShfRightClamp>>(),
                };
            case "prmt":
                return T32<Each3<Integers.Prmt>>();
            case "popc":
                return U32<Each<Integers.Popc>>();
            case "clz":
                return U32<Each<Integers.Clz>>();
            case "brev":
                return U32<Each<Integers.Brev>>();
            case "bfind":
                var shift = op.Has("shiftamt");
                return (shift, signed) switch
                {
                    (false, false) => U32<Each<Integers.FindU>>(),
                    (false, true) => U32<Each<Integers.FindS>>(),
                    (true, false) => U32<Each<Integers.FindShiftU>>(),
                    _ => U32<Each<Integers.FindShiftS>>(),
                };
            case "bfe":
                return signed
                    ? new Ternary32<Each3<Integers.BfeS>>(D(), S(1), S(2, "u32"), S(3, "u32")) { Class = InstructionClass.Integer }
                    : new Ternary32<Each3<Integers.BfeU>>(D(), S(1), S(2, "u32"), S(3, "u32")) { Class = InstructionClass.Integer };
            case "bfi":
                return new InsertBits(false, D(), S(1), S(2), S(3, "u32"), S(4, "u32")) { Class = InstructionClass.Integer };
            case "dp4a":
                return (IsSigned(op.Types[0]), IsSigned(op.Types[1])) switch
                {
                    (true, true) => T32<Each3<Integers.Dp4aSS>>(),
                    (true, false) => T32<Each3<Integers.Dp4aSU>>(),
                    (false, true) => T32<Each3<Integers.Dp4aUS>>(),
                    _ => T32<Each3<Integers.Dp4aUU>>(),
                };
            default:
                return null;
        }
    }

    private Instruction? Integer64(bool signed)
    {
        switch (op.Name)
        {
            case "add":
                return B64<Integers64.Add>();
            case "sub":
                return B64<Integers64.Sub>();
            case "mul":
                return op.OneOf("hi", "lo") == "lo" ? B64<Integers64.MulLo>() : signed ? B64<EachWide2<Integers64.MulHiS>>() : B64<EachWide2<Integers64.MulHiU>>();
            case "mad":
                return op.OneOf("hi", "lo") == "lo" ? T64<Integers64.MadLo>() : signed ? T64<EachWide3<Integers64.MadHiS>>() : T64<EachWide3<Integers64.MadHiU>>();
            case "sad":
                return signed ? T64<EachWide3<Integers64.SadS>>() : T64<EachWide3<Integers64.SadU>>();
            case "div":
                return signed ? B64<EachWide2<Integers64.DivS>>() : B64<EachWide2<Integers64.DivU>>();
            case "rem":
                return signed ? B64<EachWide2<Integers64.RemS>>() : B64<EachWide2<Integers64.RemU>>();
            case "min":
                return signed ? B64<Integers64.MinS>() : B64<Integers64.MinU>();
            case "max":
                return signed ? B64<Integers64.MaxS>() : B64<Integers64.MaxU>();
            case "neg":
                return U64<Integers64.Neg>();
            case "abs":
                return U64<Integers64.Abs>();
            case "shl":
                return new Shift64<Integers64.Shl>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer };
            case "shr":
                return signed
                    ? new Shift64<Integers64.ShrS>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer }
                    : new Shift64<Integers64.ShrU>(D(), S(1), S(2, "u32")) { Class = InstructionClass.Integer };
            case "popc":
                return N64<EachNarrow<Integers64.Popc>>();
            case "clz":
                return N64<EachNarrow<Integers64.Clz>>();
            case "brev":
                return U64<EachWide<Integers64.Brev>>();
            case "bfind":
                var shift = op.Has("shiftamt");
                return (shift, signed) switch
                {
                    (false, false) => N64<EachNarrow<Integers64.FindU>>(),
                    (false, true) => N64<EachNarrow<Integers64.FindS>>(),
                    (true, false) => N64<EachNarrow<Integers64.FindShiftU>>(),
                    _ => N64<EachNarrow<Integers64.FindShiftS>>(),
                };
            case "bfe":
                return new ExtractBits64(signed, D(), S(1), S(2, "u32"), S(3, "u32")) { Class = InstructionClass.Integer };
            case "bfi":
                return new InsertBits(true, D(), S(1), S(2), S(3, "u32"), S(4, "u32")) { Class = InstructionClass.Integer };
            default:
                return null;
        }
    }
}
