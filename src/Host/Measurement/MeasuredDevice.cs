using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>A backend that is measured, at one precision: one that tells time, or one that counts.</summary>
/// <param name="backend">The backend, which is disposed with this object.</param>
/// <param name="kind">What it is called on the command line: <c>cpu</c>, <c>cuda</c> or <c>emulator</c>.</param>
/// <param name="lastCounters">What the last kernel did, for a device that counts; null for one that tells time.</param>
public sealed class MeasuredDevice(Backend backend, string kind, Func<KernelCounters>? lastCounters = null) : IDisposable
{
    /// <summary>The backend.</summary>
    public Backend Backend { get; } = backend;

    /// <summary>What it is called on the command line.</summary>
    public string Kind { get; } = kind;

    /// <summary>Whether it counts instead of telling time: its times say nothing about any device.</summary>
    public bool CountsOnly => lastCounters is not null;

    /// <summary>How it multiplies and stores.</summary>
    public Precision Precision => (Backend as GpuBackend)?.Options.Precision ?? Precision.Fp32;

    /// <summary>The precision's name in tables.</summary>
    public string PrecisionName => Precision.ToString().ToLowerInvariant();

    /// <summary>Error, relative to the norm of what the CPU computes in binary32, that one op may have.</summary>
    /// <remarks>
    /// 10 bits of fraction in tf32 and fp16, 7 in bf16, rounded once on the way in and once on the way out. In binary32 only the order of sums differs.
    /// </remarks>
    public double OpTolerance => Precision switch
    {
        Precision.Fp32 => 1e-4,
        Precision.Bf16 => Math.ScaleB(1, -6),
        _ => Math.ScaleB(1, -9),
    };

    /// <summary>
    /// The same for a whole step, pred_xstart included: four times that of an op, the root of the some sixteen blocks in a row whose roundings add up like a random walk. The demo
    /// pair's step in fp16 errs by a quarter of one op's bound.
    /// </summary>
    public double StepTolerance => Precision == Precision.Fp32 ? OpTolerance : 4 * OpTolerance;

    /// <inheritdoc/>
    public void Dispose() => Backend.Dispose();

    /// <summary>Runs a plan kernel by kernel and counts what each does.</summary>
    /// <param name="executor">The plan, on this device.</param>
    /// <param name="cancellationToken">Looked at before every kernel.</param>
    /// <returns>Every kernel with its counters, in order.</returns>
    internal IReadOnlyList<(KernelCall Call, KernelCounters Counters)> Count(Executor executor, CancellationToken cancellationToken)
    {
        List<(KernelCall, KernelCounters)> counted = [];
        ((GpuExecutor)executor).RunEach(call => counted.Add((call, lastCounters!())), cancellationToken);
        return counted;
    }

    /// <summary>Empties a GPU's cache before the plan's next launch. A CPU's stays as it is: there, what one op writes the next one mostly finds.</summary>
    /// <param name="executor">The plan.</param>
    internal static void EvictCache(Executor executor) => (executor as GpuExecutor)?.EvictCache();

    /// <summary>Kernels that a plan launches; null on the CPU.</summary>
    /// <param name="executor">The plan, on this device.</param>
    internal static IReadOnlyList<KernelCall>? KernelsOf(Executor executor) => (executor as GpuExecutor)?.Calls;

    /// <summary>Threads of the CPU backend; null on a GPU.</summary>
    internal int? Threads => (Backend as CpuBackend)?.Pool.Workers;
}
