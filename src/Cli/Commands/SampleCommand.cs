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
        JobOptions jobs = new();
        Command command = new(
            "sample",
            "Sample images under guidance. Without arguments: two images of each class of the demo pair. The flags of guided-diffusion's classifier_sample.py are understood in their own spelling.");
        options.AddTo(command);
        tasks.AddTo(command);
        jobs.AddTo(command);
        models.AddTo(command);
        device.AddTo(command);

        // On a thread of its own: the caller must stay free to hear Ctrl+C.
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(console, parsed, options, tasks, models, device, jobs, cancellationToken), CancellationToken.None));
        return command;
    }

    private static int Run(
        CliConsole console,
        ParseResult parsed,
        SampleOptions options,
        TaskOptions tasks,
        ModelOptions models,
        DeviceOptions device,
        JobOptions jobs,
        CancellationToken cancellationToken)
    {
        SampleTask task = tasks.Read(parsed);
        if (parsed.GetValue(options.Compare) == true)
        {
            return Compare(console, parsed, options, task, models, device, cancellationToken);
        }

        SamplerSetup setup = SamplerSetup.Parse(parsed, options, models, device);
        Rank rank = jobs.RankOf(parsed, Tell);
        using Backend backend = device.Open(parsed, models.Precisions(parsed), rank.Local);
        using Sampler sampler = task.Open(setup.Options, backend, RequestOf, cancellationToken);
        SampleRequest request = RequestOf(sampler);
        SampleOutput output = jobs.OutputOf(parsed, rank, parsed.GetValue(options.Output) ?? Path.Combine("samples", "sample.png"), request);
        SampleJob job = SampleJob.Open(sampler, request, output, Tell);
        SampleFormat format = new(request.Count, sampler.Height, sampler.Width, sampler.Channels, output.Columns);
        StepPictures? pictures = parsed.GetValue(options.Intermediates) is string folder ? new StepPictures(folder, format) : null;
        return Run(console, sampler, request, rank, job, pictures, cancellationToken);

        SampleRequest RequestOf(Sampler made) => task.Apply(made, Request(parsed, options, task, made, setup.IsDemo));

        void Tell(string line) => console.Error.WriteLine($"kernels: {line}");
    }

    private static int Run(
        CliConsole console, Sampler sampler, SampleRequest request, Rank rank, SampleJob job, StepPictures? pictures, CancellationToken cancellationToken)
    {
        if (rank.World > 1)
        {
            console.Tell($"process {rank.Index} of {rank.World} ({rank.Source}): {job.Remaining} images are its own to sample");
        }

        console.Tell(
            $"{request.Count} images of {sampler.Height}x{sampler.Width}, {sampler.StepsOf(request)} {(sampler.Table.Sampler == SamplerKind.Heun ? "evaluations" : "steps")} of {SamplerKinds.NameOf(sampler.Table.Sampler)}, seed {request.Seed}, on {sampler.Backend.Name}");
        long start = Stopwatch.GetTimestamp();
        JobResult? result = null;
        SampleProgress.Run(console.Progress, job.Remaining, sampler.StepsOf(request), progress => result = job.Run(
            (first, count, step) =>
            {
                progress(count);
                pictures?.Save(first, count, step);
            },
            keepSteps: pictures is not null,
            cancellationToken));
        if (result!.Interrupted)
        {
            console.Error.WriteLine(result.Finished > 0
                ? $"kernels: interrupted; {result.Finished} finished images are in {result.Path}{(result.CanGoOn ? "; the same command goes on from there" : "")}"
                : "kernels: interrupted before an image was finished");
            return ExitCode.Interrupted;
        }

        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        console.Tell($"{result.Sampled} images in {seconds:0.0} s{(result.IsComplete ? ":" : "; the other processes are not finished")}");
        if (result.IsComplete)
        {
            console.Output.WriteLine(result.Path);
        }

        return ExitCode.Done;
    }

    private static int Compare(
        CliConsole console, ParseResult parsed, SampleOptions options, SampleTask task, ModelOptions models, DeviceOptions device, CancellationToken cancellationToken)
    {
        if (parsed.GetValue(options.Intermediates) is not null)
        {
            throw new ConfigurationException("--compare shows finished images; --intermediates goes with one sampler");
        }

        IReadOnlyList<SamplerKind> kinds = options.ComparedOf(parsed);
        SamplerComparison comparison = new(parsed.GetValue(options.Output) ?? Path.Combine("samples", "compare.png"));
        using Backend backend = device.Open(parsed, models.Precisions(parsed));
        try
        {
            foreach (SamplerKind kind in kinds)
            {
                SamplerSetup setup = SamplerSetup.Parse(parsed, options, models, device, kind);
                using Sampler sampler = Sampler.Load(task.Apply(setup.Options), backend);
                comparison.Add(sampler, task.Apply(sampler, Request(parsed, options, task, sampler, setup.IsDemo)), console, cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            console.Error.WriteLine("kernels: interrupted before all samplers were finished; there is no picture");
            return ExitCode.Interrupted;
        }

        comparison.Save(console);
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
