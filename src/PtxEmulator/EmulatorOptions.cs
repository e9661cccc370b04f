namespace Kernels.Emulation;

/// <summary>How the emulator runs kernels.</summary>
public sealed record EmulatorOptions
{
    /// <summary>What to look for while kernels run.</summary>
    public Checks Checks { get; init; } = Checks.All;

    /// <summary>Whether to count instructions and traffic; the last launch's are in <see cref="EmulatorDriver.LastCounters"/>.</summary>
    public bool Counters { get; init; }

    /// <summary>Instructions that one warp may execute in a launch before it counts as a runaway.</summary>
    public long InstructionBudget { get; init; } = 200_000_000;

    /// <summary>Threads of the host that execute blocks.</summary>
    public int Workers { get; init; } = Environment.ProcessorCount;

    /// <summary>The architecture to announce, for instance <c>sm_90</c>.</summary>
    public string Architecture { get; init; } = "sm_90";

    /// <summary>Memory to announce and to allow, in bytes.</summary>
    public long TotalBytes { get; init; } = 8L << 30;

    /// <summary>Where <c>printf</c> goes.</summary>
    public TextWriter Output { get; init; } = Console.Out;
}
