using BenchmarkDotNet.Attributes;
using Kernels.Backends.Cpu;
using Kernels.Measurement;

namespace Kernels.Bench.Benchmarks;

/// <summary>Whole guided steps of the demo pair's shapes. A step must allocate nothing.</summary>
[MemoryDiagnoser(displayGenColumns: false), Allocations]
public class GuidedStepBenchmarks
{
    private CpuBackend _backend = null!;
    private GuidedWorkload _workload = null!;

    /// <summary>Number of images.</summary>
    [Params(1, 16)]
    public int Batch { get; set; }

    /// <summary>Builds the step.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _backend = new CpuBackend();
        _workload = new GuidedWorkload(_backend, ModelPair.OfPreset("shapes32"), Batch);
    }

    /// <summary>UNet, classifier forward and backward, noise and update.</summary>
    [Benchmark]
    public void Step() => _workload.Run();

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _workload.Dispose();
        _backend.Dispose();
    }
}
