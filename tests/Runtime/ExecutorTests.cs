using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;
using CpuBackend = Kernels.Backends.Cpu.CpuBackend;

namespace Kernels.Tests.Runtime;

public sealed class ExecutorTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private readonly GraphBuilder _builder = new();

    [Fact]
    public void Inputs_and_outputs_of_another_name_type_or_size_are_refused()
    {
        Tensor x = _builder.Input("x", [2, 3]), labels = _builder.Input("labels", [2], DType.I32);
        _builder.Output("y", _builder.Add("select", new SelectLabel(), x, labels));
        _builder.Output("same labels", labels);
        using Executor executor = Compile();
        Refused("the graph has no input 'z'; it has x, labels", () => executor.Write("z", new float[6]));
        Refused("x: f32[2, 3] cannot be exchanged with 5 elements of F32", () => executor.Write("x", new float[5]));
        Refused("x: f32[2, 3] cannot be exchanged with 6 elements of I32", () => executor.Write("x", new int[6]));
        Refused("labels: i32[2] cannot be exchanged with 2 elements of F32", () => executor.Write("labels", new float[2]));
        Refused("the graph has no output 'x'; it has y, same labels", () => executor.Read("x"));
        Refused("select: f32[2] cannot be exchanged with 3 elements of F32", () => executor.Read("y", new float[3]));
        Refused("labels: i32[2] cannot be exchanged with 2 elements of F32", () => executor.Read("same labels"));
    }

    [Fact]
    public void A_profile_is_a_run_with_a_time_for_every_launch()
    {
        Tensor x = _builder.Input("x", [2, 3]);
        Tensor twice = _builder.Add("twice", new Add(), x, x);
        Tensor flat = _builder.Add("flat", new Reshape([6]), twice);
        Tensor padded = _builder.Add("padded", new Pad(0, 1, 2), flat);
        _builder.Output("y", padded);
        using Executor executor = Compile();
        executor.Write("x", [1f, 2, 3, 4, 5, 6]);

        // A reshape launches nothing; padding is one launch of three kernels.
        double[] milliseconds = [-1, -1];
        executor.Profile(milliseconds);
        Assert.Equal([0, 2, 4, 6, 8, 10, 12, 0, 0], executor.Read("y"));
        Assert.All(milliseconds, ms => Assert.True(ms >= 0));
        Assert.Throws<ArgumentException>(() => executor.Profile(new double[3]));
        Assert.Throws<OperationCanceledException>(() => executor.Profile(milliseconds, new CancellationToken(canceled: true)));
    }

    [Fact]
    public void Missing_and_misshapen_weights_are_refused()
    {
        Tensor x = _builder.Input("x", [2, 3]);
        _builder.Output("y", _builder.Add("fc", new Linear(), x, _builder.Weight("fc.weight", [4, 3])));
        InvalidFileException missing = Assert.Throws<InvalidFileException>(() => Compile());
        Assert.Equal(("memory", "fc.weight"), (missing.File, missing.Place));
        Assert.Contains("[4, 3] is missing", missing.Reason, StringComparison.Ordinal);
        InvalidFileException shape = Assert.Throws<InvalidFileException>(() => Compile(("fc.weight", [3, 4], new float[12])));
        Assert.Contains("has shape [3, 4], the model's configuration wants [4, 3]", shape.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_layer_whose_weight_is_computed_is_refused()
    {
        Tensor x = _builder.Input("x", [2, 3]), w = _builder.Input("w", [4, 3]);
        _builder.Output("y", _builder.Add("fc", new Linear(), x, w));
        Assert.Contains("'w' must be a weight", Assert.Throws<GraphException>(() => Compile()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_op_that_the_backend_does_not_know_is_refused()
    {
        _builder.Output("y", _builder.Add("mystery", new Mystery(), _builder.Input("x", [2])));
        Assert.Equal("the CPU backend does not know Mystery 'mystery'", Assert.Throws<GraphException>(() => Compile()).Message);
    }

    [Fact]
    public void A_label_or_step_out_of_range_stops_the_run_and_not_the_backend()
    {
        Tensor x = _builder.Input("x", [2, 3]), labels = _builder.Input("labels", [2], DType.I32);
        Tensor table = _builder.Input("step_table", [4, 16]), step = _builder.Input("step", [1], DType.I32);
        _builder.Output("selected", _builder.Add("select", new SelectLabel(), x, labels));
        _builder.Output("scattered", _builder.Add("scatter", new ScatterLabel(3), _builder.Input("s", [2]), labels));
        _builder.Output("row", _builder.Add("embedding", new Embedding(), labels, _builder.Weight("table", [3, 2])));
        _builder.Output("t", _builder.Add("timesteps", new StepTimesteps(2), table, step));
        using Executor executor = Compile(("table", [3, 2], new float[6]));
        foreach (int label in new[] { -1, 3, int.MinValue })
        {
            executor.Write("labels", [1, label]);
            Refused($"label {label} of image 1 is not one of 3 classes", () => executor.Run());
        }

        executor.Write("labels", [0, 2]);
        foreach (int row in new[] { -1, 4 })
        {
            executor.Write("step", [row]);
            Refused($"step {row} is not one of the 4 of the step table", () => executor.Run());
        }

        executor.Write("step", [3]);
        executor.Write("x", [1f, 2, 3, 4, 5, 6]);
        executor.Run();
        Assert.Equal([1, 6], executor.Read("selected"));
    }

    [Fact]
    public void Inputs_keep_their_values_and_updates_replace_them()
    {
        Tensor x = _builder.Input("x", [3]), step = _builder.Input("step", [1], DType.I32), y = _builder.Input("y", [3]);
        Tensor table = _builder.Input("step_table", [4, 16]);
        _builder.Output("t", _builder.Add("timesteps", new StepTimesteps(1), table, step));
        _builder.Output("x_next", _builder.Add("sum", new Add(), x, y), updates: x);
        _builder.Output("step_next", _builder.Add("advance", new AdvanceStep(), step), updates: step);
        using Executor executor = Compile();
        executor.Write("x", [1f, 2, 3]);
        executor.Write("y", [10f, 20, 30]);
        executor.Write("step_table", [.. Enumerable.Range(0, 64).Select(i => (float)i)]);
        for (int k = 0; k < 4; k++)
        {
            executor.Run();
            Assert.Equal([k * 16], executor.Read("t"));
        }

        Assert.Equal([41, 82, 123], executor.Read("x_next"));
    }

    [Fact]
    public void A_disposed_executor_does_not_run()
    {
        _builder.Output("y", _builder.Add("sum", new Activation(ActivationKind.ReLU), _builder.Input("x", [3])));
        Executor executor = Compile();
        executor.Dispose();
        executor.Dispose();
        Assert.Throws<ObjectDisposedException>(() => executor.Run());
        Assert.Throws<ObjectDisposedException>(() => executor.Write("x", new float[3]));
        Assert.Throws<ObjectDisposedException>(() => executor.Read("y"));
    }

    [Fact]
    public void An_output_becomes_the_input_of_another_executor()
    {
        Tensor x = _builder.Input("x", [2, 3]);
        _builder.Output("twice", _builder.Add("twice", new Add(), x, x));
        using Executor first = Compile(), second = Compile();
        first.Write("x", [1f, 2, 3, 4, 5, 6]);
        first.Run();
        first.Transfer("twice", second, "x");
        second.Run();
        Assert.Equal([4, 8, 12, 16, 20, 24], second.Read("twice"));

        // Over the host as well, where a backend knows no shorter way.
        using ThroughHost third = new(second);
        first.Transfer("twice", third, "x");
        third.Run();
        third.Transfer("twice", second, "x");
        second.Run();
        Assert.Equal([8, 16, 24, 32, 40, 48], second.Read("twice"));
        Refused("the graph has no output 'x'; it has twice", () => first.Transfer("x", second, "x"));
        Refused("the graph has no input 'twice'; it has x", () => first.Transfer("twice", second, "twice"));
    }

    [Fact]
    public void An_output_of_another_shape_is_not_handed_over()
    {
        Tensor x = _builder.Input("x", [2, 3]);
        _builder.Input("flat", [6]);
        _builder.Input("whole", [2, 3], DType.I32);
        _builder.Output("y", _builder.Add("y", new Add(), x, x));
        using Executor executor = Compile();
        Refused("output y: f32[2, 3] cannot be handed over as input flat: f32[6]", () => executor.Transfer("y", executor, "flat"));
        Refused("output y: f32[2, 3] cannot be handed over as input whole: i32[2, 3]", () => executor.Transfer("y", executor, "whole"));
    }

    [Fact]
    public void A_run_that_is_cancelled_stops_on_the_way()
    {
        // Seconds of convolutions even on a fast machine.
        Tensor h = _builder.Input("x", [1, 64, 64, 64]);
        _builder.Output("first", _builder.Add("relu", new Activation(ActivationKind.ReLU), h));
        for (int i = 0; i < 3000; i++)
        {
            h = _builder.Add("conv", new Convolution(1, 1), h, _builder.Weight("w", [64, 64, 3, 3]));
        }

        _builder.Output("last", _builder.Add("bias", new AddBias(), h, _builder.Weight("b", [64])));
        using Executor executor = Compile(("w", [64, 64, 3, 3], new float[64 * 64 * 9]), ("b", [64], [.. Enumerable.Repeat(1f, 64)]));
        executor.Write("x", [.. Enumerable.Repeat(1f, 64 * 64 * 64)]);
        Assert.ThrowsAny<OperationCanceledException>(() => executor.Run(new CancellationToken(canceled: true)));
        Assert.All(executor.Read("first"), v => Assert.Equal(0, v));

        // From a thread of its own: the pool's, on which timers run, may all be busy with other tests.
        using CancellationTokenSource source = new();
        Thread canceller = new(() =>
        {
            Thread.Sleep(20);
            source.Cancel();
        });
        canceller.Start();
        Assert.ThrowsAny<OperationCanceledException>(() => executor.Run(source.Token));
        canceller.Join();
        Assert.All(executor.Read("last"), v => Assert.Equal(0, v));
    }

    [Fact]
    public async Task Executors_of_one_backend_take_turns()
    {
        float[][] results = await Task.WhenAll(Enumerable.Range(0, 4).Select(k => Task.Run(() =>
        {
            GraphBuilder builder = new();
            Tensor h = builder.Input("x", [1, 16, 16, 32]);
            for (int i = 0; i < 8; i++)
            {
                h = builder.Add("norm", new GroupNorm(), h, builder.Weight("gamma", [32]), builder.Weight("beta", [32]));
            }

            builder.Output("y", h);
            Graph graph = builder.Build();
            Dictionary<string, double[]> values = TestModels.Values(graph.Weights);
            values.Add("x", TestModels.Normals(new Random(2), 16 * 16 * 32));
            return CpuRun.Run(cpu.Backend, graph, values)["y"];
        })));
        Assert.All(results, r => Assert.Equal(results[0], r));
    }

    [Fact]
    public void Neither_threads_nor_reuse_change_a_bit()
    {
        Graph graph = Fusion.Apply(DemoPair.GuidedStep(2)).Graph;
        StepTable table = new(new GaussianDiffusion(DemoPair.Process()), SamplerKind.Ddpm, classifierScale: 4);
        Weights weights = Weights.Combine([(GuidedStep.DiffusionPrefix, DemoPair.Diffusion.Weights), (GuidedStep.ClassifierPrefix, DemoPair.Classifier.Weights)]);
        List<float[]> results = [];
        foreach ((int threads, bool reuse) in new[] { (1, true), (2, true), (3, false) })
        {
            using CpuBackend backend = new(threads);
            using Executor executor = backend.Compile(Plan.Create(graph, reuse), weights);
            float[] x = new float[2 * 32 * 32 * 3];
            RandomStreams.Normals(1, 0, RandomStreams.InitialNoise, 0, x);
            executor.Write("x", x);
            executor.Write("step_table", table.Values);
            executor.Write("step", [1]);
            executor.Write("y", [3, 8]);
            executor.Write("y_unet", [3, 8]);
            executor.Write("seed", [1, 0]);
            executor.Write("image_index", [0, 0, 1, 0]);
            executor.Run();
            results.Add([.. executor.Read("x_next"), .. executor.Read("pred_xstart")]);
        }

        Assert.All(results, r => Assert.True(results[0].AsSpan().SequenceEqual(r)));
        Assert.DoesNotContain(float.NaN, results[0]);
    }

    private static void Refused(string message, Action action) => Assert.Equal(message, Assert.Throws<GraphException>(action).Message);

    private Executor Compile(params (string Name, Shape Shape, float[] Values)[] weights) =>
        cpu.Backend.Compile(Plan.Create(_builder.Build()), Weights.FromArrays(weights.ToDictionary(w => w.Name, w => (w.Shape, w.Values))));

    // An executor of another kind: all that it shares with the first is the host.
    private sealed class ThroughHost(Executor inner) : Executor
    {
        public override Plan Plan => inner.Plan;

        public override void Run(CancellationToken cancellationToken = default) => inner.Run(cancellationToken);

        protected internal override double TimeLaunch(int launch) => inner.TimeLaunch(launch);

        protected override void WriteCore(Tensor tensor, ReadOnlySpan<byte> bytes) => inner.Write(tensor.Name, System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(bytes));

        protected override void ReadCore(Tensor tensor, Span<byte> bytes) =>
            inner.Read(Plan.Graph.Outputs.First(o => o.Value == tensor).Key, System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(bytes));

        protected override void Dispose(bool disposing)
        {
            // The inner executor belongs to the test.
        }
    }

    private sealed record Mystery : GradientOp
    {
        public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => [new TensorType(inputs[0].Shape)];

        public override long Flops(Node node) => 0;
    }
}
