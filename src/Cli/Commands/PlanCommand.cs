using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Measurement;
using Kernels.Models;
using Kernels.Passes;
using Kernels.Runtime;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels plan</c>: what one step launches, before and after fusion.</summary>
internal static class PlanCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string> file = new("file") { Description = "Checkpoint of a diffusion model (its guided step is planned) or of a classifier (forward and gradient)." };
        Option<string?> classifier = Options.Value<string?>("--classifier", "Checkpoint of the classifier that guides the step.");
        Option<string?> key = Options.Value<string?>("--key", "Where the state dict is nested in the checkpoint, as ema.");
        Option<int> batch = Options.Value<int>("--batch-size", "Number of images.");
        batch.DefaultValueFactory = _ => 1;
        Option<bool> dot = new("--dot") { Description = "Write the fused graph in Graphviz's language instead." };
        Option<bool> mermaid = new("--mermaid") { Description = "Write the fused graph as a Mermaid flowchart instead." };
        Option<bool> text = new("--text") { Description = "Write the fused graph as text instead, one node per line." };
        Option<bool> counters = new("--counters") { Description = "Run the step once on the PTX emulator and count what each kernel does: bytes moved and least bytes, coalescing, bank conflicts." };
        ModelOptions models = new();
        DeviceOptions device = new();
        Command command = new("plan", "Show the launches of one step before and after fusion, with shapes, bytes and FLOPs, and the size of the arena.") { file, classifier, key, batch, dot, mermaid, text, counters };
        models.AddTo(command);
        device.AddTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(() =>
        {
            int images = parsed.GetValue(batch);
            if (images < 1)
            {
                throw new ConfigurationException($"--batch-size is {images}; it must be positive");
            }

            using LoadedModel model = ModelLoader.Load(parsed.GetValue(file)!, models.DiffusionOverrides(parsed), parsed.GetValue(key));
            using LoadedModel? guide = parsed.GetValue(classifier) is string path
                ? ModelLoader.Load(path, models.ClassifierOverrides(parsed), expected: ModelKind.Encoder)
                : null;
            Graph graph = Step(model, guide, images);
            StepGraphs fused = Rewrites.Apply(graph, device.DisabledFusions(parsed));
            if (parsed.GetValue(dot) || parsed.GetValue(mermaid) || parsed.GetValue(text))
            {
                console.Output.Write(parsed.GetValue(dot) ? fused.Step.ToDot() : parsed.GetValue(mermaid) ? fused.Step.ToMermaid() : fused.Step.ToText());
                return ExitCode.Done;
            }

            Plan before = Plan.Create(Fusion.Apply(graph, ["all"]).Graph), after = Plan.Create(fused.Step);
            Show(console.Tables, "Before fusion", before);
            if (fused.Conditioning is not null)
            {
                Show(console.Tables, string.Create(CultureInfo.InvariantCulture, $"Before the loop, {fused.Steps} steps at once"), Plan.Create(fused.Conditioning));
            }

            Show(console.Tables, "After fusion", after);
            Compare(console.Tables, before, after, fused.Applied);
            CountKernels(console.Tables, fused.Step, before.Launches.Count, device.GpuOptions(parsed, models.Precisions(parsed)));
            if (parsed.GetValue(counters))
            {
                using MeasuredDevice emulator = device.OpenCounting(parsed, models.Precisions(parsed));
                Weights weights = model.Model.Config.Kind == ModelKind.Encoder
                    ? model.Model.Weights
                    : Weights.Combine(
                        [(GuidedStep.DiffusionPrefix, model.Model.Weights), .. guide is null ? Array.Empty<(string, Weights)>() : [(GuidedStep.ClassifierPrefix, guide.Model.Weights)]]);
                ShowCounters(console.Tables, KernelTraffic.Count(emulator, fused.Step, weights, cancellationToken), emulator.Backend.Name);
            }

            return ExitCode.Done;
        }));
        return command;
    }

    private static Graph Step(LoadedModel model, LoadedModel? classifier, int batch)
    {
        ModelConfig config = model.Model.Config;
        int size = config.ImageSize;
        if (config.Kind == ModelKind.Encoder)
        {
            return ModelGraphs.Classifier(config, batch, size, size, 1);
        }

        SamplerSettings settings = new() { ClassifierScale = classifier is null ? 0 : 1 };
        StepTable table = new(new GaussianDiffusion(model.Process!), SamplerKind.Ddpm, classifierScale: settings.ClassifierScale);
        (int, int)? lowRes = config.Kind == ModelKind.SuperRes ? (size / 4, size / 4) : null;
        return GuidedStep.Build(config, classifier?.Model.Config, table, settings, batch, size, size, lowRes: lowRes);
    }

    private static void Show(IAnsiConsole console, string title, Plan plan)
    {
        Table table = new() { Border = TableBorder.Simple, Title = new TableTitle(title) };
        table.AddColumns("#", "op", "name", "inputs", "output");
        table.AddColumn(new TableColumn("bytes").RightAligned());
        table.AddColumn(new TableColumn("FLOP").RightAligned());
        table.AddColumn(new TableColumn("offset").RightAligned());
        foreach (Launch launch in plan.Launches)
        {
            Node node = launch.Node;
            table.AddRow(
                new Text(launch.Index.ToString(CultureInfo.InvariantCulture)),
                new Text(node.Op.ToString()),
                new Text(node.Name),
                new Text(string.Join(' ', node.Inputs.Where(t => t.Kind != TensorKind.Weight).Select(t => t.Shape))),
                new Text(node.Output.Shape.ToString()),
                new Text(Number(launch.Cost.Bytes)),
                new Text(Number(launch.Cost.Flops)),
                new Text(Number(plan.Memory.Offsets[node.Output])));
        }

        console.Write(table);
    }

    private static void Compare(IAnsiConsole console, Plan before, Plan after, IReadOnlyDictionary<string, int> applied)
    {
        Table table = new() { Border = TableBorder.Simple, Title = new TableTitle("One step") };
        table.AddColumn("");
        table.AddColumn(new TableColumn("before fusion").RightAligned());
        table.AddColumn(new TableColumn("after fusion").RightAligned());
        Row("launches", p => p.Launches.Count);
        Row("bytes", p => p.Graph.Cost.Bytes);
        Row("FLOP", p => p.Graph.Cost.Flops);
        Row("weights, bytes", p => p.Graph.Weights.Sum(w => w.Bytes));
        Row("arena, bytes", p => p.Memory.ArenaBytes);
        Row("arena, least possible", p => p.Memory.LeastBytes);
        Row("arena without sharing", p => p.Memory.UnsharedBytes);
        Row("nodes in place", p => p.Memory.InPlace);
        console.Write(table);
        foreach ((string name, int count) in applied)
        {
            console.MarkupLineInterpolated($"{name}: applied {count} times");
        }

        void Row(string name, Func<Plan, long> value) => table.AddRow(name, Number(value(before)), Number(value(after)));
    }

    // What a GPU is asked to do for one step. A launch of the plan may be several kernels: a norm that is split over blocks is two.
    private static void CountKernels(IAnsiConsole console, Graph step, int ops, GpuOptions options)
    {
        using DryRunBackend backend = new(options);
        using Executor executor = backend.Compile(backend.Plan(step), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        Table table = new() { Border = TableBorder.Simple, Title = new TableTitle($"Kernels of one step on a GPU, {options.Precision.ToString().ToLowerInvariant()}") };
        table.AddColumn("kernel");
        table.AddColumn(new TableColumn("launches").RightAligned());
        table.AddColumn(new TableColumn("specialisations").RightAligned());
        foreach (IGrouping<(string File, string Entry), KernelCall> kernel in backend.Calls.GroupBy(c => (c.Kernel.File, c.Kernel.Entry)).OrderByDescending(g => g.Count()).ThenBy(g => g.Key))
        {
            table.AddRow($"{kernel.Key.Entry} ({kernel.Key.File})", Number(kernel.Count()), Number(kernel.Select(c => c.Kernel).Distinct().Count()));
        }

        console.Write(table);
        console.MarkupLineInterpolated($"{backend.Calls.Count} launches where the unfused graph has {ops} ops: {(double)ops / backend.Calls.Count:0.00} times fewer");
    }

    private static void ShowCounters(IAnsiConsole console, IReadOnlyList<KernelTraffic> kernels, string device)
    {
        Table table = new() { Border = TableBorder.Simple, Title = new TableTitle($"What they do, counted on {device}") };
        table.AddColumn("kernel");
        foreach (string column in new[] { "launches", "bytes moved", "least bytes", "moved / least", "coalescing, %", "bank conflicts", "instructions", "FLOP" })
        {
            table.AddColumn(new TableColumn(column).RightAligned());
        }

        foreach (KernelTraffic kernel in kernels)
        {
            Row($"{kernel.Kernel.Entry} ({kernel.Kernel.File})", kernel.Launches, kernel.Counters);
        }

        Row("all", kernels.Sum(k => k.Launches), KernelCounters.Sum(kernels.Select(k => k.Counters)));
        console.Write(table);

        void Row(string name, int launches, KernelCounters c) => table.AddRow(
            name, Number(launches), Number(c.BytesMoved), Number(c.LeastBytes), Ratio(c.BytesMoved, c.LeastBytes, "0.00"), Ratio(100 * c.BytesAsked, c.BytesMoved, "0.0"),
            Number(c.BankConflicts), Number(c.Instructions), Number(c.Flops + c.TensorFlops));

        static string Ratio(long part, long whole, string format) => whole == 0 ? "" : ((double)part / whole).ToString(format, CultureInfo.InvariantCulture);
    }

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
