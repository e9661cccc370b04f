using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Emulation.Checking;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Files;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class GpuBackendTests
{
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Fp16)]
    [InlineData(Precision.Bf16)]
    public void A_replayed_capture_gives_the_bits_of_single_launches(Precision precision)
    {
        using GpuBackend captured = SmallPlan.Open(new GpuOptions { Precision = precision });
        using GpuBackend direct = SmallPlan.Open(new GpuOptions { Precision = precision, Capture = false });
        Assert.Equal(SmallPlan.Run(direct), SmallPlan.Run(captured));
    }

    [Fact]
    public void A_capture_replays_for_new_inputs()
    {
        using GpuBackend backend = SmallPlan.Open();
        using Executor executor = backend.Compile(backend.Plan(SmallPlan.Graph()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        float[] x = new float[256];
        for (int run = 0; run < 3; run++)
        {
            x.AsSpan().Fill(run);
            executor.Write("x", x);
            executor.Run();
            float expected = (float)(run / (1 + Math.Exp(-run)) * run) + run;
            Assert.All(executor.Read("y"), y => Assert.Equal(expected, y, 1e-5f * Math.Max(1, expected)));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_snapshot_keeps_a_run_while_later_ones_go_on(bool capture)
    {
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { Capture = capture });
        using Executor executor = backend.Compile(backend.Plan(SmallPlan.Graph()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        using OutputSnapshot snapshot = executor.CreateSnapshot("y");
        float[] kept = new float[256];
        Assert.Throws<InvalidOperationException>(() => snapshot.Read(kept));
        Assert.Throws<GraphException>(() => snapshot.Read(new float[255]));
        float[]? before = null;
        for (int run = 0; run < 3; run++)
        {
            executor.Write("x", [.. Enumerable.Repeat(run + 1f, 256)]);
            executor.Run();
            if (before is not null)
            {
                snapshot.Read(kept);
                Assert.Equal(before, kept);
            }

            snapshot.Take();
            before = executor.Read("y");
        }
    }

    [Fact]
    public void Weights_leave_the_device_with_the_last_executor_that_uses_them()
    {
        using GpuBackend backend = SmallPlan.Open();
        GraphBuilder builder = new();
        builder.Output("y", builder.Add("bias", new AddBias(), builder.Input("x", [1, 2, 2, 64]), builder.Weight("b", [64])));
        Weights weights = Weights.FromArrays(new Dictionary<string, (Shape, float[])> { ["b"] = ([64], new float[64]) });
        Plan plan = backend.Plan(builder.Build());
        long before = backend.Driver.FreeBytes;
        Executor first = backend.Compile(plan, weights), second = backend.Compile(plan, weights);
        first.Dispose();
        first.Dispose();
        second.Write("x", new float[256]);
        second.Run();
        Assert.All(second.Read("y"), y => Assert.Equal(0, y));
        Assert.True(backend.Driver.FreeBytes < before);
        second.Dispose();
        Assert.Equal(before, backend.Driver.FreeBytes);
    }

    [Fact]
    public void A_plan_of_one_image_is_the_first_of_many() => Assert.Equal(Run(1), Run(4)[..128]);

    [Fact]
    public void Too_little_memory_is_said_before_work_begins_with_the_batch_that_fits()
    {
        using GpuBackend backend = SmallPlan.Open(emulator: new EmulatorOptions { TotalBytes = 100_000 });
        DeviceException e = Assert.Throws<DeviceException>(() => SmallPlan.Run(backend, batch: 500));
        Assert.Matches(@"\d+ bytes are needed \(\d+ of activations for a batch of 500, 0 of weights\), 100000 are free\. A batch of (\d+) would fit", e.Message);
        int fits = int.Parse(e.Message.Split("A batch of ")[1].Split(' ')[0]);
        Plan plan = backend.Plan(SmallPlan.Graph(fits)), more = backend.Plan(SmallPlan.Graph(fits + 1));
        Assert.True(plan.Memory.ArenaBytes <= 100_000 && more.Memory.ArenaBytes > 100_000);
    }

    [Fact]
    public void A_precision_that_the_device_lacks_is_refused()
    {
        Assert.SkipUnless(KernelCompiler.IsAvailable(out string reason), reason);
        EmulatorOptions turing = new() { Architecture = "sm_75" };
        DeviceException e = Assert.Throws<DeviceException>(() => new GpuBackend(new EmulatorDriver(turing), new GpuOptions { Precision = Precision.Bf16 }));
        Assert.Contains("sm_75; Bf16 needs sm_80", e.Message, StringComparison.Ordinal);
        using GpuBackend backend = new(new EmulatorDriver(turing));
        Assert.Equal(256, SmallPlan.Run(backend).Length);
    }

    [Fact]
    public void An_op_without_kernels_is_named()
    {
        using GpuBackend backend = SmallPlan.Open();
        GraphBuilder builder = new();
        builder.Output("y", builder.Add("blocks.3", new Unknown(), builder.Input("x", [1, 2])));
        GraphException e = Assert.Throws<GraphException>(() => backend.Compile(backend.Plan(builder.Build()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>())));
        Assert.Equal("the GPU backend does not know Unknown 'blocks.3'", e.Message);
    }

    [Theory]
    [InlineData(1, false, false)]
    [InlineData(2, true, false)]
    [InlineData(3, true, true)]
    public void Debug_levels_print_the_plan_then_times_then_what_is_not_finite(int level, bool times, bool finds)
    {
        StringWriter output = new();
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { DebugLevel = level, DebugOutput = output });
        using Executor executor = backend.Compile(backend.Plan(SmallPlan.Graph()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        float[] x = new float[256];
        (x[7], x[9]) = (float.NaN, float.PositiveInfinity);
        executor.Write("x", x);
        executor.Run();
        string text = output.ToString();
        Assert.Contains("silu_forward (elementwise.cu", text, StringComparison.Ordinal);
        Assert.Equal(times, text.Contains(" ms  ", StringComparison.Ordinal));
        Assert.Equal(finds, text.Contains("2 of 256 elements of silu: f32[2, 4, 4, 8] are not finite, element 7 first", StringComparison.Ordinal));
    }

    [Fact]
    public void A_kernel_that_fails_is_named_with_its_node_at_level_2()
    {
        using TemporaryFolder folder = new();
        KernelFolder.Write(folder.Path);
        KernelFolder.Edit(folder.Path, "elementwise.cu", "UNARY(relu_forward, fmaxf(u[k], 0.0f))", "UNARY(relu_forward, *(float*)16)");
        using GpuBackend backend = SmallPlan.Open(new GpuOptions { DebugLevel = 2, DebugOutput = TextWriter.Null, KernelsDirectory = folder.Path, CacheDirectory = "" });
        Exception e = Assert.ThrowsAny<KernelsException>(() => SmallPlan.Run(backend));
        Assert.Contains("relu_forward", e.Message, StringComparison.Ordinal);
        Assert.Contains("'relu'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_of_kernels_takes_the_place_of_those_built_in_and_its_errors_show_the_line()
    {
        using TemporaryFolder folder = new();
        KernelFolder.Write(folder.Path);
        KernelFolder.Edit(folder.Path, "elementwise.cu", "u[k] + v[k]", "u[k] + v[k] + 1.0f");
        using GpuBackend builtIn = SmallPlan.Open(), changed = SmallPlan.Open(new GpuOptions { KernelsDirectory = folder.Path });
        Assert.Equal(SmallPlan.Run(builtIn).Select(y => y + 1), SmallPlan.Run(changed));

        KernelFolder.Edit(folder.Path, "elementwise.cu", "v[k] + 1.0f", "w[k]");
        int line = 1 + Array.FindIndex(File.ReadAllLines(folder["elementwise.cu"]), l => l.StartsWith("BINARY(add", StringComparison.Ordinal));
        using GpuBackend broken = SmallPlan.Open(new GpuOptions { KernelsDirectory = folder.Path, CacheDirectory = "" });
        KernelCompileException e = Assert.Throws<KernelCompileException>(() => SmallPlan.Run(broken));
        Assert.Contains($"elementwise.cu({line}): error: identifier \"w\" is undefined", e.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidFileException>(() => KernelSources.Open(folder["missing"]));
    }

    private static float[] Run(int batch)
    {
        using GpuBackend backend = SmallPlan.Open();
        return SmallPlan.Run(backend, batch);
    }

    private sealed record Unknown : GradientOp
    {
        public override IReadOnlyList<TensorType> Infer(OpInputs inputs) => [new TensorType(inputs[0].Shape)];

        public override long Flops(Node node) => 0;
    }
}
