using System.CommandLine;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>The options of <c>kernels sample</c> that say what it starts from: images, parts of images, latents, two seeds.</summary>
internal sealed class TaskOptions
{
    private readonly Option<string?> _lowRes = Options.Value<string?>(
        "--low-res", "Super-resolution: a PNG, a folder of PNGs or a .npz as guided-diffusion writes it, of which arr_1 gives the classes. Image i is made from image i of these.", "--base-samples", "--base_samples");

    private readonly Option<string?> _inpaint = Options.Value<string?>("--inpaint", "Inpainting: images (PNG, folder or .npz) of which --mask says what is kept.");

    private readonly Option<string?> _mask = Options.Value<string?>("--mask", "Mask of --inpaint, of the images' size: white is kept, black is made anew, grey is mixed.");

    private readonly Option<int> _jumps = Options.Value<int>("--repaint-jumps", "Steps of a jump back up while inpainting (RePaint); needs --repaint-resamples above 1.");

    private readonly Option<int> _resamples = Options.Value<int>("--repaint-resamples", "How often inpainting takes every stretch of --repaint-jumps steps (RePaint); 1 does not go back.");

    private readonly Option<string?> _init = Options.Value<string?>("--init", "Image to image: images (PNG, folder or .npz) that sampling begins with, noised as --strength says.");

    private readonly Option<double> _strength = Options.Value<double>("--strength", "Fraction of the steps that --init executes, the last ones: above 0 (almost the image) to 1 (almost none of it).");

    private readonly Option<string?> _latents = Options.Value<string?>("--latents", "Noise to begin with, a .npz of 'kernels invert', of which arr_1 gives the classes.");

    private readonly Option<ulong?> _interpolate = Options.Value<ulong?>("--interpolate", "Another seed: the images lead from --seed to it, with the noise of the steps and the class in common.");

    private readonly Option<string?> _classesFile = Options.Value<string?>("--classes-file", "Classes from a file: one per line, repeated over the images, or lines image,class that count from 0. Names are allowed.");

    private readonly Option<string> _rng = new("--rng")
    {
        Description = "Random numbers: philox (every image its own, the same on every device and in every batch), or those of PyTorch, to repeat runs of guided-diffusion with the same seed and --batch-size: torch-cpu, torch-cuda[:a100|v100|h100|MULTIPROCESSORSxTHREADS] (held against values that GPUs printed, not yet against a GPU's whole stream).",
        DefaultValueFactory = _ => "philox",
    };

    private readonly Option<double?> _deadline = Options.Value<double?>("--deadline", "Milliseconds in which a batch is to be finished: a step is measured, and as many of the steps asked for are left out as it takes.");

    public TaskOptions()
    {
        _jumps.DefaultValueFactory = _ => 10;
        _resamples.DefaultValueFactory = _ => 1;
        _strength.DefaultValueFactory = _ => 0.5;
    }

    /// <summary>Adds the options to a command.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _classesFile, _init, _strength, _inpaint, _mask, _jumps, _resamples, _lowRes, _latents, _interpolate, _rng, _deadline })
        {
            command.Add(option);
        }
    }

    /// <summary>Adds the option that names classes in a file, for commands that start from images anyway.</summary>
    /// <param name="command">The command.</param>
    public void AddClassesTo(Command command) => command.Add(_classesFile);

    /// <summary>Reads the options and the files that they name.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="ConfigurationException">Options contradict each other.</exception>
    /// <exception cref="InvalidFileException">A file cannot be read.</exception>
    public SampleTask Read(ParseResult parsed)
    {
        string? inpaint = parsed.GetValue(_inpaint), mask = parsed.GetValue(_mask);
        int resamples = parsed.GetValue(_resamples);
        Require((inpaint is null) == (mask is null), "--inpaint and --mask need each other: the images, and what of them is kept");
        Require(inpaint is not null || (!Given(_resamples) && !Given(_jumps)), "--repaint-jumps and --repaint-resamples belong to --inpaint");
        Require(parsed.GetValue(_init) is not null || !Given(_strength), "--strength belongs to --init");
        return new SampleTask
        {
            LowRes = Load(_lowRes),
            Inpainting = inpaint is null ? null : new InpaintingSchedule(parsed.GetValue(_jumps), resamples),
            Known = inpaint is null ? null : new KnownImages(ImageSet.Load(inpaint), ImageSet.Load(mask!).ToGrey()),
            Init = Load(_init) is ImageSet images ? new InitialImages(images, parsed.GetValue(_strength)) : null,
            Latents = parsed.GetValue(_latents) is string latents ? LatentFile.Read(latents) : null,
            InterpolateTo = parsed.GetValue(_interpolate),
            ClassesFile = parsed.GetValue(_classesFile),
            Deadline = parsed.GetValue(_deadline) is not double ms ? null
                : ms is > 0 and < 1e9 ? TimeSpan.FromMilliseconds(ms)
                : throw new ConfigurationException(FormattableString.Invariant($"--deadline is {ms}; it is a positive number of milliseconds")),
            Random = parsed.GetValue(_rng) is string rng ? RandomSource.Parse(rng) : RandomSource.Philox,
        };

        ImageSet? Load(Option<string?> option) => parsed.GetValue(option) is string path ? ImageSet.Load(path) : null;

        bool Given(Option option) => parsed.GetResult(option) is { Implicit: false };
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new ConfigurationException(message);
        }
    }
}
