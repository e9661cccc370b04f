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
        Node[] norms = Norms(precision);
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

    // One of each kind of the step, whatever its place.
    private static Node[] Norms(Precision precision)
    {
        StepTable table = new(new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true }), SamplerKind.Ddpm, classifierScale: 1);
        Graph step = GuidedStep.Build(Presets.Find("adm64").Model, Presets.Find("classifier64").Model, table, new SamplerSettings { ClassifierScale = 1 }, 1, 64, 64);
        using DryRunBackend backend = new(new GpuOptions { Precision = precision });
        using Executor executor = backend.Compile(backend.Plan(Rewrites.Apply(step).Step), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        IGrouping<Node, KernelCall>[] launches = [.. backend.Calls.Where(c => c.Node.Op is GroupNorm).GroupBy(c => c.Node)];
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
}
