using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;
using Convolution = Kernels.Ops.Convolution;
using GroupNorm = Kernels.Ops.GroupNorm;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>The fusion <c>group_norm_prologue</c>: a convolution that normalises its input where it brings it in.</summary>
public sealed class NormPrologueTests
{
    private const int Size = 64, Channels = 64, Second = 32, Outputs = 64;

    /// <summary>What may stand in front and behind: the norm, its second tensor, the end of a residual block.</summary>
    public enum Form
    {
        /// <summary>The norm alone.</summary>
        Plain,

        /// <summary>Scale, shift and SiLU.</summary>
        Modulated,

        /// <summary>Of two tensors, a group of which lies in both.</summary>
        TwoTensors,

        /// <summary>The last convolution of a block that changes its channels.</summary>
        Skip,

        /// <summary>A convolution that reads the result up-sampled.</summary>
        Upsampled,

        /// <summary>A residual, over which the result may be written, and which is what the norm reads.</summary>
        Residual,
    }

    public static TheoryData<Precision, Form> Cases() => new(from precision in Enum.GetValues<Precision>() from form in Enum.GetValues<Form>() select (precision, form));

    /// <summary>With and without the fusion an image has the same bits, and so have the statistics that a gradient reads; the norm is no launch of its own.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void A_norm_in_the_prologue_gives_the_bits_of_a_norm_by_itself(Precision precision, Form form)
    {
        (float[][] fused, KernelCall[] calls) = Run(precision, form, batch: 2);
        (float[][] apart, KernelCall[] others) = Run(precision, form, batch: 2, GpuOptions.GroupNormPrologue);
        Assert.Equal(apart[0], fused[0]);
        Assert.Equal(apart[1], fused[1]);
        Assert.DoesNotContain(calls, c => c.Kernel.Entry.StartsWith("group_norm", StringComparison.Ordinal));
        Assert.Contains("-DNORM_INPUT=", Assert.Single(calls, c => c.Node.Name == "out").Kernel.ToString(), StringComparison.Ordinal);
        Assert.Equal("group_norm_apply", Assert.Single(others, c => c.Node.Op is GroupNorm).Kernel.Entry);
        Assert.DoesNotContain(others, c => c.Kernel.ToString().Contains("NORM_INPUT", StringComparison.Ordinal));
    }

    /// <summary>An image has the same bits alone, and wherever it stands among others.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void An_image_does_not_depend_on_the_batch(Precision precision, Form form)
    {
        float[][] one = Run(precision, form, batch: 1).Outputs, three = Run(precision, form, batch: 3).Outputs;
        for (int n = 0; n < 3; n++)
        {
            Assert.All(one.Zip(three), pair => Assert.Equal(pair.First, pair.Second[(n * pair.First.Length)..((n + 1) * pair.First.Length)]));
        }
    }

    /// <summary>Where no convolution left the statistics, a launch in front makes them.</summary>
    [Fact]
    public void Statistics_that_nobody_left_are_a_launch()
    {
        (float[][] fused, KernelCall[] calls) = Run(Precision.Fp16, Form.Modulated, 2, GpuOptions.GroupNormStatistics);
        Assert.Equal(["group_norm_partials", "convolution"], calls.Where(c => c.Node.Name == "out").Select(c => c.Kernel.Entry));
        float[][] left = Run(Precision.Fp16, Form.Modulated, 2).Outputs;
        double error = Math.Sqrt(left[0].Zip(fused[0], (l, f) => Math.Pow(l - f, 2)).Sum() / left[0].Sum(l => (double)l * l));
        Assert.True(error < 1e-4, $"relative error {error:e2}");
    }

