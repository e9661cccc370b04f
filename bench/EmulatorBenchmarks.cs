using System.Text;
using BenchmarkDotNet.Attributes;
using Kernels.Backends.Gpu;
using Kernels.Emulation;

namespace Kernels.Bench;

/// <summary>
/// Speed of the PTX emulator on one core: ordinary arithmetic with checks off and on, in millions of thread instructions per second, and <c>mma.sync</c> in GFLOP/s.
/// </summary>
[RateColumns(Instructions, Flops)]
public class EmulatorBenchmarks
{
    private const string Instructions = "M thread instructions/s";
    private const string Flops = "GFLOP/s";

    private const int Warps = 8;
    private const int Blocks = 8;
    private const int Rounds = 250;

    // A loop of integer and float arithmetic, a comparison, a shared load and store, as compilers write them.
    private const string Arithmetic = """
        .version 8.4
        .target sm_90
        .address_size 64
        .visible .entry arithmetic(.param .u64 out, .param .u32 rounds)
        {
            .reg .pred %p<3>;
            .reg .f32 %f<8>;
            .reg .b32 %r<16>;
            .reg .b64 %rd<4>;
            .shared .align 4 .b8 tile[1024];
            ld.param.u64 %rd1, [out];
            ld.param.u32 %r1, [rounds];
            mov.u32 %r2, %tid.x;
            cvt.rn.f32.u32 %f1, %r2;
            mov.f32 %f2, 0f3F000000;
            mov.f32 %f3, 0f3F800000;
            mov.u32 %r4, tile;
            shl.b32 %r5, %r2, 2;
            add.s32 %r5, %r4, %r5;
            mov.u32 %r3, 0;
        LOOP:
            fma.rn.f32 %f4, %f1, %f2, %f3;
            mul.f32 %f5, %f4, %f2;
            add.f32 %f1, %f5, %f3;
            st.shared.f32 [%r5], %f1;
            mad.lo.s32 %r6, %r3, 5, %r2;
            xor.b32 %r7, %r6, %r3;
            and.b32 %r8, %r7, 255;
            fma.rn.f32 %f6, %f5, %f2, %f1;
            max.f32 %f1, %f6, %f2;
            setp.gt.s32 %p2, %r8, 100;
            selp.b32 %r9, %r8, %r6, %p2;
            add.s32 %r2, %r9, 1;
            ld.shared.f32 %f7, [%r5];
            add.f32 %f1, %f1, %f7;
            add.s32 %r3, %r3, 1;
            setp.lt.s32 %p1, %r3, %r1;
            @%p1 bra LOOP;
            mov.u32 %r10, %tid.x;
            mul.wide.u32 %rd2, %r10, 4;
            add.s64 %rd3, %rd1, %rd2;
            st.global.f32 [%rd3], %f1;
            ret;
        }
        """;

    private const string Tensor = """
        .version 8.4
        .target sm_90
        .address_size 64
        .visible .entry tensor(.param .u64 out, .param .u32 rounds)
        {
            .reg .pred %p<2>;
            .reg .f32 %f<4>;
            .reg .b32 %r<16>;
            ld.param.u32 %r1, [rounds];
            mov.u32 %r2, 0x3C003C00;
            mov.f32 %f0, 0f00000000;
            mov.f32 %f1, 0f00000000;
            mov.f32 %f2, 0f00000000;
            mov.f32 %f3, 0f00000000;
            mov.u32 %r3, 0;
        LOOP:
            mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r2, %r2, %r2, %r2}, {%r2, %r2}, {%f0, %f1, %f2, %f3};
            mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r2, %r2, %r2, %r2}, {%r2, %r2}, {%f0, %f1, %f2, %f3};
            mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r2, %r2, %r2, %r2}, {%r2, %r2}, {%f0, %f1, %f2, %f3};
            mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r2, %r2, %r2, %r2}, {%r2, %r2}, {%f0, %f1, %f2, %f3};
            add.s32 %r3, %r3, 1;
            setp.lt.s32 %p1, %r3, %r1;
            @%p1 bra LOOP;
            ret;
        }
        """;

    private Runner none = null!;
    private Runner all = null!;

    /// <summary>Millions of thread instructions of one arithmetic call: 17 in the loop, 15 around it.</summary>
    private const double MillionInstructions = Blocks * Warps * 32.0 * (Rounds * 17 + 15) / 1e6;

    /// <summary>Tensor-core GFLOPs of one tensor call: four products of 16 x 8 x 16 in a round.</summary>
    private const double TensorGigaflops = Blocks * Warps * (double)Rounds * 4 * 4096 / 1e9;

    /// <summary>Loads the kernels.</summary>
    [GlobalSetup]
    public void Setup()
    {
        none = new Runner(Checks.None);
        all = new Runner(Checks.All);
    }

    /// <summary>Frees the drivers.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        none.Dispose();
        all.Dispose();
    }

    /// <summary>Arithmetic with checks off.</summary>
    [Benchmark, Work(Instructions, MillionInstructions)]
    public void ArithmeticUnchecked() => none.Run("arithmetic");

    /// <summary>Arithmetic with every check on.</summary>
    [Benchmark, Work(Instructions, MillionInstructions)]
    public void ArithmeticChecked() => all.Run("arithmetic");

    /// <summary>Matrix products with checks off.</summary>
    [Benchmark, Work(Flops, TensorGigaflops)]
    public void MatrixMultiply() => none.Run("tensor");

    private sealed class Runner : IDisposable
    {
        private readonly EmulatorDriver driver;
        private readonly ulong output;
        private readonly Dictionary<string, DriverFunction> functions = [];

        internal Runner(Checks checks)
        {
            driver = new EmulatorDriver(new EmulatorOptions { Checks = checks, Workers = 1 });
            output = driver.Allocate(Warps * 32 * 4);
            functions["arithmetic"] = driver.LoadModule(Encoding.UTF8.GetBytes(Arithmetic), "arithmetic").Function("arithmetic");
            functions["tensor"] = driver.LoadModule(Encoding.UTF8.GetBytes(Tensor), "tensor").Function("tensor");
        }

        internal void Run(string name)
        {
            // One block at a time: blocks that write the same output race, which is not what is measured.
            for (var block = 0; block < Blocks; block++)
                driver.Launch(functions[name], LaunchGeometry.Linear(1, Warps * 32), new LaunchArguments().Add(output).Add(Rounds).Bytes);
        }

        public void Dispose() => driver.Dispose();
    }
}
