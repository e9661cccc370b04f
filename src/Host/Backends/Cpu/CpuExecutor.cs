using System.Diagnostics;
using Kernels.Runtime;

namespace Kernels.Backends.Cpu;

/// <summary>A plan bound to an arena: the kernels in order, every pointer resolved.</summary>
internal sealed unsafe class CpuExecutor : Executor
{
    private readonly CpuBackend _backend;
    private readonly NativeBuffer _arena;
    private readonly CpuKernel[] _kernels;

    // _ends[i]: the kernels of launches 0 to i.
    private readonly int[] _ends;

    public CpuExecutor(CpuBackend backend, Plan plan, Weights weights)
    {
        _backend = backend;
        Plan = plan;
        try
        {
            _arena = new NativeBuffer((nint)(plan.Memory.ArenaBytes / sizeof(float)));
        }
        catch (OutOfMemoryException e)
        {
            throw new DeviceException($"the arena of {plan.Memory.ArenaBytes} bytes does not fit this machine's memory; take a smaller batch", e) { Fault = DeviceFault.OutOfMemory };
        }

        try
        {
            CpuLowering lowering = new(backend, plan, weights, _arena);
            _ends = new int[plan.Launches.Count];
            foreach (Launch launch in plan.Launches)
            {
                lowering.Lower(launch.Node);
                _ends[launch.Index] = lowering.Kernels.Count;
            }

            _kernels = [.. lowering.Kernels];
        }
        catch
        {
            _arena.Dispose();
            throw;
        }
    }

    public override Plan Plan { get; }

    /// <summary>The arena, for tests that poison it.</summary>
    internal Span<float> Arena => new(_arena.Pointer, (int)_arena.Length);

    public override void Run(CancellationToken cancellationToken = default)
    {
        lock (_backend.Gate)
        {
            // The kernels hold bare pointers: without the arena they must not run, and while they run nothing they point to may be finalized.
            _ = _arena.Pointer;
            foreach (CpuKernel kernel in _kernels)
            {
                cancellationToken.ThrowIfCancellationRequested();
                _backend.Pool.Run(kernel);
            }

            GC.KeepAlive(this);
        }
    }

    protected internal override double TimeLaunch(int launch)
    {
        lock (_backend.Gate)
        {
            _ = _arena.Pointer;
            long start = Stopwatch.GetTimestamp();
            for (int kernel = launch == 0 ? 0 : _ends[launch - 1]; kernel < _ends[launch]; kernel++)
            {
                _backend.Pool.Run(_kernels[kernel]);
            }

            double milliseconds = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            GC.KeepAlive(this);
            return milliseconds;
        }
    }

    protected override void WriteCore(Tensor tensor, ReadOnlySpan<byte> bytes) => bytes.CopyTo(Bytes(tensor));

    protected override void ReadCore(Tensor tensor, Span<byte> bytes) => Bytes(tensor).CopyTo(bytes);

    protected override void TransferCore(Tensor output, Executor destination, Tensor input)
    {
        if (destination is CpuExecutor cpu)
        {
            Bytes(output).CopyTo(cpu.Bytes(input));
        }
        else
        {
            base.TransferCore(output, destination, input);
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _arena.Dispose();
        }
    }

    private Span<byte> Bytes(Tensor tensor) => new((byte*)_arena.Pointer + Plan.Memory.Offsets[tensor], (int)tensor.Bytes);
}
