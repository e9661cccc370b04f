using System.CommandLine;
using BenchmarkDotNet.Running;
using Kernels;
using Kernels.Bench.Commands;
using Kernels.Bench.Workloads;

// Two commands of our own, for timings that a benchmark framework cannot take: in turns with another program, and launch by launch.
// Everything else is BenchmarkDotNet's.
if (args is not ["step" or "profile", ..])
{
    return BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args).Any(s => s.HasCriticalValidationErrors) ? 1 : 0;
}

Option<string> model = new("--model") { DefaultValueFactory = _ => "shapes32", Description = $"The models: {string.Join(", ", BenchModel.Names)}." };
Option<int> batch = new("--batch") { DefaultValueFactory = _ => 1, Description = "Number of images." };
Option<int> repeats = new("--repeats") { DefaultValueFactory = _ => 10, Description = "Number of timed runs." };
Option<int?> threads = new("--threads") { Description = "Number of threads; one per core without it." };
Option<FileInfo?> weights = new("--weights") { Description = "A file with tensors diffusion/... and classifier/...; weights made by a formula without it." };
Option<bool> json = new("--json") { Description = "Print JSON." };
Option<bool> serve = new("--serve") { Description = "Read commands (run, split, verify) from standard input and answer each with a line of JSON." };
Option<string> by = new("--by") { DefaultValueFactory = _ => "op", Description = "How to group launches: op, shape or launch." };
by.AcceptOnlyFromAmong([.. ProfileCommand.Groupings]);
Option<bool> least = new("--least") { Description = "Count the least time of each launch rather than its median: on a busy machine, what it takes without the others." };
Option<string[]> without = new("--without") { DefaultValueFactory = _ => [], AllowMultipleArgumentsPerToken = true, Description = "Fusions to leave out; 'all' for every one." };

Command step = new("step", "Times guided steps.") { model, batch, repeats, threads, weights, json, serve };
step.SetAction(parsed =>
{
    BenchModel pair = BenchModel.Get(parsed.GetRequiredValue(model));
    if (parsed.GetValue(serve))
    {
        StepCommand.Serve(pair, parsed.GetValue(batch), parsed.GetValue(threads), parsed.GetValue(weights)?.FullName);
    }
    else
    {
        StepCommand.Run(pair, parsed.GetValue(batch), parsed.GetValue(repeats), parsed.GetValue(threads), parsed.GetValue(weights)?.FullName, parsed.GetValue(json));
    }
});

Command profile = new("profile", "Shows where the time of a guided step goes.") { model, batch, repeats, threads, weights, by, least, without };
profile.SetAction(parsed => ProfileCommand.Run(
    BenchModel.Get(parsed.GetRequiredValue(model)),
    parsed.GetValue(batch),
    parsed.GetValue(repeats),
    parsed.GetValue(threads),
    parsed.GetValue(weights)?.FullName,
    parsed.GetRequiredValue(by),
    parsed.GetValue(least),
    parsed.GetValue(without)!));

try
{
    return new RootCommand("Benchmarks of Kernels.") { step, profile }.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (KernelsException e)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}
