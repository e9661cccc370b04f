using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace Kernels.Backends.Cpu;

/// <summary>
/// A fixed set of threads that run the parts of one kernel at a time. A step of a small model is some hundred kernels of tens of microseconds, so
/// idle workers spin for a moment before they park, and a run neither allocates nor takes a lock while they are awake.
/// </summary>
internal sealed class WorkerPool : IDisposable
{
    // Long enough to bridge a kernel of one part between two parallel ones, short enough that an idle pool costs nothing.
    private static readonly long SpinTicks = System.Diagnostics.Stopwatch.Frequency / 10_000;

    private readonly Thread[] _threads;
    private readonly SemaphoreSlim _wake = new(0);
    private CpuKernel? _kernel;
    private ExceptionDispatchInfo? _failure;

    // High half: the generation, one per run. Low half: the parts nobody has claimed yet. One word, so that a worker that was descheduled in an
    // earlier run can never claim a part of this one: its compare-and-swap carries the old generation.
    private long _ticket;
    private int _done;
    private int _parked;
    private bool _stop;

    /// <summary>Starts the threads.</summary>
    /// <param name="workers">Number of workers; the thread that calls <see cref="Run"/> is one of them.</param>
    public WorkerPool(int workers)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        Workers = workers;
        _threads = new Thread[workers - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int worker = i + 1;
            _threads[i] = new Thread(() => Work(worker)) { IsBackground = true, Name = $"Kernels worker {worker}" };
            _threads[i].Start();
        }
    }

    /// <summary>Number of workers, the calling thread among them.</summary>
    public int Workers { get; }

    /// <summary>Runs all parts of a kernel and returns when they are done. Only one thread may call this at a time.</summary>
    /// <param name="kernel">The kernel.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Run(CpuKernel kernel)
    {
        int parts = kernel.Parts;
        if (parts <= 1 || _threads.Length == 0)
        {
            for (int part = 0; part < parts; part++)
            {
                kernel.Run(part, 0);
            }

            return;
        }

        ObjectDisposedException.ThrowIf(_stop, this);
        _kernel = kernel;
        _done = 0;
        int generation = unchecked(Generation(_ticket) + 1);

        // A full fence: the kernel is visible before the ticket, and the ticket before the look at who is parked.
        Interlocked.Exchange(ref _ticket, ((long)generation << 32) | (uint)parts);
        WakeParked(parts - 1);
        Claim(generation, kernel, 0);
        SpinWait spin = default;
        while (Volatile.Read(ref _done) != parts)
        {
            // Yields after a few rounds, so that a worker that lost its core to another process can have ours.
            spin.SpinOnce(sleep1Threshold: -1);
        }

        _kernel = null;
        if (_failure is { } failure)
        {
            _failure = null;
            failure.Throw();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_stop)
        {
            return;
        }

        Volatile.Write(ref _stop, true);
        Interlocked.Exchange(ref _ticket, (long)unchecked(Generation(_ticket) + 1) << 32);
        WakeParked(_threads.Length);
        foreach (Thread thread in _threads)
        {
            thread.Join();
        }

        _wake.Dispose();
    }

    private static int Generation(long ticket) => (int)(ticket >> 32);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Work(int worker)
    {
        int seen = 0;
        while (true)
        {
            seen = AwaitGenerationAfter(seen);
            if (Volatile.Read(ref _stop))
            {
                return;
            }

            if (Volatile.Read(ref _kernel) is { } kernel)
            {
                Claim(seen, kernel, worker);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Claim(int generation, CpuKernel kernel, int worker)
    {
        while (true)
        {
            long ticket = Volatile.Read(ref _ticket);
            uint left = (uint)ticket;
            if (Generation(ticket) != generation || left == 0)
            {
                return;
            }

            if (Interlocked.CompareExchange(ref _ticket, ticket - 1, ticket) != ticket)
            {
                continue;
            }

            try
            {
                if (_failure is null)
                {
                    kernel.Run((int)left - 1, worker);
                }
            }
#pragma warning disable CA1031 // Whatever a part throws goes to the caller of Run; a worker thread must survive it.
            catch (Exception e)
#pragma warning restore CA1031
            {
                Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
            }

            Interlocked.Increment(ref _done);
        }
    }

    private int AwaitGenerationAfter(int seen)
    {
        while (true)
        {
            long start = System.Diagnostics.Stopwatch.GetTimestamp();
            do
            {
                for (int i = 0; i < 16; i++)
                {
                    int generation = Generation(Volatile.Read(ref _ticket));
                    if (generation != seen)
                    {
                        return generation;
                    }

                    Thread.SpinWait(4);
                }

                // Costs nothing while the core is ours alone, and hands it over when another thread wants it.
                Thread.Yield();
            }
            while (System.Diagnostics.Stopwatch.GetTimestamp() - start < SpinTicks);

            Interlocked.Increment(ref _parked);
            if (Generation(Volatile.Read(ref _ticket)) == seen || !TryUnpark())
            {
                _wake.Wait();
            }
        }
    }

    // False if Run has already counted this worker among those it wakes: then its token must be consumed.
    private bool TryUnpark()
    {
        while (true)
        {
            int parked = Volatile.Read(ref _parked);
            if (parked == 0)
            {
                return false;
            }

            if (Interlocked.CompareExchange(ref _parked, parked - 1, parked) == parked)
            {
                return true;
            }
        }
    }

    private void WakeParked(int atMost)
    {
        int count = 0;
        while (count < atMost && TryUnpark())
        {
            count++;
        }

        if (count > 0)
        {
            _wake.Release(count);
        }
    }
}
