using System.CommandLine;
using System.Globalization;
using System.Runtime.ExceptionServices;
using Kernels.Backends.Gpu;
using Kernels.Sampling;
using Spectre.Console;

namespace Kernels.Cli.Commands;

/// <summary>
/// <c>kernels compile</c>: compiles CUDA sources for a list of architectures, with no GPU and no toolkit, and shows what the assembler reports; without sources, the kernels of a
/// sampling job, into a folder from which they load without NVRTC.
/// </summary>
internal static class CompileCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string[]> files = new("file") { Description = "CUDA sources (.cu). Without any: the kernels of the job that the options of sample describe.", Arity = ArgumentArity.ZeroOrMore };
        Option<string> architectures = new("--arch") { Description = "Architectures, comma-separated; sm_90 for machine code, compute_90 for PTX.", DefaultValueFactory = _ => "sm_90", HelpName = "list" };
        Option<string?> folder = new("--out")
        {
            Description = "For sources, the folder for NAME.ARCH.ptx and NAME.ARCH.cubin. For a job, the folder that --kernel-cache then names; the user's cache if absent.",
            HelpName = "folder",
        };
        Option<string[]> define = new("-D", "--define") { Description = "A macro, NAME=VALUE.", HelpName = "NAME=VALUE" };
        Option<bool> list = new("--list") { Description = "Write the kernels of the job with their macros, one per line, and compile nothing." };
        SampleOptions sampling = new();
        ModelOptions models = new();
        DeviceOptions device = new();
        Command command = new("compile", "Compile CUDA kernels with NVRTC and show registers, spills and shared memory.") { files, architectures, folder, define, list };
        sampling.AddTo(command);
        models.AddTo(command);
        device.AddTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(() =>
        {
            try
            {
                Report report = new(console.Tables);
                string[] targets = parsed.GetValue(architectures)!.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
                if (parsed.GetValue(files) is { Length: > 0 } sources)
                {
                    CompileFiles(sources, targets, [.. (parsed.GetValue(define) ?? []).Select(d => "-D" + d)], parsed.GetValue(folder), report, cancellationToken);
                    report.Write();
                    TellOfPtx(console, targets);
                    return ExitCode.Done;
                }

                KernelSpec[] kernels = KernelsOf(parsed, sampling, models, device);
                if (parsed.GetValue(list))
                {
                    foreach (KernelSpec kernel in kernels)
                    {
                        console.Output.WriteLine($"{kernel.File} {kernel.Options.Replace('\n', ' ')}".TrimEnd());
                    }

                    return ExitCode.Done;
                }

                KernelCache cache = new(parsed.GetValue(folder) ?? parsed.GetValue(device.KernelCache));
                CompileJob(kernels, targets, KernelSources.Open(parsed.GetValue(device.KernelsDir)), cache, report, cancellationToken);
                report.Write();
                TellOfPtx(console, targets);
                console.Tell($"{kernels.Length} kernels for {string.Join(", ", targets)} are in {cache.Directory}");
                return ExitCode.Done;
            }
            catch (KernelCompileException e)
            {
                console.Error.WriteLine($"kernels: {e.Message}");
                return ExitCode.InvalidFile;
            }
        }));
        return command;
    }

    // Where no registers are shown although machine code was asked for.
    private static void TellOfPtx(CliConsole console, string[] architectures)
    {
        foreach (string architecture in architectures.Where(a => a.StartsWith("sm_", StringComparison.Ordinal)))
        {
            if (!KernelCompiler.MakesMachineCode(architecture, out string reason))
            {
                console.Tell($"{reason}");
            }
        }
    }

    private static void CompileFiles(string[] files, string[] architectures, string[] definitions, string? target, Report report, CancellationToken cancellationToken)
    {
        foreach (string file in files)
        {
            (string source, IReadOnlyList<KeyValuePair<string, string>> headers) = KernelCompiler.ReadSource(file);
            foreach (string architecture in architectures)
            {
                cancellationToken.ThrowIfCancellationRequested();
                CompiledKernels compiled = KernelCompiler.Compile(source, Path.GetFileName(file), architecture, definitions, headers);
                report.Add(compiled, _ => true);
                if (target is not null)
                {
                    Save(target, Path.GetFileNameWithoutExtension(file), compiled);
                }
            }
        }
    }

    private static KernelSpec[] KernelsOf(ParseResult parsed, SampleOptions sampling, ModelOptions models, DeviceOptions device)
    {
        using DryRunBackend backend = new(device.GpuOptions(parsed, models.Precisions(parsed)));
        using Sampler sampler = Sampler.Load(SamplerSetup.Parse(parsed, sampling, models, device).Options, backend);
        sampler.Prepare(parsed.GetValue(sampling.BatchSize));
        return [.. backend.Calls.Where(c => c.Gemm is null).Select(c => c.Kernel).DistinctBy(k => (k.File, k.Options))];
    }

    private static void CompileJob(
        KernelSpec[] kernels, string[] architectures, KernelSources sources, KernelCache cache, Report report, CancellationToken cancellationToken)
    {
        foreach (string architecture in architectures)
        {
            KernelImages images = new(sources, cache, architecture);
            CompiledKernels[] compiled = new CompiledKernels[kernels.Length];
            try
            {
                Parallel.For(0, kernels.Length, new ParallelOptions { CancellationToken = cancellationToken }, i => compiled[i] = images.Compile(kernels[i]));
            }
            catch (AggregateException e)
            {
                ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
            }

            foreach ((KernelSpec kernel, CompiledKernels one) in kernels.Zip(compiled))
            {
                report.Add(one, name => name == kernel.Entry);
            }
        }
    }

    private static void Save(string folder, string name, CompiledKernels compiled)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(Path.Combine(folder, $"{name}.{compiled.Architecture}.ptx"), compiled.Ptx);
        if (compiled.Cubin.Length > 0)
        {
            File.WriteAllBytes(Path.Combine(folder, $"{name}.{compiled.Architecture}.cubin"), compiled.Cubin);
        }
    }

    /// <summary>The table of what the assembler reports.</summary>
    private sealed class Report(IAnsiConsole console)
    {
        private readonly Table _table = NewTable();

        public void Add(CompiledKernels compiled, Func<string, bool> isWanted)
        {
            foreach (KernelResources kernel in compiled.Resources.Where(k => isWanted(k.Name)).OrderBy(k => k.Name, StringComparer.Ordinal))
            {
                _table.AddRow(
                    new Text(compiled.Name), new Text(compiled.Architecture), new Text(kernel.Name), Number(kernel.Registers),
                    Number(kernel.SpillStoreBytes), Number(kernel.SpillLoadBytes), Number(kernel.StackBytes), Number(kernel.SharedBytes));
            }
        }

        public void Write() => console.Write(_table);

        private static Table NewTable()
        {
            Table table = new() { Border = TableBorder.Simple };
            table.AddColumns("file", "architecture", "kernel", "registers", "spill stores", "spill loads", "stack", "shared");
            return table;
        }

        private static Text Number(int value) => new(value.ToString(CultureInfo.InvariantCulture));
    }
}
