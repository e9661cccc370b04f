using System.Diagnostics;
using BenchmarkDotNet.Attributes;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Measurement;
using Kernels.Tests.Backends.Gpu;

namespace Kernels.Bench.Benchmarks;

/// <summary>From nothing to the first step of the demo pair: files opened, graph, gradient, fusion, plan, weights packed, one step run.</summary>
public class StartupBenchmarks
{
    private string _models = "";
    private string _command = "";
    private string _output = "";
    private IdleDevice _device = null!;

    /// <summary>Finds the files and warms the cache of compiled kernels.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _models = $"{Find("weights", "shapes32_diffusion.safetensors")}+{Find("weights", "shapes32_classifier.safetensors")}";
        _command = Find("src", "Cli", "bin", "Release", "net10.0", "kernels.dll");
        _output = Directory.CreateTempSubdirectory("kernels-bench-").FullName;
        using ModelPair pair = ModelPair.Open(_models);
        _device = new IdleDevice(new GpuOptions { Precision = Precision.Fp16 }, backend => new GuidedWorkload(backend, pair, 1).Dispose());
    }

    /// <summary>The whole process: `kernels sample` of one image in two steps, the fewest there are, on the CPU, runtime, command line and picture included.</summary>
    [Benchmark]
    public int Process()
    {
        ProcessStartInfo start = new("dotnet", [_command, "sample", "--device", "cpu", "--class", "3", "--num-samples", "1", "--steps", "2", "--output", Path.Combine(_output, "star.png")])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = System.Diagnostics.Process.Start(start)!;
        process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? 0 : throw new InvalidOperationException($"kernels sample ended with {process.ExitCode}");
    }

    /// <summary>On the CPU, in a process that has done it before.</summary>
    [Benchmark]
    public void Cpu()
    {
        using CpuBackend backend = new();
        using ModelPair pair = ModelPair.Open(_models);
        using GuidedWorkload workload = new(backend, pair, 1);
        workload.Run();
    }

    /// <summary>On a GPU, in a process that has done it before, with a warm cache of compiled kernels: what the host does; the library behind the driver does nothing.</summary>
    [Benchmark]
    public void GpuHost()
    {
        using GpuBackend backend = _device.Open();
        using ModelPair pair = ModelPair.Open(_models);
        using GuidedWorkload workload = new(backend, pair, 1);
        workload.Run();
    }

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _device.Dispose();
        Directory.Delete(_output, recursive: true);
    }

    private static string Find(params string[] path)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string file = Path.Combine([folder.FullName, .. path]);
            if (File.Exists(file))
            {
                return file;
            }
        }

        throw new FileNotFoundException($"{Path.Combine(path)} is missing in the folder of the repository; dotnet build -c Release makes what is built");
    }
}
