using Kernels.Backends.Gpu;
using Kernels.Ops;
using Kernels.Runtime;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>What the assembler says of the kernels that an op is lowered to.</summary>
internal static class Resources
{
    /// <summary>Every kernel of the op compiles for every architecture without spills or a stack, and fits into the 99 KB of shared memory that all of them have.</summary>
    public static void Check(Precision precision, IReadOnlyList<string> architectures, Op op, params IReadOnlyList<Shape> inputs)
    {
        PtxEmulator.Cuda.RequireMachineCode(architectures);
        GraphBuilder builder = new();
        Tensor[] operands = [.. inputs.Select((shape, i) => builder.Input($"x{i}", shape))];

        // What lies between copies is stored as the precision has it.
        if (precision.Storage() != DType.F32)
        {
            operands = [.. operands.Select(t => builder.Add($"{t.Name}.copy", new Concat(0), t))];
        }

        Node node = builder.AddNode("op", op, operands);
        builder.Output("y", builder.Add("y.copy", new Concat(0), node.Output));
        using DryRunBackend backend = new(new GpuOptions { Precision = precision });
        using Executor executor = backend.Compile(backend.Plan(builder.Build()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        KernelSources sources = KernelSources.Open();
        KernelCall[] calls = [.. backend.Calls.Where(c => c.Node.Name == "op")];
        Assert.NotEmpty(calls);
        foreach (string architecture in architectures)
        {
            foreach (KernelCall[] same in calls.GroupBy(c => (c.Kernel.File, c.Kernel.Options)).Select(g => g.ToArray()))
            {
                KernelSpec kernel = same[0].Kernel;
                CompiledKernels compiled = KernelCompiler.Compile(sources.Text(kernel.File), kernel.File, architecture, kernel.Options.Split('\n'), sources.Headers);
                foreach (KernelCall call in same)
                {
                    KernelResources resources = compiled.Resources.Single(r => r.Name == call.Kernel.Entry);
                    Assert.True(
                        resources is { SpillStoreBytes: 0, SpillLoadBytes: 0, StackBytes: 0 },
                        $"{call.Kernel} for {architecture}: {resources.Registers} registers, spills {resources.SpillStoreBytes}, stack {resources.StackBytes}");
                    Assert.True(resources.Registers * call.Geometry.ThreadsPerBlock <= 65536, $"{call.Kernel} for {architecture}: {resources.Registers} registers do not launch");
                    Assert.InRange(resources.SharedBytes, 0, 48 * 1024);
                    Assert.InRange(resources.SharedBytes + call.Geometry.SharedBytes, 0, 99 * 1024);
                }
            }
        }
    }
}
