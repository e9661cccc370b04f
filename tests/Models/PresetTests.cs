using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Ops;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>The presets are the published models: their parameters and operations are the published ones, and their weights are recognised.</summary>
public sealed class PresetTests
{
    public static TheoryData<string> Names => [.. Presets.All.Select(p => p.Name)];

    public static TheoryData<string, string> Files => [.. Presets.All.SelectMany(p => p.Files.Select(f => (f, p.Name)))];

    [Theory]
    [InlineData("adm64", 296)]
    [InlineData("adm128", 422)]
    [InlineData("adm256", 554)]
    [InlineData("adm512", 559)]
    [InlineData("classifier64", 65)]
    [InlineData("classifier128", 43)]
    [InlineData("classifier256", 54)]
    [InlineData("classifier512", 54)]
    public void Parameters_are_as_published(string preset, int millions) =>
        Assert.Equal(millions, (int)Math.Round(ModelCost.Parameters(Presets.Find(preset).Model) / 1e6));

    [Theory]
    [InlineData("adm64", 219)]
    [InlineData("adm128", 614)]
    [InlineData("adm256", 2240)]
    [InlineData("adm512", 3965)]
    [InlineData("classifier64", 38)]
    [InlineData("classifier128", 42)]
    [InlineData("classifier256", 147)]
    [InlineData("classifier512", 226)]
    public void Operations_are_as_published(string preset, int giga)
    {
        ModelConfig config = Presets.Find(preset).Model;
        double products = WeightList.Forward(config, config.ImageSize).Nodes.Where(n => n.Op is Convolution or Linear or Attention).Sum(n => n.Cost.Flops) / 1e9;
        double all = ModelCost.PerImage(config).Flops / 1e9;

        // The published counts are of multiply-adds, and rounded: half a unit. Ours add the softmaxes, a tenth at the most.
        Assert.Equal(giga, products, 0.6);

        // Norms, activations, sums and resampling are not in the published counts; they are less than a hundredth.
        Assert.InRange(all, products, 1.01 * products);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Weights_of_a_preset_give_it_back(string name)
    {
        ModelConfig config = Presets.Find(name).Model;
        InferredConfiguration inferred = Assert.Single(ConfigurationInference.Infer(new StateDictShapes(name, SyntheticCheckpoint.ShapesOf(config))));
        Assert.Empty(inferred.Mismatches);
        Assert.Equal(config.Kind == ModelKind.Encoder, inferred.Witnesses.ContainsKey("image_size"));
        Assert.Equal(
            config,
            inferred.Config with
            {
                ImageSize = inferred.Witnesses.ContainsKey("image_size") ? inferred.Config.ImageSize : config.ImageSize,
                NumHeads = config.NumHeads,
                NumHeadChannels = config.NumHeadChannels,
                UseNewAttentionOrder = config.UseNewAttentionOrder,
            });
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Published_file_names_choose_the_preset(string file, string name)
    {
        Preset preset = Presets.Find(name);
        using LoadedModel model = SyntheticCheckpoint.Load(preset.Model, file: Path.Combine("models", file + ".pt"));
        Assert.Equal(preset.Model, model.Model.Config);
        Assert.Equal(preset.Process, model.Process);
        Assert.Equal(preset, model.Preset);
        Assert.Contains(model.Provenance, v => v.Name.StartsWith("num_head", StringComparison.Ordinal) && v.Source == $"preset {name}");
        Assert.Contains(model.Provenance, v => v.Name == "model_channels" && v.Source == "weights: time_embed.0.weight");
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Presets_are_chosen_by_name(string name)
    {
        Preset preset = Presets.Find(name);
        using LoadedModel model = SyntheticCheckpoint.Load(preset.Model, new ModelOverrides { Preset = name.ToUpperInvariant() }, "ema.pt");
        Assert.Equal(preset.Model, model.Model.Config);
        Assert.Equal(preset.Process, model.Process);
        Assert.Equal(preset.ClassNames, model.ClassNames);
        Assert.Equal(preset.NullLabel, model.NullLabel);
    }

    [Theory]
    [InlineData("adm64", "classifier64")]
    [InlineData("adm256-uncond", "classifier256")]
    [InlineData("shapes32", "shapes32-classifier")]
    public void The_name_of_a_pair_stands_for_its_classifier_too(string pair, string classifier)
    {
        ModelConfig config = Presets.Find(classifier).Model;
        using LoadedModel model = SyntheticCheckpoint.Load(config, new ModelOverrides { Preset = pair }, "classifier.pt");
        Assert.Equal(config, model.Model.Config);
        Assert.Equal(classifier, model.Preset?.Name);
    }

    [Fact]
    public void Unknown_names_are_answered_with_the_known_ones()
    {
        string message = Assert.Throws<ConfigurationException>(() => Presets.Find("adm1024")).Message;
        Assert.All(Presets.All, p => Assert.Contains(p.Name, message, StringComparison.Ordinal));
        Assert.Null(Presets.ForFile("64x64_diffusion.txt"));
        Assert.Null(Presets.ForFile("my_64x64_diffusion.pt"));
    }

    [Fact]
    public void The_shapes_of_a_preset_are_recognised_but_not_trusted()
    {
        ModelConfig config = Presets.Find("adm64").Model;
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, file: "ema_0.9999_540000.pt"));
        Assert.Contains("ema_0.9999_540000.pt", e.Message, StringComparison.Ordinal);
        string[] remedies =
        [
            "--image-size N", "--num-head-channels N or --num-heads N", "--use-new-attention-order true|false", "--noise-schedule linear|cosine", "--preset adm64",
        ];
        Assert.All(remedies, remedy => Assert.Contains(remedy, e.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void A_published_name_on_other_weights_is_a_contradiction()
    {
        ModelConfig other = Presets.Find("adm64").Model with { NumResBlocks = 2 };
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(other, file: "64x64_diffusion.pt"));
        Assert.Contains("preset adm64, chosen by the name of the file, has num_res_blocks 3", e.Message, StringComparison.Ordinal);
        Assert.Contains("'output_blocks.2.2.in_layers.2.weight'", e.Message, StringComparison.Ordinal);

        ModelOverrides flags = new() { Preset = "none", ImageSize = 64, NumHeadChannels = 64, UseNewAttentionOrder = true, NoiseSchedule = NoiseSchedule.Cosine };
        using LoadedModel model = SyntheticCheckpoint.Load(other, flags, "64x64_diffusion.pt");
        Assert.Equal(other, model.Model.Config);
        Assert.Null(model.Preset);
    }

    [Fact]
    public void A_preset_of_another_kind_is_a_contradiction()
    {
        // Without a way up, the published classifier under the diffusion model's name.
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(Presets.Find("classifier64").Model, file: "64x64_diffusion.pt"));
        Assert.Contains("preset adm64, chosen by the name of the file, has kind unet", e.Message, StringComparison.Ordinal);
        Assert.Contains("the absence of 'output_blocks' shows that it is classifier", e.Message, StringComparison.Ordinal);
    }
}