    /// <summary>A norm stays by itself where others read its result, or its statistics earlier, where it pools, and where tiles are too small for the work to vanish in them.</summary>
    [Theory]
    [InlineData("read twice")]
    [InlineData("statistics read earlier")]
    [InlineData("statistics asked for")]
    [InlineData("another precision")]
    [InlineData("pooled")]
    [InlineData("small tiles")]
    [InlineData("1x1")]
    [InlineData("odd channels")]
    public void A_norm_stays_by_itself(string why)
    {
        GraphBuilder builder = new();
        int channels = why switch { "odd channels" => 40, "small tiles" => 768, _ => Channels }, size = why == "small tiles" ? 8 : Size;
        Tensor x = builder.Add("copy", new Concat(0), builder.Input("x", [1, size, size, channels]));
        Node norm = builder.AddNode("norm", new GroupNorm(4, Pool: why == "pooled"), x, builder.Weight("gamma", [channels]), builder.Weight("beta", [channels]));
        Tensor z = norm.Output;
        if (why.StartsWith("statistics", StringComparison.Ordinal))
        {
            builder.Output("statistics", why == "statistics asked for" ? norm.Outputs[1] : builder.Add("kept", new Concat(0), norm.Outputs[1]));
        }

        int window = why == "1x1" ? 1 : 3;
        builder.Output("y", builder.Add("out", new Convolution(1, window / 2), z, builder.Weight("w", [Outputs, channels, window, window])));
        if (why == "read twice")
        {
            builder.Output("z", builder.Add("more", new Concat(0), z));
        }

        Plan plan = GpuBackend.Plan(builder.Build(), new GpuOptions { Precision = Precision.Fp16, Overrides = why == "another precision" ? [("norm", Precision.Bf16)] : [] }, 99 << 10);
        Assert.Contains(plan.Launches, l => l.Node.Op is GroupNorm);
        Assert.DoesNotContain(plan.Launches, l => l.Node.Op is NormalizedConvolution);
    }

