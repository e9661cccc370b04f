using BenchmarkDotNet.Attributes;
using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Measurement;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Backends.Gpu;

namespace Kernels.Bench.Benchmarks;

/// <summary>What the host spends on a guided step on a GPU: the driver is that of a real device, the library behind it does nothing. A step must allocate nothing.</summary>
[MemoryDiagnoser(displayGenColumns: false), Allocations]
public class StepOverheadBenchmarks
{
    private ModelPair _model = null!;
    private IdleDevice _device = null!;
    private GuidedWorkload _workload = null!;

    /// <summary>The models.</summary>
    [Params("shapes32", "adm64")]
    public string Model { get; set; } = "";

    /// <summary>Whether a step is replayed as one graph, or launched kernel by kernel.</summary>
    [Params(true, false)]
    public bool Captured { get; set; }

    /// <summary>Builds the step.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _model = ModelPair.OfPreset(Model);
        GpuOptions options = new() { Precision = Precision.Fp16, Capture = Captured };
        _device = new IdleDevice(options, backend => new GuidedWorkload(backend, _model, 1).Dispose());
        _workload = new GuidedWorkload(_device.Backend, _model, 1);
    }

    /// <summary>Inputs written, everything launched.</summary>
    [Benchmark]
    public void Step() => _workload.Run();

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _workload.Dispose();
        _device.Dispose();
        _model.Dispose();
    }
}

/// <summary>What a launch costs on the CPU, to which the work comes: additions of eight numbers, one hundred in a row.</summary>
[MemoryDiagnoser(displayGenColumns: false), Allocations]
public class CpuLaunchBenchmarks
{
    private const int Launches = 100;
    private CpuBackend _backend = null!;
    private Executor _executor = null!;

    /// <summary>Binds the plan.</summary>
    [GlobalSetup]
    public void Setup()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [8]), sum = x;
        for (int i = 0; i < Launches; i++)
        {
            sum = builder.Add($"sum{i}", new Add(), sum, x);
        }

        builder.Output("sum", sum);
        _backend = new CpuBackend();
        _executor = _backend.Compile(_backend.Plan(builder.Build()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        _executor.Write("x", new float[8]);
    }

    /// <summary>One launch.</summary>
    [Benchmark(OperationsPerInvoke = Launches)]
    public void Launch() => _executor.Run();

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _executor.Dispose();
        _backend.Dispose();
    }
}
