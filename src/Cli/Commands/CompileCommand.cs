using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Gpu;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels compile</c>: compiles CUDA sources for a list of architectures, with no GPU and no toolkit, and shows what the assembler reports.</summary>
internal static class CompileCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string[]> files = new("file") { Description = "CUDA sources (.cu).", Arity = ArgumentArity.OneOrMore };
        Option<string> architectures = new("--arch") { Description = "Architectures, comma-separated.", DefaultValueFactory = _ => "sm_90", HelpName = "list" };
        Option<string?> folder = new("--out") { Description = "The folder for PTX and machine code, NAME.ARCH.ptx and NAME.ARCH.cubin; nothing is written without it.", HelpName = "folder" };
        Option<string[]> define = new("-D", "--define") { Description = "A macro, NAME=VALUE.", HelpName = "NAME=VALUE" };
        Command command = new("compile", "Compile CUDA kernels with NVRTC and show registers, spills and shared memory.") { files, architectures, folder, define };
        command.SetAction((parsed, cancellationToken) => Task.Run(() =>
        {
            try
            {
                return Run(parsed, cancellationToken);
            }
            catch (KernelCompileException e)
            {
                console.Error.WriteLine($"kernels: {e.Message}");
                return ExitCode.InvalidFile;
            }
        }));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellationToken)
        {
            Table table = new() { Border = TableBorder.Simple };
            table.AddColumns("file", "architecture", "kernel", "registers", "spill stores", "spill loads", "stack", "shared");
            string[] definitions = [.. (parsed.GetValue(define) ?? []).Select(d => "-D" + d)];
            string? target = parsed.GetValue(folder);
            foreach (string file in parsed.GetValue(files)!)
            {
                var (source, headers) = KernelCompiler.ReadSource(file);
                foreach (string architecture in parsed.GetValue(architectures)!.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    CompiledKernels compiled = KernelCompiler.Compile(source, Path.GetFileName(file), architecture, definitions, headers);
                    foreach (KernelResources kernel in compiled.Resources.OrderBy(k => k.Name, StringComparer.Ordinal))
                    {
                        table.AddRow(
                            new Text(Path.GetFileName(file)), new Text(architecture), new Text(kernel.Name), Number(kernel.Registers),
                            Number(kernel.SpillStoreBytes), Number(kernel.SpillLoadBytes), Number(kernel.StackBytes), Number(kernel.SharedBytes));
                    }

                    if (target is not null)
                    {
                        Save(target, Path.GetFileNameWithoutExtension(file), compiled);
                    }
                }
            }

            console.Tables.Write(table);
            return ExitCode.Done;
        }
    }

    private static Text Number(int value) => new(value.ToString(CultureInfo.InvariantCulture));

    private static void Save(string folder, string name, CompiledKernels compiled)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(Path.Combine(folder, $"{name}.{compiled.Architecture}.ptx"), compiled.Ptx);
        if (compiled.Cubin.Length > 0)
        {
            File.WriteAllBytes(Path.Combine(folder, $"{name}.{compiled.Architecture}.cubin"), compiled.Cubin);
        }
    }
}
