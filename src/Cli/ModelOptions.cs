using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Models;

namespace Kernels.Cli;

/// <summary>
/// Settings of models and process that a checkpoint's weights cannot tell, or that the user wants checked against them, under the names of guided-diffusion's scripts.
/// As there, attention resolutions are pixels.
/// </summary>
internal sealed class ModelOptions
{
    private readonly Option<string?> _preset = Options.Value<string?>("--preset", $"Settings of a published model: {string.Join(", ", Presets.All.Select(p => p.Name))}.");
    private readonly Option<int?> _imageSize = Options.Value<int?>("--image-size", "Height and width of the images.");
    private readonly Option<int?> _numChannels = Options.Value<int?>("--num-channels", "Base width (model_channels).");
    private readonly Option<int?> _numResBlocks = Options.Value<int?>("--num-res-blocks", "Residual blocks per level.");
    private readonly Option<string?> _channelMult = Options.Value<string?>("--channel-mult", "Width of each level as a multiple of the base width, as 1,2,3,4.");
    private readonly Option<string?> _attentionResolutions = Options.Value<string?>("--attention-resolutions", "Resolutions in pixels at which attention is used, as 32,16,8.");
    private readonly Option<int?> _numHeads = Options.Value<int?>("--num-heads", "Attention heads.");
    private readonly Option<int?> _numHeadsUpsample = Options.Value<int?>("--num-heads-upsample", "Attention heads on the way up.");
    private readonly Option<int?> _numHeadChannels = Options.Value<int?>("--num-head-channels", "Channels per attention head.");
    private readonly Option<bool?> _classCond = Options.Flag("--class-cond", "Whether the diffusion model is class-conditional.");
    private readonly Option<bool?> _learnSigma = Options.Flag("--learn-sigma", "Whether the variance is learned.");
    private readonly Option<bool?> _useScaleShiftNorm = Options.Flag("--use-scale-shift-norm", "Whether the embedding scales and shifts the norms.");
    private readonly Option<bool?> _resblockUpdown = Options.Flag("--resblock-updown", "Whether residual blocks resample.");
    private readonly Option<bool?> _convResample = Options.Flag("--conv-resample", "Whether resampling layers are convolutions.");
    private readonly Option<int?> _inChannels = Options.Value<int?>("--in-channels", "Channels of the images; 6 says that a model of 6 input channels is not one for super-resolution.");
    private readonly Option<int?> _outChannels = Options.Value<int?>("--out-channels", "Channels of the output, or classes of a classifier.");
    private readonly Option<int?> _numClasses = Options.Value<int?>("--num-classes", "Labels of a class-conditional model, the null label included.");
    private readonly Option<string?> _pool = Options.Value<string?>("--pool", "Pooling of a classifier that is inspected or converted: adaptive, attention, spatial or spatial_v2.");
    private readonly Option<bool?> _useNewAttentionOrder = Options.Flag("--use-new-attention-order", "Whether q, k and v are split before the heads.");
    private readonly Option<int?> _diffusionSteps = Options.Value<int?>("--diffusion-steps", "Steps of the process that the model was trained on.");
    private readonly Option<string?> _noiseSchedule = Options.Value<string?>("--noise-schedule", "linear or cosine.");
    private readonly Option<bool?> _sigmaSmall = Options.Flag("--sigma-small", "Whether a fixed variance is the smaller one.");
    private readonly Option<bool?> _predictXstart = Options.Flag("--predict-xstart", "Whether the model predicts x_0 rather than the noise.");
    private readonly Option<bool?> _rescaleTimesteps = Options.Flag("--rescale-timesteps", "Whether the model sees timesteps scaled to 0..1000.");

    private readonly Option<int?> _classifierWidth = Options.Value<int?>("--classifier-width", "Base width of the classifier.");
    private readonly Option<int?> _classifierDepth = Options.Value<int?>("--classifier-depth", "Residual blocks per level of the classifier.");
    private readonly Option<string?> _classifierAttention = Options.Value<string?>("--classifier-attention-resolutions", "Resolutions in pixels at which the classifier uses attention.");
    private readonly Option<int?> _classifierHeadChannels = Options.Value<int?>("--classifier-num-head-channels", "Channels per attention head of the classifier.");
    private readonly Option<bool?> _classifierAttentionOrder = Options.Flag("--classifier-use-new-attention-order", "Whether the classifier splits q, k and v before the heads.");
    private readonly Option<bool?> _classifierScaleShift = Options.Flag("--classifier-use-scale-shift-norm", "Whether the embedding scales and shifts the classifier's norms.");
    private readonly Option<bool?> _classifierUpdown = Options.Flag("--classifier-resblock-updown", "Whether the classifier's residual blocks resample.");
    private readonly Option<string?> _classifierPool = Options.Value<string?>("--classifier-pool", "adaptive, attention, spatial or spatial_v2.");

    private readonly Option<bool?> _useFp16 = Options.Flag("--use-fp16", "On a GPU, the diffusion model in fp16, as --precision fp16; the CPU computes in fp32.");
    private readonly Option<bool?> _classifierUseFp16 = Options.Flag("--classifier-use-fp16", "On a GPU, the classifier in fp16.");

    // Switches of the scripts that change memory or training, not the images: understood so that command lines paste unchanged.
    private readonly Option[] _withoutEffect =
    [
        Options.Value<double?>("--dropout", "Understood; has no effect on sampling."),
        Options.Flag("--use-checkpoint", "Understood; has no effect on sampling."),
        Options.Flag("--use-kl", "Understood; has no effect on sampling."),
        Options.Flag("--rescale-learned-sigmas", "Understood; has no effect on sampling."),
    ];

