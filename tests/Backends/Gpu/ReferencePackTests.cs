using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Tests.Support;
using Kernels.Verification;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>Reference packs through the kernels, captured and replayed on the emulator: the proof that what a GPU is handed computes what the original PyTorch code does.</summary>
/// <remarks>
/// All of it takes 230 processor seconds where nothing is compiled yet: about half of that are the packs in binary32, with every check; the rest, which runs the same kernels at other
/// precisions or every op on its own, does without checks.
/// </remarks>
public sealed class ReferencePackTests
{
    // What PyTorch 1.13 errs at these packs, relative L2: `python3 bench/peers/half.py tests/packs`, its columns fp16 and bf16. It converts what guided-diffusion's convert_to_fp16 converts.
    private static readonly Dictionary<string, (string Output, double Fp16, double Bf16)[]> s_pytorch = new()
    {
        ["unet-adm"] = [("out", 2.02e-3, 1.70e-2)],
        ["unet-float-timesteps"] = [("out", 1.91e-3, 1.64e-2)],
        ["unet-improved-diffusion"] = [("out", 1.46e-3, 1.29e-2)],
        ["unet-legacy-attention"] = [("out", 1.32e-3, 1.08e-2)],
        ["unet-pool-resample"] = [("out", 1.48e-3, 1.28e-2)],
        ["unet-rectangular"] = [("out", 1.78e-3, 1.53e-2)],
        ["superres"] = [("out", 1.81e-3, 1.42e-2)],
        ["classifier-adaptive"] = [("logits", 3.58e-4, 1.91e-3), ("log_probs", 6.83e-5, 3.66e-4), ("grad", 3.16e-3, 2.74e-2)],
        ["classifier-attention"] = [("logits", 5.98e-4, 4.31e-3), ("log_probs", 1.23e-4, 8.49e-4), ("grad", 4.21e-3, 3.36e-2)],
        ["classifier-spatial-v2"] = [("logits", 3.49e-4, 3.37e-3), ("log_probs", 9.09e-5, 7.82e-4), ("grad", 2.92e-3, 2.48e-2)],

        // A rectifier flips: the gradient of one image takes another course, at either precision and there as here.
        ["classifier-spatial"] = [("logits", 8.85e-4, 5.07e-3), ("log_probs", 1.46e-4, 8.15e-4), ("grad", 5.29e-2, 5.50e-2)],
        ["sample-ddpm-guided"] = [("sample", 1.51e-3, 1.32e-2), ("trajectory", 9.07e-4, 9.42e-3), ("pred_xstart", 1.59e-3, 2.46e-2)],
        ["sample-cfg-ddim"] = [("sample", 5.65e-3, 4.11e-2), ("trajectory", 3.40e-3, 2.42e-2), ("pred_xstart", 6.52e-3, 4.69e-2)],
        ["sample-ddim-eta"] = [("sample", 2.01e-3, 1.38e-2), ("trajectory", 1.18e-3, 7.93e-3), ("pred_xstart", 8.28e-3, 3.09e-2)],
        ["sample-ddim-guided"] = [("sample", 1.38e-3, 1.28e-2), ("trajectory", 9.43e-4, 8.65e-3), ("pred_xstart", 1.72e-3, 1.53e-2)],
        ["sample-fixed-large"] = [("sample", 1.18e-2, 3.38e-2), ("trajectory", 8.36e-3, 2.26e-2), ("pred_xstart", 2.36e-2, 5.85e-2)],
        ["sample-fixed-small-xstart"] = [("sample", 3.35e-2, 3.16e-1), ("trajectory", 1.10e-2, 1.02e-1), ("pred_xstart", 1.27e-2, 1.18e-1)],
        ["encode-ddim"] = [("latent", 6.24e-3, 4.36e-2), ("trajectory", 2.54e-3, 1.96e-2)],
        ["sample-cfg-classifier-ddpm"] = [("sample", 7.64e-2, 9.44e-2), ("trajectory", 5.21e-2, 6.69e-2), ("pred_xstart", 7.88e-2, 1.12e-1)],
    };

    public static TheoryData<string> Packs =>
        [.. Directory.GetFiles(Folder, "*.safetensors").Select(p => Path.GetFileNameWithoutExtension(p)).Where(p => p.Split('-')[0] is "unet" or "superres" or "classifier" or "sample" or "encode").Order()];

    public static TheoryData<string, Precision> HalfPrecision
    {
        get
        {
            TheoryData<string, Precision> data = [];
            foreach (string pack in s_pytorch.Keys)
            {
                data.Add(pack, Precision.Fp16);
                data.Add(pack, Precision.Bf16);
            }

            return data;
        }
    }

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "packs");

    [Fact]
    public void All_packs_with_models_are_there_but_the_demo_pairs_which_take_minutes() => Assert.Equal(19, Packs.Count);

    [Theory]
    [MemberData(nameof(Packs))]
    public void Pack_verifies(string pack) => Passes(Verify(pack, Precision.Fp32, Checks.All, []));

    // Every op runs with all checks in its own tests.
    [Theory]
    [InlineData("unet-adm")]
    [InlineData("unet-improved-diffusion")]
    [InlineData("classifier-attention")]
    [InlineData("sample-ddim-eta")]
    public void Pack_verifies_unfused(string pack) => Passes(Verify(pack, Precision.Fp32, Checks.None, ["all"]));

    [Theory]
    [MemberData(nameof(HalfPrecision))]
    public void Half_precision_errs_at_most_twice_what_PyTorch_does(string pack, Precision precision)
    {
        IReadOnlyList<Comparison> rows = Verify(pack, precision, Checks.None, []);
        Assert.Equal(s_pytorch[pack].Length, rows.Count);
        Assert.All(s_pytorch[pack], limit =>
        {
            double allowed = 2 * (precision == Precision.Fp16 ? limit.Fp16 : limit.Bf16), error = rows.Single(r => r.Output == limit.Output).RelativeL2;
            Assert.True(error <= allowed, $"{pack}, {precision}: {limit.Output} errs by {error:e2}, allowed are {allowed:e2}");
        });
    }

    // tf32 products round like fp16's, to 10 bits of fraction, and everything else is binary32.
    [Theory]
    [InlineData("unet-adm")]
    [InlineData("classifier-adaptive")]
    public void Tf32_errs_at_most_what_fp16_does_in_PyTorch(string pack)
    {
        IReadOnlyList<Comparison> rows = Verify(pack, Precision.Tf32, Checks.None, []);
        Assert.All(s_pytorch[pack], limit => Assert.InRange(rows.Single(r => r.Output == limit.Output).RelativeL2, 0, limit.Fp16));
    }

    private static IReadOnlyList<Comparison> Verify(string pack, Precision precision, Checks checks, string[] disabledFusions)
    {
        using GpuBackend backend = new(DriverUnderTest.Open(new EmulatorOptions { Checks = checks }), new GpuOptions { Precision = precision });
        return new PackVerifier(backend, disabledFusions).Verify(Path.Combine(Folder, pack + ".safetensors"), cancellationToken: TestContext.Current.CancellationToken);
    }

    private static void Passes(IReadOnlyList<Comparison> rows)
    {
        Assert.NotEmpty(rows);
        Assert.All(rows, row => Assert.True(row.Passed, row.ToString()));
    }
}
