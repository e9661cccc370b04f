namespace Kernels.Backends.Cpu;

/// <summary>
/// One numeric kernel with every pointer bound at construction: the arena does not move, so a run allocates nothing.
/// Parts write disjoint pieces of the outputs and may run in any order on any worker; how a kernel is split never changes a result.
/// </summary>
internal abstract unsafe class CpuKernel
{
    /// <summary>Number of independent pieces, fixed at construction.</summary>
    public abstract int Parts { get; }

    /// <summary>Computes one piece.</summary>
    /// <param name="part">The piece, in [0, <see cref="Parts"/>).</param>
    /// <param name="worker">The worker that runs it, in [0, <see cref="WorkerPool.Workers"/>): selects the scratch memory.</param>
    public abstract void Run(int part, int worker);
}
