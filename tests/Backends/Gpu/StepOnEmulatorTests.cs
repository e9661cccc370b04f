using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.PtxEmulator;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>A step around a model that always says the same: everything but the networks, from one replay to the next.</summary>
public sealed class StepOnEmulatorTests
{
    private const int Steps = 4;

    // Of DDIM.
    private const double Eta = 0.7;

    // 2 images of 32 x 32 x 3: 1536 threads of four elements, six blocks, of which the last to finish moves the counter on.
    private static readonly Shape s_shape = [2, 32, 32, 3];

    [Theory]
    [InlineData(SamplerKind.Ddim, false, false)]
    [InlineData(SamplerKind.Ddim, true, false)]
    [InlineData(SamplerKind.Ddim, false, true)]
    [InlineData(SamplerKind.Ddim, true, true)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2MSde, true, true)]
    [InlineData(SamplerKind.Plms, true, true)]
    public void Steps_have_the_bits_of_the_host(SamplerKind sampler, bool capture, bool fused)
    {
        using CpuBackend cpu = new(threads: 2);
        using GpuBackend gpu = new(DriverUnderTest.Open(), new GpuOptions { Capture = capture });
        float[][] expected = Run(cpu, sampler, fused: false), actual = Run(gpu, sampler, fused);
        for (int step = 0; step < Steps; step++)
        {
            Assert.Equal(Bits(expected[step]), Bits(actual[step]));
        }
    }

    [Fact]
    public void The_tail_of_a_step_is_one_launch()
    {
        Cuda.Require();
        using GpuBackend gpu = new(new EmulatorDriver(), new GpuOptions { Capture = false });
        Graph graph = Rewrites.Apply(Tail(SamplerKind.Ddim)).Step;
        using GpuExecutor executor = (GpuExecutor)gpu.Compile(gpu.Plan(graph), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        KernelCall call = Assert.Single(executor.Calls);
        Assert.Equal("sampler_update", call.Kernel.Entry);
        Assert.Equal(6, call.Geometry.Blocks);
    }

    // A table of one row for all images, one of a row each, and one whose rows allow no wide access.
    [Fact]
    public void Rows_of_all_tables_are_selected_in_one_launch()
    {
        using CountedRun run = new();
        float[] shared = Values(3 * 8), own = Values(3 * 2 * 12);
        OpRun wide = run.Run(new SelectStep(2), ([1], new[] { 6 }), ([1], new[] { 5 }), ([3, 1, 8], shared), ([3, 2, 12], own));
        Assert.Equal([.. shared[8..16], .. shared[8..16]], wide.Outputs[0]);
        Assert.Equal(own[24..48], wide.Outputs[1]);
        LaunchCounters counters = Assert.Single(wide.Counters);
        Assert.Equal(4 * (16 + 24), counters.GlobalWrittenBytes);

        // A row of 8 and one of 24, both counters, two descriptions of 24 bytes.
        Assert.Equal((4 * (8 + 24)) + 8 + (2 * 24), counters.DistinctReadBytes);

        float[] odd = Values(3 * 2 * 5);
        OpRun narrow = run.Run(new SelectStep(2), ([1], new[] { 7 }), ([1], new[] { 5 }), ([3, 1, 8], shared), ([3, 2, 5], odd));
        Assert.Equal([.. shared[16..24], .. shared[16..24]], narrow.Outputs[0]);
        Assert.Equal(odd[20..30], narrow.Outputs[1]);

        OpRun beyond = run.Run(new SelectStep(2), ([1], new[] { 8 }), ([1], new[] { 5 }), ([3, 1, 8], shared));
        Assert.All(beyond.Outputs[0], value => Assert.True(float.IsNaN(value)));
    }

    // Logits of 10^4 leave a gradient of which every element is exact: the winner's is 0, or the loser's 1 and the winner's -1.
    [Fact]
    public void The_labels_gradient_is_one_launch_and_survives_large_logits()
    {
        using CountedRun run = new();
        float[] logits = [1e4f, -1e4f, 0, 1e4f, -1e4f, 0, 1e4f - 1, 1e4f, -1e4f];
        OpRun label = run.Run(new LabelGradient(2), ([3, 3], logits), ([3], new[] { 0, 1, 0 }));
        Assert.Single(label.Calls);
        Assert.Equal([0f, 0, 0, -2, 2, 0], label.Outputs[0][..6]);
        Assert.Equal([0f, -2e4f], label.Outputs[1][..2]);
        double first = Math.Exp(-1) / (1 + Math.Exp(-1));
        Assert.Equal(Math.Log(first), label.Outputs[1][2], 2e-7);
        Assert.Equal(2 * (1 - first), label.Outputs[0][6], 4e-7);
        Assert.Equal(-2 * (1 - first), label.Outputs[0][7], 4e-7);
        Assert.Equal(0, label.Outputs[0][8]);
        OpRun none = run.Run(new LabelGradient(2), ([3, 3], logits), ([3], new[] { 3, -1, 0 }));
        Assert.Equal([true, true, false], none.Outputs[1].Select(float.IsNaN));
        Assert.Equal([true, true, false], none.Outputs[0].Chunk(3).Select(row => row.All(float.IsNaN)));
    }

    private static Graph Tail(SamplerKind sampler)
    {
        GraphBuilder builder = new();
        Parameterization parameterization = new(ModelMeanType.Epsilon, ModelVarType.LearnedRange, ClipDenoised: true);
        Tensor x = builder.Input("x", s_shape);
        Tensor rows = builder.Input("step_table", [Steps, StepTable.Columns]);
        Tensor step = builder.Input("step", [1], DType.I32);
        Tensor both = builder.Input("model_output", [4, 32, 32, 6]);
        Tensor combined = builder.Add("combined", new ClassifierFreeGuidance(parameterization), both, rows, step);
        Tensor noise = builder.Add("noise", new StepNoise(s_shape), builder.Input("seed", [2], DType.I32), builder.Input("image_index", [2, 2], DType.I32), step);
        SamplerUpdate op = new(sampler, parameterization, sampler.IsNoisy(Eta), Guided: true);
        Tensor[] noisy = op.Noise ? [noise] : [], history = op.HistoryLength > 0 ? [builder.Input("history", [op.HistoryLength, .. s_shape])] : [];
        Node update = builder.AddNode("update", op, [x, combined, rows, step, .. noisy, builder.Input("gradient", s_shape), .. history]);
        if (op.HistoryLength > 0)
        {
            builder.Output("history_next", update.Outputs[SamplerUpdate.HistoryOutput], updates: history[0]);
        }

        builder.Output("x_next", update.Outputs[0], updates: x);
        builder.Output("pred_xstart", update.Outputs[1]);
        builder.Output("step_next", builder.Add("advance", new AdvanceStep(), step), updates: step);
        return builder.Build();
    }

    private static float[][] Run(Backend backend, SamplerKind sampler, bool fused)
    {
        Graph graph = fused ? Rewrites.Apply(Tail(sampler)).Step : Tail(sampler);
        using Executor executor = backend.Compile(backend.Plan(graph), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        DiffusionConfig config = new() { TimestepRespacing = $"{Steps}", LearnSigma = true };
        executor.Write("step_table", new StepTable(new GaussianDiffusion(config), sampler, eta: sampler == SamplerKind.Ddim ? Eta : 0, classifierScale: 2.5, cfgScale: 1.5).Values.ToArray());
        executor.Write("x", Values(s_shape.Elements));
        executor.Write("model_output", Values(4 * s_shape.Elements));
        executor.Write("gradient", Values(s_shape.Elements));
        executor.Write("step", new[] { 0 });
        executor.Write("seed", new[] { -3, 17 });
        executor.Write("image_index", new[] { 4, 0, -1, -1 });
        if (sampler.HistoryLength() > 0)
        {
            executor.Write("history", new float[sampler.HistoryLength() * s_shape.Elements]);
        }

        float[][] trajectory = new float[Steps][];
        for (int step = 0; step < Steps; step++)
        {
            executor.Run();
            trajectory[step] = [.. executor.Read("x_next"), .. executor.Read("pred_xstart")];
        }

        return trajectory;
    }

    private static float[] Values(int count) => Array.ConvertAll(TestModels.Normals(new Random(9), count, 0.5), v => (float)v);

    private static int[] Bits(float[] values) => Array.ConvertAll(values, BitConverter.SingleToInt32Bits);
}
