using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

public sealed class WorkerPoolTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void Every_part_runs_once_in_every_run(int workers)
    {
        using var pool = new WorkerPool(workers);
        Assert.Equal(workers, pool.Workers);
        foreach (int parts in new[] { 0, 1, 2, 3, 17, 1000 })
        {
            var kernel = new Counting(parts, workers);
            for (int run = 1; run <= 200; run++)
            {
                pool.Run(kernel);
                Assert.All(kernel.Runs, count => Assert.Equal(run, count));
            }

            // Long enough for the workers to park, so that the next run must wake them.
            Thread.Sleep(5);
        }
    }

    [Fact]
    public void Runs_of_different_kernels_do_not_mix()
    {
        using var pool = new WorkerPool(4);
        Counting[] kernels = [new(3, 4), new(40, 4), new(7, 4)];
        for (int run = 0; run < 3000; run++)
        {
            pool.Run(kernels[run % 3]);
        }

        Assert.All(kernels, kernel => Assert.All(kernel.Runs, count => Assert.Equal(1000, count)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void An_exception_in_a_part_reaches_the_caller_and_the_pool_survives(int workers)
    {
        using var pool = new WorkerPool(workers);
        Assert.Equal("part 5", Assert.Throws<InvalidOperationException>(() => pool.Run(new Failing())).Message);
        var kernel = new Counting(20, workers);
        pool.Run(kernel);
        Assert.All(kernel.Runs, count => Assert.Equal(1, count));
    }

    [Fact]
    public void A_run_allocates_nothing()
    {
        using var pool = new WorkerPool(2);
        var kernel = new Counting(8, 2);
        pool.Run(kernel);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int run = 0; run < 100; run++)
        {
            pool.Run(kernel);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private sealed class Counting(int parts, int workers) : CpuKernel
    {
        public int[] Runs { get; } = new int[parts];

        public override int Parts => parts;

        public override void Run(int part, int worker)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)worker, (uint)workers);
            Interlocked.Increment(ref Runs[part]);
        }
    }

    private sealed class Failing : CpuKernel
    {
        public override int Parts => 8;

        public override void Run(int part, int worker)
        {
            if (part == 5)
            {
                throw new InvalidOperationException("part 5");
            }
        }
    }
}
