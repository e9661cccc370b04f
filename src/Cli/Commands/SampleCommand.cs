using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Kernels.Diffusion;
using Kernels.Runtime;
using Kernels.Sampling;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels sample</c>: images of chosen classes.</summary>
internal static class SampleCommand
{
    private const int DefaultSamples = 16;

    public static Command Create(CliConsole console)
    {
        SampleOptions options = new();
        TaskOptions tasks = new();
        ModelOptions models = new();
        DeviceOptions device = new();
        Command command = new(
            "sample",
            "Sample images under guidance. Without arguments: two images of each class of the demo pair. The flags of guided-diffusion's classifier_sample.py are understood in their own spelling.");
        options.AddTo(command);
        tasks.AddTo(command);
        models.AddTo(command);
        device.AddTo(command);

        // On a thread of its own: the caller must stay free to hear Ctrl+C.
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(console, parsed, options, tasks, models, device, cancellationToken), CancellationToken.None));
        return command;
    }

    private static int Run(
        CliConsole console, ParseResult parsed, SampleOptions options, TaskOptions tasks, ModelOptions models, DeviceOptions device, CancellationToken cancellationToken)
    {
        SampleTask task = tasks.Read(parsed);
        SamplerSetup setup = SamplerSetup.Parse(parsed, options, models, device);
        using Backend backend = device.Open(parsed, models.Precisions(parsed));
        using Sampler sampler = task.Open(setup.Options, backend, RequestOf, cancellationToken);
        SampleRequest request = RequestOf(sampler);
        string path = parsed.GetValue(options.Output) ?? Path.Combine("samples", "sample.png");
        SampleFormat format = new(request.Count, sampler.Height, sampler.Width, sampler.Channels, request.Classes.Count is > 1 and <= 32 ? request.Classes.Count : 0);
        SampleOutput output = SampleOutput.Create(path, format);
        StepPictures? pictures = parsed.GetValue(options.Intermediates) is string folder ? new StepPictures(folder, format) : null;
        return Sample(console, sampler, request, output, pictures, cancellationToken);

        SampleRequest RequestOf(Sampler made) => task.Apply(made, Request(parsed, options, task, made, setup.IsDemo));
    }

    private static int Sample(
        CliConsole console, Sampler sampler, SampleRequest request, SampleOutput output, StepPictures? pictures, CancellationToken cancellationToken)
    {
        console.Tell(
            $"{request.Count} images of {sampler.Height}x{sampler.Width}, {sampler.StepsOf(request)} {(sampler.Table.Sampler == SamplerKind.Ddpm ? "DDPM" : "DDIM")} steps, seed {request.Seed}, on {sampler.Backend.Name}");
        long start = Stopwatch.GetTimestamp();
        int done = 0;
        bool interrupted = false;
        SampleProgress.Run(console.Progress, request.Count, sampler.StepsOf(request), progress =>
        {
            while (done < request.Count)
            {
                int first = done, count = Math.Min(request.BatchSize, request.Count - done);
                try
                {
                    SampledImages sampled = sampler.Sample(
                        request,
                        first,
                        count,
                        result =>
                        {
                            progress(count);
                            pictures?.Save(first, count, result);
                        },
                        keepSteps: pictures is not null,
                        cancellationToken);
                    output.Add(Imaging.Images.ToBytes(sampled.Images), sampled.Labels);
                }
                catch (OperationCanceledException)
                {
                    interrupted = true;
                    return;
                }

                done += count;
            }
        });
        output.Finish();
        if (interrupted)
        {
            console.Error.WriteLine(done > 0 ? $"kernels: interrupted; {done} finished images are in {output.Path}" : "kernels: interrupted before an image was finished");
            return ExitCode.Interrupted;
        }

        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        console.Tell($"{request.Count} images in {seconds:0.0} s:");
        console.Output.WriteLine(output.Path);
        return ExitCode.Done;
    }

    private static SampleRequest Request(ParseResult parsed, SampleOptions options, SampleTask task, Sampler sampler, bool demo)
    {
        int classes = sampler.ClassCount;
        string[] lists = parsed.GetValue(options.Class) ?? [];
        if (lists.Length > 0 && classes == 0)
        {
            throw new ConfigurationException("--class needs a class-conditional diffusion model or a classifier with a scale other than 0");
        }

        if (lists.Length > 0 && task.ClassesFile is not null)
        {
            throw new ConfigurationException("--class and --classes-file say the same thing; give one of them");
        }

        int[] listed = lists.Length > 0 ? ClassList.Parse(lists, classes, sampler.ClassNames)
            : task.Classes(classes, sampler.ClassNames) is { Length: > 0 } named ? named
            : demo && task.Count is null ? [.. Enumerable.Range(0, classes)]
            : [];
        int count = parsed.GetValue(options.NumSamples) ?? task.Count ?? (demo && task.ClassesFile is null && lists.Length == 0 ? DemoPair.ImagesPerClass * classes : listed.Length > 0 ? listed.Length : DefaultSamples);
        int batch = parsed.GetValue(options.BatchSize);
        return count > 0 && batch > 0
            ? new SampleRequest { Count = count, BatchSize = task.Random.IsTorch ? batch : Math.Min(batch, count), Seed = parsed.GetValue(options.Seed), Classes = listed }
            : throw new ConfigurationException($"--num-samples is {count} and --batch-size is {batch}; both must be positive");
    }
}
