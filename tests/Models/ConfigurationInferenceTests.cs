using FsCheck;
using FsCheck.Fluent;
using Kernels.Models;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>Inference is the inverse of building, and what cannot be inverted is refused for the right reason.</summary>
public sealed class ConfigurationInferenceTests
{
    private static readonly ModelConfig UNet = Presets.Find("shapes32").Model;
    private static readonly ModelConfig Classifier = Presets.Find("shapes32-classifier").Model;

    [Fact]
    public void Any_model_is_read_off_its_own_weights()
    {
        int ambiguous = 0;
        int models = 0;
        Prop.ForAll(ConfigurationGen.Models.ToArbitrary(), config =>
        {
            IReadOnlyList<InferredConfiguration> candidates = Infer(SyntheticCheckpoint.ShapesOf(config));
            Assert.All(candidates, c => Assert.Empty(c.Mismatches));
            Assert.Contains(config, candidates.Select(c => c.Config with { ImageSize = SizeOf(c, config), NumHeadChannels = config.NumHeadChannels }));
            models++;

            // Only a classifier whose blocks are all of one width, and say nothing by attention, can be cut into levels in several ways.
            Assert.True(candidates.Count == 1 || (config.Kind == ModelKind.Encoder && candidates.Any(c => c.Config.ResblockUpdown)), config.ToString());
            ambiguous += candidates.Count > 1 ? 1 : 0;
        }).QuickCheckThrowOnFailure();
        Assert.InRange(ambiguous, 0, models / 4);
    }

    [Fact]
    public void Any_model_loads_with_the_flags_that_its_weights_do_not_tell() =>
        Prop.ForAll(ConfigurationGen.Models.ToArbitrary(), config =>
        {
            ModelOverrides flags = new()
            {
                ImageSize = config.ImageSize,
                NumHeadChannels = 32,
                UseNewAttentionOrder = false,
                NoiseSchedule = Kernels.Diffusion.NoiseSchedule.Linear,

                // One of these settles every ambiguity; both agree with the weights.
                NumResBlocks = config.NumResBlocks,
            };
            using LoadedModel model = SyntheticCheckpoint.Load(config, flags, expected: config.Kind);
            Assert.Equal(config, model.Model.Config);
        }).QuickCheckThrowOnFailure();

