using Kernels.Emulation.Parsing;

namespace Kernels.Emulation;

/// <summary>What the emulator looks for while a kernel runs. Accesses outside memory are always found; the rest can be switched off.</summary>
[Flags]
public enum Checks
{
    /// <summary>Only accesses that would stop a GPU: out of bounds, misaligned, freed memory, traps.</summary>
    None = 0,

    /// <summary>Reads of global or shared memory that was never written.</summary>
    Uninitialized = 1,

    /// <summary>Races on shared memory within a block and on global memory between blocks.</summary>
    Races = 2,

    /// <summary>Barriers that not all threads reach.</summary>
    Barriers = 4,

    /// <summary>Warp operations (<c>shfl</c>, <c>vote</c>, <c>mma</c>, …) that the lanes they name do not all take part in.</summary>
    Participation = 8,

    /// <summary>Everything.</summary>
    All = Uninitialized | Races | Barriers | Participation,
}

/// <summary>What was found.</summary>
public enum FindingKind
{
    /// <summary>An access outside every allocation, or outside the shared, local or parameter memory there is.</summary>
    OutOfBounds,

    /// <summary>An address that is not a multiple of the access's size.</summary>
    Misaligned,

    /// <summary>An access to freed memory.</summary>
    UseAfterFree,

    /// <summary>A read of memory that was never written.</summary>
    Uninitialized,

    /// <summary>Two threads of a block access shared memory, one writing, with nothing between that orders them.</summary>
    SharedRace,

    /// <summary>Two blocks access global memory, one writing, with nothing between that orders them.</summary>
    GlobalRace,

    /// <summary>A barrier that some threads of the block, or of the warp, do not reach.</summary>
    BarrierDivergence,

    /// <summary>All threads wait for something that cannot come.</summary>
    Deadlock,

    /// <summary>A warp used up its budget of instructions.</summary>
    Runaway,

    /// <summary>A warp operation names lanes that do not take part in it.</summary>
    Participation,

    /// <summary><c>assert</c> failed.</summary>
    Assertion,

    /// <summary>The kernel executed <c>trap</c>.</summary>
    Trap,
}

/// <summary>Three numbers x, y, z: a block in a grid, a thread in a block, or an extent.</summary>
/// <param name="X">First.</param>
/// <param name="Y">Second.</param>
/// <param name="Z">Third.</param>
public readonly record struct Index3(int X, int Y, int Z)
{
    /// <inheritdoc/>
    public override string ToString() => $"({X},{Y},{Z})";
}

/// <summary>One fault of a kernel, reported once per instruction and kind however many threads commit it.</summary>
public sealed record Finding
{
    /// <summary>What it is.</summary>
    public required FindingKind Kind { get; init; }

    /// <summary>The kernel that was launched.</summary>
    public required string Kernel { get; init; }

    /// <summary>The source line of the instruction.</summary>
    public required SourceLine Source { get; init; }

    /// <summary>The instruction and its line in the PTX.</summary>
    public required string Instruction { get; init; }

    /// <summary>Block of the first thread that did it.</summary>
    public required Index3 Block { get; init; }

    /// <summary>The first thread that did it.</summary>
    public required Index3 Thread { get; init; }

    /// <summary>The address, if it is about memory: in its own space for shared and local memory.</summary>
    public ulong? Address { get; init; }

    /// <summary>The allocation or memory concerned; empty if it is not about memory.</summary>
    public string Memory { get; init; } = "";

    /// <summary>What happened, in a sentence.</summary>
    public required string Message { get; init; }

    /// <summary>For races, the line of the other access.</summary>
    public SourceLine? Other { get; init; }

    /// <summary>How many threads did it, counted while the launch ran.</summary>
    public long Count { get; internal set; } = 1;

    /// <inheritdoc/>
    public override string ToString()
    {
        var times = Count > 1 ? $" ({Count} threads in all)" : "";
        return $"{Source}: {Kind} in {Kernel}, block {Block}, thread {Thread}: {Message}{times}\n    {Instruction}";
    }
}

/// <summary>A launch in which something was found. The launch ran to its end where that was possible.</summary>
public sealed class KernelCheckException : KernelsException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="findings">What was found, at least one.</param>
    public KernelCheckException(IReadOnlyList<Finding> findings)
        : base(string.Join("\n", findings ?? throw new ArgumentNullException(nameof(findings))))
    {
        Findings = findings;
    }

    /// <summary>What was found, in the order it was found.</summary>
    public IReadOnlyList<Finding> Findings { get; }
}
