using System.CommandLine;
using Kernels.Cli.Commands;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>The command line of a command that works on given images with a diffusion model alone.</summary>
internal sealed class ImageJob
{
    private readonly SampleOptions _options = new();
    private readonly TaskOptions _tasks = new();
    private readonly ModelOptions _models = new();
    private readonly Argument<string> _images = new("images") { Description = "A PNG, a folder of PNGs, or a .npz as guided-diffusion writes it, of which arr_1 gives the classes." };

    /// <summary>Where it computes.</summary>
    public DeviceOptions Device { get; } = new();

    /// <summary>Adds argument and options to a command.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        command.Add(_images);
        foreach (Option option in new Option[] { _options.Diffusion, _options.Key, _options.Class, _options.NumSamples, _options.BatchSize, _options.Steps, _options.Unconditional, _options.NullLabel, _options.Seed, _options.ClipDenoised })
        {
            command.Add(option);
        }

        _tasks.AddClassesTo(command);
        _models.AddTo(command);
        Device.AddTo(command);
    }

    /// <summary>Opens the device.</summary>
    /// <param name="parsed">The command line.</param>
    public Runtime.Backend Open(ParseResult parsed) => Device.Open(parsed, _models.Precisions(parsed));

    /// <summary>Seed of the noise.</summary>
    /// <param name="parsed">The command line.</param>
    public ulong Seed(ParseResult parsed) => parsed.GetValue(_options.Seed);

    /// <summary>Images at once.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="ConfigurationException">The number is not positive.</exception>
    public int BatchSize(ParseResult parsed) =>
        parsed.GetValue(_options.BatchSize) is int batch and > 0 ? batch : throw new ConfigurationException($"--batch-size is {parsed.GetValue(_options.BatchSize)}; it must be positive");

    /// <summary>Reads the images.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="InvalidFileException">They cannot be read.</exception>
    public ImageSet Images(ParseResult parsed) => ImageSet.Load(parsed.GetValue(_images)!);

    /// <summary>How many of the images are taken, from the first on: all, without <c>--num-samples</c>.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="images">The images.</param>
    /// <exception cref="ConfigurationException">They are fewer, or none are asked for.</exception>
    public int Count(ParseResult parsed, ImageSet images) => parsed.GetValue(_options.NumSamples) is not int count ? images.Count
        : count > 0 && count <= images.Count ? count
        : throw new ConfigurationException($"--num-samples is {count}; {images.Path} holds {images.Count} images");

    /// <summary>The diffusion model and its settings: the demo pair's where none is named.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="respacing">What stands before the number of <c>--steps</c> in a respacing: <c>ddim</c> or nothing.</param>
    /// <param name="demoRespacing">The respacing of the demo model where none is asked for.</param>
    /// <exception cref="ConfigurationException">Options contradict each other.</exception>
    public SamplerOptions Model(ParseResult parsed, string respacing, string? demoRespacing)
    {
        string? named = parsed.GetValue(_options.Diffusion), spacing = parsed.GetValue(_models.TimestepRespacing);
        if (parsed.GetValue(_options.Steps) is int steps)
        {
            spacing = spacing is not null ? throw new ConfigurationException("--steps and --timestep-respacing say the same thing; give one of them")
                : steps > 0 ? FormattableString.Invariant($"{respacing}{steps}")
                : throw new ConfigurationException($"--steps is {steps}; it must be positive");
        }

        ModelOverrides overrides = _models.DiffusionOverrides(parsed) with { TimestepRespacing = spacing ?? (named is null ? demoRespacing : null) };
        return new SamplerOptions
        {
            Diffusion = new ModelSource(named ?? DemoPair.Diffusion) { Key = parsed.GetValue(_options.Key), Overrides = overrides },
            Settings = new SamplerSettings
            {
                ClipDenoised = parsed.GetValue(_options.ClipDenoised) ?? true,
                NullLabel = parsed.GetValue(_options.NullLabel),
                Unconditional = parsed.GetValue(_options.Unconditional) ?? false,
            },
            DisabledFusions = Device.DisabledFusions(parsed),
        };
    }

    /// <summary>The class of every image; none if the model reads none.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="images">The images.</param>
    /// <param name="count">How many of them are taken.</param>
    /// <param name="classes">Number of classes; 0 if the model reads none.</param>
    /// <param name="names">Their names, if the checkpoint has them.</param>
    /// <exception cref="ConfigurationException">Nothing names them.</exception>
    /// <exception cref="InvalidFileException">A file names wrong ones.</exception>
    public int[] Labels(ParseResult parsed, ImageSet images, int count, int classes, IReadOnlyList<string>? names)
    {
        string[] lists = parsed.GetValue(_options.Class) ?? [];
        if (classes == 0)
        {
            return lists.Length == 0 ? [] : throw new ConfigurationException("--class needs a class-conditional diffusion model");
        }

        SampleTask task = _tasks.Read(parsed) with { Init = new InitialImages(images, 1) };
        int[] listed = lists.Length > 0 ? ClassList.Parse(lists, classes, names) : task.Classes(classes, names);
        return listed.Length > 0 ? [.. Enumerable.Range(0, count).Select(i => listed[i % listed.Length])]
            : throw new ConfigurationException($"the diffusion model is class-conditional and {images.Path} names no classes; give --class, --classes-file, or --unconditional with a null label");
    }
}
