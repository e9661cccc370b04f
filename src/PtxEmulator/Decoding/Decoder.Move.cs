using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Moves, predicates, selections and comparisons.</content>
internal sealed partial class Decoder
{
    private Instruction? DecodeMove()
    {
        switch (op.Name)
        {
            case "mov":
                return Move();
            case "selp":
                var chooser = P(Operand(3));
                return IsWide(op.Type)
                    ? new Select64(D(), S(1), S(2), chooser) { Class = InstructionClass.Move }
                    : new Select32(D(), S(1), S(2), chooser) { Class = InstructionClass.Move };
            case "setp":
                return op.Type is "f16x2" or "bf16x2" ? SetPackedPredicates() : SetPredicates();
            case "set":
                return op.Type is "f16x2" or "bf16x2" ? SetPackedValues() : SetValues();
            case "testp":
                var kind = op.OneOf("finite", "infinite", "number", "notanumber", "normal", "subnormal");
                if (kind.Length == 0 || op.Type is not ("f32" or "f64"))
                    throw Unknown("the emulator does not know this test");
                return new TestFloat(IsWide(op.Type), kind, PredicateDestination(Operand(0)), S(1)) { Class = InstructionClass.Predicate };
            case "and" or "or" or "xor" or "not" when op.Type == "pred":
                var operation = op.Name switch
                {
                    "and" => PredicateOperation.And,
                    "or" => PredicateOperation.Or,
                    "xor" => PredicateOperation.Xor,
                    _ => PredicateOperation.Not,
                };
                return new PredicateLogic(operation, PredicateDestination(Operand(0)), P(Operand(1)), Has(2) ? P(Operand(2)) : default) { Class = InstructionClass.Predicate };
            default:
                return null;
        }
    }

    private Instruction Move()
    {
        var (to, from) = (Operand(0), Operand(1));
        if (op.Type == "pred")
            return new PredicateLogic(PredicateOperation.Move, PredicateDestination(to), P(from), default) { Class = InstructionClass.Predicate };
        var bytes = TokenReader.SizeOf(op.Type);
        if (to.Kind == OperandKind.Vector || from.Kind == OperandKind.Vector)
        {
            var (many, one) = to.Kind == OperandKind.Vector ? (to.Items.Length, 1) : (1, from.Items.Length);
            if (bytes > 8)
                throw Unknown("moves of 128 bits are not supported");
            return new PackMove(
                Elements(to, op.Type, false), Elements(from, IsWide(op.Type) && one > 1 ? "b32" : op.Type, true), bytes / many, bytes / one)
            {
                Class = InstructionClass.Move,
            };
        }
        if (from is { Kind: OperandKind.Special, Name: "%clock" or "%clock_hi" or "%clock64" or "%globaltimer" or "%globaltimer_lo" })
            return new ReadClock(D(), bytes == 8, from.Name.StartsWith("%global", StringComparison.Ordinal)) { Class = InstructionClass.Move };
        if (from is { Kind: OperandKind.Symbol, Variable: { Space: StateSpace.Local } local })
            return new LocalAddress(D(), bytes == 8, localOffsets[local] + from.Offset, generic: false) { Class = InstructionClass.Move };
        Instruction move = bytes == 8 ? new Unary64<Integers64.Move>(D(), S(1)) : new Unary32<Integers.Move>(D(), S(1));
        move.Class = InstructionClass.Move;
        return move;
    }

    private SetPredicate SetPredicates()
    {
        var (p, q) = Pair(Operand(0));
        return Comparison(PredicateDestination(p), q is null ? -1 : PredicateDestination(q), 1);
    }

    private SetPackedPredicates SetPackedPredicates()
    {
        var (p, q) = Pair(Operand(0));
        var (low, high, lowResult, highResult) = PackedComparisons();
        return new SetPackedPredicates(low, high, lowResult, highResult, PredicateDestination(p), q is null ? -1 : PredicateDestination(q)) { Class = InstructionClass.Predicate };
    }

    private SetPackedValues SetPackedValues()
    {
        if (op.Types[0] != op.Type)
            throw Unknown($"the emulator does not know this comparison of .{op.Type}");
        var (low, high, lowResult, highResult) = PackedComparisons();
        return new SetPackedValues(low, high, lowResult, highResult, D(), op.Type == "f16x2" ? 0x3C00u : 0x3F80u) { Class = InstructionClass.Predicate };
    }

    /// <summary>The comparisons of the lower and of the upper halves, and where their results are kept.</summary>
    private (SetPredicate Low, SetPredicate High, int LowResult, int HighResult) PackedComparisons()
    {
        var (lowResult, highResult) = (Reserve(4, 4), Reserve(4, 4));
        // The opcode is read twice.
        var low = Comparison(lowResult, -1, 1);
        op = new Opcode(current.Opcode);
        return (low, Comparison(highResult, -1, 1, upper: true), lowResult, highResult);
    }

