using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The fusion <c>group_norm_gradient_statistics</c> between the gradient of a convolution and that of the group-norm in front of it.</summary>
public sealed class GradientStatisticsTests
{
    // Groups of 12 channels of 66x64 pixels fit into no block's registers, and the pixels into no whole number of tiles.
    private const int Height = 66, Width = 64, Channels = 24, Groups = 2, Behind = 8;

    public static TheoryData<Precision, GroupNormGradient> Cases() => new(
        from precision in Enum.GetValues<Precision>()
        from op in new[]
        {
            new GroupNormGradient(Groups), new GroupNormGradient(Groups, SiLU: true), new GroupNormGradient(Groups, ScaleShift: true, SiLU: true, Residual: true),
            new GroupNormGradient(Groups, SiLU: true, Pool: true, Residual: true, ResidualPool: true),
        }
        select (precision, op));

    /// <summary>The gradient is one launch, and gives what it gives without the fusion, to rounding.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void A_gradient_takes_its_means_from_the_epilogue(Precision precision, GroupNormGradient op)
    {
        (float[] fused, KernelCall[] calls) = Run(precision, op, batch: 2);
        (float[] apart, KernelCall[] others) = Run(precision, op, batch: 2, GpuOptions.GroupNormGradientStatistics);
        Assert.Equal("group_norm_backward_apply", Assert.Single(calls, c => c.Node.Op is GroupNormGradient).Kernel.Entry);
        Assert.Contains("-DNORM_GRADIENT=1 ", Assert.Single(calls, c => c.Node.Op is ConvolutionGradient).Kernel.ToString(), StringComparison.Ordinal);
        Assert.Equal(["group_norm_backward_partials", "group_norm_backward_apply"], others.Where(c => c.Node.Op is GroupNormGradient).Select(c => c.Kernel.Entry));
        Assert.DoesNotContain(others, c => c.Kernel.ToString().Contains("NORM_GRADIENT", StringComparison.Ordinal));
        double error = Math.Sqrt(fused.Zip(apart, (f, a) => Math.Pow(f - a, 2)).Sum() / apart.Sum(a => (double)a * a));
        Assert.True(error < (precision.Storage() == DType.F32 ? 1e-6 : 1e-4), $"relative error {error:e2}");
    }

    /// <summary>An image has the same bits alone, and wherever it stands among others.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void An_image_does_not_depend_on_the_batch(Precision precision, GroupNormGradient op)
    {
        float[] one = Run(precision, op, batch: 1).Dx, three = Run(precision, op, batch: 3).Dx;
        for (int n = 0; n < 3; n++)
        {
            Assert.Equal(one, three[(n * one.Length)..((n + 1) * one.Length)]);
        }
    }

