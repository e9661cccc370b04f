using System.CommandLine;
using System.Text.Json;
using Kernels.Checkpoints;
using Kernels.Models;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels convert</c>: any readable checkpoint as safetensors, with its configuration in the metadata.</summary>
internal static class ConvertCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string> source = new("in") { Description = "Checkpoint: safetensors, or torch.save in either container." };
        Argument<string> target = new("out") { Description = "The .safetensors file to write." };
        Option<string?> key = Options.Value<string?>("--key", "Where the state dict is nested in the checkpoint, as ema.");
        Option<string?> dtype = Options.Value<string?>("--dtype", "Round floating-point weights to f32, f16 or bf16; their own type if absent.");
        dtype.AcceptOnlyFromAmong("f32", "f16", "bf16");
        Option<string?> classNames = Options.Value<string?>("--class-names", "Names of the classes, in order, separated by commas.");
        Option<int?> nullLabel = Options.Value<int?>("--null-label", "The label that means \"no class\".");
        ModelOptions models = new();
        Command command = new("convert", "Write a checkpoint as safetensors with its configuration in the metadata, so that no flag is needed afterwards.") { source, target, key, dtype, classNames, nullLabel };
        models.AddTo(command);
        command.SetAction(parsed =>
        {
            string path = parsed.GetValue(target)!;
            if (!path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase))
            {
                throw new ConfigurationException($"{path}: the file to write must end in .safetensors");
            }

            using LoadedModel model = ModelLoader.Load(parsed.GetValue(source)!, models.DiffusionOverrides(parsed) with { NullLabel = parsed.GetValue(nullLabel) }, parsed.GetValue(key));
            Dictionary<string, string> metadata = Metadata(model, parsed.GetValue(classNames));
            DType? type = parsed.GetValue(dtype) switch
            {
                "f32" => DType.F32,
                "f16" => DType.F16,
                "bf16" => DType.BF16,
                _ => null,
            };
            SafeTensorsWriter.Write(path, model.Checkpoint.Tensors.Values, metadata, type);
            console.Tell($"{model.Checkpoint.Tensors.Count} tensors, {string.Join(", ", metadata.Keys)} in the metadata:");
            console.Output.WriteLine(path);
            return ExitCode.Done;
        });
        return command;
    }

    private static Dictionary<string, string> Metadata(LoadedModel model, string? classNames)
    {
        Dictionary<string, string> metadata = ModelMetadata.Of(model);
        metadata.Add("format", "pt");
        if (classNames is not null)
        {
            IEnumerable<string> names = classNames.Split(',', StringSplitOptions.TrimEntries).Select(n => $"\"{JsonEncodedText.Encode(n)}\"");
            metadata[ModelMetadata.ClassNamesKey] = $"[{string.Join(",", names)}]";
        }

        return metadata;
    }
}
