using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Measurement;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels profile</c>: where the time, or the traffic, of a guided step goes.</summary>
internal static class ProfileCommand
{
    private static readonly string[] s_groupings = ["launch", "op", "shape"];

    public static Command Create(CliConsole console)
    {
        Option<string> model = new("--model")
        {
            Description = $"The models: {string.Join(", ", ModelPair.Names)} with random weights, or a checkpoint, or two as diffusion.pt+classifier.pt.",
            DefaultValueFactory = _ => "shapes32",
        };
        Option<string> batch = new("--batch") { Description = "Number of images.", DefaultValueFactory = _ => "1" };
        Option<string> precision = new("--precision") { Description = "fp32, tf32, fp16 or bf16. The CPU has fp32 only.", DefaultValueFactory = _ => "fp32" };
        Option<int> repeats = new("--repeats") { Description = "Runs that are timed launch by launch.", DefaultValueFactory = _ => 10 };
        Option<bool> least = new("--least") { Description = "Count the least time of each launch rather than its median: on a busy machine, what it takes without the others." };
        Option<string> by = new("--by") { Description = "How the table groups launches: launch, op or shape. Files always have every launch.", DefaultValueFactory = _ => "launch" };
        by.AcceptOnlyFromAmong(s_groupings);
        Option<int> top = new("--top") { Description = "Lines of the table, those of which most could be gained; 0 for all.", DefaultValueFactory = _ => 30 };
        Option<bool> price = new("--price") { Description = "Also time the step without each fusion, in turns with the step as it is." };
        Option<string?> trace = new("--trace") { Description = "Also write the launches as a Chrome trace, which Perfetto opens.", HelpName = "file" };
        Option<string?> html = new("--html") { Description = "Also write a page with roofline, ledger, graphs and the worth of each fusion.", HelpName = "file" };
        MeasureOptions options = new();
        Command command = new(
            "profile",
            "Show the ledger of one guided step: every launch with shapes, least bytes and FLOPs, its time, the least time that the roofline measured on this device allows, and the gap, "
            + "sorted by what could be gained; on the emulator, counted traffic in place of times. Under a profiler that listens to NVTX, as Nsight Systems does, every step and launch is a named range.")
        {
            model, batch, precision, repeats, least, by, top, price, trace, html,
        };
        options.AddTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(parsed, cancellationToken), CancellationToken.None));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellationToken)
        {
            int runs = parsed.GetValue(repeats), lines = parsed.GetValue(top);
            if (runs is < 1 or > 10_000 || lines < 0)
            {
                throw new ConfigurationException($"--repeats is {runs} and --top is {lines}; there must be 1 to 10000 runs, and lines cannot be fewer than none");
            }

            ProfileOptions what = new()
            {
                Batch = Single(MeasureOptions.Batches(parsed.GetValue(batch)!), "--batch"),
                Repeats = runs,
                Least = parsed.GetValue(least),
                Price = parsed.GetValue(price),
                TimeLimit = options.TimeLimit(parsed),
                DisabledFusions = options.Device.DisabledFusions(parsed),
                Progress = options.Progress(parsed, console),
            };
            Precision mode = Single(MeasureOptions.Precisions(parsed.GetValue(precision)!), "--precision");
            using ModelPair pair = ModelPair.Open(parsed.GetValue(model)!);
            using MeasuredDevice device = options.Device.OpenMeasured(parsed, mode);
            if (device.CountsOnly && (parsed.GetValue(trace) is not null || what.Price))
            {
                throw new ConfigurationException("--trace and --price need times, and the emulator only counts; take --device cpu or cuda");
            }

            StepProfile profile = StepProfiler.Run(device, pair, what, MeasureOptions.CommandLine(parsed), cancellationToken);
            ProfileTables.Write(console.Tables, profile, parsed.GetValue(by)!, lines == 0 ? int.MaxValue : lines);
            Save(options.Json, StepProfiler.Save);
            Save(trace, ChromeTrace.Save);
            Save(html, ProfilePage.Save);
            return ExitCode.Done;

            void Save(Option<string?> option, Action<StepProfile, string> save)
            {
                if (parsed.GetValue(option) is string path)
                {
                    save(profile, path);
                }
            }
        }
    }

    private static T Single<T>(IReadOnlyList<T> values, string option) => values.Count == 1
        ? values[0]
        : throw new ConfigurationException(string.Create(CultureInfo.InvariantCulture, $"{option} has {values.Count} entries; a profile is of one step"));
}
