namespace Kernels.Measurement;

/// <summary>What kernels did, counted by a device that counts instead of telling time: the PTX emulator. Sums over all threads.</summary>
public sealed record KernelCounters
{
    /// <summary>Instructions executed by threads.</summary>
    public long Instructions { get; init; }

    /// <summary>Floating-point operations outside the tensor cores, a fused multiply-add counting two.</summary>
    public long Flops { get; init; }

    /// <summary>Operations of the tensor cores, a multiply-add counting two.</summary>
    public long TensorFlops { get; init; }

    /// <summary>Bytes of global memory that threads asked to read or write.</summary>
    public long BytesAsked { get; init; }

    /// <summary>32-byte sectors of global memory read or written, each counted once per warp access.</summary>
    public long Sectors { get; init; }

    /// <summary>Different bytes read plus different bytes written by each kernel: the least traffic that any schedule of it needs.</summary>
    public long LeastBytes { get; init; }

    /// <summary>Wavefronts of shared memory beyond the fewest possible.</summary>
    public long BankConflicts { get; init; }

    /// <summary>Bytes that the sectors amount to: what moves between the multiprocessors and the second-level cache.</summary>
    public long BytesMoved => 32 * Sectors;

    /// <summary>Adds what two kernels did.</summary>
    /// <param name="left">One.</param>
    /// <param name="right">The other.</param>
    public static KernelCounters operator +(KernelCounters left, KernelCounters right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        return new KernelCounters
        {
            Instructions = left.Instructions + right.Instructions,
            Flops = left.Flops + right.Flops,
            TensorFlops = left.TensorFlops + right.TensorFlops,
            BytesAsked = left.BytesAsked + right.BytesAsked,
            Sectors = left.Sectors + right.Sectors,
            LeastBytes = left.LeastBytes + right.LeastBytes,
            BankConflicts = left.BankConflicts + right.BankConflicts,
        };
    }

    /// <summary>Adds what two kernels did.</summary>
    /// <param name="left">One.</param>
    /// <param name="right">The other.</param>
    public static KernelCounters Add(KernelCounters left, KernelCounters right) => left + right;

    /// <summary>Adds what many kernels did.</summary>
    /// <param name="counters">One entry per kernel.</param>
    public static KernelCounters Sum(IEnumerable<KernelCounters> counters) => counters.Aggregate(new KernelCounters(), Add);
}
