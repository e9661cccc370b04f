using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Passes;

public sealed class FusionTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    public static TheoryData<string> Names => [.. Rewrites.All.Select(f => f.Name)];

    [Fact]
    public void The_rewrites_have_names_and_descriptions()
    {
        Assert.Equal(
            [
                "hoist", "common_subexpression", "label_gradient", "group_norm_gradient", "group_norm_scale_shift", "group_norm_silu", "conv_bias", "conv_residual", "conv_upsample",
                "group_norm_pool", "group_norm_residual", "residual_resampling", "concat_inputs", "conv_skip", "sampler_update",
            ],
            Rewrites.All.Select(f => f.Name));
        Assert.Equal(Rewrites.All.Skip(1).SkipLast(1), Fusion.All);
        Assert.All(Rewrites.All, f => Assert.NotEmpty(f.Description));
    }

    [Fact]
    public void An_unknown_name_is_refused_with_those_there_are()
    {
        Graph graph = new GraphBuilder().Build();
        foreach ((IEnumerable<(string Name, string)> all, Action apply) in new (IEnumerable<(string, string)>, Action)[]
        {
            (Fusion.All, () => Fusion.Apply(graph, ["conv_bais"])), (Rewrites.All, () => Rewrites.Apply(graph, ["conv_bais"])), (Rewrites.All, () => Rewrites.Fuse(graph, ["conv_bais"])),
        })
        {
            Assert.Equal(
                $"there is no fusion 'conv_bais'; there are all, {string.Join(", ", all.Select(f => f.Name))}", Assert.Throws<ConfigurationException>(apply).Message);
        }

        Assert.Throws<ConfigurationException>(() => Fusion.Apply(graph, ["hoist"]));
        Assert.Empty(Rewrites.Fuse(graph, ["hoist"]).Graph.Nodes);
    }

    [Fact]
    public void Rewrites_that_are_switched_off_are_not_applied()
    {
        Graph graph = DemoPair.GuidedStep(1);
        int launches = Launches(Rewrites.Apply(graph));
        foreach ((string name, _) in Rewrites.All)
        {
            StepGraphs result = Rewrites.Apply(graph, [name]);
            Assert.DoesNotContain(name, result.Applied.Keys);

            // A skip connection is added only where the convolutions it joins have taken in bias and residual.
            bool needed = name is "conv_bias" or "conv_residual";
            Assert.All(result.Applied, a => Assert.True(a.Value > 0 || (needed && a.Key == "conv_skip"), $"without {name}, {a.Key} finds nothing"));
            Assert.True(name == "hoist" || Launches(result) > launches, $"{name} saves nothing");
            Assert.True(result.Step.Launches > 174 || name == "common_subexpression");
        }

        StepGraphs none = Rewrites.Apply(graph, ["all"]);
        Assert.Empty(none.Applied);
        Assert.Equal(graph.Pruned().Nodes, none.Step.Nodes);

        static int Launches(StepGraphs graphs) => graphs.Step.Launches + (graphs.Conditioning?.Launches ?? 0);
    }

    [Theory]
    [InlineData("all")]
    [MemberData(nameof(Names))]
    public void A_guided_step_of_the_demo_pair_gives_the_same_without_a_rewrite(string disabled)
    {
        Dictionary<string, float[]> expected = Step([]), actual = Step([disabled]);
        foreach (string name in new[] { "x_next", "pred_xstart" })
        {
            double error = CpuRun.RelativeError(actual[name], Array.ConvertAll(expected[name], v => (double)v));
            Assert.True(error <= 1e-5, $"{name} without {disabled}: relative error {error:e2}");
        }
    }

    [Fact]
    public void Any_graph_and_its_gradient_give_the_same_fused_in_exact_arithmetic() => RandomGraphs.Check(program =>
    {
        Graph graph = RandomGraphs.WithGradient(RandomGraphs.Build(program));
        Dictionary<string, double[]> values = RandomGraphs.Values(graph);
        Dictionary<Tensor, double[]> expected = ReferenceInterpreter.Run(graph, values);
        foreach (string[] disabled in new[] { Array.Empty<string>(), ["common_subexpression"], [Fusion.All[program[0] % Fusion.All.Count].Name] })
        {
            Graph fused = Fusion.Apply(graph, disabled).Graph;
            Assert.Equal(graph.Outputs.Keys.Order(), fused.Outputs.Keys.Order());
            Dictionary<Tensor, double[]> actual = ReferenceInterpreter.Run(fused, values);
            foreach ((string name, Tensor tensor) in fused.Outputs)
            {
                double[] y = expected[graph.Outputs[name]];
                double error = Math.Sqrt(y.Zip(actual[tensor], (a, b) => (a - b) * (a - b)).Sum());

                // Sums are taken in another order, and the norm of a constant enlarges that rounding 1 / sqrt(epsilon) = 316 times, one norm after the other.
                Assert.True(error <= 1e-7 * (1 + Math.Sqrt(y.Sum(v => v * v))), $"{name} is off by {error}");
            }
        }
    });

    [Theory]
    [InlineData("shapes32")]
    [InlineData("adm64")]
    public void A_guided_step_has_less_than_two_fifths_of_the_launches(string preset)
    {
        Preset model = Presets.Find(preset);
        ModelConfig classifier = Presets.Find(model.Classifier!).Model;
        SamplerSettings settings = new() { ClassifierScale = 1 };
        StepTable table = new(new GaussianDiffusion(model.Process!), settings.Sampler, classifierScale: 1);
        Graph graph = GuidedStep.Build(model.Model, classifier, table, settings, 1, classifier.ImageSize, classifier.ImageSize).Pruned();
        StepGraphs fused = Rewrites.Apply(graph);
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{preset}: {graph.Launches} launches unfused, {fused.Step.Launches} fused; {string.Join(", ", fused.Applied.Select(a => $"{a.Key} {a.Value}"))}");
        Assert.True(fused.Step.Launches * 2.5 < graph.Launches);
    }

    private Dictionary<string, float[]> Step(string[] disabled)
    {
        StepTable table = new(new GaussianDiffusion(DemoPair.Process()), SamplerKind.Ddpm, classifierScale: 4);
        Weights weights = Weights.Combine([(GuidedStep.DiffusionPrefix, DemoPair.Diffusion.Weights), (GuidedStep.ClassifierPrefix, DemoPair.Classifier.Weights)]);
        using StepExecutor steps = new(cpu.Backend, Rewrites.Apply(DemoPair.GuidedStep(1), disabled), weights);
        Executor executor = steps.Step;
        float[] x = new float[32 * 32 * 3];
        RandomStreams.Normals(1, 0, RandomStreams.InitialNoise, 0, x);
        executor.Write("x", x);
        steps.WriteTable(table);

        // A step from the middle of the process: the first ones divide by nearly nothing, and would show the rounding of the model enlarged by thousands.
        executor.Write("step", [2]);
        steps.WriteLabels("y", [3]);
        steps.WriteLabels("y_unet", [3]);
        executor.Write("seed", [1, 0]);
        executor.Write("image_index", [0, 0]);
        steps.Run(2);
        return executor.Plan.Graph.Outputs.Keys.Where(k => k != "step_next").ToDictionary(k => k, executor.Read);
    }
}
