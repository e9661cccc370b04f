using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Passes;

public sealed class MemoryPlannerTests
{
    private static readonly Dictionary<string, Func<Graph>> s_models = new()
    {
        ["demo pair, guided step"] = () => DemoPair.GuidedStep(1),
        ["demo pair, guided step, batch 3"] = () => DemoPair.GuidedStep(3),
        ["small UNet, pooling and additive embedding"] = () => ModelGraphs.UNet(TestModels.UNet(scaleShift: false, updown: false), 2, 8, 8),
        ["64x64 classifier with its gradient"] = () => ModelGraphs.Classifier(Presets.Find("classifier64").Model, 1, 64, 64, 1),
        ["64x64 guided step"] = () => GuidedStep.Build(
            Presets.Find("adm64").Model,
            Presets.Find("classifier64").Model,
            new StepTable(new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true }), SamplerKind.Ddpm, classifierScale: 1),
            new SamplerSettings { ClassifierScale = 1 },
            1,
            64,
            64),
        ["inpainting step, updated by two nodes in turn"] = () => GuidedStep.Build(
            TestModels.UNet(),
            null,
            new StepTable(new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true }), SamplerKind.Ddpm),
            new SamplerSettings(),
            2,
            8,
            8,
            inpaints: true),
        ["256x256 UNet"] = () => ModelGraphs.UNet(Presets.Find("adm256").Model, 1, 256, 256),
    };

    public static TheoryData<string, bool> Models() => [.. s_models.Keys.SelectMany(m => new[] { (m, false), (m, true) })];

    [Theory]
    [MemberData(nameof(Models))]
    public void The_arena_of_a_model_is_sound_and_tight(string model, bool fused)
    {
        Graph graph = fused ? Fusion.Apply(s_models[model]()).Graph : s_models[model]();
        MemoryPlan plan = MemoryPlanner.Plan(graph), apart = MemoryPlanner.Plan(graph, reuseInPlace: false);
        ArenaSimulation.Check(graph, plan);
        ArenaSimulation.Check(graph, apart);
        TestContext.Current.TestOutputHelper?.WriteLine($"{model}, fused {fused}: arena {plan.ArenaBytes}, least {plan.LeastBytes}, ratio {plan.ArenaBytes / (double)plan.LeastBytes:f3}, {plan.InPlace} in place");
        Assert.InRange(plan.ArenaBytes, plan.LeastBytes, 1.15 * plan.LeastBytes);
        Assert.InRange(apart.ArenaBytes, apart.LeastBytes, 1.15 * apart.LeastBytes);
        Assert.True(plan.InPlace > apart.InPlace);
        Assert.True(plan.LeastBytes <= apart.LeastBytes);
    }

    [Fact]
    public void The_arena_of_any_graph_is_sound() => RandomGraphs.Check(program =>
    {
        Graph graph = RandomGraphs.WithGradient(RandomGraphs.Build(program));
        foreach (bool reuse in new[] { true, false })
        {
            MemoryPlan plan = MemoryPlanner.Plan(graph, reuse);
            ArenaSimulation.Check(graph, plan);
            Assert.Equal(ArenaSimulation.Peak(graph, plan), plan.LeastBytes);
            Assert.InRange(plan.ArenaBytes, plan.LeastBytes, plan.UnsharedBytes);
            Assert.True(reuse || plan.InPlace == graph.Updates.Count);
        }
    });

    [Fact]
    public void A_chain_of_element_wise_ops_takes_one_place_beside_its_input()
    {
        GraphBuilder builder = new();
        Tensor h = builder.Input("x", [1000]);
        for (int i = 0; i < 8; i++)
        {
            h = builder.Add("silu", new Activation(ActivationKind.SiLU), h);
        }

        builder.Output("y", h);
        MemoryPlan plan = MemoryPlanner.Plan(builder.Build());
        Assert.Equal(2 * 4032, plan.ArenaBytes);
        Assert.Equal(7, plan.InPlace);
    }

    [Fact]
    public void An_input_that_is_read_again_is_not_written_over()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [16]), a = builder.Add("a", new Add(), x, x);
        Tensor b = builder.Add("b", new Activation(ActivationKind.SiLU), a);
        builder.Output("y", builder.Add("c", new Add(), a, b));
        MemoryPlan plan = MemoryPlanner.Plan(builder.Build());
        Assert.NotEqual(plan.Offsets[a], plan.Offsets[b]);
        Assert.Equal(1, plan.InPlace);
    }

    [Fact]
    public void A_view_keeps_its_source_alive()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [16]), a = builder.Add("a", new Add(), x, x);
        Tensor view = builder.Add("view", new Reshape([4, 4]), a), b = builder.Add("b", new Activation(ActivationKind.SiLU), a);
        builder.Output("b", b);
        builder.Output("y", builder.Add("c", new Add(), view, view));
        Graph graph = builder.Build();
        MemoryPlan plan = MemoryPlanner.Plan(graph);
        ArenaSimulation.Check(graph, plan);
        Assert.Equal(plan.Offsets[a], plan.Offsets[view]);
        Assert.NotEqual(plan.Offsets[a], plan.Offsets[b]);
    }

    [Fact]
    public void An_update_that_cannot_be_done_in_place_is_refused()
    {
        // Read again afterwards, by the input's own name or through a view of it; or an op that cannot work in place.
        Refused((builder, x) =>
        {
            builder.Output("x_next", builder.Add("next", new Add(), x, x), updates: x);
            builder.Output("late", builder.Add("late", new Activation(ActivationKind.SiLU), x));
        });
        Refused((builder, x) =>
        {
            Tensor view = builder.Add("view", new Reshape([4, 4]), x);
            builder.Output("x_next", builder.Add("next", new Add(), x, x), updates: x);
            builder.Output("late", builder.Add("late", new Activation(ActivationKind.SiLU), view));
        });
        Refused((builder, x) =>
        {
            builder.Output("x", x);
            builder.Output("x_next", builder.Add("next", new Add(), x, x), updates: x);
        });
        Refused((builder, x) => builder.Output("x_next", builder.Add("next", new Concat(), x), updates: x));

        static void Refused(Action<GraphBuilder, Tensor> build)
        {
            GraphBuilder builder = new();
            build(builder, builder.Input("x", [16]));
            GraphException e = Assert.Throws<GraphException>(() => MemoryPlanner.Plan(builder.Build()));
            Assert.StartsWith("'next' cannot be written over 'x'", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void An_empty_graph_needs_no_arena() => Assert.Equal(0, MemoryPlanner.Plan(new GraphBuilder().Build()).ArenaBytes);
}
