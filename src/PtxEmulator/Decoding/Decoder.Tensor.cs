using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;
using Kernels.Emulation.Tensor;

namespace Kernels.Emulation.Decoding;

/// <content>Matrix fragments, asynchronous copies and memory barriers.</content>
internal sealed partial class Decoder
{
    private Instruction? DecodeTensor()
    {
        switch (op.Name)
        {
            case "ldmatrix" or "stmatrix":
                var store = op.Name == "stmatrix";
                op.Ignore("sync", "aligned", "m8n8");
                var count = op.OneOf("x1", "x2", "x4") switch { "x4" => 4, "x2" => 2, _ => 1 };
                var transposed = op.Has("trans");
                var space = Space();
                if (op.Type != "b16")
                    throw Unknown("only 16-bit elements are supported");
                var registers = Slots(Operand(store ? 1 : 0), "b32");
                if (registers.Length != count)
                    throw Unknown($"{registers.Length} registers for {count} matrices");
                return new MatrixTransfer(store, transposed, space, registers, Address(Operand(store ? 0 : 1))) { Class = ClassOf(space) };
            case "mma":
                return Multiply();
            case "cp":
                return CopyOperation();
            case "mbarrier":
                return MemoryBarrierOperation();
            default:
                return null;
        }
    }

    private int[] Slots(PtxOperand operand, string type) =>
        operand.Kind == OperandKind.Vector ? [.. operand.Items.Select(item => Source(item, type))] : [Source(operand, type)];

    private Instruction Multiply()
    {
        op.Ignore("sync", "aligned", "row", "col");
        var shape = op.OneOf("m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32");
        if (shape.Length == 0 || op.Types.Length != 4)
            throw Unknown("the emulator does not know this shape");
        var (d, a, b, c) = (Slots(Operand(0), "b32"), Slots(Operand(1), "b32"), Slots(Operand(2), "b32"), Slots(Operand(3), "b32"));
        var (halfOut, halfIn) = (op.Types[0] == "f16", op.Types[3] == "f16");
        var (left, right) = (op.Types[1], op.Types[2]);
        var perRegister = left switch { "tf32" => 1, "s8" or "u8" => 4, _ => 2 };
        var depth = int.Parse(shape.AsSpan(shape.LastIndexOf('k') + 1), System.Globalization.CultureInfo.InvariantCulture);
        if (b.Length * 4 * perRegister != depth || a.Length != 2 * b.Length || d.Length != (halfOut ? 2 : 4) || c.Length != (halfIn ? 2 : 4))
            throw Unknown("the number of registers does not fit the shape");
        Instruction multiply = op.Has("satfinite") ? IntegerMultiply<SaturatingAccumulate>(left, right, d, a, b, c) : (left, right) switch
        {
            ("f16", "f16") => new MatrixMultiply<HalfFragment, HalfFragment, SingleAccumulate>(d, a, b, c, halfIn, halfOut),
            ("bf16", "bf16") => new MatrixMultiply<BrainFragment, BrainFragment, SingleAccumulate>(d, a, b, c, halfIn, halfOut),
            ("tf32", "tf32") => new MatrixMultiply<Tf32Fragment, Tf32Fragment, SingleAccumulate>(d, a, b, c, halfIn, halfOut),
            _ => IntegerMultiply<IntegerAccumulate>(left, right, d, a, b, c),
        };
        multiply.Class = InstructionClass.Tensor;
        multiply.TensorFlops = 2 * 16 * 8 * depth;
        return multiply;
    }

    private Instruction IntegerMultiply<TSum>(string left, string right, int[] d, int[] a, int[] b, int[] c)
        where TSum : struct, IAccumulate => (left, right) switch
        {
            ("s8", "s8") => new MatrixMultiply<SignedByteFragment, SignedByteFragment, TSum>(d, a, b, c, false, false),
            ("s8", "u8") => new MatrixMultiply<SignedByteFragment, ByteFragment, TSum>(d, a, b, c, false, false),
            ("u8", "s8") => new MatrixMultiply<ByteFragment, SignedByteFragment, TSum>(d, a, b, c, false, false),
            ("u8", "u8") => new MatrixMultiply<ByteFragment, ByteFragment, TSum>(d, a, b, c, false, false),
            _ => throw Unknown($"the emulator does not multiply .{left} by .{right}"),
        };

