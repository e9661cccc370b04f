using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Barriers and operations among the lanes of a warp.</content>
internal sealed partial class Decoder
{
    private Instruction? DecodeWarp()
    {
        switch (op.Name)
        {
            case "bar" or "barrier":
                return Barrier();
            case "shfl":
                return ShuffleLanes();
            case "vote":
                return VoteLanes();
            case "match":
                op.Has("sync");
                var all = op.OneOf("all", "any") == "all";
                var (first, second) = Pair(Operand(0));
                return new Match(all, IsWide(op.Type), registerSlots[first.Register!.Index], second is null ? -1 : PredicateDestination(second), S(1), S(2, "b32"))
                {
                    Class = InstructionClass.Warp,
                };
            case "redux":
                op.Has("sync");
                var kind = op.OneOf("add", "min", "max", "and", "or", "xor") switch
                {
                    "add" => AtomicKind.Add,
                    "min" => AtomicKind.Min,
                    "max" => AtomicKind.Max,
                    "and" => AtomicKind.And,
                    "or" => AtomicKind.Or,
                    _ => AtomicKind.Xor,
                };
                if (IsFloat(op.Type))
                    return null;
                return new Redux(kind, IsSigned(op.Type), D(), S(1), S(2, "b32")) { Class = InstructionClass.Warp };
            case "elect":
                op.Has("sync");
                var (leader, elected) = Pair(Operand(0));
                return new Elect(
                    leader.Kind == OperandKind.Sink ? -1 : registerSlots[leader.Register!.Index], PredicateDestination(elected!), S(1, "b32"))
                {
                    Class = InstructionClass.Warp,
                };
            case "activemask":
                return new ActiveMask(D()) { Class = InstructionClass.Warp };
            default:
                return null;
        }
    }

    private static (PtxOperand First, PtxOperand? Second) Pair(PtxOperand operand) =>
        operand.Kind == OperandKind.Pair ? (operand.Items[0], operand.Items[1]) : (operand, null);

    private Instruction Barrier()
    {
        if (op.Has("warp"))
        {
            op.Has("sync");
            return new WarpBarrier(S(0, "b32")) { Class = InstructionClass.Barrier };
        }
        op.Ignore("cta");
        // `bar` is `barrier.cta.aligned`: all threads of the warp execute it together.
        var aligned = op.Has("aligned") || op.Name == "bar";
        var reduction = op.Has("red") ? op.OneOf("popc", "and", "or") switch { "popc" => 0, "and" => 1, _ => 2 } : -1;
        if (reduction >= 0)
        {
            var isCount = reduction == 0;
            var d = isCount ? D() : PredicateDestination(Operand(0));
            var counted = current.Operands.Length > 3;
            return new BlockBarrier(S(1, "u32"), counted ? S(2, "u32") : -1, true, reduction, d, !isCount, P(Operand(counted ? 3 : 2)), aligned)
            {
                Class = InstructionClass.Barrier,
            };
        }
        var waits = op.OneOf("sync", "arrive") == "sync";
        return new BlockBarrier(S(0, "u32"), Has(1) ? S(1, "u32") : -1, waits, -1, -1, false, default, aligned) { Class = InstructionClass.Barrier };
    }

    private Shuffle ShuffleLanes()
    {
        op.Has("sync");
        var kind = op.OneOf("up", "down", "bfly", "idx") switch
        {
            "up" => ShuffleKind.Up,
            "down" => ShuffleKind.Down,
            "bfly" => ShuffleKind.Butterfly,
            _ => ShuffleKind.Index,
        };
        var (value, predicate) = Pair(Operand(0));
        var d = value.Kind == OperandKind.Sink ? Scratch() : registerSlots[value.Register!.Index];
        return new Shuffle(kind, d, predicate is null ? -1 : PredicateDestination(predicate), S(1), S(2, "u32"), S(3, "u32"), S(4, "b32"))
        {
            Class = InstructionClass.Warp,
        };
    }

    private Vote VoteLanes()
    {
        op.Has("sync");
        var kind = op.OneOf("all", "any", "uni", "ballot") switch
        {
            "all" => VoteKind.All,
            "any" => VoteKind.Any,
            "uni" => VoteKind.Uniform,
            _ => VoteKind.Ballot,
        };
        var d = kind == VoteKind.Ballot ? D() : PredicateDestination(Operand(0));
        return new Vote(kind, d, P(Operand(1)), S(2, "b32")) { Class = InstructionClass.Warp };
    }
}
