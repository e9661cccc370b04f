namespace Kernels.Backends.Cpu;

/// <summary>
/// One numeric kernel with every pointer bound at construction: the arena does not move, so a run allocates nothing.
/// Parts write disjoint pieces of the outputs and may run in any order on any worker; how a kernel is split never changes a result.
/// </summary>
/// <remarks>
/// Whatever runs within a kernel is compiled with all optimisations at its first call, and not from the runtime's profile: from that it would take the most frequent kernel into
/// <see cref="WorkerPool"/>, whose code then exceeds what may be inlined, and vector operations become calls. A step took twice as long in one process of three.
/// </remarks>
internal abstract unsafe class CpuKernel
{
    /// <summary>Number of independent pieces, fixed at construction.</summary>
    public abstract int Parts { get; }

    /// <summary>Computes one piece.</summary>
    /// <param name="part">The piece, in [0, <see cref="Parts"/>).</param>
    /// <param name="worker">The worker that runs it, in [0, <see cref="WorkerPool.Workers"/>): selects the scratch memory.</param>
    public abstract void Run(int part, int worker);
}
