using System.Runtime.InteropServices;
using System.Text.Json;
using Kernels.Cli;
using Kernels.Cli.Commands;
using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary><c>kernels launch</c> and <c>kernels compile</c>, run as a user would.</summary>
public sealed class LaunchCommandTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("kernels-launch").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string At(string name) => Path.Combine(folder, name);

    private static async Task<(int Code, string Output, string Error)> Kernels(params string[] args)
    {
        using StringWriter output = new(), error = new();
        var code = await KernelsCommand.RunAsync(args, new CliConsole(output, error, interactive: false), TestContext.Current.CancellationToken);
        return (code, output.ToString(), error.ToString());
    }

    private static string Source(string name) => Path.Combine(Cuda.Folder, name);

    [Fact]
    public async Task A_kernel_runs_on_files()
    {
        Cuda.Require();
        Npy.Write(At("x.npy"), NpyArray.Of([1f, 2f, 3f, 4f], 4));
        Npy.Write(At("y.npy"), NpyArray.Of([10f, 20f, 30f, 40f], 4));
        var (code, _, error) = await Kernels(
            "launch", Source("ordinary.cu"), "--entry", "saxpy", "--grid", "1", "--block", "32",
            "--arg", "f32:0.5", "--arg", "in:" + At("x.npy"), "--arg", $"inout:{At("y.npy")}:{At("z.npy")}", "--arg", "i32:4");
        Assert.True(code == 0, error);
        Assert.Equal([10.5f, 21f, 31.5f, 42f], Npy.Read(At("z.npy")).ToFloat32());
        Assert.Equal([10f, 20f, 30f, 40f], Npy.Read(At("y.npy")).ToFloat32());
        Assert.Contains("nothing found", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_buggy_kernel_exits_with_4_and_says_where()
    {
        Cuda.Require();
        Npy.Write(At("x.npy"), NpyArray.Of(new float[128], 128));
        var (code, output, _) = await Kernels(
            "launch", Source("buggy.cu"), "--entry", "missing_barrier", "--grid", "1", "--block", "128", "--arch", "sm_80", "--counters", "--json",
            "--arg", "in:" + At("x.npy"), "--arg", "out:f32[128]:" + At("y.npy"), "--arg", "i32:128");
        Assert.Equal(4, code);
        using var json = JsonDocument.Parse(output);
        var race = json.RootElement.GetProperty("findings").EnumerateArray().First(f => f.GetProperty("kind").GetString() == "SharedRace");
        Assert.Equal("buggy.cu", race.GetProperty("file").GetString());
        // 128 threads, 4 bytes each, read and written.
        Assert.Equal(512, json.RootElement.GetProperty("counters").GetProperty("globalReadBytes").GetInt64());
        Assert.Equal(512, json.RootElement.GetProperty("counters").GetProperty("globalWrittenBytes").GetInt64());
        Assert.True(json.RootElement.TryGetProperty("occupancy", out _));

        var (unchecked_, text, _) = await Kernels(
            "launch", Source("buggy.cu"), "--entry", "missing_barrier", "--grid", "1", "--block", "128", "--check", "none", "--arch", "sm_80", "--counters",
            "--arg", "in:" + At("x.npy"), "--arg", "out:f32[128]:" + At("y.npy"), "--arg", "i32:128");
        Assert.Equal(0, unchecked_);
        Assert.Contains("coalescing efficiency", text, StringComparison.Ordinal);
        Assert.Contains("occupancy", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_element_type_goes_in_and_out_of_ptx()
    {
        // A copy of bytes, in PTX, which needs no compiler.
        File.WriteAllText(At("copy.ptx"), """
            .version 8.4
            .target sm_90
            .address_size 64
            .visible .entry copy(.param .u64 from, .param .u64 to, .param .u16 add)
            {
                .reg .b16 %h<3>;
                .reg .b32 %r<2>;
                .reg .b64 %d<4>;
                mov.u32 %r1, %tid.x;
                cvt.u64.u32 %d1, %r1;
                ld.param.u64 %d2, [from];
                ld.param.u64 %d3, [to];
                add.s64 %d2, %d2, %d1;
                add.s64 %d3, %d3, %d1;
                ld.global.u8 %h1, [%d2];
                st.global.u8 [%d3], %h1;
                ret;
            }
            """);
        foreach (var (type, bytes) in new[] { ("f32", 4), ("f64", 8), ("f16", 2), ("bf16", 2), ("i8", 1), ("u8", 1), ("i16", 2), ("u16", 2), ("i32", 4), ("u32", 4), ("i64", 8), ("u64", 8), ("bool", 1) })
        {
            var values = Enumerable.Range(1, 6 * bytes).Select(i => (byte)i).ToArray();
            new RawNpy(RawNpy.DescrOf(type), [2, 3], values).Write(At("in.npy"));
            var (code, _, error) = await Kernels(
                "launch", At("copy.ptx"), "--grid", "1,1", "--block", (6 * bytes).ToString(System.Globalization.CultureInfo.InvariantCulture),
                "--arg", $"in:{type}[2,3]:{At("in.npy")}", "--arg", $"out:{type}[2,3]:{At("out.npy")}", "--arg", "f16:1.5");
            Assert.True(code == 0, $"{type}: {error}");
            var result = RawNpy.Read(At("out.npy"));
            Assert.Equal(RawNpy.DescrOf(type), result.Descr);
            Assert.Equal(values, result.Elements);
            Assert.Equal([2, 3], result.Dims);
        }
    }

    [Theory]
    [InlineData("i8:200", 1, "does not fit i8"), InlineData("f33:1", 1, "none of"), InlineData("in:missing.npy", 2, "no such file"), InlineData("out:f32:x.npy", 1, "none of")]
    public async Task Wrong_arguments_are_refused(string argument, int expected, string message)
    {
        File.WriteAllText(At("empty.ptx"), ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p) { ret; }\n");
        var (code, _, error) = await Kernels("launch", At("empty.ptx"), "--grid", "1", "--block", "1", "--arg", argument);
        Assert.Equal(expected, code);
        Assert.Contains(message, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0", "1", 1, "--grid '0'"), InlineData("1", "2000", 3, "at most 1024 threads"), InlineData("1", "1", 3, "takes 8 bytes of arguments, not 0")]
    public async Task Wrong_geometry_is_refused(string grid, string block, int expected, string message)
    {
        File.WriteAllText(At("empty.ptx"), ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p) { ret; }\n");
        var (code, _, error) = await Kernels("launch", At("empty.ptx"), "--grid", grid, "--block", block);
        Assert.Equal(expected, code);
        Assert.Contains(message, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_device_that_is_not_there_is_exit_3_with_what_to_do()
    {
        File.WriteAllText(At("empty.ptx"), ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k() { ret; }\n");
        string[] launch = ["launch", At("empty.ptx"), "--grid", "1", "--block", "1", "--device", "cuda"];
        var (code, _, error) = await Kernels([.. launch, "--counters"]);
        Assert.Equal(1, code);
        Assert.Contains("--device emulator", error, StringComparison.Ordinal);
        if (NativeLibrary.TryLoad("libcuda.so.1", out _) || NativeLibrary.TryLoad("nvcuda.dll", out _))
            Assert.Skip("there is a CUDA driver here");
        (code, _, error) = await Kernels(launch);
        Assert.Equal(3, code);
        Assert.Contains("the CUDA driver was not found", error, StringComparison.Ordinal);
        Assert.Contains("Install the NVIDIA driver", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compile_writes_ptx_and_machine_code_and_a_table()
    {
        Cuda.Require();
        var (code, output, error) = await Kernels("compile", Source("buggy.cu"), "--arch", "sm_80,sm_86,compute_90", "--out", At("out"));
        Assert.True(code == 0, error);
        Assert.Contains("missing_barrier", output, StringComparison.Ordinal);
        Assert.StartsWith("\u007fELF", File.ReadAllText(At("out/buggy.sm_80.cubin")), StringComparison.Ordinal);
        Assert.Contains(".entry missing_barrier", File.ReadAllText(At("out/buggy.sm_86.ptx")), StringComparison.Ordinal);
        Assert.True(File.Exists(At("out/buggy.compute_90.ptx")));
        Assert.False(File.Exists(At("out/buggy.compute_90.cubin")));

        File.WriteAllText(At("wrong.cu"), "extern \"C\" __global__ void k() { undeclared = 1; }");
        (code, _, error) = await Kernels("compile", At("wrong.cu"));
        Assert.Equal(2, code);
        Assert.Contains("wrong.cu(1)", error, StringComparison.Ordinal);
    }
}
