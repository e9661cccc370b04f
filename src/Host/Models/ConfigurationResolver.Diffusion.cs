using Kernels.Diffusion;

namespace Kernels.Models;

/// <content>The process of a diffusion model, of which the weights tell only whether they predict the variance.</content>
internal sealed partial class ConfigurationResolver
{
    private void Diffusion()
    {
        IReadOnlyList<string> witness = _witnesses["out_channels"];
        if (Config.OutChannels != Config.InChannels && Config.OutChannels != 2 * Config.InChannels)
        {
            throw new InvalidFileException(
                _dict.File,
                witness[0],
                $"the model answers images of {Config.InChannels} channels with {Config.OutChannels}: neither a prediction alone nor one with its variance");
        }

        Known(ModelSetting.LearnSigma, witness);
        DiffusionConfig process = new() { LearnSigma = Config.OutChannels == 2 * Config.InChannels };
        string steps = ModelSetting.Text(process.DiffusionSteps);
        process = process with
        {
            DiffusionSteps = Say("diffusion_steps", o => ModelSetting.Text(o.DiffusionSteps), steps, "")?.DiffusionSteps ?? process.DiffusionSteps,
            NoiseSchedule = Say(
                "noise_schedule",
                o => o.NoiseSchedule is NoiseSchedule schedule ? BetaSchedule.NameOf(schedule) : null,
                _flags.AssumeScriptDefaults ? BetaSchedule.NameOf(NoiseSchedule.Linear) : null,
                $"{FlagOf("noise_schedule")} linear|cosine")?.NoiseSchedule ?? NoiseSchedule.Linear,
            TimestepRespacing = Say("timestep_respacing", o => o.TimestepRespacing, process.TimestepRespacing, "")?.TimestepRespacing ?? process.TimestepRespacing,
            PredictXstart = Say("predict_xstart", o => ModelSetting.Text(o.PredictXstart), ModelSetting.Text(false), "")?.PredictXstart ?? false,
            RescaleTimesteps = Say("rescale_timesteps", o => ModelSetting.Text(o.RescaleTimesteps), ModelSetting.Text(false), "")?.RescaleTimesteps ?? false,
        };

        // A learned variance leaves nothing to choose.
        if (!process.LearnSigma)
        {
            process = process with { SigmaSmall = Say("sigma_small", o => ModelSetting.Text(o.SigmaSmall), ModelSetting.Text(false), "")?.SigmaSmall ?? false };
        }

        if (process.DiffusionSteps is < 1 or > DiffusionConfig.MaxDiffusionSteps)
        {
            string who = Winner(_sources, o => ModelSetting.Text(o.DiffusionSteps))?.Describe("diffusion_steps") ?? "default";
            throw new ConfigurationException($"{who}: diffusion_steps {process.DiffusionSteps} is out of range, 1 to {DiffusionConfig.MaxDiffusionSteps}");
        }

        Process = process;
    }

    private void Label()
    {
        SettingSource? winner = Winner(_sources, o => ModelSetting.Text(o.NullLabel));
        if (Config.Kind == ModelKind.Encoder || winner?.Says.NullLabel is not int label)
        {
            return;
        }

        if (Config.NumClasses is not int classes || label < 0 || label >= classes)
        {
            string known = Config.NumClasses is int n ? $"one of the labels 0 to {n - 1}" : "absent";
            throw winner.Contradiction(_dict, FlagOf("null_label"), "null_label", ModelSetting.Text(label), known, _witnesses["num_classes"][0]);
        }

        NullLabel = label;
        Say("null_label", o => ModelSetting.Text(o.NullLabel), null, "");
    }
}
