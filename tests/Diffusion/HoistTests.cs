using Kernels.Backends.Cpu;
using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>What is computed before the loop: the same bits as within it, for any chunk of steps.</summary>
public sealed class HoistTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Steps = 7;

    private static readonly Dictionary<string, (ModelConfig Unet, SamplerSettings Settings)> s_cases = new()
    {
        ["DDPM, classifier"] = (TestModels.UNet(), new() { ClassifierScale = 2 }),
        ["both guidances"] = (TestModels.UNet(), new() { Sampler = SamplerKind.Ddim, Eta = 0.5, ClassifierScale = 1, CfgScale = 1.5, NullLabel = 10 }),
        ["no labels"] = (TestModels.UNet(classes: null), new() { ClassifierScale = 1 }),
        ["added, not scaled"] = (TestModels.UNet(scaleShift: false), new() { ClassifierScale = 1 }),
        ["unconditional"] = (TestModels.UNet(), new() { Unconditional = true, NullLabel = 10 }),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Samples_have_the_same_bits_with_and_without_it_for_any_chunk(string name)
    {
        SampleBatch batch = new() { Count = 3, Labels = [1, 9, 4], Seed = 5 };
        using DiffusionSampler without = Sampler(name, disabled: [Hoist.Name]);
        float[] expected = without.Sample(batch);

        // All steps at once; three, three and one; one by one.
        long perStep = BytesPerStep(name, images: 3);
        foreach ((long bytes, int steps) in new[] { (Rewrites.DefaultTableBytes, Steps), (4 * perStep, 4), (3 * perStep, 3), (1, 1) })
        {
            Assert.Equal(steps, Rewrites.Apply(Graph(name, 3), tableBytes: bytes).Steps);
            using DiffusionSampler sampler = Sampler(name, tableBytes: bytes);
            Assert.Equal(expected, sampler.Sample(batch));

            // Again with other labels, which must not find the tables of the first.
            SampleBatch other = batch with { Labels = [2, 2, 0] };
            Assert.Equal(without.Sample(other), sampler.Sample(other));
            Assert.Equal(expected, sampler.Sample(batch));
        }
    }

    [Theory]
    [InlineData(7, 7)]
    [InlineData(6, 4)]
    [InlineData(4, 4)]
    [InlineData(3, 3)]
    [InlineData(2, 2)]
    [InlineData(0, 1)]
    public void Chunks_are_as_few_as_the_bound_admits_and_of_one_size(int admitted, int steps)
    {
        // Seven steps in two chunks are four and three, not six and one.
        const string Case = "both guidances";
        long perStep = BytesPerStep(Case, 2);
        StepGraphs graphs = Rewrites.Apply(Graph(Case, 2), tableBytes: (admitted * perStep) + 3);
        Assert.Equal(steps, graphs.Steps);
        Assert.Equal(steps * perStep, graphs.Tables.Sum(t => graphs.Step.Input(t).Bytes));
    }

    [Fact]
    public void Neither_embeddings_nor_their_layers_are_left_in_the_step()
    {
        StepGraphs graphs = Rewrites.Apply(Graph("DDPM, classifier", 2));
        Assert.DoesNotContain(graphs.Step.Nodes, n => n.Op is StepTimesteps or TimestepEmbedding or Embedding);
        Assert.DoesNotContain(graphs.Step.Weights, w => w.Name.Contains("emb", StringComparison.Ordinal) && !w.Name.Contains("positional", StringComparison.Ordinal));
        Assert.Single(graphs.Step.Nodes, n => n.Op is SelectStep);
        Assert.DoesNotContain(graphs.Step.Inputs, t => t.Name == "y_unet");

        // The UNet has a row per label, the classifier one for all images.
        Assert.Equal(graphs.Tables.Count, graphs.Applied[Hoist.Name]);
        Assert.All(graphs.Tables, t => Assert.Equal(
            [Steps, t.StartsWith(GuidedStep.DiffusionPrefix, StringComparison.Ordinal) ? 2 : 1], graphs.Step.Input(t).Shape.Take(2)));
        Assert.All(graphs.Tables, t => Assert.Equal(graphs.Step.Input(t).Shape, graphs.Conditioning!.Output(t).Shape));
        Assert.Equal([Steps * 2], graphs.Conditioning!.Input("y_unet").Shape);
    }

    [Theory]
    [InlineData("hoist")]
    [InlineData("all")]
    public void It_can_be_switched_off(string disabled)
    {
        StepGraphs graphs = Rewrites.Apply(Graph("DDPM, classifier", 1), [disabled]);
        Assert.Null(graphs.Conditioning);
        Assert.DoesNotContain(Hoist.Name, graphs.Applied.Keys);
        Assert.Contains(graphs.Step.Nodes, n => n.Op is TimestepEmbedding);
    }

    [Fact]
    public void A_step_outside_the_tables_is_refused()
    {
        StepGraphs graphs = Rewrites.Apply(Graph("unconditional", 1), tableBytes: 1);
        using StepExecutor executor = new(cpu.Backend, graphs, Weights.Combine([(GuidedStep.DiffusionPrefix, PresetModels.Random(TestModels.UNet()).Weights)]));
        executor.WriteTable(Table(new SamplerSettings()));
        executor.WriteLabels("y_unet", [3]);
        executor.Prepare(2);
        executor.Step.Write("step", [3]);
        Assert.Equal("step 3 is not one of the 1 from step 2 on that the tables hold", Assert.Throws<GraphException>(() => executor.Step.Run()).Message);
        Assert.Contains("first step 7 is not one of the 7", Assert.Throws<GraphException>(() => executor.Run(Steps)).Message, StringComparison.Ordinal);
        executor.Step.Write("step", [6]);
        executor.Run(6);
        Assert.All(executor.Step.Read("x_next"), v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void A_graph_without_timesteps_stays_as_it_is()
    {
        GraphBuilder builder = new();
        builder.Output("y", builder.Add("y", new Activation(ActivationKind.SiLU), builder.Input("x", [2, 3])));
        Assert.Null(Hoist.Apply(builder.Build(), 1));
    }

    private static StepTable Table(SamplerSettings settings) => new(
        new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = $"{Steps}" }),
        settings.Sampler, settings.Eta, settings.ClassifierScale, settings.CfgScale);

    private static Graph Graph(string name, int images)
    {
        (ModelConfig unet, SamplerSettings settings) = s_cases[name];
        return GuidedStep.Build(unet, TestModels.Classifier("attention"), Table(settings), settings, images, 8, 8);
    }

    // Two numbers per output channel of a residual block, one where they are only added: per image and half if there are labels, else once.
    private static long BytesPerStep(string name, int images)
    {
        Graph graph = Graph(name, images);
        bool labels = graph.Inputs.Any(t => t.Name == "y_unet");
        int halves = s_cases[name].Settings.CfgScale != 0 ? 2 : 1;
        return graph.Weights.Where(w => w.Name.EndsWith(".emb_layers.1.bias", StringComparison.Ordinal)).Sum(w =>
            w.Bytes * (labels && w.Name.StartsWith(GuidedStep.DiffusionPrefix, StringComparison.Ordinal) ? images * halves : 1));
    }

    private DiffusionSampler Sampler(string name, string[]? disabled = null, long tableBytes = Rewrites.DefaultTableBytes)
    {
        (ModelConfig unet, SamplerSettings settings) = s_cases[name];
        DiffusionConfig process = new() { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true, TimestepRespacing = $"{Steps}" };
        return new DiffusionSampler(cpu.Backend, PresetModels.Random(unet), process, PresetModels.Random(TestModels.Classifier("attention")), settings, disabledFusions: disabled)
        {
            TableBytes = tableBytes,
        };
    }
}
