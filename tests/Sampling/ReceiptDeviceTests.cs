using System.Text.Json.Nodes;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Imaging;
using Kernels.Sampling;
using Kernels.Tests.Files;
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
        Assert.Null(ReceiptDevice.Of(one).KernelsSha256);
        Assert.Null(ReceiptDevice.Of(one).Gemm);
        ReceiptVersions versions = ReceiptVersions.Of(one);
        Assert.Equal((null, null), (versions.Driver, versions.Nvrtc));
        Assert.StartsWith(".NET ", versions.Runtime, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gpu_is_its_architecture_and_precisions()
    {
        using GpuBackend backend = new(
            new EmulatorDriver(new EmulatorOptions()),
            new GpuOptions { Precision = Precision.Fp16, Overrides = [(GuidedStep.ClassifierPrefix, Precision.Fp32)], DisabledFusions = [GpuOptions.GroupNormStatistics], Gemm = GemmKind.Cublas });
        ReceiptDevice device = ReceiptDevice.Of(backend);
        Assert.Equal(("emulator", Precision.Fp16, Precision.Fp32), (device.Kind, device.Precision, device.ClassifierPrecision));
        Assert.StartsWith("sm_", device.Architecture, StringComparison.Ordinal);
        Assert.Equal([GpuOptions.GroupNormStatistics], device.DisabledFusions);
        Assert.Equal(GemmKind.Cublas, device.Gemm);
        Assert.Equal(KernelSources.BuiltIn.Sha256, device.KernelsSha256);
        Assert.Null(ReceiptVersions.Of(backend).Driver);
    }

    [Fact]
    public void Kernels_of_other_sources_are_told_with_the_remedy_and_are_another_job()
    {
        using DemoSampler demo = new(steps: 2, backend: new GpuBackend(new EmulatorDriver(new EmulatorOptions())));
        SampleRequest request = DemoSampler.Request(1, 1);
        Receipt same = new() { Job = JobIdentity.Of(demo.Sampler, request), Images = new ReceiptImages(0, 1, 32, 32, 3), PixelsSha256 = "" };
        Receipt With(string? kernels) => same with { Job = same.Job with { Device = same.Job.Device with { KernelsSha256 = kernels } } };
        Assert.Empty(Reproduction.Circumstances(same, demo.Sampler));

        IReadOnlyList<string> other = Reproduction.Circumstances(With("0123"), demo.Sampler);
        Assert.Equal($"device.kernels_sha256 is \"0123\" in the receipt and \"{KernelSources.BuiltIn.Sha256}\" now", other[0]);
        Assert.Equal("the kernels of the library are not those that made the images; --kernels-dir FOLDER runs those of a folder", Assert.Single(other.Skip(1)));
        Assert.NotEqual(new JobSettings(same.Job, same.Images).Sha256, new JobSettings(With("0123").Job, same.Images).Sha256);

        // Of a version that did not record them.
        Assert.Contains("kernels_sha256 is absent in the receipt", Assert.Single(Reproduction.Circumstances(With(null), demo.Sampler)), StringComparison.Ordinal);

        // On the CPU another folder would help nobody.
        using DemoSampler cpu = new(steps: 2);
        Assert.DoesNotContain(Reproduction.Circumstances(same, cpu.Sampler), line => line.Contains("--kernels-dir", StringComparison.Ordinal));
    }

    [Fact]
    public void A_receipt_without_the_kernels_is_read()
    {
        using DemoSampler demo = new(steps: 2, backend: new GpuBackend(new EmulatorDriver(new EmulatorOptions())));
        Receipt receipt = new() { Job = JobIdentity.Of(demo.Sampler, DemoSampler.Request(1, 1)), Images = new ReceiptImages(0, 1, 32, 32, 3), PixelsSha256 = "" };
        JsonNode json = JsonNode.Parse(ReceiptFile.TextOf(receipt)[ReceiptFile.Keyword])!;
        Assert.True(json["job"]!["device"]!.AsObject().Remove("kernels_sha256"));
        using TemporaryFolder folder = new();
        Png.Save(folder["old.png"], new Image(32, 32, 3, new byte[3072]) { Text = new Dictionary<string, string> { [ReceiptFile.Keyword] = json.ToJsonString() } });
        Assert.Null(ReceiptFile.Read(folder["old.png"], out _).Job.Device.KernelsSha256);
    }
}
