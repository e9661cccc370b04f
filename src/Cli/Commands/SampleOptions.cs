using System.CommandLine;
using Kernels.Diffusion;

namespace Kernels.Cli.Commands;

/// <summary>The options of <c>kernels sample</c> beside those of models and devices.</summary>
internal sealed class SampleOptions
{
    public Option<string?> Diffusion { get; } = Options.Value<string?>("--diffusion", "Checkpoint of the diffusion model; the demo pair if absent.", "--model-path", "--model_path");

    public Option<string?> Classifier { get; } = Options.Value<string?>("--classifier", "Checkpoint of the noisy classifier.", "--classifier-path", "--classifier_path");

    public Option<string?> Key { get; } = Options.Value<string?>("--key", "Where the state dict is nested in the diffusion checkpoint, as ema.");

    public Option<string[]> Class { get; } = Options.Value<string[]>("--class", "Classes to sample: 3, star, 0-9, lists with commas; repeated over the samples. Random without it.");

    public Option<int?> NumSamples { get; } = Options.Value<int?>("--num-samples", "Number of images; without it one per listed class, else 16.");

    public Option<int> BatchSize { get; } = Options.Value<int>("--batch-size", "Images sampled at once. The images do not depend on it.");

    public Option<string?> Sampler { get; } = Options.Value<string?>(
        "--sampler", "ddpm, the default; ddim, euler, euler-a, heun, dpm++2m, dpm++2m-sde or plms. A list with commas for --compare.");

    public Option<bool?> UseDdim { get; } = Options.Flag("--use-ddim", "The original's spelling of --sampler ddim.");

    public Option<int?> Steps { get; } = Options.Value<int?>("--steps", "Number of steps: short for --timestep-respacing N, or ddimN with evenly spaced DDIM. Heun asks the models twice a step.");

    public Option<string?> Spacing { get; } = Options.Value<string?>(
        "--spacing", "How noise levels lie between the ends of the process: linear (even timesteps), cosine or karras. Without it linear for ddpm and ddim, karras for the others.");

    public Option<double> Eta { get; } = Options.Value<double>("--eta", "Noise of DDIM: 0 is deterministic.");

    public Option<double?> ClassifierScale { get; } = Options.Value<double?>("--classifier-scale", "Factor on the classifier's gradient; 0 skips the classifier. 1 if a classifier is given.");

    public Option<double> CfgScale { get; } = Options.Value<double>("--cfg-scale", "w of classifier-free guidance, eps = (1+w) eps(y) - w eps(null).");

    public Option<double> GuidanceStart { get; } = Options.Value<double>("--guidance-start", "The highest noise level sigma at which classifier and classifier-free guidance act; all without it.");

    public Option<double> GuidanceStop { get; } = Options.Value<double>("--guidance-stop", "The noise level sigma at and below which they no longer act.");

    public Option<bool?> Unconditional { get; } = Options.Flag("--unconditional", "Feed a class-conditional UNet its null label, so that only the classifier steers.");

    public Option<int?> NullLabel { get; } = Options.Value<int?>("--null-label", "The label that means \"no class\"; known for converted checkpoints.");

    public Option<ulong> Seed { get; } = Options.Value<ulong>("--seed", "Seed of all noise. The same seed gives the same images.");

    public Option<bool?> ClipDenoised { get; } = Options.Flag("--clip-denoised", "Clamp the predicted image to [-1, 1] at every step; true unless told otherwise.");

    public Option<string?> Output { get; } = Options.Value<string?>("--output", "A .png (one picture of all), a .npz (as guided-diffusion writes it) or a folder; the same command goes on with a .npz, or a folder of shards, that was interrupted. samples/sample.png if absent.");

    public Option<bool?> Compare { get; } = Options.Flag("--compare", "Sample the same images with each sampler of --sampler, all without it: a row of the picture for each, and their times.");

    public Option<string?> Intermediates { get; } = Options.Value<string?>("--intermediates", "Folder for a picture of the predicted images after every step.");

    /// <summary>Creates the options.</summary>
    public SampleOptions()
    {
        BatchSize.DefaultValueFactory = _ => 16;
        Sampler.HelpName = "name[,name]";
        Spacing.AcceptOnlyFromAmong("linear", "cosine", "karras");
        GuidanceStart.DefaultValueFactory = _ => double.PositiveInfinity;
    }

    /// <summary>Adds the options to a command.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        foreach (Option option in new Option[]
        {
            Diffusion, Classifier, Key, Class, NumSamples, BatchSize, Sampler, UseDdim, Steps, Spacing, Eta, ClassifierScale, CfgScale, GuidanceStart, GuidanceStop,
            Unconditional, NullLabel, Seed, ClipDenoised, Output, Compare, Intermediates,
        })
        {
            command.Add(option);
        }
    }

    /// <summary>The sampler, in either spelling.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="ConfigurationException">The two spellings contradict each other, or there is more than one.</exception>
    public SamplerKind SamplerOf(ParseResult parsed)
    {
        bool? useDdim = parsed.GetValue(UseDdim);
        SamplerKind? named = parsed.GetValue(Sampler) is not string name ? null
            : name.Contains(',', StringComparison.Ordinal) ? throw new ConfigurationException($"--sampler {name} names several; they are sampled side by side with --compare")
            : SamplerKinds.Parse(name);
        return useDdim is bool ddim && named is SamplerKind kind && ddim != (kind == SamplerKind.Ddim)
            ? throw new ConfigurationException($"--use-ddim {useDdim} and --sampler {parsed.GetValue(Sampler)} contradict each other")
            : named ?? (useDdim == true ? SamplerKind.Ddim : SamplerKind.Ddpm);
    }

    /// <summary>The samplers that are compared: those named, or all.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="ConfigurationException">A name is unknown or stands there twice.</exception>
    public IReadOnlyList<SamplerKind> ComparedOf(ParseResult parsed)
    {
        string[] names = parsed.GetValue(Sampler) is string list ? list.Split(',', StringSplitOptions.TrimEntries) : [.. SamplerKinds.Names];
        return names.Distinct().Count() == names.Length
            ? Array.ConvertAll(names, SamplerKinds.Parse)
            : throw new ConfigurationException($"--sampler {parsed.GetValue(Sampler)} names one twice");
    }

    /// <summary>The spacing; null for the sampler's own.</summary>
    /// <param name="parsed">The command line.</param>
    public StepSpacing? SpacingOf(ParseResult parsed) => parsed.GetValue(Spacing) is string name ? NoiseLevels.ParseSpacing(name) : null;

    /// <summary>The respacing that <see cref="Steps"/> stands for; null if it is absent.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="sampler">The sampler.</param>
    /// <param name="respacing">What <c>--timestep-respacing</c> says.</param>
    /// <exception cref="ConfigurationException">Both are given, or the number is not positive.</exception>
    public string? RespacingOf(ParseResult parsed, SamplerKind sampler, string? respacing)
    {
        if (parsed.GetValue(Steps) is not int steps)
        {
            return respacing;
        }

        if (respacing is not null)
        {
            throw new ConfigurationException("--steps and --timestep-respacing say the same thing; give one of them");
        }

        // The strides of the original's DDIM; spaced otherwise, steps lie between the ends of the process.
        bool strides = sampler == SamplerKind.Ddim && (SpacingOf(parsed) ?? StepSpacing.Linear) == StepSpacing.Linear;
        return steps > 0
            ? FormattableString.Invariant($"{(strides ? "ddim" : "")}{steps}")
            : throw new ConfigurationException($"--steps is {steps}; it must be positive");
    }
}
