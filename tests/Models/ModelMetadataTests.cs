using Kernels.Checkpoints;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>A converted file knows everything about itself, and is not believed where its weights say otherwise.</summary>
public sealed class ModelMetadataTests
{
    private static readonly Preset Preset = Presets.Find("shapes32");

    public static TheoryData<string, string, string> Broken => new()
    {
        { "config", "{", "metadata 'config'" },
        { "config", "[]", "must be a JSON object" },
        { "config", """{"model_chanels": 32}""", "'model_chanels'" },
        { "config", """{"kind": "unet", "pool": "\ud800"}""", "metadata 'config'" },
        { "diffusion", """{"noise_schedule": "sqrt"}""", "metadata 'diffusion'" },
        { "diffusion", "nothing", "metadata 'diffusion'" },
        { "class_names", "disk,square", "metadata 'class_names'" },
        { "class_names", "[1, 2]", "must be a list of strings" },
        { "class_names", """["a","b","c","d","e","f","g","h","i","j","k","l"]""", "12 names for 11 classes" },
        { "null_label", "ten", "'ten' is not a label" },
        { "null_label", "-2", "'-2' is not a label" },
        { "null_label", "11", "'label_emb.weight' [11, 128]" },
    };

    [Theory]
    [InlineData("shapes32")]
    [InlineData("shapes32-classifier")]
    [InlineData("upsampler64-256")]
    [InlineData("adm128")]
    public void A_converted_file_needs_no_flags(string name)
    {
        using LoadedModel model = SyntheticCheckpoint.Load(Presets.Find(name).Model, new ModelOverrides { Preset = name });
        using LoadedModel converted = SyntheticCheckpoint.Load(model.Model.Config, metadata: ModelMetadata.Of(model));
        Assert.Equal(model.Model.Config, converted.Model.Config);
        Assert.Equal(model.Process, converted.Process);
        Assert.Equal(model.ClassNames, converted.ClassNames);
        Assert.Equal(model.NullLabel, converted.NullLabel);
        Assert.Null(converted.Preset);
        Assert.All(converted.Provenance, v => Assert.True(v.Source == "metadata" || v.Source.StartsWith("weights: ", StringComparison.Ordinal), v.ToString()));
    }

