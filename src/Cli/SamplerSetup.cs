using System.CommandLine;
using Kernels.Cli.Commands;
using Kernels.Diffusion;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>The models and settings that a command line of <c>kernels sample</c> describes.</summary>
/// <param name="Options">Models, sampler and guidance.</param>
/// <param name="IsDemo">Whether no model was named, so that it is the demo pair's.</param>
internal sealed record SamplerSetup(SamplerOptions Options, bool IsDemo)
{
    /// <summary>Reads the command line.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="options">The options of sampling.</param>
    /// <param name="models">The options of models.</param>
    /// <param name="device">The options of devices.</param>
    /// <param name="compared">The sampler, where several are compared; η is DDIM's then.</param>
    /// <exception cref="ConfigurationException">The options contradict each other.</exception>
    public static SamplerSetup Parse(ParseResult parsed, SampleOptions options, ModelOptions models, DeviceOptions device, SamplerKind? compared = null)
    {
        SamplerKind kind = compared ?? options.SamplerOf(parsed);
        string? diffusion = parsed.GetValue(options.Diffusion);
        string? classifier = parsed.GetValue(options.Classifier);
        bool demo = diffusion is null;
        if (demo && classifier is not null)
        {
            throw new ConfigurationException("--classifier needs --diffusion: a classifier steers a diffusion model of its own image size");
        }

        string? respacing = options.RespacingOf(parsed, kind, parsed.GetValue(models.TimestepRespacing)) ?? (demo ? DemoPair.Settings.TimestepRespacing : null);
        classifier ??= demo ? DemoPair.Classifier : null;
        SamplerOptions sampler = new()
        {
            Diffusion = new ModelSource(diffusion ?? DemoPair.Diffusion)
            {
                Key = parsed.GetValue(options.Key),
                Overrides = models.DiffusionOverrides(parsed) with { TimestepRespacing = respacing },
            },
            Classifier = classifier is null ? null : new ModelSource(classifier) { Overrides = models.ClassifierOverrides(parsed) },
            Settings = new SamplerSettings
            {
                Sampler = kind,
                Eta = compared is null || kind == SamplerKind.Ddim ? parsed.GetValue(options.Eta) : 0,
                Spacing = options.SpacingOf(parsed),
                ClipDenoised = parsed.GetValue(options.ClipDenoised) ?? true,
                ClassifierScale = parsed.GetValue(options.ClassifierScale) ?? (demo ? DemoPair.Settings.ClassifierScale!.Value : classifier is null ? 0 : 1),
                CfgScale = parsed.GetValue(options.CfgScale),
                GuidanceStart = parsed.GetValue(options.GuidanceStart),
                GuidanceStop = parsed.GetValue(options.GuidanceStop),
                NullLabel = parsed.GetValue(options.NullLabel),
                Unconditional = parsed.GetValue(options.Unconditional) ?? false,
            },
            DisabledFusions = device.DisabledFusions(parsed),
        };
        return new SamplerSetup(sampler, demo);
    }
}
