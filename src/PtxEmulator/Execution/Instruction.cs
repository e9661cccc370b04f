using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Execution;

/// <summary>What an instruction counts as.</summary>
internal enum InstructionClass
{
    Integer,
    Float,
    Double,
    Half,
    Special,
    Conversion,
    Move,
    Predicate,
    Control,
    Barrier,
    Warp,
    GlobalMemory,
    SharedMemory,
    LocalMemory,
    OtherMemory,
    Atomic,
    Async,
    Tensor,
}

/// <summary>
/// One decoded instruction. Operands are byte offsets into the frame of the running function, where a 32-bit register is 32 lanes in a row
/// (two 512-bit vectors), a 64-bit register twice that, and a predicate a 32-bit mask. Immediates and special registers have slots like
/// registers, so that an operation reads one kind of operand only.
/// </summary>
internal abstract unsafe class Instruction
{
    /// <summary>Offset of the guard's mask; negative without a guard.</summary>
    internal int Guard = -1;

    internal bool GuardNegated;

    /// <summary>Position in the function, for the counters and the messages.</summary>
    internal int Index;

    /// <summary>Position among all instructions of the module.</summary>
    internal int Id;

    internal InstructionClass Class;

    /// <summary>Floating-point operations per thread, a fused multiply-add being two. Tensor-core ones are counted per warp and apart.</summary>
    internal int Flops;

    /// <summary>Floating-point operations of the tensor cores per warp.</summary>
    internal int TensorFlops;

    internal SourceLine Source;

    internal PtxInstruction Written = null!;

    internal FunctionCode Function = null!;

    /// <summary>Executes the instruction for the lanes of <paramref name="mask"/>, which is never empty.</summary>
    internal abstract void Execute(Warp warp, uint mask);
}

/// <summary>A function ready to run.</summary>
internal sealed class FunctionCode
{
    internal required string Name { get; init; }

    internal required PtxFunction Written { get; init; }

    /// <summary>Position in the module: what a function pointer holds, plus one.</summary>
    internal int Number { get; set; }

    internal Instruction[] Code { get; set; } = [];

    internal int ExitPc => Code.Length;

    internal int FrameBytes { get; set; }

    /// <summary>Slots that hold the same in every frame: offset, whether 64 bits wide, value.</summary>
    internal List<(int Offset, bool Wide, ulong Bits)> Constants { get; } = [];

    /// <summary>Slots of special registers.</summary>
    internal List<(int Offset, SpecialRegister Register)> Specials { get; } = [];

    /// <summary>Call-parameter areas in the frame, by variable: 32 lanes of the variable's bytes each.</summary>
    internal Dictionary<PtxVariable, int> ParameterAreas { get; } = [];

    /// <summary>Bytes of local memory per thread.</summary>
    internal int LocalBytes { get; set; }

    /// <summary>Bytes of a kernel's argument block.</summary>
    internal int ArgumentBytes { get; set; }

    /// <summary>Bytes of static shared memory; dynamic shared memory begins here.</summary>
    internal int SharedBytes { get; set; }
}

/// <summary>Special registers whose value a thread keeps for life.</summary>
internal enum SpecialRegister
{
    TidX, TidY, TidZ, NtidX, NtidY, NtidZ,
    CtaidX, CtaidY, CtaidZ, NctaidX, NctaidY, NctaidZ,
    LaneId, WarpId, NwarpId, SmId, NsmId, GridId,
    LaneMaskEq, LaneMaskLe, LaneMaskLt, LaneMaskGe, LaneMaskGt,
    DynamicSharedBytes, TotalSharedBytes, Zero, One,
}
