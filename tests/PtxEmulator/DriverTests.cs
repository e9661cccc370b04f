using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>The emulator as a driver: memory, streams, events, graphs, errors; and the compiler it is fed by.</summary>
public sealed class DriverTests
{
    // y[i] += 1 for 32 elements.
    private const string Increment = """
        .version 8.4
        .target sm_90
        .address_size 64
        .visible .entry increment(.param .u64 y)
        {
            .reg .b32 %r<3>;
            .reg .b64 %d<4>;
            mov.u32 %r1, %tid.x;
            mul.wide.u32 %d1, %r1, 4;
            ld.param.u64 %d2, [y];
            add.s64 %d3, %d2, %d1;
            ld.global.u32 %r2, [%d3];
            add.s32 %r2, %r2, 1;
            st.global.u32 [%d3], %r2;
            ret;
        }
        """;

    private static KernelRun Load() => new(Encoding.UTF8.GetBytes(Increment), "increment.ptx");

    [Fact]
    public void A_captured_graph_replays_what_was_given_to_the_stream()
    {
        using var run = Load();
        var driver = run.Driver;
        var (a, b) = (driver.Allocate(128, "a"), driver.Allocate(128, "b"));
        driver.Fill(a, 0, 128);
        using var stream = driver.CreateStream();
        using var side = driver.CreateStream();
        using DriverEvent fork = driver.CreateEvent(), join = driver.CreateEvent();
        driver.BeginCapture(stream);
        driver.Launch(run.Module.Function("increment"), LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(a).Bytes, stream);
        driver.Record(fork, stream);
        driver.Wait(side, fork);
        driver.Copy(b, a, 128, side);
        driver.Launch(run.Module.Function("increment"), LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(b).Bytes, side);
        driver.Record(join, side);
        driver.Wait(stream, join);
        using var graph = driver.EndCapture(stream);
        Assert.Equal(3, graph.Nodes);
        Assert.All(run.Get<int>(a, 32), v => Assert.Equal(0, v));
        for (var replay = 1; replay <= 3; replay++)
        {
            driver.Launch(graph);
            Assert.All(run.Get<int>(a, 32), v => Assert.Equal(replay, v));
            Assert.All(run.Get<int>(b, 32), v => Assert.Equal(replay + 1, v));
        }
        Assert.True(driver.ElapsedMilliseconds(fork, join) >= 0);
    }

    [Fact]
    public void Misuse_is_named()
    {
        using var run = Load();
        var driver = run.Driver;
        var a = driver.Allocate(128, "a");
        Assert.Contains("not within one allocation", Assert.Throws<DeviceException>(() => driver.Fill(a + 100, 0, 100)).Message, StringComparison.Ordinal);
        Assert.Contains("'nothing'", Assert.Throws<DeviceException>(() => run.Module.Function("nothing")).Message, StringComparison.Ordinal);
        Assert.Contains("increment", Assert.Throws<DeviceException>(() => run.Module.Function("nothing")).Message, StringComparison.Ordinal);
        Assert.Contains("not 16", Assert.Throws<DeviceException>(() => run.Launch("increment", 1, 32, new LaunchArguments().Add(a).Add(a))).Message, StringComparison.Ordinal);
        Assert.Contains("machine code", Assert.Throws<DeviceException>(() => driver.LoadModule("\u007fELF"u8, "x")).Message, StringComparison.Ordinal);
        Assert.Throws<DeviceException>(() => driver.BeginCapture(driver.DefaultStream));
        using var stream = driver.CreateStream();
        Assert.Throws<DeviceException>(() => driver.EndCapture(stream));
        driver.Free(a);
        Assert.Contains("freed before", Assert.Throws<DeviceException>(() => driver.Free(a)).Message, StringComparison.Ordinal);
        Assert.Throws<DeviceException>(() => driver.Allocate(driver.TotalBytes + 1));
    }

    [Fact]
    public void Memory_is_aligned_and_starts_as_NaN()
    {
        using var run = Load();
        var address = run.Driver.Allocate(40);
        Assert.Equal(0UL, address % 256);
        Assert.All(run.Get<float>(address, 10), v => Assert.True(float.IsNaN(v)));
    }

    /// <summary>Dynamic shared memory begins behind the static variables, at the alignment that is declared for it: kernels may take its low bits for zero.</summary>
    [Theory]
    [InlineData(4, 32), InlineData(16, 32), InlineData(64, 64), InlineData(128, 128), InlineData(1024, 1024)]
    public void Dynamic_shared_memory_is_aligned_as_declared(int alignment, int expected)
    {
        var text = $".version 8.4\n.target sm_90\n.address_size 64\n.extern .shared .align {alignment} .b8 more[];\n.visible .entry k(.param .u64 po)\n{{\n.reg .b32 %r<3>;\n.reg .b64 %d<2>;\n.shared .align 4 .b8 s[24];\n"
            + "mov.u32 %r1, s;\nmov.u32 %r2, more;\nsub.s32 %r2, %r2, %r1;\nld.param.u64 %d1, [po];\nst.global.u32 [%d1], %r2;\nret;\n}\n";
        using var run = new KernelRun(System.Text.Encoding.UTF8.GetBytes(text), "aligned.ptx", new EmulatorOptions { Workers = 1 });
        var result = run.Put(new uint[1]);
        run.Launch("k", new LaunchGeometry(1, 1, 1, 1, 1, 1, 64), new LaunchArguments().Add(result));
        Assert.Equal([(uint)expected], run.Get<uint>(result, 1));
    }

