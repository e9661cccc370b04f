using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Kernels.Checkpoints;
using Kernels.Models;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels inspect</c>: what a checkpoint holds, and how that is known.</summary>
internal static class InspectCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string> file = new("file") { Description = "Checkpoint: safetensors, or torch.save in either container." };
        Option<string?> key = Options.Value<string?>("--key", "Where the state dict is nested in the checkpoint, as ema.");
        Option<bool> tensors = new("--tensors") { Description = "List every tensor." };
        Option<bool> json = new("--json") { Description = "Write JSON." };
        ModelOptions models = new();
        Command command = new("inspect", "Show a checkpoint's format, tensors, parameters, the configuration read off its weights and how each value is known, and FLOPs per image.") { file, key, tensors, json };
        models.AddTo(command);
        command.SetAction(parsed =>
        {
            using LoadedModel model = ModelLoader.Inspect(parsed.GetValue(file)!, models.DiffusionOverrides(parsed), parsed.GetValue(key));
            Facts facts = Facts.Of(model);
            if (parsed.GetValue(json))
            {
                WriteJson(console.Output, model, facts);
            }
            else
            {
                WriteTables(console.Tables, model, facts, parsed.GetValue(tensors));
            }

            return ExitCode.Done;
        });
        return command;
    }

    private static void WriteTables(IAnsiConsole console, LoadedModel model, Facts facts, bool tensors)
    {
        Table summary = new() { Border = TableBorder.Simple, ShowHeaders = false };
        summary.AddColumns("", "");
        summary.AddRow(new Text("file"), new Text(model.Checkpoint.File));
        summary.AddRow(new Text("format"), new Text($"{model.Checkpoint.Format}, {facts.Types}"));
        summary.AddRow(new Text("tensors"), new Text(model.Checkpoint.Tensors.Count.ToString("N0", CultureInfo.InvariantCulture)));
        summary.AddRow(new Text("parameters"), new Text(facts.Parameters.ToString("N0", CultureInfo.InvariantCulture)));
        summary.AddRow(new Text("per image"), new Text(facts.Work));
        console.Write(summary);

        Table configuration = new() { Border = TableBorder.Simple };
        configuration.AddColumns("setting", "value", "known from");
        foreach (ConfigurationValue value in model.Provenance)
        {
            string source = model.Missing.FirstOrDefault(m => m.Name == value.Name) is MissingSetting missing ? $"unknown; say {missing.Remedy}" : value.Source;
            configuration.AddRow(new Text(value.Name), new Text(value.Value), new Text(source));
        }

        console.Write(configuration);
        if (!tensors)
        {
            return;
        }

        Table list = new() { Border = TableBorder.Simple };
        list.AddColumns("tensor", "type", "shape");
        foreach (CheckpointTensor tensor in model.Checkpoint.Tensors.Values)
        {
            list.AddRow(new Text(tensor.Name), new Text(tensor.DType.ToString()), new Text(tensor.Shape.ToString()));
        }

        console.Write(list);
    }

    private static void WriteJson(TextWriter output, LoadedModel model, Facts facts)
    {
        using MemoryStream buffer = new();
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteString("file", model.Checkpoint.File);
            json.WriteString("format", model.Checkpoint.Format);
            json.WriteNumber("parameters", facts.Parameters);
            if (facts.Forward is Cost forward)
            {
                json.WriteNumber("flops_per_image", forward.Flops);
            }

            if (facts.WithGradient is Cost gradient)
            {
                json.WriteNumber("flops_per_image_with_gradient", gradient.Flops);
            }

            json.WriteStartArray("configuration");
            foreach (ConfigurationValue value in model.Provenance)
            {
                json.WriteStartObject();
                json.WriteString("name", value.Name);
                json.WriteString("value", value.Value);
                json.WriteString("source", value.Source);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteStartArray("missing");
            foreach (MissingSetting missing in model.Missing)
            {
                json.WriteStringValue(missing.Name);
            }

            json.WriteEndArray();
            json.WriteStartArray("tensors");
            foreach (CheckpointTensor tensor in model.Checkpoint.Tensors.Values)
            {
                json.WriteStartObject();
                json.WriteString("name", tensor.Name);
                json.WriteString("dtype", tensor.DType.ToString());
                json.WriteStartArray("shape");
                foreach (int extent in tensor.Shape.Dims)
                {
                    json.WriteNumberValue(extent);
                }

                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        output.WriteLine(Encoding.UTF8.GetString(buffer.ToArray()));
    }

    /// <summary>Numbers about a checkpoint.</summary>
    private sealed record Facts(long Parameters, string Types, Cost? Forward, Cost? WithGradient)
    {
        public string Work => (Forward, WithGradient) switch
        {
            (null, _) => "not known without the size of the images",
            (Cost forward, null) => string.Create(CultureInfo.InvariantCulture, $"{forward.Flops / 1e9:0.###} GFLOP"),
            (Cost forward, Cost gradient) => string.Create(
                CultureInfo.InvariantCulture, $"{forward.Flops / 1e9:0.###} GFLOP forward, {gradient.Flops / 1e9:0.###} GFLOP with its gradient"),
        };

        public static Facts Of(LoadedModel model)
        {
            ModelConfig config = model.Model.Config;
            int size = config.ImageSize;
            bool sized = model.Missing.All(m => m.Name != "image_size");
            Cost? gradient = sized && config.Kind == ModelKind.Encoder ? ModelGraphs.Classifier(config, 1, size, size, 1).Cost : null;
            IEnumerable<string> types = model.Checkpoint.Tensors.Values.GroupBy(t => t.DType).Select(g => $"{g.Count()} {g.Key.ToString().ToLowerInvariant()}");
            return new Facts(model.Checkpoint.Tensors.Values.Sum(t => (long)t.Shape.Elements), string.Join(", ", types), sized ? ModelCost.PerImage(config) : null, gradient);
        }
    }
}
