using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Models;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Diffusion;

public sealed class GuidedStepTests
{
    private static readonly ModelConfig s_unet = TestModels.UNet();
    private static readonly ModelConfig s_classifier = TestModels.Classifier("attention");

    public static TheoryData<string> Contradictions => [.. s_contradictions.Keys];

    private static readonly Dictionary<string, Action> s_contradictions = new()
    {
        ["a batch of 0 images cannot be sampled"] = () => Build(batch: 0),
        ["a batch of -3 images cannot be sampled"] = () => Build(batch: -3),
        ["a classifier cannot predict noise"] = () => Build(unet: s_classifier),
        ["the diffusion model has 3 output channels; with a learned variance it must have 6 (learn_sigma)"] = () => Build(unet: TestModels.UNet(learnSigma: false)),
        ["the diffusion model has 6 output channels; with a fixed variance it must have 3 (learn_sigma)"] = () => Build(learnSigma: false),
        ["(cfg_scale) needs the label that means"] = () => Build(new SamplerSettings { CfgScale = 1 }),
        ["(cfg_scale) needs a class-conditional diffusion model"] = () => Build(new SamplerSettings { CfgScale = 1, NullLabel = 0 }, TestModels.UNet(classes: null)),
        ["(cfg_scale) and unconditional sampling exclude each other"] = () => Build(new SamplerSettings { CfgScale = 1, NullLabel = 10, Unconditional = true }),
        ["unconditional sampling needs the label that means"] = () => Build(new SamplerSettings { Unconditional = true }),
        ["the null label 11 is not one of the 11 labels"] = () => Build(new SamplerSettings { Unconditional = true, NullLabel = 11 }),
        ["the null label -1 is not one of the 11 labels"] = () => Build(new SamplerSettings { CfgScale = 1, NullLabel = -1 }),
        ["DDIM inversion takes no classifier"] = () => Build(new SamplerSettings { Sampler = SamplerKind.DdimReverse, ClassifierScale = 1 }, classifier: s_classifier),
        ["(classifier_scale) needs a classifier"] = () => Build(new SamplerSettings { ClassifierScale = 1 }),
        ["the classifier's checkpoint holds a diffusion model"] = () => Build(new SamplerSettings { ClassifierScale = 1 }, classifier: s_unet),
        ["the classifier takes images of 1 channels, the diffusion model of 3"] =
            () => Build(new SamplerSettings { ClassifierScale = 1 }, classifier: s_classifier with { InChannels = 1 }),
        ["a classifier with attention pooling takes images of 16x16 only, not 8x8"] =
            () => Build(new SamplerSettings { ClassifierScale = 1 }, classifier: s_classifier with { ImageSize = 16 }),
        ["a super-resolution model needs low-resolution images"] = () => Build(unet: s_unet with { Kind = ModelKind.SuperRes }),
        ["only a super-resolution model takes low-resolution images"] = () => Build(lowRes: (4, 4)),
        ["image height and width must be multiples of 2 for this model, not 9x8"] = () => Build(height: 9),
    };

    [Theory]
    [MemberData(nameof(Contradictions))]
    public void Contradictions_are_refused(string message)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(s_contradictions[message]);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_scale_there_is_no_classifier()
    {
        Graph graph = Build(new SamplerSettings { ClassifierScale = 0 }, classifier: s_classifier);
        Assert.DoesNotContain(graph.Weights, w => w.Name.StartsWith(GuidedStep.ClassifierPrefix, StringComparison.Ordinal));
        Assert.Equal(["x", "step_table", "step", "y_unet", "seed", "image_index"], graph.Inputs.Select(t => t.Name));
    }

    [Fact]
    public void Guidance_is_one_graph_over_the_same_x()
    {
        Graph graph = Build(new SamplerSettings { ClassifierScale = 2 }, classifier: s_classifier);
        Assert.Equal(["x", "step_table", "step", "y", "y_unet", "seed", "image_index"], graph.Inputs.Select(t => t.Name));
        Assert.Contains(graph.Consumers(graph.Input("x")), n => n.Name == "classifier/input_blocks.0.0");
        Assert.Contains(graph.Consumers(graph.Input("x")), n => n.Name == "diffusion/input_blocks.0.0");
        Node update = graph.Producer(graph.Output("x_next"))!;
        Assert.Equal([graph.Input("x"), graph.Input("step")], graph.Updates.OrderBy(u => u.Value.Name == "step").Select(u => u.Value));
        Assert.Equal(new SamplerUpdate(SamplerKind.Ddpm, new Parameterization(ModelMeanType.Epsilon, ModelVarType.LearnedRange, true), Noise: true, Guided: true), update.Op);

        // Each half is complete on its own: no tensor of one is read by the other before they meet in the update.
        Assert.All(graph.Nodes.Where(n => n != update), n => Assert.False(
            n.Inputs.Any(t => t.Name.StartsWith("classifier/", StringComparison.Ordinal)) && n.Inputs.Any(t => t.Name.StartsWith("diffusion/", StringComparison.Ordinal)), n.Name));
    }

    [Theory]
    [InlineData(SamplerKind.Ddpm, 0, true)]
    [InlineData(SamplerKind.Ddim, 0.5, true)]
    [InlineData(SamplerKind.Ddim, 0, false)]
    [InlineData(SamplerKind.DdimReverse, 0, false)]
    public void Only_a_noisy_sampler_asks_for_noise(SamplerKind sampler, double eta, bool noisy)
    {
        SamplerSettings settings = new() { Sampler = sampler, Eta = eta };
        Assert.Equal(noisy, Build(settings).Inputs.Any(t => t.Name == "seed"));
        Assert.Equal(noisy, Build(settings, suppliedNoise: true).Inputs.Any(t => t.Name == "noise"));
        Assert.DoesNotContain(Build(settings, suppliedNoise: true).Inputs, t => t.Name == "seed");
    }

    [Fact]
    public void Classifier_free_guidance_runs_both_halves_in_one_pass()
    {
        Graph graph = Build(new SamplerSettings { CfgScale = 1, NullLabel = 10 }, batch: 3);
        Assert.Equal([6], graph.Input("y_unet").Shape);
        Assert.Equal([6, 8, 8, 6], Assert.Single(graph.Nodes, n => n.Op is ClassifierFreeGuidance).Inputs[0].Shape);
        Assert.Equal([3, 8, 8, 3], graph.Output("x_next").Shape);
    }

    private static Graph Build(
        SamplerSettings? settings = null,
        ModelConfig? unet = null,
        ModelConfig? classifier = null,
        int batch = 1,
        int height = 8,
        bool learnSigma = true,
        bool suppliedNoise = false,
        (int Height, int Width)? lowRes = null)
    {
        settings ??= new SamplerSettings();
        GaussianDiffusion process = new(new DiffusionConfig { TimestepRespacing = "4", LearnSigma = learnSigma });
        return GuidedStep.Build(
            unet ?? s_unet, classifier, new StepTable(process, settings.Sampler, settings.Eta), settings, batch, height, 8, suppliedNoise, lowRes);
    }
}
