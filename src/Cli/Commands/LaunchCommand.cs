using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Kernels.Backends.Gpu;
using Kernels.Emulation;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels launch</c>: runs one kernel on arrays from files, checked and counted on the emulator, or on an NVIDIA device.</summary>
internal static class LaunchCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string> file = new("file") { Description = "The kernel's source (.cu) or PTX (.ptx)." };
        Option<string?> entry = new("--entry") { Description = "The kernel; may be left out if the file has one.", HelpName = "name" };
        Option<string> grid = new("--grid") { Description = "Blocks: X[,Y[,Z]].", Required = true, HelpName = "X[,Y,Z]" };
        Option<string> block = new("--block") { Description = "Threads in a block: X[,Y[,Z]].", Required = true, HelpName = "X[,Y,Z]" };
        Option<int> shared = new("--shared") { Description = "Dynamic shared memory in bytes.", HelpName = "bytes" };
        Option<string[]> define = new("-D", "--define") { Description = "A macro, NAME=VALUE.", HelpName = "NAME=VALUE" };
        Option<string[]> argument = new("--arg")
        {
            Description = "An argument, in parameter order: in:FILE.npy, out:f32[4,128]:FILE.npy, inout:IN.npy:OUT.npy, or a scalar as i32:5.",
            HelpName = "argument",
        };
        Option<string> device = new("--device") { Description = "Where to run: emulator, cuda or cuda:N.", DefaultValueFactory = _ => "emulator" };
        Option<string> check = new("--check")
        {
            Description = "What to look for: all, none, or a list of uninitialized, races, barriers, participation.",
            DefaultValueFactory = _ => "all",
        };
        Option<bool> counters = new("--counters") { Description = "Count instructions and traffic." };
        Option<string> architecture = new("--arch")
        {
            Description = "The architecture to compile for; with --device cuda the device's own if absent.",
            DefaultValueFactory = _ => "sm_90",
        };
        Option<long> budget = new("--budget") { Description = "Instructions a warp may execute.", DefaultValueFactory = _ => new EmulatorOptions().InstructionBudget };
        Option<bool> json = new("--json") { Description = "Write findings and counters as JSON." };
        Command command = new("launch", "Run one CUDA kernel, with no GPU: look for its faults and count what it does. Exit 4 if a check fired.")
        {
            file, entry, grid, block, shared, define, argument, device, check, counters, architecture, budget, json,
        };
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            try
            {
                return Run(parsed);
            }
            catch (KernelsException e) when (e is KernelCompileException or PtxException)
            {
                console.Error.WriteLine($"kernels: {e.Message}");
                return ExitCode.InvalidFile;
            }
        }));
        return command;

        int Run(ParseResult parsed)
        {
            LaunchGeometry geometry = Geometry(parsed.GetValue(grid)!, parsed.GetValue(block)!, parsed.GetValue(shared));
            Checks checks = ParseChecks(parsed.GetValue(check)!);
            bool onDevice = parsed.GetValue(device) != "emulator";
            if (onDevice && (parsed.GetValue(counters) || parsed.GetResult(check) is { Implicit: false }))
            {
                throw new ConfigurationException("--check and --counters need --device emulator: a device does neither");
            }

            using Driver driver = onDevice ? DeviceOptions.Cuda(parsed.GetValue(device)!, "cuda") : new EmulatorDriver(new EmulatorOptions
            {
                Checks = checks,
                Counters = parsed.GetValue(counters),
                InstructionBudget = parsed.GetValue(budget),
                Architecture = parsed.GetValue(architecture)!,
                Output = console.Output,
            });
            string target = onDevice && parsed.GetResult(architecture) is not { Implicit: false } ? driver.Architecture : parsed.GetValue(architecture)!;
            CompiledKernels compiled = Load(parsed.GetValue(file)!, target, parsed.GetValue(define) ?? []);
            LaunchArgument[] arguments = [.. (parsed.GetValue(argument) ?? []).Select(LaunchArgument.Parse)];
            using DriverModule module = driver.LoadModule(onDevice ? compiled.Image : compiled.Ptx, compiled.Name);
            DriverFunction function = module.Function(parsed.GetValue(entry) ?? "");
            LaunchArguments packed = new();
            foreach (LaunchArgument value in arguments)
            {
                value.AddTo(packed, driver);
            }

            IReadOnlyList<Finding> findings = [];
            try
            {
                driver.Launch(function, geometry, packed.Bytes);
                driver.Synchronize();
            }
            catch (KernelCheckException e)
            {
                findings = e.Findings;
            }

            // Results are worth seeing even when something was found.
            string[] written = [.. arguments.Select(a => a.Save(driver)).OfType<string>()];
            Occupancy? occupancy = compiled.Resources.FirstOrDefault(r => r.Name == function.Name) is { } resources
                ? Occupancy.Of(resources, geometry, compiled.Architecture)
                : null;
            LaunchCounters? counted = (driver as EmulatorDriver)?.LastCounters;
            if (parsed.GetValue(json))
            {
                WriteJson(console.Output, function.Name, findings, counted, occupancy, written);
            }
            else
            {
                WriteText(console, findings, counted, occupancy, written);
                if (counted is not null && compiled.Architecture != target && !KernelCompiler.MakesMachineCode(target, out string reason))
                {
                    console.Tell($"no occupancy: {reason}");
                }

                string outcome = onDevice ? $"ran on {driver.Name}" : findings.Count == 0 ? "nothing found" : $"{findings.Count} found";
                console.Tell($"{function.Name}: {outcome}");
            }

            return findings.Count > 0 ? ExitCode.VerificationFailed : ExitCode.Done;
        }
    }

    /// <summary>Compiles a source, or takes PTX as it is.</summary>
    internal static CompiledKernels Load(string path, string architecture, IEnumerable<string> definitions)
    {
        if (!path.EndsWith(".ptx", StringComparison.OrdinalIgnoreCase))
        {
            var (source, headers) = KernelCompiler.ReadSource(path);
            return KernelCompiler.Compile(source, Path.GetFileName(path), architecture, definitions.Select(d => "-D" + d), headers);
        }

        return File.Exists(path)
            ? new CompiledKernels(Path.GetFileName(path), architecture, File.ReadAllBytes(path), [], "", [])
            : throw new InvalidFileException(path, "", "there is no such file");
    }

    private static LaunchGeometry Geometry(string grid, string block, int shared)
    {
        int[] g = Extents(grid, "--grid"), b = Extents(block, "--block");
        return new LaunchGeometry(g[0], g[1], g[2], b[0], b[1], b[2], shared);
    }

    private static int[] Extents(string text, string option)
    {
        string[] parts = text.Split(',');
        int[] extents = [1, 1, 1];
        for (int i = 0; i < parts.Length; i++)
        {
            if (i == 3 || !int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out extents[i]) || extents[i] < 1)
            {
                throw new ConfigurationException($"{option} '{text}' is not X, X,Y or X,Y,Z with numbers from 1 on");
            }
        }

        return extents;
    }

    private static Checks ParseChecks(string list)
    {
        Checks checks = Checks.None;
        foreach (string name in list.Split(',', StringSplitOptions.TrimEntries))
        {
            checks |= Enum.TryParse(name, ignoreCase: true, out Checks one) && !char.IsAsciiDigit(name[0])
                ? one
                : throw new ConfigurationException($"--check '{name}' is none of all, none, uninitialized, races, barriers, participation");
        }

        return checks;
    }

    private static void WriteText(
        CliConsole console, IReadOnlyList<Finding> findings, LaunchCounters? counters, Occupancy? occupancy, string[] written)
    {
        foreach (Finding finding in findings)
        {
            console.Output.WriteLine(finding.ToString());
        }

        if (counters is not null)
        {
            console.Output.Write(counters.ToTable());
            if (occupancy is not null)
            {
                console.Output.WriteLine(FormattableString.Invariant(
                    $"{"occupancy",-34}{occupancy.Fraction,20:P1}   {occupancy.BlocksPerMultiprocessor} blocks, limited by {occupancy.Limit}"));
            }
        }

        foreach (string file in written)
        {
            console.Tell($"wrote {file}");
        }
    }

    private static void WriteJson(
        TextWriter output, string kernel, IReadOnlyList<Finding> findings, LaunchCounters? counters, Occupancy? occupancy, string[] written)
    {
        using MemoryStream buffer = new();
        using (Utf8JsonWriter writer = new(buffer, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            writer.WriteString("kernel", kernel);
            writer.WriteStartArray("findings");
            foreach (Finding finding in findings)
            {
                writer.WriteStartObject();
                writer.WriteString("kind", finding.Kind.ToString());
                writer.WriteString("file", finding.Source.File);
                writer.WriteNumber("line", finding.Source.Line);
                writer.WriteString("instruction", finding.Instruction);
                Write3(writer, "block", finding.Block);
                Write3(writer, "thread", finding.Thread);
                if (finding.Address is { } address)
                {
                    writer.WriteString("address", string.Create(CultureInfo.InvariantCulture, $"0x{address:x}"));
                    writer.WriteString("memory", finding.Memory);
                }

                if (finding.Other is { } other)
                {
                    writer.WriteNumber("otherLine", other.Line);
                }

                writer.WriteString("message", finding.Message);
                writer.WriteNumber("count", finding.Count);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            if (counters is not null)
            {
                writer.WritePropertyName("counters");
                counters.WriteJson(writer);
            }

            if (occupancy is not null)
            {
                writer.WriteStartObject("occupancy");
                writer.WriteNumber("blocksPerMultiprocessor", occupancy.BlocksPerMultiprocessor);
                writer.WriteNumber("fraction", occupancy.Fraction);
                writer.WriteString("limit", occupancy.Limit);
                writer.WriteEndObject();
            }

            writer.WriteStartArray("written");
            foreach (string file in written)
            {
                writer.WriteStringValue(file);
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        output.WriteLine(Encoding.UTF8.GetString(buffer.ToArray()));
    }

    private static void Write3(Utf8JsonWriter writer, string name, Index3 index)
    {
        writer.WriteStartArray(name);
        writer.WriteNumberValue(index.X);
        writer.WriteNumberValue(index.Y);
        writer.WriteNumberValue(index.Z);
        writer.WriteEndArray();
    }
}
