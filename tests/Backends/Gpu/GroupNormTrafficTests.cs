using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;
using GroupNorm = Kernels.Ops.GroupNorm;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>What the group-norms of a guided step of the published 64x64 models move, each at its own shape behind small convolutions.</summary>
public sealed class GroupNormTrafficTests
{
    /// <summary>Every norm is one launch that reads x, of one tensor or two, once and writes y once: least bytes, and a tenth for parameters, statistics and sectors.</summary>
    [Theory]
    [InlineData(Precision.Fp16)]
    [InlineData(Precision.Fp32)]
    public void No_norm_moves_more_than_a_tenth_beyond_the_least(Precision precision)
    {
        Node[] norms = Norms<GroupNorm>(precision);
        Assert.Contains(norms, n => n.Op is GroupNorm { TwoInputs: true } && n.Inputs[0].Shape[1] == 64);
        using CountedRun run = new(precision);

        // In binary32 the largest ones: the others differ in nothing but the size of an element.
        foreach (Node norm in norms.Where(n => precision == Precision.Fp16 || n.Inputs[0].Shape[1] == 64))
        {
            OpRun ran = Count(run, norm);
            LaunchCounters counters = ran.Counters[0];
            int size = precision.Storage().SizeInBytes();
            GroupNorm op = (GroupNorm)norm.Op;
            long x = norm.Inputs[0].Shape.Elements + (op.TwoInputs ? norm.Inputs[op.SecondInput].Shape.Elements : 0), least = size * (x + norm.Output.Shape.Elements);
            long moved = 32 * (counters.GlobalReadSectors + counters.GlobalWrittenSectors);
            Assert.True(moved <= 1.1 * least, $"{norm.Name} {norm.Inputs[0].Shape}, {op}, {ran.Calls[0].Kernel.Entry}: {(double)moved / least:f3} times the least bytes");
        }
    }

    /// <summary>
    /// Every gradient of a norm is one launch too, and reads dy, x and what it adds once: where groups do not fit into registers, as at 64x64, the convolution behind left the means.
    /// </summary>
    [Theory]
    [InlineData(Precision.Fp16)]
    [InlineData(Precision.Fp32)]
    public void No_gradient_moves_more_than_a_tenth_beyond_the_least(Precision precision)
    {
        Node[] gradients = Norms<GroupNormGradient>(precision);
        Assert.Contains(gradients, n => n.Op is GroupNormGradient { Pool: true } && n.Output.Shape[1] == 64);
        Assert.Contains(gradients, n => n.Op is GroupNormGradient { Pool: false } && n.Output.Shape[1] == 64);
        using CountedRun run = new(precision);
        foreach (Node gradient in gradients.Where(n => precision == Precision.Fp16 || n.Output.Shape[1] == 64))
        {
            OpRun ran = CountGradient(run, gradient);
            LaunchCounters counters = ran.Counters[0];
            GroupNormGradient op = (GroupNormGradient)gradient.Op;
            long elements = gradient.Inputs[0].Shape.Elements + gradient.Inputs[1].Shape.Elements + gradient.Output.Shape.Elements;
            long least = precision.Storage().SizeInBytes() * (elements + (op.Residual ? gradient.Inputs[op.ResidualInput].Shape.Elements : 0));
            long moved = 32 * (counters.GlobalReadSectors + counters.GlobalWrittenSectors);
            Assert.True(moved <= 1.1 * least, $"{gradient.Name} {gradient.Output.Shape}, {op}, {ran.Calls[0].Kernel.Entry}: {(double)moved / least:f3} times the least bytes");
        }
    }

    // One of each kind of the step, whatever its place.
    private static Node[] Norms<TOp>(Precision precision)
    {
        StepTable table = new(new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true }), SamplerKind.Ddpm, classifierScale: 1);
        Graph step = GuidedStep.Build(Presets.Find("adm64").Model, Presets.Find("classifier64").Model, table, new SamplerSettings { ClassifierScale = 1 }, 1, 64, 64);
        using DryRunBackend backend = new(new GpuOptions { Precision = precision, DisabledFusions = [GpuOptions.GroupNormPrologue] });
        using Executor executor = backend.Compile(backend.Plan(Rewrites.Apply(step).Step), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        IGrouping<Node, KernelCall>[] launches = [.. backend.Calls.Where(c => c.Node.Op is TOp).GroupBy(c => c.Node)];
        Assert.NotEmpty(launches);
        Assert.All(launches, node => Assert.Single(node));
        return [.. launches.DistinctBy(node => node.Single().Kernel).Select(node => node.Key)];
    }

    private static OpRun Count(CountedRun run, Node norm)
    {
        GroupNorm op = (GroupNorm)norm.Op;
        GraphBuilder builder = new();
        Tensor small = builder.Add("small", new Concat(0), builder.Input("x", norm.Inputs[0].Shape.With(-1, 8)));
        Tensor[] inputs = [.. norm.Inputs.Select((t, i) => t.Shape.Rank == 4 ? Produced(t.Shape[-1], i) : t.Kind == TensorKind.Weight ? builder.Weight($"w{i}", t.Shape) : builder.Input($"x{i}", t.Shape))];
        Node node = builder.AddNode("norm", op, inputs);
        builder.Output("y", builder.Add("out", new Concat(0), node.Output));
        return run.Single(builder.Build(), "norm");

        Tensor Produced(int channels, int i) => builder.Add(
            $"layer{i}", new Kernels.Ops.Convolution(1, 0), small, builder.Weight($"layer{i}.w", [channels, 8, 1, 1]));
    }

    private static OpRun CountGradient(CountedRun run, Node gradient)
    {
        GroupNormGradient op = (GroupNormGradient)gradient.Op;
        GraphBuilder builder = new();
        Shape shape = gradient.Inputs[0].Shape;
        Tensor[] inputs =
        [
            .. gradient.Inputs.Skip(1).Select((t, i) => t.Kind == TensorKind.Weight ? builder.Weight($"w{i}", t.Shape) : t.Shape.Rank == 4 ? Stored(builder.Input($"x{i}", t.Shape)) : builder.Input($"x{i}", t.Shape)),
        ];
        Tensor small = Stored(builder.Input("x", shape.With(-1, 8)));
        Tensor dy = builder.Add("layer", new ConvolutionGradient(1, 0, shape[1], shape[2]), small, builder.Weight("layer.w", [8, shape[3], 1, 1]));
        builder.Output("dx", builder.Add("out", new Concat(0), builder.Add("norm", op, [dy, .. inputs])));
        return run.Single(builder.Build(), "norm");

        Tensor Stored(Tensor input) => builder.Add($"{input.Name}.copy", new Concat(0), input);
    }
}
