using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <summary>
/// Turns a function's instructions into executable ones, once, at load: registers, immediates and special registers get their slots, symbols their
/// addresses, branches their targets. What it does not know is an error here.
/// </summary>
internal sealed partial class Decoder
{
    private readonly EntryProgram program;
    private readonly PtxFunction written;
    private readonly FunctionCode function;
    private readonly int[] registerSlots;
    private readonly Dictionary<(bool Wide, ulong Bits), int> constantSlots = [];
    private readonly Dictionary<SpecialRegister, int> specialSlots = [];
    private readonly Dictionary<PtxVariable, int> localOffsets = [];
    private readonly Dictionary<PtxVariable, int> argumentOffsets = [];
    private PtxInstruction current = null!;
    private Opcode op = null!;
    private int frameTop;

    private Decoder(EntryProgram program, FunctionCode function)
    {
        this.program = program;
        this.function = function;
        written = function.Written;
        registerSlots = new int[written.Registers.Count];
        // Predicates first, four bytes each, so that they share cache lines.
        foreach (var register in written.Registers.Where(r => r.IsPredicate))
            registerSlots[register.Index] = Reserve(4, 4);
        foreach (var register in written.Registers.Where(r => !r.IsPredicate))
            registerSlots[register.Index] = Reserve(32 * register.LaneBytes, 64);
        LayOutVariables();
    }

    /// <summary>Decodes a function into <paramref name="function"/>.</summary>
    internal static void Decode(EntryProgram program, FunctionCode function)
    {
        var decoder = new Decoder(program, function);
        var code = new Instruction[decoder.written.Instructions.Count];
        function.Code = code;
        for (var i = 0; i < code.Length; i++)
        {
            code[i] = decoder.Decode(decoder.written.Instructions[i]);
            code[i].Index = i;
            code[i].Function = function;
            program.Register(code[i]);
        }
        function.FrameBytes = decoder.frameTop;
        ControlFlow.SetMeetingPoints(function);
    }

    private int Reserve(int bytes, int alignment)
    {
        frameTop = (frameTop + alignment - 1) & -alignment;
        var slot = frameTop;
        frameTop += bytes;
        return slot;
    }

    private void LayOutVariables()
    {
        var arguments = 0;
        foreach (var parameter in written.Parameters)
        {
            if (!written.IsEntry)
            {
                function.ParameterAreas[parameter] = Reserve((int)(32 * parameter.Bytes), 64);
                continue;
            }
            arguments = (arguments + parameter.Alignment - 1) & -parameter.Alignment;
            argumentOffsets[parameter] = arguments;
            arguments += (int)parameter.Bytes;
        }
        function.ArgumentBytes = arguments;
        foreach (var result in written.Returns)
            function.ParameterAreas[result] = Reserve((int)(32 * result.Bytes), 64);
        var local = 0;
        foreach (var variable in written.Variables)
        {
            if (variable.Space == StateSpace.Param)
            {
                function.ParameterAreas[variable] = Reserve((int)(32 * variable.Bytes), 64);
            }
            else if (variable.Space == StateSpace.Local)
            {
                local = (local + variable.Alignment - 1) & -variable.Alignment;
                localOffsets[variable] = local;
                local += (int)variable.Bytes;
            }
        }
        // Frames begin where 16-byte accesses are aligned.
        function.LocalBytes = (local + 15) & ~15;
    }

    private Instruction Decode(PtxInstruction instruction)
    {
        current = instruction;
        op = new Opcode(instruction.Opcode);
        var decoded = DecodeByName();
        if (op.Left.Count > 0)
            throw Unknown($"'.{op.Left[0]}' is not a modifier the emulator knows here");
        if (!InstructionForms.Contains(instruction.Opcode))
            throw Unknown("the emulator does not know this form of the instruction");
        decoded.Written = instruction;
        // PTX written by hand has no source but itself.
        decoded.Source = instruction.Source.Line > 0 ? instruction.Source : new SourceLine(program.Module.Name, instruction.PtxLine);
        if (instruction.Guard is not null && decoded is not BranchInstruction)
        {
            decoded.Guard = registerSlots[instruction.Guard.Index];
            decoded.GuardNegated = instruction.GuardNegated;
        }
        return decoded;
    }

