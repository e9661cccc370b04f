using System.Collections.Concurrent;
using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Models;
using Kernels.Passes;
using Kernels.Tests.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Runtime;

/// <summary>Whole steps in an arena of NaN between guards, on every backend: the same bits wherever the tensors lie, and the numbers of the float64 reference.</summary>
public sealed class ModelMemoryTests
{
    private static readonly Dictionary<string, Func<Graph>> s_steps = new()
    {
        ["DDPM, classifier"] = () => Step(TestModels.UNet(), new SamplerSettings { ClassifierScale = 2 }),
        ["DDIM with noise, both guidances"] = () => Step(
            TestModels.UNet(), new SamplerSettings { Sampler = SamplerKind.Ddim, Eta = 0.5, ClassifierScale = 2, CfgScale = 1.5, NullLabel = 10 }, pool: "spatial_v2"),
        ["DDPM, additive embedding, pooling"] = () => Step(
            TestModels.UNet(scaleShift: false, updown: false, classes: null, learnSigma: false), new SamplerSettings { ClassifierScale = 1 }, pool: "adaptive"),
        ["2M SDE, classifier-free"] = () => Step(TestModels.UNet(), new SamplerSettings { Sampler = SamplerKind.DpmSolverPlusPlus2MSde, CfgScale = 1.5, NullLabel = 10 }),
        ["PLMS"] = () => Step(TestModels.UNet(), new SamplerSettings { Sampler = SamplerKind.Plms }),
        ["DDIM inversion"] = () => Step(TestModels.UNet(), new SamplerSettings { Sampler = SamplerKind.DdimReverse }),
        ["super-resolution, classifier-free"] = () => Step(
            TestModels.UNet() with { Kind = ModelKind.SuperRes }, new SamplerSettings { CfgScale = 1, NullLabel = 10 }, lowRes: (4, 4)),
    };

    // Every backend is held against the same numbers.
    private static readonly ConcurrentDictionary<string, Dictionary<string, double[]>> s_exact = new();

    public static TheoryData<string, string> Steps() => [.. s_steps.Keys.SelectMany(s => TestBackend.ExactNames.Select(b => (s, b)))];

    [Theory]
    [MemberData(nameof(Steps))]
    public void A_step_is_sound_and_exact(string step, string backend)
    {
        Graph graph = s_steps[step](), fused = Rewrites.Fuse(graph).Graph;
        Dictionary<string, double[]> values = Values(graph);
        Dictionary<string, double[]> exact = s_exact.GetOrAdd(step, _ =>
        {
            Dictionary<Tensor, double[]> results = ReferenceInterpreter.Run(graph, values);
            return graph.Outputs.ToDictionary(o => o.Key, o => results[o.Value]);
        });
        Dictionary<string, float[]>? first = null;
        foreach ((Graph g, Layout layout) in new[] { (fused, Layout.Spread), (fused, Layout.Planned), (fused, Layout.PlannedApart), (graph, Layout.Planned) })
        {
            Dictionary<string, float[]> actual = GuardedRun.Run(TestBackend.Get(backend), g, values, layout, $"{step}, {layout}");
            foreach ((string name, float[] output) in actual)
            {
                Assert.True(g != fused || (first ?? actual)[name].AsSpan().SequenceEqual(output), $"{name} depends on where the tensors lie ({layout})");

                // Ten ops deep, each within 1e-6 of its own input; the step amplifies the model's output no further, being one from the middle.
                OpHarness.Matches(exact[name], output, 1e-5, $"{step}, {name}, {layout}");
            }

            first ??= actual;
        }
    }

    private static Graph Step(ModelConfig unet, SamplerSettings settings, string pool = "attention", (int Height, int Width)? lowRes = null) =>
        GuidedStep.Build(unet, TestModels.Classifier(pool), Table(unet, settings), settings, 2, 8, 8, lowRes: lowRes);

    private static StepTable Table(ModelConfig unet, SamplerSettings settings) => new(
        new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "5", LearnSigma = unet.OutChannels == 6 }),
        settings.Sampler,
        settings.Eta,
        settings.ClassifierScale,
        settings.CfgScale);

    private static Dictionary<string, double[]> Values(Graph graph)
    {
        Dictionary<string, double[]> values = TestModels.Values(graph.Weights);
        SamplerUpdate update = graph.Nodes.Select(n => n.Op).OfType<SamplerUpdate>().Single();
        bool learned = update.Parameterization.OutputsPerChannel == 2;
        SamplerSettings settings = new() { Sampler = update.Sampler, Eta = update.Sampler == SamplerKind.Ddim ? 0.5 : 0, ClassifierScale = 2, CfgScale = 1.5 };
        foreach (Tensor input in graph.Inputs)
        {
            values.Add(input.Name, input.Name switch
            {
                "step_table" => Array.ConvertAll(Table(TestModels.UNet(learnSigma: learned), settings).Values.ToArray(), v => (double)v),
                "step" => [2],
                "y" => [3, 9],
                "y_unet" => [.. new double[] { 3, 9, 10, 10 }.Take(input.Shape[0])],
                "seed" => [5, 6],
                "image_index" => [0, 0, 1, 0],
                _ => TestModels.Normals(new Random(17), input.Shape.Elements),
            });
        }

        return values;
    }
}
