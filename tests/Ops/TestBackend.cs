using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Kernels.Runtime;
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
}
