using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Ops;

/// <summary>A backend under test, with the access to its memory that the checks need. A further device is a further subclass and a line in <see cref="Names"/>.</summary>
internal abstract class TestBackend
{
    private static readonly Dictionary<string, Lazy<TestBackend>> s_all = new()
    {
        ["cpu"] = new(() => new CpuTestBackend(Simd.Widest)),
        ["cpu 256-bit"] = new(() => new CpuTestBackend(256)),
        ["cpu 128-bit"] = new(() => new CpuTestBackend(128)),
        [$"{DriverUnderTest.Name} fp32"] = new(() => new GpuTestBackend(Precision.Fp32)),
        [$"{DriverUnderTest.Name} tf32"] = new(() => new GpuTestBackend(Precision.Tf32)),
        [$"{DriverUnderTest.Name} fp16"] = new(() => new GpuTestBackend(Precision.Fp16)),
        [$"{DriverUnderTest.Name} bf16"] = new(() => new GpuTestBackend(Precision.Bf16)),
    };

    /// <summary>The names of all backends.</summary>
    public static IEnumerable<string> Names => s_all.Keys;

    /// <summary>Why the backend cannot run on this machine; null if it can.</summary>
    public virtual string? Missing => null;

    /// <summary>A backend; one that is missing skips the test, visibly.</summary>
    public static TestBackend Get(string name)
    {
        TestBackend backend = s_all[name].Value;
        Assert.SkipWhen(backend.Missing is not null, $"{name}: {backend.Missing}");
        return backend;
    }

    /// <summary>The type in which it stores activations.</summary>
    public virtual DType Storage => DType.F32;

    /// <summary>The names of those that compute in binary32, and so can be held against finite differences.</summary>
    public static IEnumerable<string> ExactNames => Names.Where(name => name.StartsWith("cpu", StringComparison.Ordinal) || name == $"{DriverUnderTest.Name} fp32");

    /// <summary>Largest relative L2 error of an op.</summary>
    /// <param name="op">The op.</param>
    /// <param name="tolerance">What is allowed in binary32.</param>
    public virtual double ToleranceOf(Op op, double tolerance) => tolerance;

    /// <summary>The graph as the backend stores it.</summary>
    public virtual Graph Prepare(Graph graph) => graph;

    /// <summary>Binds a plan.</summary>
    public abstract Executor Compile(Plan plan, Weights weights);

    /// <summary>Overwrites every byte of an executor's arena.</summary>
    public abstract void Fill(Executor executor, byte value);

    /// <summary>Copies an executor's arena.</summary>
    public abstract byte[] Arena(Executor executor);

#pragma warning disable CA1001 // It serves all tests, to the end of the process.
    private sealed class CpuTestBackend(int bits) : TestBackend
#pragma warning restore CA1001
    {
        private readonly CpuBackend _backend = new(threads: 2);

        public override Executor Compile(Plan plan, Weights weights)
        {
            int before = Simd.Bits;
            Simd.Bits = bits;
            try
            {
                return _backend.Compile(plan, weights);
            }
            finally
            {
                Simd.Bits = before;
            }
        }

        public override void Fill(Executor executor, byte value) => MemoryMarshal.AsBytes(((CpuExecutor)executor).Arena).Fill(value);

        public override byte[] Arena(Executor executor) => MemoryMarshal.AsBytes(((CpuExecutor)executor).Arena).ToArray();
    }

    // On the emulator every kernel with every check: a wrong address, a race, a read of what nobody wrote throws.
#pragma warning disable CA1001 // It serves all tests, to the end of the process.
    private sealed class GpuTestBackend(Precision precision) : TestBackend
    {
        private readonly GpuBackend? _backend = DriverUnderTest.Missing is null
            ? new(DriverUnderTest.Open(), new GpuOptions { Precision = precision, Capture = false })
            : null;

        public override string? Missing => DriverUnderTest.Missing;

        public override DType Storage => precision.Storage();

        // 10 bits of fraction in tf32 and fp16, 7 in bf16. In tf32 only products are rounded.
        public override double ToleranceOf(Op op, double tolerance) => precision switch
        {
            Precision.Fp32 => tolerance,
            Precision.Tf32 => op.Name is "Convolution" or "ConvolutionSkip" or "ConvolutionGradient" or "Linear" or "LinearGradient" or "Attention" or "AttentionGradient" ? Math.ScaleB(1, -9) : tolerance,
            Precision.Fp16 => Math.ScaleB(1, -9),
            _ => Math.ScaleB(1, -6),
        };

        public override Graph Prepare(Graph graph) => ReducedStorage.Apply(graph, _ => Storage);

        public override Executor Compile(Plan plan, Weights weights) => _backend!.Compile(plan, weights);

        public override void Fill(Executor executor, byte value)
        {
            DeviceBuffer arena = ((GpuExecutor)executor).Arena;
            lock (_backend!.Gate)
            {
                // What the executor writes and runs goes through a stream of its own.
                _backend.Driver.Fill(arena.Address, value, arena.Bytes);
                _backend.Driver.Synchronize();
            }
        }

        public override byte[] Arena(Executor executor)
        {
            DeviceBuffer arena = ((GpuExecutor)executor).Arena;
            byte[] bytes = new byte[arena.Bytes];
            lock (_backend!.Gate)
            {
                ((GpuExecutor)executor).Synchronize();
                _backend.Driver.CopyToHost(bytes, arena.Address);
            }

            return bytes;
        }
    }
#pragma warning restore CA1001
}
