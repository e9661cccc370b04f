using Kernels.Diffusion;
using Kernels.Models;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>Weights before flags before metadata before presets: who wins, who is refused, and in which words.</summary>
public sealed class ModelLoaderTests
{
    private static readonly ModelConfig UNet = Presets.Find("shapes32").Model;
    private static readonly ModelConfig Classifier = Presets.Find("shapes32-classifier").Model;
    private static readonly ModelOverrides Told =
        new() { ImageSize = 32, NumHeadChannels = 32, UseNewAttentionOrder = true, NoiseSchedule = NoiseSchedule.Cosine };

    public static TheoryData<string, ModelOverrides, string, string> Contradictions => new()
    {
        { "--in-channels 1", Told with { InChannels = 1 }, "'input_blocks.0.0.weight' [32, 3, 3, 3]", "in_channels" },
        { "--num-channels 64", Told with { ModelChannels = 64 }, "'time_embed.0.weight' [128, 32]", "model_channels" },
        { "--out-channels 3", Told with { OutChannels = 3 }, "'out.2.weight' [6, 32, 3, 3]", "out_channels" },
        { "--num-res-blocks 2", Told with { NumResBlocks = 2 }, "'output_blocks.1.2.in_layers.2.weight' [64, 64, 3, 3]", "num_res_blocks" },
        { "--channel-mult 1,2,4", Told with { ChannelMult = [1, 2, 4] }, "'input_blocks.5.0.in_layers.2.weight' [64, 64, 3, 3]", "channel_mult" },
        { "--channel-mult 1,2", Told with { ChannelMult = [1, 2] }, "'input_blocks.", "channel_mult" },
        { "--attention-resolutions 16,8", Told with { AttentionResolutions = [16, 8] }, "the absence of 'input_blocks.3.1.qkv.weight'", "attention_resolutions" },
        { "--attention-resolutions 2", Told with { AttentionResolutions = [2] }, "'input_blocks.5.1.qkv.weight' [192, 64, 1]", "attention_resolutions" },
        { "--use-scale-shift-norm false", Told with { UseScaleShiftNorm = false }, "'input_blocks.1.0.emb_layers.1.weight' [64, 128]", "use_scale_shift_norm" },
        { "--resblock-updown false", Told with { ResblockUpdown = false }, "'input_blocks.2.0.in_layers.2.weight' [32, 32, 3, 3]", "resblock_updown" },
        { "--class-cond false", Told with { ClassCond = false }, "'label_emb.weight' [11, 128]", "class_cond" },
        { "--num-classes 10", Told with { NumClasses = 10 }, "'label_emb.weight' [11, 128]", "num_classes" },
        { "--learn-sigma false", Told with { LearnSigma = false }, "'out.2.weight' [6, 32, 3, 3]", "learn_sigma" },
        { "--image-size 30", Told with { ImageSize = 30 }, "a multiple of 4", "image_size" },
        { "--null-label 11", Told with { NullLabel = 11 }, "'label_emb.weight' [11, 128] shows that it is one of the labels 0 to 10", "null_label" },
    };

