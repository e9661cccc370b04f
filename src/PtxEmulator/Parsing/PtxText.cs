using System.Globalization;

namespace Kernels.Emulation.Parsing;

/// <summary>Writes instructions back as PTX, for messages.</summary>
internal static class PtxText
{
    internal static string Format(PtxInstruction instruction)
    {
        var guard = instruction.Guard is null ? "" : $"@{(instruction.GuardNegated ? "!" : "")}{instruction.Guard.Name} ";
        return $"{guard}{instruction.Opcode} {string.Join(", ", instruction.Operands.Select(Format))}".TrimEnd();
    }

    private static string Format(PtxOperand operand) => operand.Kind switch
    {
        OperandKind.Register => (operand.Negated ? "!" : "") + operand.Register!.Name,
        OperandKind.Immediate when operand.IsFloat => BitConverter.UInt64BitsToDouble(operand.Bits).ToString("R", CultureInfo.InvariantCulture),
        OperandKind.Immediate => ((long)operand.Bits).ToString(CultureInfo.InvariantCulture),
        OperandKind.Sink => "_",
        OperandKind.Address => $"[{Format(operand.Items[0])}{Offset(operand.Offset - operand.Items[0].Offset)}]",
        OperandKind.Vector => $"{{{string.Join(", ", operand.Items.Select(Format))}}}",
        OperandKind.List => $"({string.Join(", ", operand.Items.Select(Format))})",
        OperandKind.Pair => $"{Format(operand.Items[0])}|{Format(operand.Items[1])}",
        _ => operand.Name + Offset(operand.Offset),
    };

    private static string Offset(long offset) =>
        offset == 0 ? "" : offset.ToString("+#;-#", CultureInfo.InvariantCulture);
}