    private Instruction CopyOperation()
    {
        if (!op.Has("async"))
            throw Unknown("the emulator does not know the instruction");
        if (op.Has("commit_group"))
            return new CopyGroup(true, 0) { Class = InstructionClass.Async };
        if (op.Has("wait_group"))
            return new CopyGroup(false, (int)Operand(0).Bits) { Class = InstructionClass.Async };
        if (op.Has("wait_all"))
            return new CopyGroup(false, -1) { Class = InstructionClass.Async };
        if (op.Has("mbarrier"))
        {
            op.Ignore("arrive");
            var increments = !op.Has("noinc");
            return new MemoryBarrierOperation(
                MemoryBarrierAction.ArriveAfterCopies, Space(), Address(Operand(0)), new ElementSlot(-1, false), -1, -1, false, increments)
            {
                Class = InstructionClass.Async,
            };
        }
        var bypassesL1 = op.Has("cg");
        op.Ignore("ca", "shared", "shared::cta", "shared::cluster", "global", "L2::cache_hint");
        op.IgnoreFamily("L2::");
        var bytes = (int)Operand(2).Bits;
        if (bytes is not (4 or 8 or 16) || bypassesL1 && bytes != 16)
            throw Unknown($"a copy of {bytes} bytes");
        var sourceBytes = Has(3) && Operand(3) is not { Register.LaneBytes: 8 } ? S(3, "u32") : -1;
        return new CopyAsync(Address(Operand(0)), Address(Operand(1)), bytes, sourceBytes) { Class = InstructionClass.Async };
    }

    private MemoryBarrierOperation MemoryBarrierOperation()
    {
        op.Ignore("b64", "relaxed", "release", "acquire", "cta", "cluster");
        var none = new ElementSlot(-1, false);
        if (op.Has("init"))
            return new MemoryBarrierOperation(MemoryBarrierAction.Initialize, Space(), Address(Operand(0)), none, -1, S(1, "u32"), false, false) { Class = InstructionClass.Barrier };
        if (op.Has("inval"))
            return new MemoryBarrierOperation(MemoryBarrierAction.Invalidate, Space(), Address(Operand(0)), none, -1, -1, false, false) { Class = InstructionClass.Barrier };
        if (op.Has("expect_tx") && !op.Has("arrive"))
            return new MemoryBarrierOperation(MemoryBarrierAction.ExpectBytes, Space(), Address(Operand(0)), none, -1, S(1, "u32"), false, false) { Class = InstructionClass.Barrier };
        var wait = op.OneOf("test_wait", "try_wait");
        if (wait.Length > 0)
        {
            var parity = op.Has("parity");
            return new MemoryBarrierOperation(
                wait == "try_wait" ? MemoryBarrierAction.Try : MemoryBarrierAction.Test, Space(), Address(Operand(1)), none, PredicateDestination(Operand(0)),
                S(2, parity ? "u32" : "b64"), !parity, false)
            {
                Class = InstructionClass.Barrier,
            };
        }
        var bytes = current.Opcode.Contains("expect_tx", StringComparison.Ordinal);
        if (!bytes && !op.Has("arrive"))
            throw Unknown("the emulator does not know the operation");
        op.Ignore("expect_tx", "arrive", "noComplete");
        var hasToken = Operand(0).Kind != OperandKind.Address;
        var token = hasToken && Operand(0).Kind == OperandKind.Register ? Element(Operand(0), "b64", false) : none;
        var at = hasToken ? 1 : 0;
        return new MemoryBarrierOperation(
            bytes ? MemoryBarrierAction.ArriveExpectBytes : MemoryBarrierAction.Arrive, Space(), Address(Operand(at)), token, -1,
            Has(at + 1) ? S(at + 1, "u32") : -1, false, false)
        {
            Class = InstructionClass.Barrier,
        };
    }
}
