using System.Globalization;
using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Verification;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>A classifier's gradients in fp16: too small without a scale where it is sure, and exact to undo with one.</summary>
public sealed class GradientRangeTests
{
    /// <summary>
    /// The demo classifier at timestep 222 of the recorded trajectory: of one image it is sure (p = 0.99996), so that its gradient is small; of another it is not at all. Without a scale fp16
    /// loses a fifth of the former. With 2^8 all four are within the bound of a step, and the largest value stored is far from fp16's end.
    /// </summary>
    [Fact]
    public void A_power_of_two_keeps_the_gradient_of_a_classifier_that_is_sure()
    {
        const int Position = 6, Timestep = 222, Image = 3 * 32 * 32;
        using Pack pack = Pack.Open(Path.Combine(AppContext.BaseDirectory, "packs", "demo-ddpm-guided.safetensors"));
        float[] x = pack.Images("outputs/trajectory").AsSpan(Position * 4 * Image, 4 * Image).ToArray();
        int[] y = pack.Labels("inputs/y");
        Graph graph = ClassifierGradient(4);
        float[] expected = OnCpu(graph, x, Timestep, y);
        (float[] plain, float[] plainStored) = InHalf(graph, x, Timestep, y, exponent: 0);
        (float[] scaled, float[] scaledStored) = InHalf(graph, x, Timestep, y, exponent: 8);
        double[] before = [.. Enumerable.Range(0, 4).Select(i => Error(expected, plain, i))], after = [.. Enumerable.Range(0, 4).Select(i => Error(expected, scaled, i))];
        float most = scaledStored.Max(MathF.Abs);
        double Share(float[] stored, double scale, double bound) => (double)stored.Count(v => v != 0 && Math.Abs(v / scale) < bound) / stored.Length;
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"errors {string.Join(' ', before.Select(e => e.ToString("e2", CultureInfo.InvariantCulture)))} without, {string.Join(' ', after.Select(e => e.ToString("e2", CultureInfo.InvariantCulture)))} with; "
            + $"too small for fp16 {Share(scaledStored, 256, Math.ScaleB(1, -25)):p2}, subnormal {Share(scaledStored, 256, Math.ScaleB(1, -14)):p2}, with the scale {Share(scaledStored, 1, Math.ScaleB(1, -14)):p2}; largest {most}"));
        Assert.InRange(before.Max(), 0.1, 1);
        Assert.All(after, error => Assert.InRange(error, 0, 4 * Math.ScaleB(1, -9)));
        Assert.InRange(most, plainStored.Max(MathF.Abs) * 200, 65504 / 16);

        static double Error(float[] expected, float[] actual, int image) => Math.Sqrt(
            Enumerable.Range(image * Image, Image).Sum(k => Math.Pow(expected[k] - (double)actual[k], 2)) / Enumerable.Range(image * Image, Image).Sum(k => Math.Pow(expected[k], 2)));
    }

    /// <summary>One begins, one ends, and neither where a gradient is stored in more than fp16 or no scale is asked for.</summary>
    [Theory]
    [InlineData(Precision.Fp16, 8, true)]
    [InlineData(Precision.Fp16, 0, false)]
    [InlineData(Precision.Bf16, 8, false)]
    [InlineData(Precision.Fp32, 8, false)]
    public void A_guided_step_scales_its_gradient_once_and_undoes_it_once(Precision precision, int exponent, bool scales)
    {
        using DryRunBackend backend = new(new GpuOptions { Precision = precision, GradientScaleExponent = exponent });
        using Executor executor = backend.Compile(backend.Plan(Rewrites.Apply(DemoPair.GuidedStep(1)).Step), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        float factor = MemoryMarshal.Read<float>(backend.Calls.Single(c => c.Kernel.Entry == "label_gradient").Arguments.Span[^sizeof(float)..]);
        Assert.Equal(scales ? 256 : 1, factor);
        Assert.Equal(scales ? 1 : 0, backend.Calls.Count(c => c.Kernel.Options.Contains("SCALE_Y=3.906250000e-003f", StringComparison.Ordinal)));
        Assert.Equal(scales ? 1 : 0, backend.Calls.Count(c => c.Kernel.Options.Contains("SCALE_Y", StringComparison.Ordinal)));
    }

    private static Graph ClassifierGradient(int batch)
    {
        ModelConfig config = DemoPair.Classifier.Config;
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [batch, config.ImageSize, config.ImageSize, config.InChannels]);
        Tensor logits = EncoderUNetModel.Build(builder, config, x, builder.Input("t", [batch]));
        Tensor selected = EncoderUNetModel.LogProbability(builder, logits, builder.Input("y", [batch], DType.I32)).Selected;
        return Rewrites.Apply(Gradient.Append(builder.Build(), selected, x, 1, "grad")).Step;
    }

    private static float[] OnCpu(Graph graph, float[] x, int timestep, int[] y)
    {
        using CpuBackend backend = new(2);
        using Executor executor = backend.Compile(backend.Plan(graph), DemoPair.Classifier.Weights);
        Write(executor, x, timestep, y);
        executor.Run();
        return executor.Read("grad");
    }

    // The image's gradient, and everything stored in fp16 on the way to it.
    private static (float[] Gradient, float[] Stored) InHalf(Graph graph, float[] x, int timestep, int[] y, int exponent)
    {
        PtxEmulator.Cuda.Require();
        EmulatorDriver driver = new(new EmulatorOptions { Checks = Checks.None, Workers = Environment.ProcessorCount });
        using GpuBackend backend = new(driver, new GpuOptions { Precision = Precision.Fp16, Capture = false, GradientScaleExponent = exponent });
        using GpuExecutor executor = (GpuExecutor)backend.Compile(backend.Plan(graph), DemoPair.Classifier.Weights);
        Write(executor, x, timestep, y);
        List<float> stored = [];
        bool backward = false;
        executor.RunEach(
            call =>
            {
                backward |= call.Node.Op is LabelGradient;
                if (backward && call.Node.Output.DType == DType.F16)
                {
                    byte[] bytes = new byte[call.Node.Output.Bytes];
                    driver.CopyToHost(bytes, executor.Address(call.Node.Output));
                    stored.AddRange(Array.ConvertAll(MemoryMarshal.Cast<byte, Half>(bytes.AsSpan()).ToArray(), v => (float)v));
                }
            },
            TestContext.Current.CancellationToken);
        return (executor.Read("grad"), [.. stored]);
    }

    private static void Write(Executor executor, float[] x, int timestep, int[] y)
    {
        executor.Write("x", x);
        executor.Write("t", Enumerable.Repeat((float)timestep, y.Length).ToArray());
        executor.Write("y", y);
    }
}