    [Fact]
    public void Several_readings_are_listed_with_the_flag_that_chooses()
    {
        // Four blocks of one width: two levels with one block each, or one level with three.
        ModelConfig config = Classifier with { ChannelMult = [1, 1], AttentionResolutions = [], Pool = "adaptive", ImageSize = 64 };
        ModelOverrides flags = new() { NumHeadChannels = 32 };
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => SyntheticCheckpoint.Load(config, flags));
        Assert.Contains("--num-res-blocks 3 for 1 levels or 1 for 2 levels", e.Message, StringComparison.Ordinal);
        using LoadedModel model = SyntheticCheckpoint.Load(config, flags with { NumResBlocks = 1 });
        Assert.Equal(config, model.Model.Config);
        using LoadedModel byMetadata = SyntheticCheckpoint.Load(config, metadata: new() { ["config"] = ModelConfigJson.Write(config) });
        Assert.Equal(config, byMetadata.Model.Config);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_missing_weight_is_named(bool classifier)
    {
        ModelConfig config = classifier ? Classifier : UNet;
        OrderedDictionary<string, Shape> whole = SyntheticCheckpoint.ShapesOf(config);
        foreach ((string name, Shape shape) in whole)
        {
            OrderedDictionary<string, Shape> shapes = new(whole);
            shapes.Remove(name);
            if (name == "label_emb.weight")
            {
                // Without it, it is another model, and a good one.
                Assert.Null(Assert.Single(Infer(shapes)).Config.NumClasses);
                continue;
            }

            InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" }));
            Assert.Equal(name, e.Place);
            Assert.Contains("missing", e.Reason, StringComparison.Ordinal);
            Assert.True(e.Reason.Contains($"missing '{name}' {shape}", StringComparison.Ordinal) || e.Reason.Contains("this weight", StringComparison.Ordinal), e.Message);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_misshapen_weight_is_named(bool classifier)
    {
        ModelConfig config = classifier ? Classifier : UNet;
        OrderedDictionary<string, Shape> whole = SyntheticCheckpoint.ShapesOf(config);
        foreach ((string name, Shape shape) in whole)
        {
            // One axis more, which no weight can have.
            OrderedDictionary<string, Shape> shapes = new(whole) { [name] = [.. shape, 1] };
            InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" }));
            Assert.Equal(name, e.Place);
            Assert.Contains($"{shapes[name]}, expected ", e.Reason, StringComparison.Ordinal);

            // A wider first axis: the others outvote it, except where a layer has only two tensors, of which either may be wrong.
            shapes[name] = shape.With(0, shape[0] + 32);
            if (name != "label_emb.weight")
            {
                e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" }));
                Assert.Contains(name[..name.LastIndexOf('.')], e.Message, StringComparison.Ordinal);
                Assert.Contains("1 tensor does not fit", e.Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void Extra_tensors_are_named()
    {
        OrderedDictionary<string, Shape> shapes = SyntheticCheckpoint.ShapesOf(UNet);
        shapes.Add("input_blocks.3.1.qkv.weight", [192, 64, 1]);
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" }));
        Assert.Contains("input_blocks.3.1", e.Message, StringComparison.Ordinal);

        shapes = SyntheticCheckpoint.ShapesOf(UNet);
        shapes.Add("fid_features.weight", [8, 8]);
        e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" }));
        Assert.Equal("fid_features.weight", e.Place);
        Assert.Contains("extra 'fid_features.weight' [8, 8]", e.Message, StringComparison.Ordinal);
        Assert.Contains("1 tensor does not fit the UNetModel", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Many_mismatches_are_counted_and_the_first_listed()
    {
        OrderedDictionary<string, Shape> shapes = SyntheticCheckpoint.ShapesOf(UNet);
        foreach (string name in shapes.Keys.Where(k => k.StartsWith("output_blocks.2.", StringComparison.Ordinal)).ToArray())
        {
            shapes.Remove(name);
        }

        InvalidFileException e = Assert.Throws<InvalidFileException>(() => SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" }));
        Assert.Contains("12 tensors do not fit", e.Message, StringComparison.Ordinal);
        Assert.Contains("missing 'output_blocks.2.0.in_layers.0.weight' [128]", e.Message, StringComparison.Ordinal);
        Assert.Contains("; and 7 more", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Data_parallel_prefixes_are_passed_over()
    {
        OrderedDictionary<string, Shape> shapes = new(SyntheticCheckpoint.ShapesOf(UNet).Select(t => KeyValuePair.Create("module." + t.Key, t.Value)));
        using LoadedModel model = SyntheticCheckpoint.Load(shapes, new ModelOverrides { Preset = "shapes32" });
        Assert.Equal(UNet, model.Model.Config);
        model.Model.Weights.Check(ModelGraphs.UNet(UNet, 1, 32, 32));
    }

    [Theory]
    [InlineData("model.diffusion_model.input_blocks.0.0.weight", "is no model of guided-diffusion")]
    [InlineData("input_blocks.2147483647.0.weight", "no model of guided-diffusion")]
    [InlineData("weight", "'weight'")]
    public void Other_state_dicts_are_refused(string name, string reason)
    {
        InvalidFileException e = Assert.Throws<InvalidFileException>(() => Infer(new() { [name] = [4, 3, 3, 3] }));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("input_blocks.2147483647.0.in_layers.2.weight")]
    [InlineData("output_blocks.999999999.0.in_layers.2.weight")]
    public void Lying_numbers_of_blocks_cost_nothing(string name)
    {
        OrderedDictionary<string, Shape> shapes = SyntheticCheckpoint.ShapesOf(UNet);
        shapes.Add(name, [1]);
        Assert.Contains("at most 512", Assert.Throws<InvalidFileException>(() => Infer(shapes)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Damaged_state_dicts_end_in_a_typed_error()
    {
        OrderedDictionary<string, Shape>[] bases = [SyntheticCheckpoint.ShapesOf(UNet), SyntheticCheckpoint.ShapesOf(Classifier)];
        Gen<(int Base, (int Index, int Kind, int Extent, int Other)[] Edits)> mutants =
            from which in Gen.Choose(0, 1)
            from edits in Gen.Zip(Gen.Zip(Gen.Choose(0, 1000), Gen.Choose(0, 3)), Gen.Zip(Gen.Elements(0, 1, 2, 3, 5, 31, 32, 1 << 20, int.MaxValue), Gen.Choose(0, 1000)))
                .Select(e => (e.Item1.Item1, e.Item1.Item2, e.Item2.Item1, e.Item2.Item2)).ArrayOf().Where(a => a.Length is > 0 and < 12)
            select (which, edits);
        int refused = 0;
        Prop.ForAll(mutants.ToArbitrary(), mutant =>
        {
            OrderedDictionary<string, Shape> shapes = new(bases[mutant.Base]);
            foreach ((int index, int kind, int extent, int other) in mutant.Edits)
            {
                string name = shapes.GetAt(index % shapes.Count).Key;
                string second = shapes.GetAt(other % shapes.Count).Key;
                switch (kind)
                {
                    case 0:
                        shapes.Remove(name);
                        break;
                    case 1:
                        shapes[name] = [.. Enumerable.Repeat(1, index % 4), extent];
                        break;
                    case 2:
                        Shape shape = shapes[name];
                        shapes.Remove(name);
                        shapes[$"{second}.{index}"] = shape;
                        break;
                    default:
                        shapes[name] = shapes[second];
                        break;
                }
            }

            try
            {
                ConfigurationInference.Infer(new StateDictShapes("mutant", shapes)).ToString();
            }
            catch (InvalidFileException e)
            {
                Assert.StartsWith("mutant: ", e.Message, StringComparison.Ordinal);
                refused++;
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));
        Assert.True(refused > 0);
    }

    private static IReadOnlyList<InferredConfiguration> Infer(OrderedDictionary<string, Shape> shapes) =>
        ConfigurationInference.Infer(new StateDictShapes("model.safetensors", shapes));

    private static int SizeOf(InferredConfiguration inferred, ModelConfig config) =>
        inferred.Witnesses.ContainsKey("image_size") ? inferred.Config.ImageSize : config.ImageSize;
}
