using Kernels.Backends.Gpu;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The fusion <c>group_norm_statistics</c> between a convolution, or a linear layer, and the norm behind it.</summary>
public sealed class GroupNormStatisticsTests
{
    public static TheoryData<Precision, bool> Cases() => new(
        from precision in new[] { Precision.Fp32, Precision.Fp16 } from linear in new[] { false, true } select (precision, linear));

    /// <summary>The norm no longer reads its input for the statistics, and gives what it gives without the fusion, to rounding.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void A_norm_takes_its_statistics_from_the_epilogue(Precision precision, bool linear)
    {
        (float[] fused, string[] kernels) = Run(precision, linear, batch: 2);
        (float[] apart, string[] others) = Run(precision, linear, batch: 2, ChannelStatistics.Fusion);
        Assert.Contains(kernels, k => k.Contains("STATISTICS=1", StringComparison.Ordinal) && k.Contains("convolution", StringComparison.Ordinal));
        Assert.DoesNotContain(kernels, k => k.StartsWith("group_norm_partials", StringComparison.Ordinal) || k.StartsWith("group_norm_fused", StringComparison.Ordinal));
        Assert.DoesNotContain(others, k => k.Contains("STATISTICS=1", StringComparison.Ordinal));
        double error = Math.Sqrt(fused.Zip(apart, (f, a) => Math.Pow(f - a, 2)).Sum() / apart.Sum(a => (double)a * a));
        Assert.True(error < (precision == Precision.Fp32 ? 1e-6 : 1e-4), $"relative error {error:e2}");
    }

    /// <summary>An image has the same bits alone, and wherever it stands among others.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void An_image_does_not_depend_on_the_batch(Precision precision, bool linear)
    {
        float[] one = Run(precision, linear, batch: 1).Y;
        float[] three = Run(precision, linear, batch: 3).Y;
        for (int n = 0; n < 3; n++)
        {
            Assert.Equal(one, three[(n * one.Length)..((n + 1) * one.Length)]);
        }
    }

    // All images are the same one. 7x9 pixels fill no tile.
    private static (float[] Y, string[] Kernels) Run(Precision precision, bool linear, int batch, params string[] disabled)
    {
        const int C = 64;
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [batch, 7, 9, C]), copy = builder.Add("copy", new Concat(0), x);
        Tensor y = linear
            ? builder.Add("layer", new Kernels.Ops.Linear(Bias: true), copy, builder.Weight("w", [C, C, 1]), builder.Weight("b", [C]))
            : builder.Add("layer", new Kernels.Ops.Convolution(1, 1, Bias: true), copy, builder.Weight("w", [C, C, 3, 3]), builder.Weight("b", [C]));
        Tensor z = builder.Add("norm", new Kernels.Ops.GroupNorm(SiLU: true), y, builder.Weight("gamma", [C]), builder.Weight("beta", [C]));
        builder.Output("y", builder.Add("out", new Concat(0), z));
        Graph graph = builder.Build();
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = false, DisabledFusions = disabled });
        Random random = new(3);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Floats(random, t.Shape.Elements, 0.2, 1))));
        using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(graph), weights);
        float[] image = Floats(random, 7 * 9 * C, 1, 0);
        executor.Write("x", [.. Enumerable.Repeat(image, batch).SelectMany(v => v)]);
        executor.Run();
        return (executor.Read("y"), [.. executor.Calls.Select(c => c.Kernel.ToString())]);
    }

    private static float[] Floats(Random random, int count, double scale, double offset) =>
        Array.ConvertAll(TestModels.Normals(random, count, scale, offset), v => (float)v);
}