    private Instruction DecodeByName() =>
        DecodeControl() ?? DecodeMemory() ?? DecodeWarp() ?? DecodeMove() ?? DecodeTensor() ?? DecodeInteger() ?? DecodeFloat()
        ?? throw Unknown("the emulator does not know the instruction");

    private PtxException Unknown(string reason) => new(
        $"{program.Module.Name}: {(current.Source.Line > 0 ? $"{current.Source}: " : "")}line {current.PtxLine} of the PTX, '{PtxText.Format(current)}' in '{function.Name}': {reason}");

    private PtxOperand Operand(int index) =>
        index < current.Operands.Length ? current.Operands[index] : throw Unknown($"it has only {current.Operands.Length} operands");

    private bool Has(int index) => index < current.Operands.Length;

    private static bool IsWide(string type) => TokenReader.SizeOf(type) == 8;

    private static bool IsSigned(string type) => type[0] == 's';

    private static bool IsFloat(string type) => type[0] == 'f' || type.StartsWith("bf", StringComparison.Ordinal) || type == "tf32";

    /// <summary>Slot of a destination register.</summary>
    private int D(int index = 0) => Destination(Operand(index));

    private int Destination(PtxOperand operand)
    {
        if (operand.Kind == OperandKind.Sink)
            return Scratch();
        if (operand.Kind != OperandKind.Register)
            throw Unknown("a destination register was expected");
        return registerSlots[operand.Register!.Index];
    }

    private int scratch = -1;

    private int Scratch() => scratch >= 0 ? scratch : scratch = Reserve(256, 64);

    /// <summary>Slot of a source of the given type: a register's own, or that of a constant or special register.</summary>
    private int S(int index, string type) => Source(Operand(index), type);

    private int S(int index) => S(index, op.Type);

    private int Source(PtxOperand operand, string type)
    {
        var wide = IsWide(type);
        switch (operand.Kind)
        {
            case OperandKind.Register:
                var register = operand.Register!;
                if (register.IsPredicate)
                    throw Unknown($"'{register.Name}' is a predicate");
                if (register.LaneBytes < TokenReader.SizeOf(type))
                    throw Unknown($"'{register.Name}' is narrower than .{type}");
                return register.LaneBytes == 8 && !wide ? LowWord(register) : registerSlots[register.Index];
            case OperandKind.Immediate:
                return Constant(wide, ImmediateBits(operand, type));
            case OperandKind.Special:
                return Special(operand.Name);
            case OperandKind.Symbol:
                return SymbolSlot(operand, wide);
            default:
                throw Unknown($"operand '{operand.Kind}' cannot be a source here");
        }
    }

    /// <summary>A 64-bit register read as a narrower type has no slot of that layout.</summary>
    private int LowWord(PtxRegister register) => throw Unknown($"'{register.Name}' is wider than the operand's type");

    /// <summary>Slots of the vector or single register of a load, store or move.</summary>
    private ElementSlot[] Elements(PtxOperand operand, string type, bool store)
    {
        var items = operand.Kind == OperandKind.Vector ? operand.Items : [operand];
        return [.. items.Select(item => Element(item, type, store))];
    }

    private ElementSlot Element(PtxOperand item, string type, bool store)
    {
        if (item.Kind == OperandKind.Sink)
            return new ElementSlot(-1, false);
        if (item.Kind == OperandKind.Register)
            return new ElementSlot(registerSlots[item.Register!.Index], item.Register.LaneBytes == 8);
        if (!store)
            throw Unknown("a destination register was expected");
        return new ElementSlot(Source(item, type), IsWide(type));
    }

    private static ulong ImmediateBits(PtxOperand operand, string type)
    {
        if (operand.IsFloat)
        {
            var value = BitConverter.UInt64BitsToDouble(operand.Bits);
            return type switch
            {
                "f64" or "b64" => operand.Bits,
                "f16" => Formats.ToHalf(value, Rounding.Nearest),
                "bf16" => Formats.ToBrain(value, Rounding.Nearest),
                _ => BitConverter.SingleToUInt32Bits((float)value),
            };
        }
        return TokenReader.SizeOf(type) switch
        {
            8 => operand.Bits,
            2 => operand.Bits & 0xFFFF,
            1 => operand.Bits & 0xFF,
            _ => operand.Bits & uint.MaxValue,
        };
    }

