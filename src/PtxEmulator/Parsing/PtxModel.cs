namespace Kernels.Emulation.Parsing;

/// <summary>A place in the CUDA source, from <c>.loc</c>; for code inlined from another function the place it was written at.</summary>
/// <param name="File">The file's name without its folder; empty if unknown.</param>
/// <param name="Line">The line, from 1; 0 if unknown.</param>
public readonly record struct SourceLine(string File, int Line)
{
    /// <inheritdoc/>
    public override string ToString() => Line == 0 ? "unknown line" : $"{File}:{Line}";
}

/// <summary>PTX state spaces.</summary>
internal enum StateSpace
{
    Generic,
    Global,
    Shared,
    Local,
    Param,
    Const,
}

/// <summary>A declared register; its type decides how wide its slot in the frame is.</summary>
internal sealed record PtxRegister(string Name, string Type, int Index)
{
    internal bool IsPredicate => Type == "pred";

    /// <summary>Bytes of a lane's slot: 64-bit registers take 8, predicates none of their own (a mask), the others 4.</summary>
    internal int LaneBytes => Type switch { "b64" or "u64" or "s64" or "f64" => 8, "b128" => 16, _ => 4 };
}

/// <summary>A declared variable in some state space, of the module or of a function.</summary>
internal sealed class PtxVariable
{
    internal required string Name { get; init; }

    internal required StateSpace Space { get; init; }

    internal required int Alignment { get; init; }

    internal required long Bytes { get; init; }

    /// <summary>Whether the size is open: dynamic shared memory.</summary>
    internal bool IsOpen { get; init; }

    /// <summary>Initial contents; shorter than the variable if the rest is zero.</summary>
    internal byte[] Initial { get; init; } = [];

    /// <summary>Addresses of symbols inside the initial contents.</summary>
    internal List<(int Offset, string Symbol, long Addend)> Relocations { get; } = [];

    internal SourceLine Source { get; init; }
}

/// <summary>What stands at an operand's place.</summary>
internal enum OperandKind
{
    Register,
    Immediate,
    Symbol,
    Special,
    Address,
    Vector,
    Pair,
    Sink,
    List,
}

/// <summary>An operand as written.</summary>
internal sealed class PtxOperand
{
    internal required OperandKind Kind { get; init; }

    internal PtxRegister? Register { get; init; }

    /// <summary>Bits of an immediate: an integer as written, a float as its 64-bit pattern.</summary>
    internal ulong Bits { get; init; }

    internal bool IsFloat { get; init; }

    /// <summary>Name of a symbol, label, function or special register.</summary>
    internal string Name { get; init; } = "";

    /// <summary>Byte offset of an address or of a symbol.</summary>
    internal long Offset { get; init; }

    /// <summary>Whether a predicate operand is negated with <c>!</c>.</summary>
    internal bool Negated { get; init; }

    /// <summary>The variable a symbol names.</summary>
    internal PtxVariable? Variable { get; init; }

    /// <summary>Elements of a vector, a pair or a list; of an address, its base.</summary>
    internal PtxOperand[] Items { get; init; } = [];
}

/// <summary>An instruction as written, with its guard and its place.</summary>
internal sealed class PtxInstruction
{
    internal required string Opcode { get; init; }

    internal required PtxOperand[] Operands { get; init; }

    internal PtxRegister? Guard { get; init; }

    internal bool GuardNegated { get; init; }

    internal required int PtxLine { get; init; }

    internal SourceLine Source { get; init; }
}

/// <summary>A kernel (<c>.entry</c>) or device function (<c>.func</c>).</summary>
internal sealed class PtxFunction
{
    internal required string Name { get; init; }

    internal required bool IsEntry { get; init; }

    internal bool HasBody { get; set; }

    internal List<PtxVariable> Parameters { get; } = [];

    internal List<PtxVariable> Returns { get; } = [];

    /// <summary>Shared, local and call-parameter variables of the body.</summary>
    internal List<PtxVariable> Variables { get; } = [];

    internal List<PtxRegister> Registers { get; } = [];

    internal List<PtxInstruction> Instructions { get; } = [];

    internal Dictionary<string, int> Labels { get; } = [];

    /// <summary>Targets of <c>.branchtargets</c> by label.</summary>
    internal Dictionary<string, string[]> BranchTables { get; } = [];

    /// <summary>Most threads per block the kernel was compiled for (<c>.maxntid</c>); 0 if not said.</summary>
    internal int MaximumThreads { get; set; }

    /// <summary>Extents of the only block the kernel may be launched with (<c>.reqntid</c>), missing ones 1; empty if not said.</summary>
    internal int[] RequiredBlock { get; set; } = [];
}

/// <summary>A parsed module.</summary>
internal sealed class PtxModule
{
    internal string Version { get; set; } = "";

    internal string Target { get; set; } = "";

    internal Dictionary<string, PtxVariable> Variables { get; } = [];

    internal Dictionary<string, PtxFunction> Functions { get; } = [];
}
