using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Kernels.Cli;
using Kernels.Measurement;
using Kernels.Runtime;
using Kernels.Tests.Cli;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary>What a profiler that listens is told: one test with functions of this process in its place, one with a library of its own in a process of its own.</summary>
public sealed class NvtxTests
{
    [ThreadStatic]
    private static List<string>? t_ranges;

    [Fact]
    public unsafe void Every_launch_of_a_profiled_step_is_a_range_within_that_of_the_step()
    {
        // Without a profiler nothing is asked of anybody.
        Assert.SkipWhen(Nvtx.IsAttached, $"{Nvtx.Variable} is set: a profiler listens already");
        Nvtx.Push("nobody hears").Dispose();
        t_ranges = [];
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        using CpuBackend backend = new(2);
        using GuidedWorkload workload = new(backend, pair, 1);
        double[] times = new double[workload.Plan.Launches.Count];
        workload.Profile(times, TestContext.Current.CancellationToken);
        Assert.Empty(t_ranges);
        try
        {
            delegate* unmanaged[Cdecl]<delegate* unmanaged[Cdecl]<uint, nint>, int> initialize = &Initialize;
            Nvtx.IsAttachedByTest = Nvtx.Attach((nint)initialize);
            Assert.True(Nvtx.IsAttached);
            workload.Profile(times, TestContext.Current.CancellationToken);
            Nvtx.Push(new string('ä', 1000)).Dispose();
        }
        finally
        {
            Nvtx.IsAttachedByTest = false;
        }

        string[] launches = [.. workload.Plan.Launches.SelectMany(l => new[] { $"+ {l.Node.Name}", "-" })];
        Assert.Equal(["+ guided step, launch by launch", .. launches, "-"], t_ranges.SkipLast(2));

        // A name that is too long is cut, within a letter never.
        Assert.Matches("^\\+ ä{50,}$", t_ranges[^2]);
    }

    [Fact]
    public async Task A_profilers_library_is_loaded_and_told()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "the library is built with cc");
        string command = Path.Combine(AppContext.BaseDirectory, "kernels.dll");
        Assert.SkipUnless(File.Exists(command), "the command is not beside the tests: they were published as one file");
        using TemporaryFolder folder = new();
        (int code, string messages) = await Child.Run("cc", ["-shared", "-fPIC", "-o", folder["tool.so"], Path.Combine(AppContext.BaseDirectory, "Measurement", "fixtures", "nvtx_tool.c")]);
        Assert.SkipWhen(code < 0, "there is no C compiler 'cc'");
        Assert.True(code == 0, messages);
        string[] profile = [command, "profile", "--device", "cpu", "--threads", "1", "--repeats", "1", "--time-limit", "0.001", "--quiet", "--top", "1", "--json", folder["p.json"]];
        (code, messages) = await Child.Run("dotnet", profile, new Dictionary<string, string> { [Nvtx.Variable] = folder["tool.so"], ["NVTX_TOOL_OUTPUT"] = folder["ranges"] });
        Assert.True(code == ExitCode.Done, messages);

        string[] lines = File.ReadAllLines(folder["ranges"]);
        int depth = 0, deepest = 0;
        foreach (string line in lines)
        {
            depth += line == "-" ? -1 : 1;
            deepest = Math.Max(deepest, depth);
            Assert.True(depth >= 0);
        }

        Assert.Equal((0, 2), (depth, deepest));
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        string[] launches = [.. Kernels.Diffusion.Rewrites.Apply(GuidedWorkload.BuildGraph(pair, 1)).Step.Nodes.Where(n => !n.Op.IsView).Select(n => $"+ {n.Name}")];
        int start = Array.IndexOf(lines, "+ guided step, launch by launch") + 1;
        Assert.Equal(launches.SelectMany(l => new[] { l, "-" }), lines.Skip(start).Take(2 * launches.Length));

        // A library that is none stops nobody.
        File.WriteAllText(folder["broken.so"], "no library");
        (code, messages) = await Child.Run("dotnet", [command, "bench", "--help"], new Dictionary<string, string> { [Nvtx.Variable] = folder["broken.so"] });
        Assert.True(code == ExitCode.Done, messages);
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static unsafe int Initialize(delegate* unmanaged[Cdecl]<uint, nint> getExportTable)
    {
        nint* callbacks = (nint*)getExportTable(1), version = (nint*)getExportTable(3);
        nint** table = null;
        uint size = 0;
        if (callbacks[0] != 16 || version[0] != 24 || getExportTable(2) != 0)
        {
            return 0;
        }

        ((delegate* unmanaged[Cdecl]<uint, void>)version[2])(3);
        var getModuleFunctionTable = (delegate* unmanaged[Cdecl]<int, nint***, uint*, int>)callbacks[1];
        if (getModuleFunctionTable(0, &table, &size) != 0 || getModuleFunctionTable(7, &table, &size) != 0 || getModuleFunctionTable(1, &table, &size) != 1 || size != 16)
        {
            return 0;
        }

        delegate* unmanaged[Cdecl]<byte*, int> push = &Push;
        delegate* unmanaged[Cdecl]<int> pop = &Pop;
        (*table[9], *table[11]) = ((nint)push, (nint)pop);
        return 1;
    }

    // Other tests may run meanwhile, on other threads.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static unsafe int Push(byte* name)
    {
        t_ranges?.Add($"+ {Marshal.PtrToStringUTF8((nint)name)}");
        return 0;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int Pop()
    {
        t_ranges?.Add("-");
        return 0;
    }
}
