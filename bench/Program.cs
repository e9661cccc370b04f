using System.CommandLine;
using BenchmarkDotNet.Running;
using Kernels;
using Kernels.Bench.Commands;
using Kernels.Measurement;

// One command of our own, for timings in turns with another program. Everything else is BenchmarkDotNet's; steps and launches are timed by `kernels bench` and `kernels profile`.
if (args is not ["serve", ..])
{
    return BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args).Any(s => s.HasCriticalValidationErrors) ? 1 : 0;
}

string[] guided = ["shapes32", "adm64", "adm128", "adm256", "adm512"];
Option<string> model = new("--model") { DefaultValueFactory = _ => "shapes32", Description = "The models." };
model.AcceptOnlyFromAmong(guided);
Option<int> batch = new("--batch") { DefaultValueFactory = _ => 1, Description = "Number of images." };
Option<int?> threads = new("--threads") { Description = "Number of threads; one per core without it." };
Option<FileInfo?> weights = new("--weights") { Description = "A file with tensors diffusion/... and classifier/...; weights made by a formula without it." };
Command serve = new("serve", "Read commands (run, split, verify) from standard input and answer each with a line of JSON about one guided step on the CPU.") { model, batch, threads, weights };
serve.SetAction(parsed =>
{
    using ModelPair pair = ModelPair.OfPreset(parsed.GetRequiredValue(model), parsed.GetValue(weights)?.FullName);
    ServeCommand.Run(pair, parsed.GetValue(batch), parsed.GetValue(threads));
});

try
{
    return new RootCommand("Benchmarks of Kernels.") { serve }.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (KernelsException e)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}
