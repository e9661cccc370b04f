using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>Whatever streams do beside each other is ordered: jobs in all their turns, over a driver that finds what is not.</summary>
public sealed class StreamOrderTests
{
    private const string Ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) { ret; }";

    [Fact]
    public void What_nothing_orders_is_found()
    {
        using OrderedDriver driver = new(new EmulatorDriver());
        using DriverModule module = driver.LoadModule(System.Text.Encoding.UTF8.GetBytes(Ptx), "k.ptx");
        DriverFunction kernel = module.Function("k");
        using DriverStream stream = driver.CreateStream(), side = driver.CreateStream();
        using DriverEvent done = driver.CreateEvent();
        ulong memory = driver.Allocate(64);
        byte[] bytes = new byte[16];
        void Launch(DriverStream on) => driver.Launch(kernel, LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(memory + 8).Bytes, on);
        static void Found(Action call, string what) => Assert.Contains(what, Assert.Throws<InvalidOperationException>(call).Message, StringComparison.Ordinal);

        driver.Fill(memory, 0, 64);
        Found(() => Launch(stream), "nothing orders k, bytes 0 to 64, behind a fill");
        driver.Synchronize();
        Launch(stream);
        Found(() => driver.CopyToHost(bytes, memory), "nothing orders a read by the host, bytes 0 to 16, behind k");

        // An event orders, but only what stands before it.
        driver.Record(done, stream);
        driver.Wait(side, done);
        driver.Copy(memory, memory + 32, 16, side);
        Found(() => driver.CopyToDevice(memory, bytes, stream), "behind a copy to it, bytes 0 to 16");
        driver.CopyToDevice(memory + 16, bytes, stream);
        driver.CopyToHost(bytes, memory + 32, side);
        driver.CopyToDevice(memory, bytes, stream);

        // A graph uses what its kernels use.
        driver.BeginCapture(stream);
        Launch(stream);
        using DriverGraph graph = driver.EndCapture(stream);
        driver.Launch(graph, stream);
        Found(() => driver.Fill(memory + 63, 1, 1, side), "behind a graph");
        driver.Record(done, stream);
        driver.ElapsedMilliseconds(done, done);
        driver.Fill(memory + 63, 1, 1, side);
        driver.Free(memory);
    }

    /// <summary>Tables made anew, guidance that begins in the middle, a history, noise and previews of every step, and another job behind it.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_job_leaves_nothing_open(bool capture)
    {
        Cuda.Require();
        DiffusionConfig process = new() { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = "4" };
        SamplerSettings settings = new() { Sampler = SamplerKind.DpmSolverPlusPlus2M, ClassifierScale = 2, GuidanceStart = 1 };
        using GpuBackend backend = new(new OrderedDriver(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None })), new GpuOptions { Precision = Precision.Fp16, Capture = capture });
        using DiffusionSampler sampler = new(backend, PresetModels.Random(TestModels.UNet()), process, PresetModels.Random(TestModels.Classifier("attention")), settings) { TableBytes = 1 };
        float[] x = new float[2 * sampler.ImageElements];
        int steps = 0;
        for (int job = 0; job < 2; job++)
        {
            sampler.Sample(
                new SampleBatch { Count = 2, Labels = [1, 9], Seed = 5 },
                result =>
                {
                    result.ReadX(x);
                    result.ReadPredXstart(x);
                    steps++;
                },
                TestContext.Current.CancellationToken);
        }

        Assert.Equal(8, steps);
    }
}
