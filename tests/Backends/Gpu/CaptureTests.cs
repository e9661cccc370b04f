using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Runtime;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>
/// A guided step as a device sees it, in the order of calls: over a stand-in for libcuda that refuses what a device refuses. Which thread calls, what is asked for while a stream captures,
/// and that the side stream comes back are nothing the emulator minds.
/// </summary>
[Collection(nameof(FakeCuda))]
public sealed class CaptureTests
{
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Fp16)]
    public void A_step_is_captured_with_launches_alone_and_runs_from_any_thread(Precision precision)
    {
        StepGraphs graphs = Rewrites.Apply(DemoPair.GuidedStep(2), tableBytes: DemoPair.TableBytesPerStep * 2);
        Weights weights = Weights.Combine([(GuidedStep.DiffusionPrefix, DemoPair.Diffusion.Weights), (GuidedStep.ClassifierPrefix, DemoPair.Classifier.Weights)]);
        StepTable table = new(new GaussianDiffusion(DemoPair.Process("4")), SamplerKind.Ddpm, classifierScale: 4);
        using IdleDevice device = new(new GpuOptions { Precision = precision }, backend => new StepExecutor(backend, graphs, weights).Dispose());
        using StepExecutor executor = new(device.Backend, graphs, weights);
        using OutputSnapshot snapshot = executor.Step.CreateSnapshot("pred_xstart");
        executor.WriteTable(table);
        executor.Step.Write("image_index", [0, 0, 1, 0]);
        executor.Step.Write("step", [0]);
        float[] x = new float[2 * 32 * 32 * 3];
        for (int step = 0; step < 4; step++)
        {
            OnAThread(() =>
            {
                executor.Run(step);
                snapshot.Take();
            });
            OnAThread(() => snapshot.Read(x));
        }

        // The step was captured last; behind it stand the tables of its second half, whose graph was there.
        int begin = FakeCuda.Calls.FindLastIndex(c => c.StartsWith("cuStreamBeginCapture", StringComparison.Ordinal));
        int end = FakeCuda.Calls.FindLastIndex(c => c.StartsWith("cuStreamEndCapture", StringComparison.Ordinal));
        Assert.All(FakeCuda.Calls[(begin + 1)..end], c => Assert.StartsWith("cuFuncSetAttribute", c, StringComparison.Ordinal));
        Assert.Equal(2, device.Graphs);
        Assert.Equal(1, FakeCuda.Capture.Forks);
        Assert.Equal(((GpuExecutor)executor.Step).Calls.Count, FakeCuda.Capture.Captured);
        OnAThread(executor.Dispose);
    }

    [Fact]
    public void What_a_device_refuses_while_it_captures_is_refused()
    {
        using (CudaDriver driver = new(FakeCuda.Load()))
        {
            using DriverStream first = driver.CreateStream(), side = driver.CreateStream();
            using DriverEvent fork = driver.CreateEvent(), join = driver.CreateEvent(), before = driver.CreateEvent();
            ulong address = driver.Allocate(4);
            driver.Record(before, first);
            driver.BeginCapture(first);
            Refused(() => driver.Synchronize(first), "cuStreamSynchronize");
            Refused(() => driver.Wait(first, before), "cuStreamWaitEvent");
            driver.Record(fork, first);
            Refused(() => driver.ElapsedMilliseconds(before, fork), "cuEventSynchronize");
            driver.Wait(side, fork);
            driver.Fill(address, 0, 4, side);
            driver.Record(join, side);
            driver.Fill(address, 0, 4, side);
            driver.Wait(first, join);

            // One fill stands behind the event.
            Refused(() => driver.EndCapture(first), "cuStreamEndCapture");

            driver.BeginCapture(first);
            driver.Record(fork, first);
            driver.Wait(side, fork);
            driver.Fill(address, 0, 4, side);
            driver.Record(join, side);
            driver.Wait(first, join);
            driver.EndCapture(first).Dispose();
            Assert.Equal((1, 1), (FakeCuda.Capture.Captured, FakeCuda.Capture.Forks));
            driver.Free(address);
        }

        Assert.Equal(0, FakeCuda.LiveHandles);

        static void Refused(Action call, string name) => Assert.Contains($"{name} failed", Assert.Throws<DeviceException>(call).Message, StringComparison.Ordinal);
    }

    /// <summary>The context of a device goes with its last driver: a thread that had it bound binds the next one's.</summary>
    [Fact]
    public void A_thread_follows_from_driver_to_driver()
    {
        new CudaDriver(FakeCuda.Load()).Dispose();
        using CudaDriver first = new(FakeCuda.Load()), second = new(FakeCuda.Load());
        ulong one = first.Allocate(4), other = second.Allocate(4);
        OnAThread(() => first.Free(one));
        first.Dispose();
        OnAThread(() => second.Free(other));
        second.Synchronize();
    }

    /// <summary>Where a device reads the host's memory as its own, a copy is waited for: the source may be reused when the call returns.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_copy_from_memory_that_the_device_reads_itself_is_waited_for(bool reads)
    {
        Kernels.Backends.Gpu.Native.LibCuda cuda = FakeCuda.Load();
        FakeCuda.ReadsPageableMemory = reads;
        using CudaDriver driver = new(cuda);
        ulong address = driver.Allocate(4);
        driver.CopyToDevice(address, [1, 2, 3, 4]);
        Assert.Equal(reads, FakeCuda.Calls.Contains("cuStreamSynchronize"));
        using DriverStream stream = driver.CreateStream();
        driver.BeginCapture(stream);
        driver.CopyToDevice(address, [1, 2, 3, 4], stream);
        driver.EndCapture(stream).Dispose();
        driver.Free(address);
    }

    /// <summary>How much shared memory a kernel may have is the kernel's, not that of whoever asked: less, asked for later, takes nothing from who asked for more.</summary>
    [Fact]
    public void A_kernel_asked_for_twice_keeps_its_shared_memory()
    {
        using CudaDriver driver = new(FakeCuda.Load("cuFuncGetParamInfo"));
        using DriverModule module = driver.LoadModule(".entry k("u8, "m.ptx");
        DriverFunction large = module.Function("k"), small = module.Function("");
        driver.Launch(large, LaunchGeometry.Linear(1, 32, 100 << 10), []);
        driver.Launch(small, LaunchGeometry.Linear(1, 32, 60 << 10), []);
        driver.Launch(large, LaunchGeometry.Linear(1, 32, 100 << 10), []);
        Assert.Single(FakeCuda.Calls, c => c.StartsWith("cuFuncSetAttribute", StringComparison.Ordinal));
    }

    private static void OnAThread(Action work)
    {
        Exception? failure = null;
        Thread thread = new(() => failure = Record.Exception(work));
        thread.Start();
        thread.Join();
        Assert.Null(failure);
    }
}