    [Theory]
    [MemberData(nameof(Contradictions))]
    public void A_flag_that_contradicts_the_weights_is_refused(string flag, ModelOverrides flags, string tensor, string setting)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(UNet, flags, "ema.pt"));
        Assert.StartsWith($"{flag} contradicts the weights in ema.pt: {setting}", e.Message, StringComparison.Ordinal);
        Assert.Contains(tensor, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_flag_that_agrees_with_the_weights_is_welcome()
    {
        // The flags of a command line of the original, all of them.
        ModelOverrides flags = Told with
        {
            InChannels = 3,
            ModelChannels = 32,
            OutChannels = 6,
            NumResBlocks = 1,
            ChannelMult = [1, 2, 2],
            AttentionResolutions = [8],
            UseScaleShiftNorm = true,
            ResblockUpdown = true,
            ConvResample = false,
            ClassCond = true,
            NumClasses = 11,
            LearnSigma = true,
            NumHeads = 4,
            NumHeadsUpsample = -1,
            DiffusionSteps = 1000,
            TimestepRespacing = "250",
            RescaleTimesteps = false,
            PredictXstart = false,
            NullLabel = 10,
        };
        using LoadedModel model = SyntheticCheckpoint.Load(UNet, flags);

        // The number of heads does nothing beside their width, in the original too; it is kept as it was said.
        Assert.Equal(UNet with { NumHeads = 4 }, model.Model.Config);
        Assert.Equal(Presets.Find("shapes32").Process! with { TimestepRespacing = "250" }, model.Process);
        Assert.Equal(10, model.NullLabel);
        Assert.Equal("flag --timestep-respacing", Source(model, "timestep_respacing"));
        Assert.Equal("weights: label_emb.weight", Source(model, "num_classes"));
        Assert.Equal("weights: input_blocks.5.1.qkv.weight and 2 more", Source(model, "attention_resolutions"));
        Assert.DoesNotContain(model.Provenance, v => v.Name is "num_heads" or "conv_resample" or "sigma_small" or "pool");
    }

    [Theory]
    [InlineData("--classifier-width 64", "time_embed.0.weight")]
    [InlineData("--classifier-depth 2", "input_blocks.2.0.in_layers.2.weight")]
    [InlineData("--classifier-pool spatial", "out.2.positional_embedding")]
    [InlineData("--classifier-num-classes 1000", "out.2.c_proj.weight")]
    [InlineData("--image-size 64", "out.2.positional_embedding")]
    public void Flags_of_the_classifier_are_called_by_their_own_names(string flag, string tensor)
    {
        string value = flag.Split(' ')[1];
        ModelOverrides flags = new() { FlagPrefix = "--classifier-", NumHeadChannels = 32, UseNewAttentionOrder = false };
        flags = flag.Split(' ')[0] switch
        {
            "--classifier-width" => flags with { ModelChannels = int.Parse(value) },
            "--classifier-depth" => flags with { NumResBlocks = int.Parse(value) },
            "--classifier-pool" => flags with { Pool = value },
            "--classifier-num-classes" => flags with { NumClasses = int.Parse(value) },
            _ => flags with { ImageSize = int.Parse(value) },
        };
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(Classifier, flags));
        Assert.Contains(flag, e.Message, StringComparison.Ordinal);
        Assert.Contains($"'{tensor}'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_unconditional_model_takes_no_labels()
    {
        ModelConfig config = UNet with { NumClasses = null };
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, Told with { ClassCond = true }));
        Assert.Contains("--class-cond true", e.Message, StringComparison.Ordinal);
        Assert.Contains("the absence of 'label_emb.weight'", e.Message, StringComparison.Ordinal);
        e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, Told with { NullLabel = 10 }));
        Assert.Contains("--null-label 10", e.Message, StringComparison.Ordinal);
        e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, file: "64x64_diffusion.pt"));
        Assert.Contains("preset adm64", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Learned_resampling_is_told_by_the_weights()
    {
        ModelConfig config = UNet with { ResblockUpdown = false };
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, Told with { ConvResample = false }));
        Assert.Contains("--conv-resample false", e.Message, StringComparison.Ordinal);
        Assert.Contains("'input_blocks.2.0.op.weight' [32, 32, 3, 3]", e.Message, StringComparison.Ordinal);
        e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config with { ConvResample = false }, Told with { ConvResample = true }));
        Assert.Contains("the absence of 'input_blocks.2.0.op.weight'", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(48, null, "--num-head-channels 48 does not fit model.safetensors: attention block 'input_blocks.5.1.qkv.weight': 64 channels")]
    [InlineData(null, 5, "--num-heads 5 does not fit model.safetensors: attention block 'input_blocks.5.1.qkv.weight': 64 channels")]
    [InlineData(0, null, "--num-head-channels 0 does not fit")]
    public void Heads_must_divide_the_attention_blocks(int? width, int? heads, string message)
    {
        ConfigurationException e =
            Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(UNet, Told with { NumHeadChannels = width, NumHeads = heads }));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains("say --num-head-channels N", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_attention_pool_wants_the_width_of_its_heads()
    {
        ModelOverrides flags = new() { NumHeads = 2, UseNewAttentionOrder = false };
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(Classifier, flags));
        Assert.Contains("'out.2.positional_embedding'", e.Message, StringComparison.Ordinal);
        Assert.Contains("--num-head-channels N", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void One_head_has_no_order()
    {
        using LoadedModel model = SyntheticCheckpoint.Load(UNet, Told with { NumHeadChannels = 64, UseNewAttentionOrder = null });
        Assert.Equal("default", Source(model, "use_new_attention_order"));
        Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(UNet, Told with { UseNewAttentionOrder = null }));
    }

    [Fact]
    public void What_nothing_tells_is_asked_for()
    {
        using (LoadedModel model = SyntheticCheckpoint.Inspect(SyntheticCheckpoint.ShapesOf(UNet)))
        {
            Assert.Equal(["image_size", "num_head_channels", "use_new_attention_order", "noise_schedule"], model.Missing.Select(m => m.Name));
            Assert.Equal(["shapes32"], model.LookAlikes.Select(p => p.Name));
            Assert.Equal("unknown", Source(model, "noise_schedule"));
            Assert.Equal("weights: out.2.weight", Source(model, "learn_sigma"));
        }

        using (LoadedModel model = SyntheticCheckpoint.Inspect(SyntheticCheckpoint.ShapesOf(Classifier)))
        {
            // The attention pool knows the size of its images.
            Assert.Equal(["num_head_channels", "use_new_attention_order"], model.Missing.Select(m => m.Name));
            Assert.Equal(32, model.Model.Config.ImageSize);
            Assert.Null(model.Process);
        }

        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(UNet, Told with { NoiseSchedule = null }, "ema.pt"));
        Assert.StartsWith("ema.pt: shapes do not tell noise_schedule", e.Message, StringComparison.Ordinal);
        Assert.Contains("say --noise-schedule linear|cosine; or choose the preset whose weights look like these: --preset shapes32", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_defaults_of_the_scripts_are_taken_on_request()
    {
        ModelConfig config = UNet with { ImageSize = 64, NumHeads = 4, NumHeadChannels = -1, UseNewAttentionOrder = false };
        using LoadedModel model = SyntheticCheckpoint.Load(config, new ModelOverrides { AssumeScriptDefaults = true });
        Assert.Equal(config, model.Model.Config);
        Assert.Equal(new DiffusionConfig { LearnSigma = true }, model.Process);
        Assert.Equal("default", Source(model, "num_heads"));

        ModelConfig encoder = Presets.Find("classifier64").Model;
        using LoadedModel classifier = SyntheticCheckpoint.Load(encoder, new ModelOverrides { AssumeScriptDefaults = true });
        Assert.Equal(encoder, classifier.Model.Config);
    }

    [Fact]
    public void Classifiers_without_attention_pooling_take_any_size()
    {
        ModelConfig config = Classifier with { Pool = "spatial", ImageSize = 64 };
        ModelOverrides flags = new() { NumHeadChannels = 32, UseNewAttentionOrder = false };
        using LoadedModel model = SyntheticCheckpoint.Load(config, flags);
        Assert.Equal(config, model.Model.Config);
        Assert.Equal("default", Source(model, "image_size"));
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, flags with { ImageSize = 3 }));
        Assert.Contains("--image-size 3", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_odd_size_is_what_the_pool_halves_it_to()
    {
        ModelConfig config = Classifier with { ImageSize = 35 };
        ModelOverrides flags = new() { NumHeadChannels = 32, UseNewAttentionOrder = false };
        using LoadedModel told = SyntheticCheckpoint.Load(config, flags with { ImageSize = 35 });
        Assert.Equal(config, told.Model.Config);
        using LoadedModel untold = SyntheticCheckpoint.Load(config, flags);
        Assert.Equal(32, untold.Model.Config.ImageSize);
    }

    [Theory]
    [InlineData(6, 6, false)]
    [InlineData(3, 6, true)]
    public void Six_channels_are_a_super_resolution_model_unless_it_is_said_otherwise(int inChannels, int outChannels, bool superRes)
    {
        ModelConfig config = UNet with { Kind = superRes ? ModelKind.SuperRes : ModelKind.UNet, InChannels = inChannels, OutChannels = outChannels };
        using LoadedModel model = SyntheticCheckpoint.Load(config, superRes ? Told : Told with { InChannels = 6 });
        Assert.Equal(config, model.Model.Config);
        using LoadedModel converted = SyntheticCheckpoint.Load(config, metadata: ModelMetadata.Of(model));
        Assert.Equal(config, converted.Model.Config);
        Assert.Equal(superRes, converted.Process!.LearnSigma);
    }

    [Theory]
    [InlineData(ModelKind.UNet, "is a classifier (EncoderUNetModel) (no output_blocks), where a diffusion model (UNetModel) is wanted")]
    [InlineData(ModelKind.Encoder, "is a diffusion model (UNetModel) (out.2.weight), where a classifier (EncoderUNetModel) is wanted")]
    [InlineData(ModelKind.SuperRes, "is a diffusion model (UNetModel) (out.2.weight), where a super-resolution model (SuperResModel) is wanted")]
    public void The_wrong_model_is_called_by_its_name(ModelKind expected, string message)
    {
        ModelConfig given = expected == ModelKind.UNet ? Classifier : UNet;
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(given, expected: expected));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Output_channels_must_be_a_prediction()
    {
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(UNet with { OutChannels = 5 }, Told));
        Assert.Equal("out.2.weight", e.Place);
    }

    [Fact]
    public void Weights_are_real_numbers()
    {
        InvalidFileException e = Assert.Throws<InvalidFileException>(
            () => SyntheticCheckpoint.Inspect(SyntheticCheckpoint.ShapesOf(UNet), Told, dtype: "I32"));
        Assert.Contains("time_embed.0.weight: holds I32; weights are floating-point numbers", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1_000_001)]
    public void Steps_out_of_range_are_refused(int steps)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(UNet, Told with { DiffusionSteps = steps }));
        Assert.Contains("flag --diffusion-steps", e.Message, StringComparison.Ordinal);
    }

    private static string Source(LoadedModel model, string setting) => Assert.Single(model.Provenance, v => v.Name == setting).Source;
}
