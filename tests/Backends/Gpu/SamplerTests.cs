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

public sealed class SamplerTests
{
    private const string TransformSource = """
        #include "philox.cuh"
        extern "C" __global__ void transform(const unsigned* a, const unsigned* b, float* first, float* second)
        {
            const int i = blockIdx.x * blockDim.x + threadIdx.x;
            box_muller(a[i], b[i], first[i], second[i]);
        }
        """;

    private static readonly Parameterization s_learned = new(ModelMeanType.Epsilon, ModelVarType.LearnedRange, ClipDenoised: true);

    [Fact]
    public void The_transform_of_any_words_has_the_bits_of_the_host()
    {
        Cuda.Require();

        // The ends of the logarithm's and of the quarter turns' intervals, and what lies around them.
        uint[] edges =
        [
            0, 1, 2, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff, 0x1fffffff, 0x20000000, 0x20000001, 0x3fffffff, 0x40000000, 0x5fffffff, 0x60000000,
            0x9fffffff, 0xa0000000, 0xdfffffff, 0xe0000000, 0xb504f333, 0xb504f300, 0xb504f380, 0xffffff80, 0xffffff7f,
        ];
        Random random = new(5);
        (uint A, uint B)[] pairs =
        [
            .. edges.SelectMany(a => edges.Select(b => (a, b))),
            .. Enumerable.Range(0, 4032).Select(_ => ((uint)random.NextInt64(1L << 32), (uint)random.NextInt64(1L << 32))),
        ];
        Assert.Equal(36 * 128, pairs.Length);
        CompiledKernels compiled = KernelCompiler.Compile(TransformSource, "transform.cu", "compute_90", [], KernelSources.Open().Headers);
        using KernelRun run = new(compiled);
        ulong first = run.Driver.Allocate(4 * pairs.Length), second = run.Driver.Allocate(4 * pairs.Length);
        run.Launch("transform", 36, 128, new LaunchArguments().Add(run.Put([.. pairs.Select(p => p.A)])).Add(run.Put([.. pairs.Select(p => p.B)])).Add(first).Add(second));
        float[] x = run.Get<float>(first, pairs.Length), y = run.Get<float>(second, pairs.Length);
        foreach ((int i, (uint a, uint b)) in pairs.Index())
        {
            (float expectedX, float expectedY) = BoxMuller.Transform(a, b);
            Assert.True(Bits(expectedX) == Bits(x[i]) && Bits(expectedY) == Bits(y[i]), $"({a:x8}, {b:x8}): {x[i]:r}, {y[i]:r} instead of {expectedX:r}, {expectedY:r}");
        }
    }

    [Theory]
    [InlineData(0UL, 0UL, 0, 8)]
    [InlineData(0x0123456789abcdefUL, (1UL << 32) + 5, 999, 8)]
    [InlineData(ulong.MaxValue, ulong.MaxValue, int.MaxValue, 8)]
    [InlineData(0xffffffffUL, 0xffffffffUL, 41, 5)]
    [InlineData(0xffffffff00000000UL, 0xffffffff00000000UL, 41, 5)]
    public void Noise_has_the_bits_of_the_host(ulong seed, ulong image, int step, int width)
    {
        using CountedRun run = new();
        Shape shape = [3, 4, width, 3];
        ulong[] images = [image, 7, unchecked(image - 1)];
        float[] noise = run.Run(new StepNoise(shape), ([2], Words(seed)), ([3, 2], images.SelectMany(Words).ToArray()), ([1], new[] { step })).Outputs[0];
        float[] expected = new float[shape.Elements];
        int elements = shape.Elements / 3;
        for (int n = 0; n < 3; n++)
        {
            RandomStreams.Normals(seed, images[n], RandomStreams.StepNoise(step), 0, expected.AsSpan(n * elements, elements));
        }

        AssertBits(expected, noise);
    }

