using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Verification;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>The configuration read off the weights of every reference pack is the one that the original was constructed with.</summary>
public sealed class PackInferenceTests
{
    public static TheoryData<string, string, string> Models
    {
        get
        {
            TheoryData<string, string, string> data = [];
            foreach (string path in Directory.GetFiles(Folder, "*.safetensors").Order())
            {
                using Pack pack = Pack.Open(path);
                string name = Path.GetFileName(path);
                if (pack.Has("config"))
                {
                    data.Add(name, pack.Weights("weights/").Names.Count > 0 ? "weights" : "diffusion", "config");
                }

                if (pack.Has("classifier_config"))
                {
                    data.Add(name, "classifier", "classifier_config");
                }
            }

            return data;
        }
    }

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "packs");

    [Fact]
    public void All_models_are_there() => Assert.Equal(27, Models.Count);

    [Theory]
    [MemberData(nameof(Models))]
    public void Shapes_tell_the_arguments_of_the_constructor(string file, string key, string entry)
    {
        using Pack pack = Pack.Open(Path.Combine(Folder, file));
        ModelConfig recorded = Recorded(pack, key, entry);
        InferredConfiguration inferred = Assert.Single(ConfigurationInference.Infer(new StateDictShapes(file, Shapes(pack, key))));
        Assert.Empty(inferred.Mismatches);

        // What shapes cannot tell is supplied; everything else must be the same.
        ModelConfig supplied = inferred.Config with
        {
            ImageSize = inferred.Witnesses.ContainsKey("image_size") ? inferred.Config.ImageSize : recorded.ImageSize,
            NumHeads = recorded.NumHeads,
            NumHeadChannels = recorded.NumHeadChannels,
            NumHeadsUpsample = recorded.NumHeadsUpsample,
            UseNewAttentionOrder = recorded.UseNewAttentionOrder,
        };
        Assert.Equal(recorded, supplied);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Flags_supply_what_shapes_do_not_tell(string file, string key, string entry)
    {
        using Pack pack = Pack.Open(Path.Combine(Folder, file));
        ModelConfig recorded = Recorded(pack, key, entry);

        // Without the metadata, so that only weights and flags speak.
        using LoadedModel model = SyntheticCheckpoint.Load(
            Shapes(pack, key),
            new ModelOverrides
            {
                ImageSize = recorded.ImageSize,
                NumHeads = recorded.NumHeads,
                NumHeadChannels = recorded.NumHeadChannels,
                NumHeadsUpsample = recorded.NumHeadsUpsample,
                UseNewAttentionOrder = recorded.UseNewAttentionOrder,
                NoiseSchedule = NoiseSchedule.Cosine,
            },
            expected: recorded.Kind);
        Assert.Equal(recorded, model.Model.Config);
        Assert.Equal(recorded.Kind == ModelKind.Encoder, model.Process is null);
        Assert.Equal(recorded.OutChannels == 6, model.Process?.LearnSigma ?? false);
        Assert.Empty(model.Missing);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Metadata_supply_what_shapes_do_not_tell(string file, string key, string entry)
    {
        string path = Path.Combine(Folder, file);
        using Pack pack = Pack.Open(path);
        bool process = pack.Has("diffusion") || entry == "classifier_config" || pack.Kind == "classifier";
        using LoadedModel model = ModelLoader.Load(
            path, process ? null : new ModelOverrides { NoiseSchedule = NoiseSchedule.Linear }, key);
        Assert.Equal(Recorded(pack, key, entry), model.Model.Config);
    }

    [Theory]
    [InlineData("checkpoint-zip.pt")]
    [InlineData("checkpoint-legacy.pt")]
    [InlineData("checkpoint-half.pt")]
    public void Saved_state_dicts_load_with_flags(string file)
    {
        using Pack expected = Pack.Open(Path.Combine(Folder, "checkpoint-expected.safetensors"));
        using LoadedModel model = ModelLoader.Load(
            Path.Combine(Folder, file),
            new ModelOverrides { ImageSize = 16, NumHeadChannels = 32, UseNewAttentionOrder = true, NoiseSchedule = NoiseSchedule.Cosine });
        Assert.Equal(Recorded(expected, "weights", "config"), model.Model.Config);
        Assert.Contains(model.Provenance, v => v == new ConfigurationValue("image_size", "16", "flag --image-size"));
        Assert.Contains(model.Provenance, v => v == new ConfigurationValue("model_channels", "32", "weights: time_embed.0.weight"));
        Assert.Contains(model.Provenance, v => v == new ConfigurationValue("diffusion_steps", "1000", "default"));
    }

    private static Dictionary<string, Shape> Shapes(Pack pack, string key) =>
        pack.Weights(key + "/").Names.ToDictionary(name => name, name => pack.Tensor($"{key}/{name}").Shape);

    private static ModelConfig Recorded(Pack pack, string key, string entry) => ModelConfigJson.Read(
        pack.Text(entry), pack.Kind == "superres" ? ModelKind.SuperRes : pack.Kind == "classifier" || key == "classifier" ? ModelKind.Encoder : ModelKind.UNet);
}
