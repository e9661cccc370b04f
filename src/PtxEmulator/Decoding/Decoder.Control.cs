using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Branches, calls and the end.</content>
internal sealed partial class Decoder
{
    private Instruction? DecodeControl()
    {
        switch (op.Name)
        {
            case "bra":
                op.Ignore("uni");
                return Branch(Target(Operand(0).Name));
            case "ret" or "exit":
                op.Ignore("uni");
                if (written.IsEntry || op.Name == "exit")
                    return new ExitInstruction { Class = InstructionClass.Control };
                return Branch(written.Instructions.Count);
            case "brx":
                op.Ignore("idx", "uni");
                var targets = written.BranchTables.GetValueOrDefault(Operand(1).Name) ?? throw Unknown($"'{Operand(1).Name}' is not a table of targets");
                return new BranchTable(S(0, "u32"), [.. targets.Select(Target)]) { Class = InstructionClass.Control };
            case "call":
                op.Ignore("uni");
                return Call();
            case "trap":
                return new TrapInstruction { Class = InstructionClass.Control };
            case "brkpt" or "nanosleep" or "pmevent" or "griddepcontrol" or "setmaxnreg":
                op.IgnoreFamily("");
                return new NoOperation { Class = InstructionClass.Control };
            default:
                return null;
        }
    }

    private BranchInstruction Branch(int target)
    {
        var guard = current.Guard is null ? -1 : registerSlots[current.Guard.Index];
        return new BranchInstruction(guard, current.GuardNegated, target) { Class = InstructionClass.Control };
    }

    private int Target(string label) =>
        written.Labels.TryGetValue(label, out var index) ? index : throw Unknown($"there is no label '{label}'");

    private Instruction Call()
    {
        var operands = current.Operands.ToList();
        PtxVariable[] results = [];
        if (operands[0].Kind == OperandKind.List)
        {
            results = Parameters(operands[0]);
            operands.RemoveAt(0);
        }
        var arguments = operands.Count > 1 && operands[1].Kind == OperandKind.List ? Parameters(operands[1]) : [];
        if (operands[0].Kind == OperandKind.Register)
            return new CallInstruction(program, null, new ElementSlot64(registerSlots[operands[0].Register!.Index]), arguments, results) { Class = InstructionClass.Control };

        var name = operands[0].Name;
        if (!program.Module.Written.Functions.TryGetValue(name, out var target))
            throw Unknown($"'{name}' is not declared");
        if (target.HasBody)
            return new CallInstruction(program, program.Code(target), default, arguments, results) { Class = InstructionClass.Control };
        var areas = arguments.Select(a => function.ParameterAreas[a]).ToArray();
        return name switch
        {
            "vprintf" => new PrintInstruction(areas[0], areas[1], results.Length > 0 ? function.ParameterAreas[results[0]] : -1) { Class = InstructionClass.Control },
            "__assertfail" => new AssertInstruction(areas[0], areas[1], areas[2]) { Class = InstructionClass.Control },
            _ => throw Unknown($"'{name}' has no body in this module"),
        };
    }

    private PtxVariable[] Parameters(PtxOperand list) =>
        [.. list.Items.Select(item => item.Variable ?? throw Unknown($"'{item.Name}' is not a call parameter"))];
}