    [Theory]
    [InlineData(SamplerKind.Ddim)]
    [InlineData(SamplerKind.DdimReverse)]
    [InlineData(SamplerKind.Euler)]
    [InlineData(SamplerKind.EulerAncestral)]
    [InlineData(SamplerKind.Heun)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2M)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2MSde)]
    [InlineData(SamplerKind.Plms)]
    public void Every_sampler_but_ddpm_has_the_bits_of_the_host(SamplerKind sampler)
    {
        using CountedRun run = new();
        using CpuBackend cpu = new(threads: 1);
        foreach (ModelMeanType mean in Enum.GetValues<ModelMeanType>())
        {
            foreach (bool guided in sampler == SamplerKind.DdimReverse ? [false] : new[] { false, true })
            {
                SamplerUpdate op = new(sampler, s_learned with { MeanType = mean }, Noise: sampler.IsNoisy(Eta), guided);

                // A row in the middle, one of every weight, and the last.
                foreach (int step in new[] { 2, 3, Steps - 1 })
                {
                    (Shape, Array)[] inputs = Inputs(op, [2, 4, 4, 3], step);
                    float[][] expected = OnHost(cpu, op, inputs), actual = run.Run(op, inputs).Outputs;
                    Assert.Equal(op.HistoryLength > 0 ? 3 : 2, expected.Length);
                    Assert.All(expected.Zip(actual), pair => AssertBits(pair.First, pair.Second));
                }
            }
        }
    }

    // 2 images of 8 x 8 x 3 and three evaluations before this one.
    [Fact]
    public void A_history_is_read_once_and_written_once()
    {
        using CountedRun run = new();
        SamplerUpdate op = new(SamplerKind.Plms, s_learned, Noise: false, Guided: false);
        LaunchCounters update = Assert.Single(run.Run(op, Inputs(op, [2, 8, 8, 3], 3)).Counters);

        // x and the history; half of the model output shares its sectors with the variances, but not its bytes; of the row both weights of pred_xstart, those of pred_xstart, eps, noise
        // and history; the counter.
        Assert.Equal((4 * 384 * (1 + 3 + 1)) + (4 * 7) + 4, update.DistinctReadBytes);
        Assert.Equal(4 * 384 * (2 + 3), update.GlobalWrittenBytes);
        Assert.Equal(4 * 384 * (2 + 3) / 32, update.GlobalWrittenSectors);
        Assert.Equal(0, update.LocalBytes);
    }

    // What a scale of 0 leaves out may be anything.
    [Theory]
    [InlineData(SamplerKind.Ddpm)]
    [InlineData(SamplerKind.Heun)]
    public void A_row_without_guidance_has_the_bits_of_an_update_without_it(SamplerKind sampler)
    {
        using CountedRun run = new();
        using CpuBackend cpu = new(threads: 1);
        SamplerUpdate guided = new(sampler, s_learned, sampler.IsNoisy(Eta), Guided: true, ClassifierFree: true), plain = guided with { Guided = false, ClassifierFree = false };
        (Shape Shape, Array Values)[] inputs = Inputs(guided, [2, 4, 4, 3], 2);
        float[] table = (float[])inputs[2].Values, both = (float[])inputs[1].Values;
        table[(2 * StepTable.Columns) + (int)StepColumn.ClassifierScale] = 0;
        table[(2 * StepTable.Columns) + (int)StepColumn.CfgScale] = 0;
        Array.Fill(both, float.NaN, both.Length / 2, both.Length / 2);
        Array.Fill((float[])inputs[guided.GradientInput].Values, float.PositiveInfinity);
        List<(Shape, Array)> without = [.. inputs];
        without.RemoveAt(guided.GradientInput);
        without[1] = ([2, 4, 4, 6], both[..(both.Length / 2)]);
        float[][] expected = run.Run(plain, [.. without]).Outputs;
        Assert.All(expected.Zip(run.Run(guided, inputs).Outputs), pair => AssertBits(pair.First, pair.Second));
        Assert.All(OnHost(cpu, plain, [.. without]).Zip(OnHost(cpu, guided, inputs)), pair => AssertBits(pair.First, pair.Second));
        Assert.All(expected[0], v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void Four_elements_a_thread_have_the_bits_of_one()
    {
        using CountedRun run = new();
        SamplerUpdate op = new(SamplerKind.Ddpm, s_learned, Noise: true, Guided: true);
        Shape shape = [2, 4, 4, 3];
        (Shape, Array)[] inputs = Inputs(op, shape, 1);
        OpRun wide = run.Run(op, inputs);
        ulong[] at = [.. inputs.Select(i => i.Item2 is int[] whole ? run.Put<int>(whole) : run.Put<float>((float[])i.Item2))];
        ulong next = run.New(4 * shape.Elements), predXstart = run.New(4 * shape.Elements);
        KernelCall call = Assert.Single(wide.Calls);
        Assert.Contains("-DV=4", call.Kernel.Options, StringComparison.Ordinal);
        KernelSpec narrow = new(call.Kernel.File, call.Kernel.Entry, call.Kernel.Options.Split('\n').Select(o => o[2..].Split('=')).Select(o => (o[0], (object)(o[0] == "V" ? "1" : o[1]))));
        run.Launch(
            narrow,
            LaunchGeometry.Linear(1, 96),
            new LaunchArguments().Add(at[0]).Add(at[1]).Add(at[2]).Add(at[3]).Add(Steps).Add(at[4]).Add(0UL).Add(at[5]).Add(0UL).Add(next).Add(predXstart).Add(0UL).Add(0UL).Add(0UL)
                .Add(shape.Elements).Bytes);
        AssertBits(run.Get(next, shape.Elements), wide.Outputs[0]);
        AssertBits(run.Get(predXstart, shape.Elements), wide.Outputs[1]);
    }

    // 2 images of 8 x 8 x 3: 384 elements, 96 threads of 4.
    [Fact]
    public void Nothing_is_moved_twice()
    {
        using CountedRun run = new();
        Shape shape = [2, 8, 8, 3];
        LaunchCounters noise = Assert.Single(run.Run(new StepNoise(shape), ([2], Words(1)), ([2, 2], new int[4]), ([1], new int[1])).Counters);
        Assert.Equal(4 * 384, noise.GlobalWrittenBytes);
        Assert.Equal(4 * 384 / 32, noise.GlobalWrittenSectors);

        // Seed, two indices, the counter.
        Assert.Equal(8 + (2 * 8) + 4, noise.DistinctReadBytes);

        // x, noise, gradient, two outputs per element; of the row both weights of pred_xstart and of the mean, both log variances, mask and scale; the counter.
        SamplerUpdate op = new(SamplerKind.Ddpm, s_learned, Noise: true, Guided: true);
        LaunchCounters update = Assert.Single(run.Run(op, Inputs(op, shape, 1)).Counters);
        Assert.Equal((4 * 384 * (3 + 2)) + (4 * 8) + 4, update.DistinctReadBytes);
        Assert.Equal(4 * 384 * 2, update.GlobalWrittenBytes);
        Assert.Equal(4 * 384 * 2 / 32, update.GlobalWrittenSectors);
        Assert.Equal(0, update.LocalBytes);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(Steps)]
    [InlineData(int.MaxValue)]
    public void A_counter_beyond_the_table_makes_nan_and_reads_nothing(int step)
    {
        using CountedRun run = new();
        SamplerUpdate op = new(SamplerKind.Ddpm, s_learned, Noise: false, Guided: false);
        (Shape, Array)[] inputs = Inputs(op, [1, 2, 2, 3], 0);
        inputs[3] = ([1], new[] { step });
        Assert.All(run.Run(op, inputs).Outputs[0], x => Assert.True(float.IsNaN(x)));
        Assert.All(run.Run(new StepTimesteps(3), inputs[2], inputs[3]).Outputs[0], t => Assert.True(float.IsNaN(t)));
    }

    private const int Steps = 5;

    // Of DDIM.
    private const double Eta = 0.7;

    private static (Shape Shape, Array Values)[] Inputs(SamplerUpdate op, Shape x, int step)
    {
        Random random = new(17);
        DiffusionConfig config = new() { TimestepRespacing = $"{Steps}", LearnSigma = true, PredictXstart = op.Parameterization.MeanType == ModelMeanType.XStart };
        StepTable table = new(new GaussianDiffusion(config), op.Sampler, op.Sampler == SamplerKind.Ddim ? Eta : 0, classifierScale: 2.5);
        List<(Shape, Array)> inputs =
        [
            (x, Normals(x.Elements)),
            (x.With(3, 2 * x[3]).With(0, op.ClassifierFree ? 2 * x[0] : x[0]), Normals((op.ClassifierFree ? 4 : 2) * x.Elements)),
            ([table.Count, StepTable.Columns], table.Values.ToArray()),
            ([1], new[] { step }),
        ];
        for (int i = 4; i < 4 + (op.Noise ? 1 : 0) + (op.Guided ? 1 : 0); i++)
        {
            inputs.Add((x, Normals(x.Elements)));
        }

        if (op.HistoryLength > 0)
        {
            inputs.Add(([op.HistoryLength, .. x], Normals(op.HistoryLength * x.Elements)));
        }

        return [.. inputs];

        float[] Normals(int count) => Array.ConvertAll(TestModels.Normals(random, count, 0.5), v => (float)v);
    }

    private static float[][] OnHost(CpuBackend cpu, SamplerUpdate op, (Shape Shape, Array Values)[] inputs)
    {
        GraphBuilder builder = new();
        Node node = builder.AddNode("op", op, [.. inputs.Select((x, i) => builder.Input($"x{i}", x.Shape, x.Values is int[] ? DType.I32 : DType.F32))]);
        foreach ((int i, Tensor output) in node.Outputs.Index())
        {
            builder.Output($"y{i}", output);
        }

        using Executor executor = cpu.Compile(cpu.Plan(builder.Build()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        foreach ((int i, (_, Array values)) in inputs.Index())
        {
            if (values is int[] whole)
            {
                executor.Write($"x{i}", whole);
            }
            else
            {
                executor.Write($"x{i}", (float[])values);
            }
        }

        executor.Run();
        return [.. node.Outputs.Index().Select(y => executor.Read($"y{y.Index}"))];
    }

    private static int[] Words(ulong value) => [unchecked((int)value), unchecked((int)(value >> 32))];

    private static void AssertBits(float[] expected, float[] actual) => Assert.Equal(Array.ConvertAll(expected, Bits), Array.ConvertAll(actual, Bits));

    private static int Bits(float value) => BitConverter.SingleToInt32Bits(value);
}
