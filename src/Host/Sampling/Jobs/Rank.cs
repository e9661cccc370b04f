namespace Kernels.Sampling;

/// <summary>Which of the processes of a job this one is.</summary>
/// <param name="Index">From 0.</param>
/// <param name="World">Number of processes.</param>
public sealed record Rank(int Index, int World)
{
    /// <summary>The only process.</summary>
    public static Rank Single { get; } = new(0, 1);

    /// <summary>Which of the processes on this machine it is, where something tells: it takes the GPU of this number.</summary>
    public int? Local { get; init; }

    /// <summary>What told.</summary>
    public string? Source { get; init; }
}