    [Fact]
    public void A_file_on_disk_makes_the_round_trip()
    {
        string folder = Directory.CreateTempSubdirectory("kernels-test-").FullName;
        try
        {
            string path = Path.Combine(folder, "diffusion.safetensors");
            Model random = PresetModels.Random("shapes32", 7);
            Dictionary<string, string> metadata;
            using (LoadedModel described = SyntheticCheckpoint.Load(Preset.Model, new ModelOverrides { Preset = "shapes32" }))
            {
                metadata = ModelMetadata.Of(described);
            }

            Weights weights = random.Weights;
            SafeTensorsWriter.Write(
                path, weights.Names.Select(n => CheckpointTensor.FromFloat32(n, weights.ShapeOf(n)!.Value, Values(weights, n))), metadata);
            using LoadedModel model = ModelLoader.Load(path, expected: ModelKind.UNet);
            Assert.Equal(Preset.Model, model.Model.Config);
            Assert.Equal(Preset.ClassNames, model.ClassNames);
            Assert.Equal(10, model.NullLabel);
            Assert.Equal(Values(random.Weights, "out.2.weight"), Values(model.Model.Weights, "out.2.weight"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void A_flag_overrules_the_metadata_and_says_so()
    {
        ModelOverrides flags = new() { ImageSize = 64, NumHeads = 2, NoiseSchedule = NoiseSchedule.Linear, NullLabel = 3 };
        using LoadedModel model = SyntheticCheckpoint.Load(Preset.Model, flags, metadata: Metadata());
        Assert.Equal(Preset.Model with { ImageSize = 64, NumHeads = 2, NumHeadChannels = -1 }, model.Model.Config);
        Assert.Equal(3, model.NullLabel);
        Assert.Contains(new ConfigurationValue("image_size", "64", "flag --image-size (metadata says 32)"), model.Provenance);
        Assert.Contains(new ConfigurationValue("num_heads", "2", "flag --num-heads (metadata says num_head_channels 32)"), model.Provenance);
        Assert.Contains(new ConfigurationValue("noise_schedule", "linear", "flag --noise-schedule (metadata says cosine)"), model.Provenance);
        Assert.Contains(new ConfigurationValue("null_label", "3", "flag --null-label (metadata says 10)"), model.Provenance);
        Assert.Contains(new ConfigurationValue("use_new_attention_order", "true", "metadata"), model.Provenance);
    }

    [Fact]
    public void Metadata_overrule_a_preset()
    {
        Dictionary<string, string> metadata = Metadata();
        metadata["diffusion"] = new DiffusionConfig { LearnSigma = true, DiffusionSteps = 4000 }.ToJson();
        using LoadedModel model = SyntheticCheckpoint.Load(Preset.Model, new ModelOverrides { Preset = "shapes32" }, metadata: metadata);
        Assert.Equal(4000, model.Process!.DiffusionSteps);
        Assert.Contains(new ConfigurationValue("noise_schedule", "linear", "metadata (preset shapes32 says cosine)"), model.Provenance);
    }

    [Fact]
    public void Metadata_that_contradict_the_weights_are_refused()
    {
        Dictionary<string, string> metadata = Metadata();
        metadata["config"] = ModelConfigJson.Write(Preset.Model with { NumResBlocks = 2 });
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(Preset.Model, metadata: metadata));
        Assert.Equal("metadata 'config'", e.Place);
        Assert.Contains(
            "num_res_blocks 2 contradicts the weights: 'output_blocks.1.2.in_layers.2.weight' [64, 64, 3, 3] shows that it is 1", e.Reason, StringComparison.Ordinal);

        // The weights and the flag agree against the metadata: there is a way out.
        using LoadedModel model = SyntheticCheckpoint.Load(Preset.Model, new ModelOverrides { NumResBlocks = 1 }, metadata: metadata);
        Assert.Contains(model.Provenance, v => v.Name == "num_res_blocks" && v.Source == "weights: output_blocks.1.2.in_layers.2.weight (metadata says 2)");

        foreach (ModelConfig other in new[] { Preset.Model with { Kind = ModelKind.SuperRes }, Presets.Find("shapes32-classifier").Model })
        {
            metadata["config"] = ModelConfigJson.Write(other);
            e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(Preset.Model, metadata: metadata));
            Assert.Contains($"kind {ModelConfigJson.KindName(other.Kind)} contradicts the weights: 'out.2.weight'", e.Reason, StringComparison.Ordinal);
        }

        metadata = Metadata();
        metadata["diffusion"] = new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine }.ToJson();
        e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(Preset.Model, metadata: metadata));
        Assert.Contains("learn_sigma false contradicts the weights: 'out.2.weight'", e.Reason, StringComparison.Ordinal);
        Assert.Equal("metadata 'diffusion'", e.Place);
    }

    [Theory]
    [MemberData(nameof(Broken))]
    public void Broken_metadata_are_refused_by_name(string key, string value, string reason)
    {
        Dictionary<string, string> metadata = Metadata();
        metadata[key] = value;
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(Preset.Model, metadata: metadata));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
    }

    private static Dictionary<string, string> Metadata() => new()
    {
        ["config"] = ModelConfigJson.Write(Preset.Model),
        ["diffusion"] = Preset.Process!.ToJson(),
        ["class_names"] = """["disk","square","triangle","star","heart","cross","ring","crescent","arrow","flower"]""",
        ["null_label"] = "10",
    };

    private static float[] Values(Weights weights, string name)
    {
        float[] values = new float[weights.ShapeOf(name)!.Value.Elements];
        weights.CopyTo(name, values);
        return values;
    }
}
