using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>A graph of a few kernels on the emulator, for tests of what surrounds them.</summary>
internal static class SmallPlan
{
    /// <summary>Two branches that meet: y = silu(x) · x + relu(x).</summary>
    public static Graph Graph(int batch = 2)
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [batch, 4, 4, 8]);
        Tensor left = builder.Add("product", new Multiply(), builder.Add("silu", new Activation(ActivationKind.SiLU), x), x);
        builder.Output("y", builder.Add("sum", new Add(), left, builder.Add("relu", new Activation(ActivationKind.ReLU), x)));
        return builder.Build();
    }

    /// <summary>A backend on an emulator; without NVRTC the test is skipped.</summary>
    public static GpuBackend Open(GpuOptions? options = null, EmulatorOptions? emulator = null)
    {
        Assert.SkipUnless(KernelCompiler.IsAvailable(out string reason), reason);
        return new GpuBackend(new EmulatorDriver(emulator ?? new EmulatorOptions()), options);
    }

    /// <summary>Runs the graph on numbers from −1 to 1.</summary>
    public static float[] Run(GpuBackend backend, int batch = 2)
    {
        Graph graph = Graph(batch);
        using Executor executor = backend.Compile(backend.Plan(graph), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        executor.Write("x", [.. Enumerable.Range(0, batch * 128).Select(i => ((i % 128) - 64) / 64f)]);
        executor.Run();
        return executor.Read("y");
    }
}