    /// <summary>Which of the trained steps are used.</summary>
    public Option<string?> TimestepRespacing { get; } = Options.Value<string?>("--timestep-respacing", "Which of the trained steps are used: 250, 10,15,20, ddim50.");

    /// <summary>Adds the options of a diffusion model, and those of a classifier.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        foreach (Option option in new Option[]
        {
            _preset, _imageSize, _numChannels, _numResBlocks, _channelMult, _attentionResolutions, _numHeads, _numHeadsUpsample, _numHeadChannels, _classCond, _learnSigma,
            _useScaleShiftNorm, _resblockUpdown, _convResample, _inChannels, _outChannels, _numClasses, _pool, _useNewAttentionOrder, _diffusionSteps, _noiseSchedule, TimestepRespacing, _sigmaSmall, _predictXstart, _rescaleTimesteps,
            _classifierWidth, _classifierDepth, _classifierAttention, _classifierHeadChannels, _classifierAttentionOrder, _classifierScaleShift, _classifierUpdown, _classifierPool, _useFp16, _classifierUseFp16,
        }.Concat(_withoutEffect))
        {
            command.Add(option);
        }
    }

    /// <summary>The precisions that the original's switches ask for; null where they are silent.</summary>
    /// <param name="parsed">The command line.</param>
    public (Precision? Diffusion, Precision? Classifier) Precisions(ParseResult parsed)
    {
        return (Of(_useFp16), Of(_classifierUseFp16));

        Precision? Of(Option<bool?> option) => parsed.GetValue(option) switch { true => Precision.Fp16, false => Precision.Fp32, null => null };
    }

    /// <summary>What the options say of the diffusion model.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="ConfigurationException">A value cannot be read.</exception>
    public ModelOverrides DiffusionOverrides(ParseResult parsed) => new()
    {
        AssumeScriptDefaults = InOriginalSpelling(parsed),
        Preset = parsed.GetValue(_preset),
        ImageSize = parsed.GetValue(_imageSize),
        ModelChannels = parsed.GetValue(_numChannels),
        NumResBlocks = parsed.GetValue(_numResBlocks),
        ChannelMult = List(parsed.GetValue(_channelMult), "--channel-mult", ParseDouble),
        AttentionResolutions = List(parsed.GetValue(_attentionResolutions), "--attention-resolutions", ParseInt),
        NumHeads = parsed.GetValue(_numHeads),
        NumHeadsUpsample = parsed.GetValue(_numHeadsUpsample),
        NumHeadChannels = parsed.GetValue(_numHeadChannels),
        ClassCond = parsed.GetValue(_classCond),
        LearnSigma = parsed.GetValue(_learnSigma),
        UseScaleShiftNorm = parsed.GetValue(_useScaleShiftNorm),
        ResblockUpdown = parsed.GetValue(_resblockUpdown),
        ConvResample = parsed.GetValue(_convResample),
        InChannels = parsed.GetValue(_inChannels),
        OutChannels = parsed.GetValue(_outChannels),
        NumClasses = parsed.GetValue(_numClasses),
        Pool = parsed.GetValue(_pool),
        UseNewAttentionOrder = parsed.GetValue(_useNewAttentionOrder),
        DiffusionSteps = parsed.GetValue(_diffusionSteps),
        NoiseSchedule = parsed.GetValue(_noiseSchedule) is string schedule ? BetaSchedule.Parse(schedule) : null,
        TimestepRespacing = parsed.GetValue(TimestepRespacing),
        SigmaSmall = parsed.GetValue(_sigmaSmall),
        PredictXstart = parsed.GetValue(_predictXstart),
        RescaleTimesteps = parsed.GetValue(_rescaleTimesteps),
    };

    /// <summary>What the options say of the classifier.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="ConfigurationException">A value cannot be read.</exception>
    public ModelOverrides ClassifierOverrides(ParseResult parsed) => new()
    {
        FlagPrefix = "--classifier-",
        Preset = parsed.GetValue(_preset),
        AssumeScriptDefaults = InOriginalSpelling(parsed),
        ImageSize = parsed.GetValue(_imageSize),
        ModelChannels = parsed.GetValue(_classifierWidth),
        NumResBlocks = parsed.GetValue(_classifierDepth),
        AttentionResolutions = List(parsed.GetValue(_classifierAttention), "--classifier-attention-resolutions", ParseInt),
        NumHeadChannels = parsed.GetValue(_classifierHeadChannels),
        UseNewAttentionOrder = parsed.GetValue(_classifierAttentionOrder),
        UseScaleShiftNorm = parsed.GetValue(_classifierScaleShift),
        ResblockUpdown = parsed.GetValue(_classifierUpdown),
        Pool = parsed.GetValue(_classifierPool),
    };

    // Who pastes a command line of the original's scripts means their defaults too.
    private static bool InOriginalSpelling(ParseResult parsed) =>
        parsed.Tokens.Any(t => t.Type == System.CommandLine.Parsing.TokenType.Option && t.Value.Contains('_', StringComparison.Ordinal));

    private static T[]? List<T>(string? text, string option, Func<string, T?> parse)
        where T : struct =>
        string.IsNullOrWhiteSpace(text)
            ? null
            : [.. text.Split(',', StringSplitOptions.TrimEntries).Select(part => parse(part) ?? throw new ConfigurationException($"{option} {text}: '{part}' is no number"))];

    private static int? ParseInt(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : null;

    private static double? ParseDouble(string text) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) ? value : null;
}