    /// <summary>A comparison of the operands from <paramref name="first"/> on, combined with a predicate where the opcode says so.</summary>
    private SetPredicate Comparison(int p, int q, int first, bool upper = false)
    {
        var comparison = op.OneOf(
            "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan");
        var combine = op.OneOf("and", "or", "xor") switch { "and" => Combine.And, "or" => Combine.Or, "xor" => Combine.Xor, _ => Combine.None };
        var with = combine == Combine.None ? default : P(Operand(first + 2));
        var ftz = op.Has("ftz");
        var type = op.Type;
        var (a, b) = (S(first, type), S(first + 1, type));
        SetPredicate Make<T>()
            where T : struct, ICompare32 => type switch
            {
                "s16" => new SetPredicate32<Compare.Short<T>>(p, q, a, b, combine, with),
                "f16x2" when upper => new SetPredicate32<Compare.InUpperHalf<T>>(p, q, a, b, combine, with),
                "f16x2" => new SetPredicate32<Compare.InLowerHalf<T>>(p, q, a, b, combine, with),
                "bf16x2" when upper => new SetPredicate32<Compare.InUpperBrain<T>>(p, q, a, b, combine, with),
                "bf16x2" => new SetPredicate32<Compare.InBrain<T>>(p, q, a, b, combine, with),
                "f16" => new SetPredicate32<Compare.InHalf<T>>(p, q, a, b, combine, with),
                "bf16" => new SetPredicate32<Compare.InBrain<T>>(p, q, a, b, combine, with),
                _ when ftz => new SetPredicate32<Compare.Ftz<T>>(p, q, a, b, combine, with),
                _ => new SetPredicate32<T>(p, q, a, b, combine, with),
            };
        SetPredicate Make64<T>()
            where T : struct, ICompare64 => new SetPredicate64<T>(p, q, a, b, combine, with);

        SetPredicate? made;
        if (type == "f64")
        {
            made = comparison switch
            {
                "eq" => Make64<Compare.EqD>(),
                "ne" => Make64<Compare.NeD>(),
                "lt" => Make64<Compare.LtD>(),
                "le" => Make64<Compare.LeD>(),
                "gt" => Make64<Compare.Swap64<Compare.LtD>>(),
                "ge" => Make64<Compare.Swap64<Compare.LeD>>(),
                "equ" => Make64<Compare.Not64<Compare.NeD>>(),
                "neu" => Make64<Compare.Not64<Compare.EqD>>(),
                "ltu" => Make64<Compare.Not64<Compare.Swap64<Compare.LeD>>>(),
                "leu" => Make64<Compare.Not64<Compare.Swap64<Compare.LtD>>>(),
                "gtu" => Make64<Compare.Not64<Compare.LeD>>(),
                "geu" => Make64<Compare.Not64<Compare.LtD>>(),
                "num" => Make64<Compare.OrderedD>(),
                "nan" => Make64<Compare.Not64<Compare.OrderedD>>(),
                _ => null,
            };
        }
        else if (IsFloat(type))
        {
            made = comparison switch
            {
                "eq" => Make<Compare.EqF>(),
                "ne" => Make<Compare.NeF>(),
                "lt" => Make<Compare.LtF>(),
                "le" => Make<Compare.LeF>(),
                "gt" => Make<Compare.Swap<Compare.LtF>>(),
                "ge" => Make<Compare.Swap<Compare.LeF>>(),
                "equ" => Make<Compare.Not<Compare.NeF>>(),
                "neu" => Make<Compare.Not<Compare.EqF>>(),
                "ltu" => Make<Compare.Not<Compare.Swap<Compare.LeF>>>(),
                "leu" => Make<Compare.Not<Compare.Swap<Compare.LtF>>>(),
                "gtu" => Make<Compare.Not<Compare.LeF>>(),
                "geu" => Make<Compare.Not<Compare.LtF>>(),
                "num" => Make<Compare.Ordered>(),
                "nan" => Make<Compare.Not<Compare.Ordered>>(),
                _ => null,
            };
        }
        else if (IsWide(type))
        {
            var signed = IsSigned(type);
            made = comparison switch
            {
                "eq" => Make64<Compare.Eq64>(),
                "ne" => Make64<Compare.Not64<Compare.Eq64>>(),
                "lt" => signed ? Make64<Compare.LtS64>() : Make64<Compare.LtU64>(),
                "le" => signed ? Make64<Compare.LeS64>() : Make64<Compare.LeU64>(),
                "gt" => signed ? Make64<Compare.Swap64<Compare.LtS64>>() : Make64<Compare.Swap64<Compare.LtU64>>(),
                "ge" => signed ? Make64<Compare.Swap64<Compare.LeS64>>() : Make64<Compare.Swap64<Compare.LeU64>>(),
                "lo" => Make64<Compare.LtU64>(),
                "ls" => Make64<Compare.LeU64>(),
                "hi" => Make64<Compare.Swap64<Compare.LtU64>>(),
                "hs" => Make64<Compare.Swap64<Compare.LeU64>>(),
                _ => null,
            };
        }
        else
        {
            var signed = IsSigned(type);
            made = comparison switch
            {
                "eq" => Make<Compare.Eq>(),
                "ne" => Make<Compare.Ne>(),
                "lt" => signed ? Make<Compare.LtS>() : Make<Compare.LtU>(),
                "le" => signed ? Make<Compare.LeS>() : Make<Compare.LeU>(),
                "gt" => signed ? Make<Compare.Swap<Compare.LtS>>() : Make<Compare.Swap<Compare.LtU>>(),
                "ge" => signed ? Make<Compare.Swap<Compare.LeS>>() : Make<Compare.Swap<Compare.LeU>>(),
                "lo" => Make<Compare.LtU>(),
                "ls" => Make<Compare.LeU>(),
                "hi" => Make<Compare.Swap<Compare.LtU>>(),
                "hs" => Make<Compare.Swap<Compare.LeU>>(),
                _ => null,
            };
        }
        if (made is null)
            throw Unknown($"the emulator does not know this comparison of .{type}");
        made.Class = InstructionClass.Predicate;
        return made;
    }

    /// <summary><c>set</c>, which compares into a register: all ones as an integer, 1.0 as a float.</summary>
    private SetValue SetValues()
    {
        var one = op.Types[0] switch { "f32" => 0x3F800000u, "f16" => 0x3C00u, "bf16" => 0x3F80u, "u16" or "s16" => 0xFFFFu, _ => uint.MaxValue };
        var p = Reserve(4, 4);
        return new SetValue(Comparison(p, -1, 1), p, D(), one) { Class = InstructionClass.Predicate };
    }
}