    /// <summary>A backend that fuses otherwise runs on the same device, in turns with the one it was made from, and takes nothing along when it goes.</summary>
    [Fact]
    public void A_backend_that_fuses_otherwise_shares_device_and_weights()
    {
        Graph graph = Graph(new GroupNormGradient(Groups, SiLU: true), 1);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Floats(new Random(4), t.Shape.Elements, 0.2, 0.5))));
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Capture = false });
        using GpuExecutor fused = (GpuExecutor)backend.Compile(backend.Plan(graph), weights);
        float[] before = Read(fused), apart;
        using (GpuBackend without = backend.With(backend.Options with { DisabledFusions = [GpuOptions.GroupNormGradientStatistics] }))
        using (GpuExecutor executor = (GpuExecutor)without.Compile(without.Plan(graph), weights))
        {
            Assert.Equal(fused.Calls.Count + 1, executor.Calls.Count);
            apart = Read(executor);
            Assert.Equal(before, Read(fused));
        }

        Assert.Equal(before, Read(fused));
        Assert.Equal(before.Length, before.Zip(apart).Count(pair => Math.Abs(pair.First - pair.Second) <= 1e-4));

        static float[] Read(GpuExecutor executor)
        {
            Random random = new(5);
            foreach (Tensor input in executor.Plan.Graph.Inputs)
            {
                executor.Write(input.Name, Floats(random, input.Shape.Elements, input.Name == "statistics" ? 0.1 : 1, input.Name == "statistics" ? 1 : 0.3));
            }

            executor.Run();
            return executor.Read("dx");
        }
    }

    /// <summary>A strided convolution's gradient is made of classes of pixels, not of runs of them, and leaves nothing.</summary>
    [Fact]
    public void Tiles_that_are_no_runs_of_pixels_leave_no_means()
    {
        GraphBuilder builder = new();
        GroupNormGradient op = new(Groups);
        Tensor[] inputs = Inputs(builder, op, 1);
        Tensor behind = builder.Input("dy", [1, Height / 2, Width / 2, Behind]);
        Tensor dy = builder.Add("layer", new ConvolutionGradient(2, 1, Height, Width), behind, builder.Weight("w", [Behind, Channels, 3, 3]));
        builder.Output("dx", builder.Add("norm", op, [dy, .. inputs]));
        KernelCall[] calls = Run(builder.Build(), Precision.Fp32, 1, []).Calls;
        Assert.Equal(2, calls.Count(c => c.Node.Op is GroupNormGradient));
    }

    /// <summary>
    /// Beyond what it reads anyway the convolution reads the norm's x once; mean, 1/σ, γ and β, 16 bytes, for each of the 32 channels of a tile of 64 pixels, 24 of which there are; and
    /// at last a pair of sums per tile and channel.
    /// </summary>
    [Fact]
    public void The_convolution_reads_x_once()
    {
        using CountedRun run = new(Precision.Fp16);
        GroupNormGradient op = new(Groups, SiLU: true);
        const long X = Height * Width * Channels * 2, Tiles = Height * Width / 64;
        Assert.Equal(X + (Tiles * 32 * 16) + (Tiles * Channels * 8), Reads(op) - Reads(null));

        long Reads(GroupNormGradient? norm) => run.Single(Graph(norm, batch: 1), "layer").Counters[0].GlobalReadBytes;
    }

    private static Graph Graph(GroupNormGradient? op, int batch)
    {
        (int h, int w) = op?.Pool == true ? (Height / 2, Width / 2) : (Height, Width);
        GraphBuilder builder = new();
        Tensor[] inputs = op is null ? [] : Inputs(builder, op, batch);
        Tensor behind = builder.Add("behind", new Concat(0), builder.Input("dy", [batch, h, w, Behind]));
        Tensor dy = builder.Add("layer", new ConvolutionGradient(1, 1, h, w), behind, builder.Weight("w", [Behind, Channels, 3, 3]));
        builder.Output("dx", builder.Add("out", new Concat(0), op is null ? dy : builder.Add("norm", op, [dy, .. inputs])));
        return builder.Build();
    }

    // What the gradient reads beside dy. The forward pass has left it before any gradient is computed.
    private static Tensor[] Inputs(GraphBuilder builder, GroupNormGradient op, int batch)
    {
        List<Tensor> inputs =
        [
            Stored("x", [batch, Height, Width, Channels]), builder.Input("statistics", [batch, Groups, 2]), builder.Weight("gamma", [Channels]),
        ];
        if (op.HasForwardParameters)
        {
            inputs.Add(builder.Weight("beta", [Channels]));
        }

        if (op.ScaleShift)
        {
            inputs.Add(Stored("modulation", [batch, 2 * Channels]));
        }

        if (op.Residual)
        {
            inputs.Add(Stored("residual", op.ResidualPool ? [batch, Height / 2, Width / 2, Channels] : [batch, Height, Width, Channels]));
        }

        return [.. inputs];

        Tensor Stored(string name, Shape shape) => builder.Add($"{name}.copy", new Concat(0), builder.Input(name, shape));
    }

    private static (float[] Dx, KernelCall[] Calls) Run(Precision precision, GroupNormGradient op, int batch, params string[] disabled) =>
        Run(Graph(op, batch), precision, batch, disabled);

    // All images are the same one; 1/σ is positive, as it is.
    private static (float[] Dx, KernelCall[] Calls) Run(Graph graph, Precision precision, int batch, string[] disabled)
    {
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = false, DisabledFusions = disabled });
        Random random = new(4);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Floats(random, t.Shape.Elements, 0.2, 0.5))));
        using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(graph), weights);
        foreach (Tensor input in graph.Inputs)
        {
            float[] image = Floats(random, input.Shape.Elements / batch, input.Name == "statistics" ? 0.1 : 1, input.Name == "statistics" ? 1 : 0.3);
            executor.Write(input.Name, [.. Enumerable.Repeat(image, batch).SelectMany(v => v)]);
        }

        executor.Run();
        return (executor.Read(graph.Outputs.Keys.Single()), [.. executor.Calls]);
    }

    private static float[] Floats(Random random, int count, double scale, double offset) =>
        Array.ConvertAll(TestModels.Normals(random, count, scale, offset), v => (float)v);
}
