using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Measurement;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels bench</c>: verifies and measures steps or ops; <c>kernels bench compare</c> compares two of its files.</summary>
internal static class BenchCommand
{
    private const string DefaultModel = "shapes32";
    private static readonly string[] s_published = ["adm64", "adm128", "adm256", "adm512"];

    public static Command Create(CliConsole console)
    {
        Option<string[]> model = new("--model")
        {
            Description = $"What to measure: {string.Join(", ", ModelPair.Names)} with random weights, or a checkpoint, or two as diffusion.pt+classifier.pt. Repeatable, or a list with commas. "
                + $"{DefaultModel} if absent; with --kernels {string.Join(", ", s_published)}.",
            HelpName = "list",
        };
        Option<string?> kernels = new("--kernels")
        {
            Description = "Measure every op of the models by itself, on the shapes they launch it with; only those whose name contains the filter.",
            Arity = ArgumentArity.ZeroOrOne,
            HelpName = "filter",
        };
        Option<string> batch = new("--batch") { Description = "Numbers of images, with commas.", DefaultValueFactory = _ => "1", HelpName = "list" };
        Option<string> precision = new("--precision") { Description = "fp32, tf32, fp16, bf16, with commas. The CPU has fp32 only.", DefaultValueFactory = _ => "fp32", HelpName = "list" };
        MeasureOptions options = new();
        Command command = new(
            "bench",
            "Measure guided steps, or single ops: verify first (a GPU against the CPU, the CPU's step against itself without fusions, its ops against their 128-bit form), warm up, repeat until "
            + "the spread is small. Times with median and quartiles, TFLOP/s, GB/s and the share of what this device can do at most, measured in the same run. The emulator counts instead. "
            + "Exit 4 if a result is wrong, 3 if something could not be measured.")
        {
            model, kernels, batch, precision,
        };
        options.AddTo(command);
        command.Add(CreateCompare(console));
        command.Add(CreateTable(console));
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(parsed, cancellationToken), CancellationToken.None));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellationToken)
        {
            bool ops = parsed.GetResult(kernels) is not null;
            BenchOptions what = new()
            {
                Batches = MeasureOptions.Batches(parsed.GetValue(batch)!),
                Kernels = ops ? parsed.GetValue(kernels) ?? "" : null,
                TimeLimit = options.TimeLimit(parsed),
                DisabledFusions = options.Device.DisabledFusions(parsed),
                Progress = options.Progress(parsed, console),
            };
            IReadOnlyList<Precision> precisions = MeasureOptions.Precisions(parsed.GetValue(precision)!);
            string[] names = [.. (parsed.GetValue(model) ?? []).SelectMany(m => m.Split(',', StringSplitOptions.TrimEntries))];
            IReadOnlyList<ModelPair> models = MeasureOptions.Models(names.Length > 0 ? names : ops ? s_published : [DefaultModel]);
            try
            {
                return Measure(console, options, parsed, what, precisions, models, cancellationToken);
            }
            finally
            {
                foreach (ModelPair pair in models)
                {
                    pair.Dispose();
                }
            }
        }
    }

    private static int Measure(
        CliConsole console, MeasureOptions options, ParseResult parsed, BenchOptions what, IReadOnlyList<Precision> precisions, IReadOnlyList<ModelPair> models, CancellationToken cancellationToken)
    {
        // What no device can do is said before anything is measured.
        foreach (Precision precision in precisions.Skip(1))
        {
            options.Device.OpenMeasured(parsed, precision).Dispose();
        }

        List<BenchRow> rows = [];
        List<Roofline> rooflines = [];
        ReportHeader? header = null;
        Bench? previous = null;
        bool interrupted = false;
        foreach (Precision precision in precisions)
        {
            using MeasuredDevice device = options.Device.OpenMeasured(parsed, precision);
            header ??= ReportHeader.Of(device, MeasureOptions.CommandLine(parsed));
            using Bench bench = new(device, what, previous);
            try
            {
                bench.Run(models, cancellationToken);
            }
            catch (OperationCanceledException)
            {
                interrupted = true;
            }

            rows.AddRange(bench.Rows);
            if (bench.Roofline is Roofline roofline)
            {
                rooflines.Add(roofline);
            }

            if (interrupted)
            {
                break;
            }

            previous = bench;
        }

        BenchReport report = new() { Format = BenchReport.CurrentFormat, Header = header!, Rooflines = rooflines, Models = models.DistinctBy(m => m.Name).ToDictionary(m => m.Name, MeasuredModel.Of), Rows = rows };
        BenchTables.Write(console.Tables, report);
        if (parsed.GetValue(options.Json) is string file)
        {
            report.Save(file);
        }

        if (interrupted)
        {
            console.Error.WriteLine($"kernels: interrupted after {rows.Count} rows");
            return ExitCode.Interrupted;
        }

        if (rows.Any(r => r.Verified is { Passed: false }))
        {
            console.Error.WriteLine("kernels: a result is wrong; what failed verification was not measured");
            return ExitCode.VerificationFailed;
        }

        return rows.Any(r => r.Error is not null) ? ExitCode.Device : ExitCode.Done;
    }

    private static Command CreateTable(CliConsole console)
    {
        Argument<string[]> files = new("reports") { Description = "What kernels bench --json wrote, and what the rivals in bench/peers wrote.", Arity = ArgumentArity.OneOrMore };
        Option<string?> markdown = new("--markdown") { Description = "Also write the table as Markdown.", HelpName = "file" };
        Option<string?> summary = new("--summary")
        {
            Description = $"Also put a short table of guided steps into a Markdown file, in place of what stands between {BenchSummary.Begin} and {BenchSummary.End} there.",
            HelpName = "file",
        };
        Command command = new("table", $"Show what several reports measured side by side, every engine, whoever is faster. {SideBySide.Rule}") { files, markdown, summary };
        command.SetAction(parsed =>
        {
            BenchReport[] reports = [.. parsed.GetValue(files)!.Select(BenchReport.Load)];
            if (reports.Select(r => r.Header.Processor + r.Header.Driver).Distinct().Count() > 1)
            {
                console.Error.WriteLine("kernels: these reports are of different machines; their times cannot be compared");
            }

            IReadOnlyList<SideBySide> tables = SideBySide.Of(reports);
            BenchTables.Write(console.Tables, tables);
            if (parsed.GetValue(markdown) is string file)
            {
                SideBySide.SaveMarkdown(tables, file);
            }

            if (parsed.GetValue(summary) is string page)
            {
                BenchSummary.Save(reports, tables, page);
            }

            return ExitCode.Done;
        });
        return command;
    }

    private static Command CreateCompare(CliConsole console)
    {
        Argument<string> before = new("A.json") { Description = "What kernels bench --json wrote before." };
        Argument<string> after = new("B.json") { Description = "What it wrote after." };
        Command command = new("compare", $"Say for every row of two reports whether the second is faster, slower or the same. {ReportComparison.Rule}") { before, after };
        command.SetAction(parsed =>
        {
            BenchReport a = BenchReport.Load(parsed.GetValue(before)!), b = BenchReport.Load(parsed.GetValue(after)!);
            if (a.Header.Device != b.Header.Device)
            {
                console.Error.WriteLine($"kernels: these are different devices: {a.Header.Device} and {b.Header.Device}");
            }

            BenchTables.Write(console.Tables, ReportComparison.Compare(a, b));
            return ExitCode.Done;
        });
        return command;
    }
}