    private int Constant(bool wide, ulong bits)
    {
        if (!constantSlots.TryGetValue((wide, bits), out var slot))
        {
            slot = Reserve(wide ? 256 : 128, 64);
            constantSlots[(wide, bits)] = slot;
            function.Constants.Add((slot, wide, bits));
        }
        return slot;
    }

    private int Special(string name)
    {
        var register = name switch
        {
            "%tid.x" => SpecialRegister.TidX, "%tid.y" => SpecialRegister.TidY, "%tid.z" => SpecialRegister.TidZ,
            "%ntid.x" => SpecialRegister.NtidX, "%ntid.y" => SpecialRegister.NtidY, "%ntid.z" => SpecialRegister.NtidZ,
            "%ctaid.x" => SpecialRegister.CtaidX, "%ctaid.y" => SpecialRegister.CtaidY, "%ctaid.z" => SpecialRegister.CtaidZ,
            "%nctaid.x" => SpecialRegister.NctaidX, "%nctaid.y" => SpecialRegister.NctaidY, "%nctaid.z" => SpecialRegister.NctaidZ,
            "%laneid" => SpecialRegister.LaneId, "%warpid" => SpecialRegister.WarpId, "%nwarpid" => SpecialRegister.NwarpId,
            "%smid" => SpecialRegister.SmId, "%nsmid" => SpecialRegister.NsmId, "%gridid" => SpecialRegister.GridId,
            "%lanemask_eq" => SpecialRegister.LaneMaskEq, "%lanemask_le" => SpecialRegister.LaneMaskLe,
            "%lanemask_lt" => SpecialRegister.LaneMaskLt, "%lanemask_ge" => SpecialRegister.LaneMaskGe,
            "%lanemask_gt" => SpecialRegister.LaneMaskGt,
            "%dynamic_smem_size" => SpecialRegister.DynamicSharedBytes, "%total_smem_size" => SpecialRegister.TotalSharedBytes,
            // Without clusters every block is a cluster of its own.
            "%cluster_ctaid.x" or "%cluster_ctaid.y" or "%cluster_ctaid.z" or "%cluster_ctarank" => SpecialRegister.Zero,
            "%cluster_nctaid.x" or "%cluster_nctaid.y" or "%cluster_nctaid.z" or "%cluster_nctarank" => SpecialRegister.One,
            _ => throw Unknown($"the emulator does not know the special register '{name}'"),
        };
        if (!specialSlots.TryGetValue(register, out var slot))
        {
            slot = Reserve(128, 64);
            specialSlots[register] = slot;
            function.Specials.Add((slot, register));
        }
        return slot;
    }

    private PredicateSource P(PtxOperand operand)
    {
        if (operand.Kind == OperandKind.Immediate)
            return new PredicateSource(Constant(false, operand.Bits != 0 ? uint.MaxValue : 0), false);
        if (operand.Kind != OperandKind.Register || !operand.Register!.IsPredicate)
            throw Unknown("a predicate was expected");
        return new PredicateSource(registerSlots[operand.Register.Index], operand.Negated);
    }

    private int PredicateDestination(PtxOperand operand)
    {
        if (operand.Kind == OperandKind.Sink)
            return -1;
        if (operand.Kind != OperandKind.Register || !operand.Register!.IsPredicate)
            throw Unknown("a predicate was expected as destination");
        return registerSlots[operand.Register.Index];
    }

    /// <summary>A constant slot holding a symbol's address in its own space.</summary>
    private int SymbolSlot(PtxOperand operand, bool wide)
    {
        if (operand.Variable is { } variable)
        {
            if (variable.Space == StateSpace.Shared)
                return program.SharedAddress(variable, function, wide, operand.Offset, Reserve(wide ? 256 : 128, 64));
            if (variable.Space is StateSpace.Global or StateSpace.Const)
                return Constant(wide, program.Module.AddressOf(variable.Name) + (ulong)operand.Offset);
            if (argumentOffsets.TryGetValue(variable, out var offset))
                return Constant(wide, (ulong)(offset + operand.Offset));
            throw Unknown($"the address of '{operand.Name}' cannot be taken");
        }
        if (program.Module.Written.Functions.TryGetValue(operand.Name, out var target))
            return Constant(wide, program.PointerTo(target));
        throw Unknown($"'{operand.Name}' is not declared");
    }
}
