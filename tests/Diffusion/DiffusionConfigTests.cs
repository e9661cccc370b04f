using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class DiffusionConfigTests
{
    [Fact]
    public void Defaults_are_those_of_the_original()
    {
        DiffusionConfig config = DiffusionConfig.FromJson("{}");
        Assert.Equal(new DiffusionConfig(), config);
        Assert.Equal(1000, config.DiffusionSteps);
        Assert.Equal(NoiseSchedule.Linear, config.NoiseSchedule);
        Assert.Equal(ModelMeanType.Epsilon, config.MeanType);
        Assert.Equal(ModelVarType.FixedLarge, config.VarType);
    }

    [Fact]
    public void Json_survives_the_round_trip()
    {
        DiffusionConfig config = new()
        {
            DiffusionSteps = 500,
            NoiseSchedule = NoiseSchedule.Cosine,
            TimestepRespacing = "10,15,20",
            LearnSigma = true,
            SigmaSmall = true,
            PredictXstart = true,
            RescaleTimesteps = true,
        };
        Assert.Equal(config, DiffusionConfig.FromJson(config.ToJson()));
        Assert.Contains("\"timestep_respacing\":\"10,15,20\"", config.ToJson(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, true, ModelVarType.LearnedRange)]
    [InlineData(true, false, ModelVarType.LearnedRange)]
    [InlineData(false, true, ModelVarType.FixedSmall)]
    [InlineData(false, false, ModelVarType.FixedLarge)]
    public void Variance_follows_learn_sigma_then_sigma_small(bool learn, bool small, ModelVarType expected) =>
        Assert.Equal(expected, new DiffusionConfig { LearnSigma = learn, SigmaSmall = small }.VarType);

    [Fact]
    public void Settings_of_training_are_passed_over() =>
        Assert.True(DiffusionConfig.FromJson("""{"use_kl": false, "rescale_learned_sigmas": true, "learn_sigma": true}""").LearnSigma);

    [Theory]
    [InlineData("", "JSON")]
    [InlineData("[]", "expected a JSON object")]
    [InlineData("{\"learn_sigma\": true", "JSON")]
    [InlineData("{} {}", "JSON")]
    [InlineData("{\"learn_sigma\": \"yes\"}", "'learn_sigma' must be true or false")]
    [InlineData("{\"diffusion_steps\": 1.5}", "'diffusion_steps' must be a 32-bit integer")]
    [InlineData("{\"diffusion_steps\": 99999999999}", "'diffusion_steps' must be a 32-bit integer")]
    [InlineData("{\"noise_schedule\": \"sqrt\"}", "must be linear or cosine")]
    [InlineData("{\"noise_schedule\": {}}", "'noise_schedule' must be a string")]
    [InlineData("{\"timestep_respacing\": \"\\ud800\"}", "JSON")]
    [InlineData("{\"learn_sigm\": true}", "unknown key 'learn_sigm'")]
    [InlineData("{\"learn_sigma\": true, \"learn_sigma\": false}", "given twice")]
    public void Bad_settings_are_refused_by_name(string json, string reason)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => DiffusionConfig.FromJson(json));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
    }
}
