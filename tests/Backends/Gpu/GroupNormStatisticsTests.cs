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
        (float[] apart, string[] others) = Run(precision, linear, batch: 2, GpuOptions.GroupNormStatistics);
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

    public static TheoryData<Precision, bool> TwoTensors() => new(
        from precision in new[] { Precision.Fp32, Precision.Fp16 } from laterFirst in new[] { false, true } select (precision, laterFirst));

    /// <summary>
    /// A norm of two tensors, one group of which lies in both, whichever of them is written first: the launch that writes the second knows both. The first is also read by a norm of its own.
    /// </summary>
    [Theory]
    [MemberData(nameof(TwoTensors))]
    public void A_norm_of_two_tensors_takes_its_statistics_from_both_epilogues(Precision precision, bool laterFirst)
    {
        (float[] fused, string[] kernels) = RunTwo(precision, laterFirst, batch: 2);
        (float[] apart, string[] others) = RunTwo(precision, laterFirst, batch: 2, GpuOptions.GroupNormStatistics);
        Assert.Equal(2, kernels.Count(k => k.StartsWith("group_norm", StringComparison.Ordinal)));
        Assert.All(kernels.Where(k => k.StartsWith("group_norm", StringComparison.Ordinal)), k => Assert.StartsWith("group_norm_apply", k, StringComparison.Ordinal));
        string second = Assert.Single(kernels, k => k.Contains("OTHER=", StringComparison.Ordinal));
        Assert.Contains("-DOTHER=36 -DOTHER_TILES=", second, StringComparison.Ordinal);
        Assert.Contains($"-DOTHER_FIRST={(laterFirst ? 0 : 1)}", second, StringComparison.Ordinal);
        Assert.DoesNotContain(others, k => k.Contains("STATISTICS=1", StringComparison.Ordinal));
        double error = Math.Sqrt(fused.Zip(apart, (f, a) => Math.Pow(f - a, 2)).Sum() / apart.Sum(a => (double)a * a));
        Assert.True(error < (precision == Precision.Fp32 ? 1e-6 : 1e-4), $"relative error {error:e2}");
    }

    /// <summary>An image has the same bits alone and among others.</summary>
    [Theory]
    [MemberData(nameof(TwoTensors))]
    public void A_norm_of_two_tensors_does_not_depend_on_the_batch(Precision precision, bool laterFirst)
    {
        float[] one = RunTwo(precision, laterFirst, batch: 1).Y;
        float[] three = RunTwo(precision, laterFirst, batch: 3).Y;
        Assert.Equal(one, three[..one.Length]);
        Assert.Equal(one, three[^one.Length..]);
    }

    /// <summary>
    /// What stands before two parts that run side by side leaves statistics for a norm of one of them: nothing of the other is written over them, though its nodes stand behind that norm.
    /// </summary>
    [Fact]
    public void Statistics_that_one_part_reads_are_not_the_others_memory()
    {
        const int C = 32;
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [1, 8, 8, C]), stem = Convolution("stem", builder.Add("copy", new Concat(0), x));
        Tensor side = builder.Add("side_act", new Activation(ActivationKind.SiLU), Norm("side", stem)), main = builder.Add("main", new Activation(ActivationKind.SiLU), stem);
        for (int i = 0; i < 3; i++)
        {
            main = Norm($"main{i}", Convolution($"main{i}_conv", main));
        }

        builder.Output("y", builder.Add("sum", new Add(), side, main));
        using DryRunBackend backend = new(new GpuOptions { DisabledFusions = [GpuOptions.GroupNormPrologue] });
        Plan plan = backend.Plan(builder.Build());
        Assert.Contains(plan.Concurrency!.Side, n => n.Name == "side");
        Assert.True(plan.Graph.Nodes.Index().Single(n => n.Item.Name == "stem").Index < plan.Concurrency.Fork);
        backend.Compile(plan, Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        Dictionary<string, ulong> statistics = backend.Calls.Where(c => c.Kernel.Entry == "convolution").ToDictionary(c => c.Node.Name, c => BitConverter.ToUInt64(c.Arguments.Span[(11 * sizeof(ulong))..]));
        Assert.Equal(4, statistics.Count);
        Assert.DoesNotContain(statistics["stem"], statistics.Where(s => s.Key != "stem").Select(s => s.Value));

        // The main part itself takes the same memory twice.
        Assert.Equal(statistics["main0_conv"], statistics["main1_conv"]);

        Tensor Convolution(string name, Tensor input) => builder.Add(name, new Kernels.Ops.Convolution(1, 1), input, builder.Weight($"{name}.w", [C, C, 3, 3]));
        Tensor Norm(string name, Tensor input) => builder.Add(name, new Kernels.Ops.GroupNorm(SiLU: false), input, builder.Weight($"{name}.gamma", [C]), builder.Weight($"{name}.beta", [C]));
    }

    // 36 channels beside 28 make eight groups of 8, the fifth of which has four channels of either. 7x9 pixels fill no tile.
    private static (float[] Y, string[] Kernels) RunTwo(Precision precision, bool laterFirst, int batch, params string[] disabled)
    {
        const int A = 36, B = 28, C = A + B;
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [batch, 7, 9, 16]), copy = builder.Add("copy", new Concat(0), x);
        Tensor a = builder.Add("a", new Kernels.Ops.Convolution(1, 1, Bias: true), copy, builder.Weight("aw", [A, 16, 3, 3]), builder.Weight("ab", [A]));
        Tensor alone = builder.Add("alone", new Kernels.Ops.GroupNorm(4), a, builder.Weight("agamma", [A]), builder.Weight("abeta", [A]));
        Tensor b = builder.Add("b", new Kernels.Ops.Convolution(1, 0, Bias: true), alone, builder.Weight("bw", [B, A, 1, 1]), builder.Weight("bb", [B]));
        (Tensor first, Tensor second) = laterFirst ? (b, a) : (a, b);
        Tensor z = builder.Add("norm", new Kernels.Ops.GroupNorm(8, SiLU: true, TwoInputs: true), first, builder.Weight("gamma", [C]), builder.Weight("beta", [C]), second);
        builder.Output("y", builder.Add("out", new Concat(0), z));
        return Run(builder.Build(), precision, 7 * 9 * 16, batch, disabled);
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
        return Run(builder.Build(), precision, 7 * 9 * C, batch, disabled);
    }

    private static (float[] Y, string[] Kernels) Run(Graph graph, Precision precision, int elements, int batch, string[] disabled)
    {
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = false, DisabledFusions = disabled });
        Random random = new(3);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Floats(random, t.Shape.Elements, 0.2, 1))));
        using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(graph), weights);
        float[] image = Floats(random, elements, 1, 0);
        executor.Write("x", [.. Enumerable.Repeat(image, batch).SelectMany(v => v)]);
        executor.Run();
        return (executor.Read("y"), [.. executor.Calls.Select(c => c.Kernel.ToString())]);
    }

    private static float[] Floats(Random random, int count, double scale, double offset) =>
        Array.ConvertAll(TestModels.Normals(random, count, scale, offset), v => (float)v);
}
