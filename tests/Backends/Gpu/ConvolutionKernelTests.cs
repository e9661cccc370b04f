using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Tests.Ops;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The kernels of <c>convolution.cu</c> one by one: against float64 and against each other, what they move, and what they need.</summary>
public sealed class ConvolutionKernelTests
{
    private static readonly ImplicitProduct s_3x3 = new() { Images = 3, Input = (6, 7, 40), Output = (6, 7, 36), Window = (3, 3), Padding = (1, 1) };

    /// <summary>Tiles are rectangles that divide the image, and all taps read one patch of the input: 3 spans of channels.</summary>
    private static readonly ImplicitProduct s_patches = new() { Images = 2, Input = (16, 24, 96), Output = (16, 24, 36), Window = (3, 3), Padding = (1, 1) };

    /// <summary>Everything the kernel can do, at extents that divide no tile, and at extents that rectangles divide.</summary>
    private static readonly Dictionary<string, (ImplicitProduct Product, Func<ImplicitProduct, Precision, ProductRun> Create)> s_forms = new()
    {
        ["plain"] = (s_3x3, (p, precision) => new ProductRun(p, precision)),
        ["bias, residual, SiLU"] = (s_3x3, (p, precision) => new ProductRun(p, precision) { Bias = true, Residual = true, SiLU = true }),
        ["two inputs"] = (s_3x3 with { SecondChannels = 24 }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["two inputs that meet within a piece"] = (s_3x3 with { Input = (6, 7, 5), SecondChannels = 7 }, (p, precision) => new ProductRun(p, precision)),
        ["skip connection"] = (s_3x3 with { Skip = (48, 0) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["skip connection of two odd inputs"] = (s_3x3 with { Skip = (5, 6) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["residual doubled"] = (s_3x3 with { Input = (6, 8, 40), Output = (6, 8, 36) }, (p, precision) => new ProductRun(p, precision, 1) { Residual = true }),
        ["residual halved"] = (s_3x3, (p, precision) => new ProductRun(p, precision, 2) { Residual = true }),
        ["stride 2"] = (s_3x3 with { Output = (3, 4, 36), Stride = 2 }, (p, precision) => new ProductRun(p, precision)),
        ["up-sampled"] = (s_3x3 with { Output = (12, 14, 36), Upsample = true }, (p, precision) => new ProductRun(p, precision)),
        ["gradient of stride 2"] = (
            s_3x3 with { Input = (3, 4, 40), Output = (6, 7, 36), Spread = 2, Turned = true }, (p, precision) => new ProductRun(p, precision) { Residual = true }),
        ["from RGB"] = (s_3x3 with { Input = (6, 7, 3) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["to RGB"] = (s_3x3 with { Output = (6, 7, 3) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["patches"] = (s_patches, (p, precision) => new ProductRun(p, precision) { Bias = true, Residual = true, SiLU = true }),
        ["patches of two inputs"] = (s_patches with { Input = (16, 24, 64), SecondChannels = 32 }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["patches and a skip connection"] = (s_patches with { Skip = (48, 0) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["patches and a skip connection of two odd inputs"] = (s_patches with { Skip = (5, 6) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["patches of an up-sampled input"] = (s_patches with { Input = (8, 12, 32), Upsample = true }, (p, precision) => new ProductRun(p, precision)),
        ["patches of a gradient, without padding"] = (s_patches with { Input = (18, 26, 32), Padding = (0, 0), Turned = true }, (p, precision) => new ProductRun(p, precision) { Residual = true }),
        ["patches, to RGB"] = (s_patches with { Output = (16, 24, 3) }, (p, precision) => new ProductRun(p, precision) { Bias = true }),
        ["1x1"] = (s_3x3 with { Window = (1, 1), Padding = (0, 0) }, (p, precision) => new ProductRun(p, precision)),
    };

    public static TheoryData<string, Precision> Forms()
    {
        TheoryData<string, Precision> data = [];
        foreach (string form in s_forms.Keys)
        {
            // What bf16 and tf32 have of their own is how products are formed, whatever the form.
            foreach (Precision precision in form is "plain" or "patches" or "skip connection" or "from RGB" ? Enum.GetValues<Precision>() : [Precision.Fp32, Precision.Fp16])
            {
                data.Add(form, precision);
            }
        }

        return data;
    }

    public static TheoryData<Precision, int> Tiles()
    {
        TheoryData<Precision, int> data = [];
        foreach (Precision precision in new[] { Precision.Fp32, Precision.Tf32, Precision.Fp16 })
        {
            // Tf32 has the tiles of the 16-bit types and no more registers in small ones than in large ones.
            for (int tile = 0; tile < (precision == Precision.Tf32 ? 3 : TilesOf(precision).Count); tile++)
            {
                data.Add(precision, tile);
            }
        }

        return data;
    }

    /// <summary>The specification and the tiled kernel hold against float64; in binary32 they agree to the bit, summing in the same order.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void Both_kernels_equal_float64(string form, Precision precision)
    {
        using CountedRun run = new();
        Assert.Equal(form.StartsWith("patches", StringComparison.Ordinal), s_forms[form].Product.Tile(precision, ProductRun.SharedBytes).Width > 0);
        ProductRun product = s_forms[form].Create(s_forms[form].Product, precision);
        double[] expected = product.Expected();
        float[] naive = product.Naive(run), tiled = product.Tiled(run).Y;

        // Operands are exact in every precision here, so that 16 bits show in the result alone: half a unit of 11 and of 8 bits.
        double tolerance = precision switch { Precision.Fp16 => Math.ScaleB(1, -11), Precision.Bf16 => Math.ScaleB(1, -8), _ => 1e-6 };
        OpHarness.Matches(expected, naive, tolerance, $"{form}, naive");
        OpHarness.Matches(expected, tiled, tolerance, $"{form}, tiled");
        if (precision == Precision.Fp32)
        {
            Assert.Equal(naive, tiled);
        }
    }

    /// <summary>Whatever the tile, sums are formed in the same order: every tile gives the same bits.</summary>
    [Theory]
    [MemberData(nameof(Tiles))]
    public void Every_tile_gives_the_same_bits(Precision precision, int tile)
    {
        using CountedRun run = new();
        ProductRun product = new(s_3x3 with { Output = (6, 7, 100) }, precision) { Bias = true };
        float[] expected = product.Tiled(run, TilesOf(precision)[0]).Y;
        OpHarness.Matches(product.Expected(), expected, precision == Precision.Fp16 ? Math.ScaleB(1, -11) : 1e-6, "the first tile");
        Assert.Equal(expected, product.Tiled(run, TilesOf(precision)[tile]).Y);

        // Rectangles have an order of their own, in spans of channels.
        ProductRun patches = new(s_patches with { Input = (16, 32, 64), Output = (16, 32, 100) }, precision) { Bias = true };
        float[] first = patches.Tiled(run, Rectangle(0)).Y;
        OpHarness.Matches(patches.Expected(), first, precision == Precision.Fp16 ? Math.ScaleB(1, -11) : 1e-6, "the first rectangle");
        Assert.Equal(first, patches.Tiled(run, Rectangle(tile)).Y);

        ConvolutionTile Rectangle(int index) => TilesOf(precision)[index].AsRectangle((16, 32), (3, 3))!.Value;
    }

    /// <summary>A rectangle is the one with the least input for its taps that divides the image; there is none where none does, or where windows do not overlap.</summary>
    [Fact]
    public void Rectangles_divide_the_image()
    {
        ConvolutionTile tile = TilesOf(Precision.Fp16)[0];
        Assert.Equal((16, 10 * 18), Extents(tile.AsRectangle((64, 64), (3, 3))));
        Assert.Equal((8, 18 * 10), Extents(tile.AsRectangle((16, 24), (3, 3))));
        Assert.Equal((32, 6 * 34), Extents(tile.AsRectangle((4, 32), (3, 3))));
        Assert.Null(tile.AsRectangle((8, 8), (3, 3)));
        Assert.Null(tile.AsRectangle((64, 60), (3, 3)));
        Assert.Null(tile.AsRectangle((64, 64), (1, 1)));
        Assert.Equal(0, s_patches.Tile(Precision.Fp16, ProductRun.SharedBytes, converts: true).Width);
        foreach (ImplicitProduct product in new[] { s_patches with { Stride = 2 }, s_patches with { Spread = 2 }, s_patches with { SecondChannels = 8 } })
        {
            Assert.Equal(0, product.Tile(Precision.Fp16, ProductRun.SharedBytes).Width);
        }

        static (int Width, int Pixels) Extents(ConvolutionTile? rectangle) => (rectangle!.Value.Width, rectangle.Value.PatchPixels);
    }

    /// <summary>Mean and sum of squares about it, of the values as stored, per image, tile and channel.</summary>
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Fp16)]
    public void Statistics_are_those_of_what_is_stored(Precision precision)
    {
        using CountedRun run = new();
        ImplicitProduct product = s_3x3 with { Input = (11, 7, 40), Output = (11, 7, 36) };
        ConvolutionTile tile = TilesOf(precision).First(t => t.Pixels == 64);
        (float[] y, _, float[] partials) = new ProductRun(product, precision) { Bias = true, Statistics = true }.Tiled(run, tile);
        for (int n = 0; n < 3; n++)
        {
            for (int t = 0; t < 2; t++)
            {
                for (int o = 0; o < 36; o++)
                {
                    // 77 pixels: a whole tile of 64 and one of 13.
                    double[] values = [.. Enumerable.Range(64 * t, t == 0 ? 64 : 13).Select(m => (double)y[(((n * 77) + m) * 36) + o])];
                    double mean = values.Average(), squares = values.Sum(v => (v - mean) * (v - mean));
                    int at = 2 * ((((n * 2) + t) * 36) + o);
                    Assert.Equal(mean, partials[at], 1e-5);
                    Assert.Equal(squares, partials[at + 1], 1e-5 * squares);
                }
            }
        }
    }

    /// <summary>As for runs of pixels; tiles are counted row by row.</summary>
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Fp16)]
    public void Statistics_of_rectangles_are_those_of_what_is_stored(Precision precision)
    {
        using CountedRun run = new();
        ConvolutionTile tile = TilesOf(precision).First(t => t.Pixels == 64).AsRectangle((16, 24), (3, 3))!.Value;
        Assert.Equal(8, tile.Width);
        (float[] y, _, float[] partials) = new ProductRun(s_patches, precision) { Bias = true, Statistics = true }.Tiled(run, tile);
        for (int at = 0; at < partials.Length / 2; at++)
        {
            (int o, int t, int n) = (at % 36, at / 36 % 6, at / 36 / 6);
            double[] values = [.. Enumerable.Range(0, 64).Select(m => (double)y[(((((n * 16) + (t / 3 * 8) + (m / 8)) * 24) + (t % 3 * 8) + (m % 8)) * 36) + o])];
            double mean = values.Average(), squares = values.Sum(v => (v - mean) * (v - mean));
            Assert.Equal(mean, partials[2 * at], 1e-5);
            Assert.Equal(squares, partials[(2 * at) + 1], 1e-5 * squares);
        }
    }

    /// <summary>
    /// Traffic of a 3x3 convolution as the 64x64 model has it. A block asks for its pixels and those around them that are not padding, once, and for its rows of weights; all of it as whole
    /// sectors, and no two threads meet in a bank.
    /// </summary>
    [Theory]
    [InlineData(Precision.Fp16, 64, 192)]
    [InlineData(Precision.Fp16, 32, 384)]
    [InlineData(Precision.Fp16, 8, 768)]
    [InlineData(Precision.Tf32, 16, 192)]
    [InlineData(Precision.Fp32, 16, 192)]
    public void Traffic_is_what_the_tiling_says(Precision precision, int size, int channels)
    {
        using CountedRun run = new();
        ImplicitProduct product = new() { Images = 1, Input = (size, size, channels), Output = (size, size, channels), Window = (3, 3), Padding = (1, 1) };
        ConvolutionTile tile = product.Tile(precision, ProductRun.SharedBytes);
        LaunchCounters counters = new ProductRun(product, precision) { Bias = true }.Tiled(run).Counters;
        long element = precision.Storage().SizeInBytes(), across = (size * size) / tile.Pixels, along = channels / tile.Channels;
        Assert.Equal((across * tile.Pixels, along * tile.Channels), (size * size, channels));

        // Every tile reads a row above, below, left and right of its own, but at the borders of the image.
        int height = tile.Pixels / tile.Width, rows = size + (2 * ((size / height) - 1)), columns = size + (2 * ((size / tile.Width) - 1));
        long x = along * rows * columns * channels * element;
        long w = across * channels * 9 * channels * element;
        long bias = (long)size * size * channels * sizeof(float);
        Assert.Equal(x + w + bias, counters.GlobalReadBytes);
        Assert.Equal((long)size * size * channels * element, counters.GlobalWrittenBytes);
        Assert.Equal(0, counters.SharedExtraWavefronts);
        Assert.True(counters.CoalescingEfficiency >= 0.95, $"{counters.CoalescingEfficiency:P1} of the bytes moved were asked for");
        long operations = 2L * size * size * channels * 9 * channels;
        Assert.Equal(precision == Precision.Fp32 ? 0 : operations, counters.TensorFlops);
        if (precision == Precision.Fp32)
        {
            Assert.InRange(counters.Flops, operations, operations * 1.001);
        }
    }

    /// <summary>No architecture runs out of registers for any tile that is shipped.</summary>
    [Theory]
    [MemberData(nameof(Tiles))]
    public void No_tile_spills(Precision precision, int tile)
    {
        string[] architectures = ["sm_80", "sm_86", "sm_89", "sm_90"];
        PtxEmulator.Cuda.RequireMachineCode(architectures);
        ImplicitProduct product = new() { Images = 1, Input = (64, 64, 192), SecondChannels = 192, Output = (64, 64, 192), Window = (3, 3), Padding = (1, 1) };
        DType type = precision.Storage();
        KernelSources sources = KernelSources.Open();
        ConvolutionTile run = TilesOf(precision)[tile];
        IEnumerable<KernelSpec> kernels = new[] { run, run.AsRectangle((64, 64), (3, 3))!.Value }.Select(t => new KernelSpec(
            "convolution.cu",
            "convolution",
            [
                ("X", type), ("Y", type), ("R", type), .. product.Constants(precision, t),
                ("BIAS", true), ("RESIDUAL", true), ("RESAMPLE", 0), ("SILU", false), ("STATISTICS", true),
                ("GROUPS", 32), ("EPSILON", 1e-5f), ("OTHER", 384), ("OTHER_TILES", 64), ("OTHER_ROWS", 64), ("OTHER_FIRST", true),
            ]));
        foreach ((KernelSpec kernel, string architecture) in kernels.SelectMany(k => architectures.Select(a => (k, a))))
        {
            CompiledKernels compiled = KernelCompiler.Compile(sources.Text(kernel.File), kernel.File, architecture, kernel.Options.Split('\n'), sources.Headers);
            KernelResources resources = compiled.Resources.Single(r => r.Name == kernel.Entry);
            Assert.Equal((0, 0, 0), (resources.SpillStoreBytes, resources.SpillLoadBytes, resources.StackBytes));
        }
    }

    private static IReadOnlyList<ConvolutionTile> TilesOf(Precision precision) => precision == Precision.Fp32 ? ConvolutionTile.OrdinaryCores : ConvolutionTile.TensorCores;
}
