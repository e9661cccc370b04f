using BenchmarkDotNet.Attributes;
using Kernels.Diffusion;
using Kernels.Measurement;
using Kernels.Models;
using Kernels.Passes;
using Kernels.Runtime;

namespace Kernels.Bench.Benchmarks;

/// <summary>What stands between the settings and the first step: graph with gradient, fusion, memory plan.</summary>
[MemoryDiagnoser(displayGenColumns: false)]
public class PlanningBenchmarks
{
    private ModelPair _model = null!;
    private Graph _graph = null!;
    private Graph _fused = null!;
    private Graph _classifier = null!;
    private Tensor _selected = null!;
    private Tensor _x = null!;

    /// <summary>The models: the smallest and the largest published pair.</summary>
    [Params("adm64", "adm512")]
    public string Model { get; set; } = "";

    /// <summary>Builds what each stage starts from.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _model = ModelPair.OfPreset(Model);
        _graph = GuidedWorkload.BuildGraph(_model, 4);
        _fused = Rewrites.Apply(_graph).Step;
        GraphBuilder builder = new();
        ModelConfig classifier = _model.Classifier!;
        _x = builder.Input("x", [4, classifier.ImageSize, classifier.ImageSize, classifier.InChannels]);
        Tensor t = builder.Input("t", [4]), y = builder.Input("y", [4], DType.I32);
        _selected = EncoderUNetModel.LogProbability(builder, EncoderUNetModel.Build(builder, classifier, _x, t), y).Selected;
        _classifier = builder.Build();
    }

    /// <summary>The backward nodes of the classifier.</summary>
    [Benchmark]
    public Graph Differentiate() => Gradient.Append(_classifier, _selected, _x);

    /// <summary>Both models, the gradient and the sampler as a graph.</summary>
    [Benchmark]
    public Graph BuildAndDifferentiate() => GuidedWorkload.BuildGraph(_model, 4);

    /// <summary>All rewrites.</summary>
    [Benchmark]
    public StepGraphs Fuse() => Rewrites.Apply(_graph);

    /// <summary>Lifetimes and offsets.</summary>
    [Benchmark]
    public Plan PlanMemory() => Plan.Create(_fused);
}