    [Fact]
    public void Arguments_lie_at_their_natural_alignment()
    {
        var arguments = new LaunchArguments().Add((byte)1).Add((short)2).Add(3).Add((byte)4).Add(5UL);
        Assert.Equal([1, 0, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], arguments.Bytes.ToArray());
        Assert.Equal([7, 0, 0, 0], arguments.Clear().Add(7).Bytes.ToArray());
    }

    [Theory]
    [InlineData(32, 0, 256, "sm_90", 8, "threads"), InlineData(128, 0, 256, "sm_90", 2, "registers"), InlineData(32, 100 << 10, 128, "sm_90", 2, "shared memory")]
    [InlineData(32, 0, 32, "sm_90", 32, "blocks"), InlineData(64, 0, 256, "sm_86", 4, "registers"), InlineData(255, 0, 1024, "sm_80", 0, "registers")]
    public void Occupancy_follows_from_registers_and_shared_memory(int registers, int sharedBytes, int threads, string architecture, int blocks, string limit)
    {
        var resources = new KernelResources("k", registers, 0, 0, 0, sharedBytes, 0);
        var occupancy = Occupancy.Of(resources, LaunchGeometry.Linear(1, threads), architecture)!;
        Assert.Equal((blocks, limit), (occupancy.BlocksPerMultiprocessor, occupancy.Limit));
        Assert.Equal(blocks * threads / 32, occupancy.WarpsPerMultiprocessor);
    }

    [Fact]
    public void The_compilers_report_is_read()
    {
        var resources = KernelCompiler.ParseResources("""
            ptxas info    : 0 bytes gmem
            ptxas info    : Compiling entry function 'first' for 'sm_90'
            ptxas info    : Function properties for first
            ptxas         .     48 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
            ptxas info    : Used 255 registers, used 1 barriers, 8192 bytes smem, 400 bytes cmem[0]
            ptxas info    : Compiling entry function 'second' for 'sm_90'
            ptxas info    : Used 8 registers, 360 bytes cmem[0]
            """);
        Assert.Equal([new KernelResources("first", 255, 12, 16, 48, 8192, 400), new KernelResources("second", 8, 0, 0, 0, 0, 360)], resources);
    }

    [Fact]
    public void Nvrtc_compiles_for_several_architectures_and_reports_errors_with_their_line()
    {
        string[] architectures = ["sm_75", "sm_80", "sm_86", "sm_90"];
        Cuda.RequireMachineCode(architectures);
        Assert.True(KernelCompiler.Version.Major >= 11);
        Assert.Contains("sm_80", KernelCompiler.Architectures);
        foreach (var architecture in architectures)
        {
            var compiled = KernelCompiler.Compile(
                "#include \"half.cuh\"\nextern \"C\" __global__ void k(float* x) { __shared__ float s[TILE]; s[threadIdx.x] = x[threadIdx.x]; __syncthreads(); x[threadIdx.x] = HALF * s[TILE - 1 - threadIdx.x]; }",
                "k.cu", architecture, ["-DTILE=64"], [KeyValuePair.Create("half.cuh", "#define HALF 0.5f\n")]);
            var kernel = Assert.Single(compiled.Resources);
            Assert.Equal(("k", 256), (kernel.Name, kernel.SharedBytes));
            Assert.InRange(kernel.Registers, 1, 32);
            Assert.NotEmpty(compiled.Cubin);
            using var run = new KernelRun(compiled, new EmulatorOptions { Architecture = architecture });
            var x = run.Put(Enumerable.Range(0, 64).Select(i => (float)i).ToArray());
            run.Launch("k", 1, 64, new LaunchArguments().Add(x));
            Assert.Equal(Enumerable.Range(0, 64).Select(i => 0.5f * (63 - i)), run.Get<float>(x, 64));
        }
        var error = Assert.Throws<KernelCompileException>(() => KernelCompiler.Compile("\n\nint x = y;", "wrong.cu", "sm_90"));
        Assert.Contains("wrong.cu(3)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Inlined_code_keeps_the_line_it_was_written_on_and_asserts_their_message()
    {
        Cuda.Require();
        const string Source = """
            __device__ __forceinline__ void put(float* x, int i)
            {
                x[i] = 1.f;
            }
            extern "C" __global__ void k(float* x, int n)
            {
                if (n < 0)
                    __assertfail("n >= 0", "/some/where/a.cu", 9, "k", 1);
                put(x, threadIdx.x + n);
            }
            """;
        using var run = new KernelRun(KernelCompiler.Compile(Source, "inlined.cu", "sm_90"));
        var x = run.Put(new float[32], "x");
        var outside = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(x).Add(1)));
        Assert.Equal(("inlined.cu", 3), (outside.Source.File, outside.Source.Line));
        Assert.Equal(31, outside.Thread.X);
        var assertion = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(x).Add(-1)));
        Assert.Equal(FindingKind.Assertion, assertion.Kind);
        Assert.Contains("'n >= 0' failed at a.cu:9", assertion.Message, StringComparison.Ordinal);
    }
}
