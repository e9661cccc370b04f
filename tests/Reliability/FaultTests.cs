using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Sampling;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Reliability;

/// <summary>A device that fails at any call: the failure is told in its own words, nothing is left behind, and afterwards everything works.</summary>
public sealed class FaultTests
{
    private static readonly Model s_unet = PresetModels.Random(TestModels.UNet() with { ModelChannels = 32, ChannelMult = [1], AttentionResolutions = [1] });
    private static readonly DiffusionConfig s_process = new() { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = "2" };
    private static readonly SampleBatch s_batch = new() { Count = 1, Labels = [3], Seed = 5 };

    // The calls that a first batch makes, one after the other, with the step captured and without. Snapshots are taken, so that their memory is there to fail too.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Any_call_may_fail(bool capture)
    {
        Cuda.Require();
        FaultingDriver driver = new(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None }));
        using GpuBackend backend = new(driver, new GpuOptions { Capture = capture });
        float[] expected = Run(backend);
        (int, int, int) alive = driver.Alive;
        Assert.Equal((0, 0, 0), alive);
        driver.Calls.Clear();
        Assert.Equal(expected, Run(backend));
        Dictionary<DriverCalls, int> calls = new(driver.Calls);
        Assert.True(calls[DriverCalls.Allocate] > 20 && calls[DriverCalls.Launch] > 20 && calls[DriverCalls.Create] > 2);

        // A copy or launch that fails has all before it emulated first: of those, one in some.
        foreach ((DriverCalls kind, int stride) in new[] { (DriverCalls.Allocate, 1), (DriverCalls.Create, 1), (DriverCalls.Capture, 1), (DriverCalls.Copy, 5), (DriverCalls.Launch, 17) })
        {
            for (int call = 1; call <= calls.GetValueOrDefault(kind); call += stride)
            {
                driver.Fail(kind, call);
                DeviceException e = Assert.Throws<DeviceException>(() => Run(backend));
                Assert.EndsWith("failed on purpose", e.Message, StringComparison.Ordinal);
                Assert.True(driver.Alive == alive && !driver.IsCapturing, $"{kind} {call}, {e.Message}: {driver.Alive} are left, capturing: {driver.IsCapturing}");
                driver.Heal();
            }

            Assert.Equal(expected, Run(backend));
        }
    }

    [Fact]
    public void A_module_that_does_not_load_is_loaded_later()
    {
        Cuda.Require();
        FaultingDriver driver = new(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None }));
        using GpuBackend backend = new(driver, new GpuOptions { Capture = false });
        for (int call = 1; call <= 3; call++)
        {
            driver.Fail(DriverCalls.Load, 1);
            Assert.EndsWith("failed on purpose", Assert.Throws<DeviceException>(() => Run(backend)).Message, StringComparison.Ordinal);
            Assert.Equal((0, 0, 0), driver.Alive);
            driver.Fail(DriverCalls.Load, 2);
            Assert.Throws<DeviceException>(() => Run(backend));
        }

        driver.Heal();
        Assert.Equal(192, Run(backend).Length);
    }

    // The same sampler goes on after a failure within a batch.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_sampler_survives_a_failed_launch(bool capture)
    {
        Cuda.Require();
        FaultingDriver driver = new(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None }));
        using GpuBackend backend = new(driver, new GpuOptions { Capture = capture });
        float[] expected = Run(backend);
        driver.Calls.Clear();
        Run(backend);
        int launches = driver.Calls[DriverCalls.Launch];
        using DiffusionSampler sampler = Sampler(backend);
        for (int launch = 1; launch <= launches; launch += 23)
        {
            driver.Fail(DriverCalls.Launch, launch);
            if (Record.Exception(() => sampler.Sample(s_batch)) is not DeviceException { Fault: DeviceFault.Failed })
            {
                // Once captured, a batch makes fewer launches.
                Assert.True(capture && launch > 1);
                break;
            }

            driver.Heal();
            Assert.Equal(expected, sampler.Sample(s_batch));
        }
    }

    [Fact]
    public async Task A_lost_device_poisons_the_sampler_visibly_and_too_little_memory_does_not()
    {
        Cuda.Require();
        string diffusion = Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");
        SamplerOptions options = new() { Diffusion = new ModelSource(diffusion) { Overrides = new ModelOverrides { TimestepRespacing = "2" } } };
        SampleRequest request = new() { Count = 1, Classes = [1] };
        FaultingDriver driver = new(new EmulatorDriver(new EmulatorOptions { Checks = Checks.None }));
        using GpuBackend backend = new(driver, new GpuOptions { Capture = false });
        using Kernels.Sampling.Sampler sampler = Kernels.Sampling.Sampler.Load(options, backend);
        driver.Fail(DriverCalls.Allocate, 5, DeviceFault.OutOfMemory);
        Assert.Equal(DeviceFault.OutOfMemory, Assert.Throws<DeviceException>(() => sampler.Prepare(1)).Fault);
        Assert.Equal(SamplerHealth.Ready, sampler.Health);
        sampler.Prepare(1);
        driver.Fail(DriverCalls.Launch, 3, DeviceFault.Lost);
        DeviceException e = Assert.Throws<DeviceException>(() => sampler.Sample(request, 0, 1));
        Assert.Equal((DeviceFault.Lost, SamplerHealth.Lost, false), (e.Fault, sampler.Health, sampler.IsBusy));
        driver.Heal();

        // No call reaches the device any more.
        driver.Calls.Clear();
        DeviceException again = Assert.Throws<DeviceException>(() => sampler.Sample(request, 0, 1));
        Assert.Contains("start a new process", again.Message, StringComparison.Ordinal);
        Assert.Contains("failed on purpose", again.Message, StringComparison.Ordinal);
        Assert.Throws<DeviceException>(() => sampler.Prepare(1));
        await Assert.ThrowsAsync<DeviceException>(async () =>
        {
            await foreach (SampleEvent _ in sampler.SampleAsync(request, cancellationToken: TestContext.Current.CancellationToken))
            {
                Assert.Fail("a lost device samples nothing");
            }
        });
        Assert.Empty(driver.Calls);
    }

    private static DiffusionSampler Sampler(GpuBackend backend) => new(backend, s_unet, s_process, null, new SamplerSettings());

    private static float[] Run(GpuBackend backend)
    {
        using DiffusionSampler sampler = Sampler(backend);
        float[] x = new float[sampler.ImageElements];
        return sampler.Sample(s_batch with { KeepSteps = true }, result => result.ReadX(x), TestContext.Current.CancellationToken);
    }
}
