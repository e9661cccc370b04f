using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Sampling;
using Xunit;

namespace Kernels.Tests.Sampling;

public sealed class ReceiptDeviceTests
{
    [Fact]
    public void A_cpu_is_its_instructions_and_vectors_not_its_threads()
    {
        using CpuBackend one = new(1), two = new(2);
        Assert.Equal(ReceiptDevice.Of(one), ReceiptDevice.Of(two) with { DisabledFusions = ReceiptDevice.Of(one).DisabledFusions });
        Assert.Equal(("cpu", Precision.Fp32), (ReceiptDevice.Of(one).Kind, ReceiptDevice.Of(one).Precision));
        ReceiptVersions versions = ReceiptVersions.Of(one);
        Assert.Equal((null, null), (versions.Driver, versions.Nvrtc));
        Assert.StartsWith(".NET ", versions.Runtime, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gpu_is_its_architecture_and_precisions()
    {
        using GpuBackend backend = new(
            new EmulatorDriver(new EmulatorOptions()),
            new GpuOptions { Precision = Precision.Fp16, Overrides = [(GuidedStep.ClassifierPrefix, Precision.Fp32)], DisabledFusions = [GpuOptions.GroupNormStatistics] });
        ReceiptDevice device = ReceiptDevice.Of(backend);
        Assert.Equal(("emulator", Precision.Fp16, Precision.Fp32), (device.Kind, device.Precision, device.ClassifierPrecision));
        Assert.StartsWith("sm_", device.Architecture, StringComparison.Ordinal);
        Assert.Equal([GpuOptions.GroupNormStatistics], device.DisabledFusions);
        Assert.Null(ReceiptVersions.Of(backend).Driver);
    }
}