    /// <summary>Shapes, cost and refusals of the fused op are those of its parts.</summary>
    [Fact]
    public void The_fused_op_is_its_parts()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, Size, Size, Channels]), gamma = builder.Weight("gamma", [Channels]), beta = builder.Weight("beta", [Channels]);
        Tensor w = builder.Weight("w", [Outputs, Channels, 3, 3]), bias = builder.Weight("bias", [Outputs]), residual = builder.Input("residual", [2, Size, Size, Outputs]);
        GroupNorm norm = new(8, SiLU: true);
        Convolution product = new(1, 1, Bias: true, Residual: true);
        NormalizedConvolution op = new(norm, product);
        Node fused = Node.Create("fused", op, x, gamma, beta, w, bias, residual);
        Node first = Node.Create("norm", norm, x, gamma, beta), second = Node.Create("out", product, first.Output, w, bias, residual);
        Assert.Equal([second.Output.Shape, first.Outputs[1].Shape], fused.Outputs.Select(t => t.Shape));
        Assert.Equal(first.Cost.Flops + second.Cost.Flops, fused.Cost.Flops);
        Assert.Equal(first.Cost.Bytes + second.Cost.Bytes - (2 * first.Output.Bytes), fused.Cost.Bytes);
        Assert.Equal([5], op.InPlaceInputs);
        Assert.Throws<GraphException>(() => op.Gradient(null!, fused));
    }

    /// <summary>
    /// What it costs and saves, at a shape of the 64x64 model: the convolution reads what it read, and 24 bytes per channel and block for the norm; the norm's own reading and writing is
    /// gone. No bank is met twice more than before.
    /// </summary>
    [Fact]
    public void It_reads_the_parameters_and_nothing_else()
    {
        using CountedRun run = new(Precision.Fp16);
        LaunchCounters with = Count(true), without = Count(false);
        const int Tiles = 64 * 64 / 128, Along = 192 / 96;

        // Mean and 1/σ of a group, γ and β for every channel of every block.
        Assert.Equal(Tiles * Along * 192 * 16, with.GlobalReadBytes - without.GlobalReadBytes);

        // The statistics of 32 groups.
        Assert.Equal(32 * 8, with.GlobalWrittenBytes - without.GlobalWrittenBytes);
        Assert.Equal(0, with.SharedExtraWavefronts);

        // What NormPrologue reckons with.
        Assert.InRange((with.ThreadInstructions - without.ThreadInstructions) / (double)(Tiles * Along * 10 * 18 * 192), 22, 26);

        LaunchCounters Count(bool normalized)
        {
            GraphBuilder builder = new();
            Tensor x = builder.Add("layer", new Convolution(1, 0), builder.Add("copy", new Concat(0), builder.Input("x", [1, 64, 64, 8])), builder.Weight("w", [192, 8, 1, 1]));
            x = normalized ? builder.Add("norm", new GroupNorm(SiLU: true), x, builder.Weight("gamma", [192]), builder.Weight("beta", [192])) : x;
            builder.Output("y", builder.Add("end", new Concat(0), builder.Add("out", new Convolution(1, 1), x, builder.Weight("v", [192, 192, 3, 3]))));
            return run.Single(builder.Build(), "out").Counters[0];
        }
    }

    // All images are the same one.
    private static (float[][] Outputs, KernelCall[] Calls) Run(Precision precision, Form form, int batch, params string[] disabled)
    {
        GraphBuilder builder = new();
        int size = form == Form.Upsampled ? Size / 2 : Size, all = Channels + (form == Form.TwoTensors ? Second : 0);
        Tensor x = Produced("first", Channels), second = Produced("second", Second);
        List<Tensor> inputs = [x, builder.Weight("gamma", [all]), builder.Weight("beta", [all])];
        if (form == Form.Modulated)
        {
            inputs.Add(builder.Input("modulation", [batch, 2 * all]));
        }

        if (form == Form.TwoTensors)
        {
            inputs.Add(second);
        }

        Node norm = builder.AddNode("norm", new GroupNorm(4, SiLU: form != Form.Plain, ScaleShift: form == Form.Modulated, TwoInputs: form == Form.TwoTensors), [.. inputs]);
        Tensor w = builder.Weight("w", [Outputs, all, 3, 3]), bias = builder.Weight("bias", [Outputs]);
        Tensor y = form switch
        {
            Form.Skip => builder.Add("out", new ConvolutionSkip(1), norm.Output, w, bias, second, builder.Weight("v", [Outputs, Second, 1, 1]), builder.Weight("vbias", [Outputs])),
            Form.Upsampled => builder.Add("out", new Convolution(1, 1, Bias: true, Upsample: true), norm.Output, w, bias),
            Form.Residual => builder.Add("out", new Convolution(1, 1, Bias: true, Residual: true), norm.Output, w, bias, x),
            _ => builder.Add("out", new Convolution(1, 1, Bias: true), norm.Output, w, bias),
        };
        builder.Output("y", builder.Add("end", new Concat(0), y));

        // Something that reads the statistics later, as the gradient does.
        builder.Output("statistics", builder.Add("kept", new Concat(0), norm.Outputs[1]));
        Graph graph = builder.Build();
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = false, DisabledFusions = disabled });
        Random random = new(6);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, Floats(random, t.Shape.Elements, 0.2))));
        using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(graph), weights);
        foreach (Tensor input in graph.Inputs)
        {
            float[] image = Floats(random, input.Shape.Elements / batch, 1);
            executor.Write(input.Name, [.. Enumerable.Repeat(image, batch).SelectMany(v => v)]);
        }

        executor.Run();
        return ([executor.Read("y"), executor.Read("statistics")], [.. executor.Calls]);

        Tensor Produced(string name, int channels) => builder.Add(
            name, new Convolution(1, 0), builder.Add($"{name}.copy", new Concat(0), builder.Input($"{name}.x", [batch, size, size, 8])), builder.Weight($"{name}.w", [channels, 8, 1, 1]));
    }

    private static float[] Floats(Random random, int count, double scale) => Array.ConvertAll(TestModels.Normals(random, count, scale, 0.3), v => (float)v);
}
