using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Ops;
using Kernels.Tests.Support;
using Xunit;
using Linear = Kernels.Ops.Linear;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>Linear layers whose matrices a library multiplies: on the emulator, where plain loops stand in for it.</summary>
public sealed class GemmTests
{
    private const int Images = 2, Tokens = 21, Depth = 48, Columns = 40;

    public static TheoryData<Precision, bool> Cases() => new(from precision in Enum.GetValues<Precision>() from gradient in new[] { false, true } select (precision, gradient));

    /// <summary>A layer with bias and residual, one without, and a gradient give what the kernel of our own gives, and take no launch of it.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void A_library_gives_what_the_kernel_of_our_own_gives(Precision precision, bool gradient)
    {
        (float[] own, string[] kernels) = Run(precision, gradient, GemmKind.Own, capture: false);
        (float[] librarys, string[] products) = Run(precision, gradient, GemmKind.Cublas, capture: false);
        Assert.Equal(2, kernels.Count(k => k == "convolution"));
        Assert.DoesNotContain("gemm", kernels);
        Assert.Equal(2, products.Count(k => k == "gemm"));
        Assert.Single(products, "epilogue");
        Assert.DoesNotContain("convolution", products);
        double tolerance = precision switch { Precision.Fp32 => 1e-6, Precision.Bf16 => Math.ScaleB(1, -6), _ => Math.ScaleB(1, -9) };
        OpHarness.Matches(Array.ConvertAll(own, v => (double)v), librarys, tolerance, "y");
    }

    [Fact]
    public void A_product_is_captured_like_a_launch() =>
        Assert.Equal(Run(Precision.Fp16, false, GemmKind.Cublas, capture: false).Y, Run(Precision.Fp16, false, GemmKind.Cublas, capture: true).Y);

    /// <summary>40 channels are whole pieces of 16 bytes, 36 are not in 16 bits; a layer over one row per image is never the library's.</summary>
    [Theory]
    [InlineData(Precision.Fp16, 40, true)]
    [InlineData(Precision.Fp16, 36, false)]
    [InlineData(Precision.Fp32, 36, true)]
    public void A_shape_that_the_library_takes_only_with_detours_stays_with_the_kernel(Precision precision, int columns, bool librarys)
    {
        GraphBuilder builder = new();
        Tensor x = builder.Add("copy", new Concat(0), builder.Input("x", [1, 8, Depth]));
        builder.Output("y", builder.Add("layer", new Linear(), x, builder.Weight("w", [columns, Depth, 1])));
        builder.Output("z", builder.Add("row", new Linear(), builder.Input("row_x", [1, Depth]), builder.Weight("v", [columns, Depth])));
        using DryRunBackend backend = new(new GpuOptions { Precision = precision, Gemm = GemmKind.Cublas });
        using Executor executor = backend.Compile(backend.Plan(builder.Build()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        Assert.Equal(librarys, backend.Calls.Single(c => c.Node.Name == "layer").Gemm is not null);
        Assert.Null(backend.Calls.Single(c => c.Node.Name == "row").Gemm);
    }

    [Fact]
    public void What_nothing_has_written_or_allocated_is_not_multiplied()
    {
        using EmulatorDriver driver = new();
        using GemmLibrary library = driver.OpenGemm();
        ulong a = driver.Allocate(64), w = driver.Allocate(64), c = driver.Allocate(64);
        driver.Fill(w, 0, 64);
        Gemm gemm = new(1, 4, 4, 4, true, DType.F32, DType.F32, Precision.Fp32, a, w, c);
        Assert.Contains("which nothing has written", Assert.Throws<DeviceException>(() => library.Multiply(gemm, 0, driver.DefaultStream)).Message, StringComparison.Ordinal);
        driver.Fill(a, 0, 64);
        library.Multiply(gemm, 0, driver.DefaultStream);
        Assert.Contains("not within one allocation", Assert.Throws<DeviceException>(() => library.Multiply(gemm with { Rows = 5 }, 0, driver.DefaultStream)).Message, StringComparison.Ordinal);
    }

    private static (float[] Y, string[] Kernels) Run(Precision precision, bool gradient, GemmKind gemm, bool capture)
    {
        GraphBuilder builder = new();
        Tensor x = builder.Add("copy", new Concat(0), builder.Input("x", [Images, Tokens, Depth])), residual = builder.Add("residual.copy", new Concat(0), builder.Input("residual", [Images, Tokens, Columns]));
        Tensor first = gradient
            ? builder.Add("first", new LinearGradient(Residual: true), x, builder.Weight("w", [Depth, Columns, 1]), residual)
            : builder.Add("first", new Linear(Bias: true, Residual: true), x, builder.Weight("w", [Columns, Depth, 1]), builder.Weight("b", [Columns]), residual);
        Tensor second = builder.Add("second", new Linear(), first, builder.Weight("v", [Depth, Columns, 1]));
        builder.Output("y", builder.Add("out", new Concat(0), second));
        Graph graph = builder.Build();
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = capture, Gemm = gemm });
        Random random = new(5);
        float[] Values(int count) => Array.ConvertAll(TestModels.Normals(random, count, 0.5, 0.1), v => (float)v);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Values(t.Shape.Elements))));
        using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(graph), weights);
        executor.Write("x", Values(Images * Tokens * Depth));
        executor.Write("residual", Values(Images * Tokens * Columns));
        executor.Run();
        return (executor.Read("y"), [.. executor.Calls.Select(c => c.Kernel.Entry)]);
    }
}
