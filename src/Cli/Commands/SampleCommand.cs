using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels sample</c>: images of chosen classes.</summary>
internal static class SampleCommand
{
    private const int DefaultSamples = 16;

    public static Command Create(CliConsole console)
    {
        SampleOptions options = new();
        ModelOptions models = new();
        DeviceOptions device = new();
        Command command = new(
            "sample",
            "Sample images under guidance. Without arguments: two images of each class of the demo pair. The flags of guided-diffusion's classifier_sample.py are understood in their own spelling.");
        options.AddTo(command);
        models.AddTo(command);
        device.AddTo(command);

        // On a thread of its own: the caller must stay free to hear Ctrl+C.
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(console, parsed, options, models, device, cancellationToken), CancellationToken.None));
        return command;
    }

    private static int Run(
        CliConsole console, ParseResult parsed, SampleOptions options, ModelOptions models, DeviceOptions device, CancellationToken cancellationToken)
    {
        using SamplerSetup setup = SamplerSetup.Load(parsed, options, models);
        using Backend backend = device.Open(parsed, models.Precisions(parsed));
        using DiffusionSampler sampler = setup.Create(backend, device.DisabledFusions(parsed));
        Job job = Job.Create(parsed, options, setup);
        return Sample(console, job, sampler, backend, setup.Diffusion.Model.Config.InChannels, cancellationToken);
    }

    private static int Sample(CliConsole console, Job job, DiffusionSampler sampler, Backend backend, int channels, CancellationToken cancellationToken)
    {
        SampleFormat format = new(job.Count, sampler.Height, sampler.Width, channels, job.Columns);
        SampleOutput output = SampleOutput.Create(job.Output, format);
        StepPictures? pictures = job.Intermediates is null ? null : new StepPictures(job.Intermediates, format);
        console.Tell(
            $"{job.Count} images of {sampler.Height}x{sampler.Width}, {sampler.Table.Count} {(sampler.Settings.Sampler == SamplerKind.Ddpm ? "DDPM" : "DDIM")} steps, seed {job.Seed}, on {backend.Name}");
        long start = Stopwatch.GetTimestamp();
        int done = 0;
        bool interrupted = false;
        SampleProgress.Run(console.Progress, job.Count, sampler.Table.Count, progress =>
        {
            for (; done < job.Count; done += job.BatchSize)
            {
                int count = Math.Min(job.BatchSize, job.Count - done);
                int[] labels = job.LabelsOf(done, count);
                SampleBatch batch = new() { Count = count, Labels = labels, Seed = job.Seed, FirstImage = done, KeepSteps = pictures is not null };
                try
                {
                    float[] images = sampler.Sample(
                        batch,
                        result =>
                        {
                            progress(count);
                            pictures?.Save(done, count, result);
                        },
                        cancellationToken);
                    output.Add(Imaging.Images.ToBytes(images), labels);
                }
                catch (OperationCanceledException)
                {
                    interrupted = true;
                    return;
                }
            }
        });
        output.Finish();
        if (interrupted)
        {
            console.Error.WriteLine(done > 0 ? $"kernels: interrupted; {done} finished images are in {output.Path}" : "kernels: interrupted before an image was finished");
            return ExitCode.Interrupted;
        }

        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        console.Tell($"{job.Count} images in {seconds:0.0} s:");
        console.Output.WriteLine(output.Path);
        return ExitCode.Done;
    }

    /// <summary>What is to be sampled.</summary>
    private sealed record Job(int Count, int BatchSize, ulong Seed, int[] Classes, int RandomClasses, int Columns, string Output, string? Intermediates)
    {
        public static Job Create(ParseResult parsed, SampleOptions options, SamplerSetup setup)
        {
            (LoadedModel diffusion, LoadedModel? classifier, SamplerSettings settings, bool demo) = (setup.Diffusion, setup.Classifier, setup.Settings, setup.IsDemo);
            int classes = ClassCount(diffusion.Model.Config, classifier?.Model.Config, settings);
            string[] lists = parsed.GetValue(options.Class) ?? [];
            if (lists.Length > 0 && classes == 0)
            {
                throw new ConfigurationException("--class needs a class-conditional diffusion model or a classifier with a scale other than 0");
            }

            int[] listed = lists.Length > 0 ? ClassList.Parse(lists, classes, diffusion.ClassNames ?? classifier?.ClassNames)
                : demo ? [.. Enumerable.Range(0, classes)]
                : [];
            int count = parsed.GetValue(options.NumSamples) ?? (demo && lists.Length == 0 ? DemoPair.ImagesPerClass * classes : listed.Length > 0 ? listed.Length : DefaultSamples);
            int batch = parsed.GetValue(options.BatchSize);
            if (count < 1 || batch < 1)
            {
                throw new ConfigurationException($"--num-samples is {count} and --batch-size is {batch}; both must be positive");
            }

            return new Job(
                count,
                Math.Min(batch, count),
                parsed.GetValue(options.Seed),
                listed,
                classes,
                listed.Length is > 1 and <= 32 ? listed.Length : 0,
                parsed.GetValue(options.Output) ?? Path.Combine("samples", "sample.png"),
                parsed.GetValue(options.Intermediates));
        }

        public int[] LabelsOf(int first, int count) =>
            RandomClasses == 0
                ? []
                : [.. Enumerable.Range(first, count).Select(i => Classes.Length > 0 ? Classes[i % Classes.Length] : RandomStreams.Label(Seed, (ulong)i, RandomClasses))];

        // The label that means "no class" is not one that somebody wants a picture of.
        private static int ClassCount(ModelConfig diffusion, ModelConfig? classifier, SamplerSettings settings)
        {
            int? conditional = settings.Unconditional ? null : diffusion.NumClasses - (settings.NullLabel == diffusion.NumClasses - 1 ? 1 : 0);
            return Math.Min(conditional ?? int.MaxValue, classifier?.OutChannels ?? int.MaxValue) is var classes and < int.MaxValue ? classes : 0;
        }
    }
}
