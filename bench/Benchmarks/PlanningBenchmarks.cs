using BenchmarkDotNet.Attributes;
using Kernels.Measurement;
using Kernels.Passes;
using Kernels.Runtime;

namespace Kernels.Bench.Benchmarks;

/// <summary>What stands between the settings and the first step: graph with gradient, fusion, memory plan.</summary>
[MemoryDiagnoser]
public class PlanningBenchmarks
{
    private ModelPair _model = null!;
    private Graph _graph = null!;
    private Graph _fused = null!;

    /// <summary>The models: the published 64x64 and 256x256 pairs.</summary>
    [Params("adm64", "adm256")]
    public string Model { get; set; } = "";

    /// <summary>Builds what each stage starts from.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _model = ModelPair.OfPreset(Model);
        _graph = GuidedWorkload.BuildGraph(_model, 4);
        _fused = Fusion.Apply(_graph).Graph;
    }

    /// <summary>Models and gradient to a graph.</summary>
    [Benchmark]
    public Graph BuildAndDifferentiate() => GuidedWorkload.BuildGraph(_model, 4);

    /// <summary>All rewrites.</summary>
    [Benchmark]
    public FusionResult Fuse() => Fusion.Apply(_graph);

    /// <summary>Lifetimes and offsets.</summary>
    [Benchmark]
    public Plan PlanMemory() => Plan.Create(_fused);
}
