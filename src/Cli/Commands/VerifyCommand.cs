using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Kernels.Runtime;
using Kernels.Verification;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels verify</c>: runs reference packs and compares.</summary>
internal static class VerifyCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string[]> packs = new("pack") { Description = "Reference packs (.safetensors).", Arity = ArgumentArity.OneOrMore };
        Option<double?> tolerance = new("--tolerance") { Description = "Bound on the error of every output, in place of the packs' own." };
        Option<string?> against = new("--against") { Description = "The checkpoint file that must hold the weights that a checkpoint pack lists.", HelpName = "file" };
        Option<string?> key = new("--key") { Description = "Where the state dict is nested in the checkpoint, as ema." };
        Option<bool> json = new("--json") { Description = "Write the rows as JSON." };
        DeviceOptions device = new();
        Command command = new("verify", "Run reference packs and compare every output with what was recorded. Exit 4 if one differs too much.") { packs, tolerance, against, key, json };
        device.AddTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(parsed, cancellationToken), CancellationToken.None));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellationToken)
        {
            using Backend backend = device.Open(parsed);
            PackVerifier verifier = new(backend, device.DisabledFusions(parsed), parsed.GetValue(tolerance));
            List<Comparison> rows = [];
            foreach (string pack in parsed.GetValue(packs)!)
            {
                console.Tell($"verifying {pack} on {backend.Name}");
                rows.AddRange(verifier.Verify(pack, parsed.GetValue(against), parsed.GetValue(key), cancellationToken));
            }

            if (parsed.GetValue(json))
            {
                WriteJson(console.Output, rows);
            }
            else
            {
                WriteTable(console.Tables, rows);
            }

            int failed = rows.Count(r => !r.Passed);
            console.Tell($"{rows.Count - failed} of {rows.Count} outputs agree");
            return failed == 0 ? ExitCode.Done : ExitCode.VerificationFailed;
        }
    }

    private static void WriteTable(IAnsiConsole console, List<Comparison> rows)
    {
        Table table = new() { Border = TableBorder.Simple };
        table.AddColumns("pack", "output", "shape", "max abs error", "relative L2", "tolerance", "verdict");
        foreach (Comparison row in rows)
        {
            table.AddRow(
                new Text(row.Pack),
                new Text(row.Output),
                new Text(row.Shape.ToString()),
                new Text(Number(row.MaxAbsError)),
                new Text(Number(row.RelativeL2)),
                new Text($"{Number(row.Tolerance)} {(row.Measure == ErrorMeasure.MaxAbs ? "max" : "L2")}"),
                new Text(row.Passed ? "ok" : "FAILED", new Style(row.Passed ? Color.Green : Color.Red)));
        }

        console.Write(table);
    }

    private static void WriteJson(TextWriter output, List<Comparison> rows)
    {
        using MemoryStream buffer = new();
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartArray();
            foreach (Comparison row in rows)
            {
                json.WriteStartObject();
                json.WriteString("pack", row.Pack);
                json.WriteString("output", row.Output);
                json.WriteStartArray("shape");
                foreach (int extent in row.Shape.Dims)
                {
                    json.WriteNumberValue(extent);
                }

                json.WriteEndArray();
                WriteNumber(json, "max_abs_error", row.MaxAbsError);
                WriteNumber(json, "relative_l2", row.RelativeL2);
                json.WriteNumber("tolerance", row.Tolerance);
                json.WriteString("measure", row.Measure == ErrorMeasure.MaxAbs ? "max_abs" : "relative_l2");
                json.WriteBoolean("passed", row.Passed);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        output.WriteLine(Encoding.UTF8.GetString(buffer.ToArray()));
    }

    // JSON has no NaN; null says that there is no number.
    private static void WriteNumber(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static string Number(double value) => value == 0 ? "0" : value.ToString("0.0e+0", CultureInfo.InvariantCulture);
}
