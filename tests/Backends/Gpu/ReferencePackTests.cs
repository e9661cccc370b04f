using System.Diagnostics;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Tests.PtxEmulator;
using Kernels.Verification;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>Reference packs through the kernels, on the emulator.</summary>
public sealed class ReferencePackTests
{
    [Theory]
    [InlineData("unet-adm")]
    [InlineData("unet-float-timesteps")]
    [InlineData("unet-improved-diffusion")]
    [InlineData("unet-legacy-attention")]
    [InlineData("unet-pool-resample")]
    [InlineData("unet-rectangular")]
    [InlineData("superres")]
    [InlineData("classifier-adaptive")]
    [InlineData("classifier-attention")]
    [InlineData("classifier-spatial")]
    [InlineData("classifier-spatial-v2")]
    [InlineData("encode-ddim")]
    [InlineData("sample-ddpm-guided")]
    [InlineData("sample-ddim-guided")]
    [InlineData("sample-ddim-eta")]
    [InlineData("sample-cfg-ddim")]
    [InlineData("sample-cfg-classifier-ddpm")]
    [InlineData("sample-fixed-large")]
    [InlineData("sample-fixed-small-xstart")]
    public void Pack_verifies(string pack)
    {
        Cuda.Require();
        Checks checks = Environment.GetEnvironmentVariable("CHK") == "none" ? Checks.None : Checks.All;
        Precision precision = Enum.Parse<Precision>(Environment.GetEnvironmentVariable("PREC") ?? "Fp32");
        Stopwatch watch = Stopwatch.StartNew(); TimeSpan cpu = Process.GetCurrentProcess().TotalProcessorTime;
        using GpuBackend backend = new(new EmulatorDriver(new EmulatorOptions { Checks = checks }), new GpuOptions { Precision = precision });
        IReadOnlyList<Comparison> rows = new PackVerifier(backend).Verify(Path.Combine(AppContext.BaseDirectory, "packs", pack + ".safetensors"));
        Console.WriteLine($"PACK {precision} {checks} {pack} {watch.Elapsed.TotalSeconds:f1} s, cpu {(Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalSeconds:f1} s " + string.Join(" ", rows.Select(r => $"{r.Output}={r.RelativeL2:e2}/{r.Tolerance:e0}")));
        Assert.NotEmpty(rows);
        Assert.All(rows, row => Assert.True(row.Passed, row.ToString()));
    }
}
