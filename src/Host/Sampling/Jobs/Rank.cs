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

    /// <summary>The GPU that this process takes where none is named.</summary>
    /// <param name="local">Which of the processes on this machine it is, if something tells.</param>
    /// <param name="devices">How many GPUs it sees. Who sees one has been given it by the launcher.</param>
    public static int GpuOf(int? local, int devices) => devices > 1 ? local ?? 0 : 0;

    /// <summary>What told.</summary>
    public string? Source { get; init; }
}
