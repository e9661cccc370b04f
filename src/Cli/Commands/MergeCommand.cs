using System.CommandLine;
using Kernels.Sampling;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels merge</c>: one archive of a job's shards.</summary>
internal static class MergeCommand
{
    public static Command Create(CliConsole console)
    {
        Argument<string> folder = new("folder") { Description = "The shards: what kernels sample wrote under --output of a folder." };
        Argument<string> archive = new("out.npz") { Description = "The archive: arr_0 (images) and arr_1 (labels), as guided-diffusion's evaluator reads it. Its receipt is written beside it." };
        Command command = new("merge", "Check the shards of a finished job and make one .npz of them. The shards stay.") { folder, archive };
        command.SetAction(parsed =>
        {
            string path = parsed.GetValue(archive)!;
            if (!Path.GetExtension(path).Equals(".npz", StringComparison.OrdinalIgnoreCase))
            {
                throw new ConfigurationException($"{path}: give the name of a .npz");
            }

            ShardFolder shards = ShardFolder.Open(parsed.GetValue(folder)!);
            ShardMerger.Merge(shards, path);
            console.Tell($"{shards.Job.Images.Count} images of {shards.Job.Shards} shards:");
            console.Output.WriteLine(path);
            return ExitCode.Done;
        });
        return command;
    }
}
