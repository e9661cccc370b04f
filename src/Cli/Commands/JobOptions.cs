using System.CommandLine;
using Kernels.Sampling;

namespace Kernels.Cli.Commands;

/// <summary>The options that say how a job is written and divided.</summary>
internal sealed class JobOptions
{
    private readonly Option<string?> _format = Options.Value<string?>(
        "--format", $"What a folder gets: png (a picture per image) or npz (shards, for kernels merge). Without it png for up to {SampleOutput.MostPictures} images.");

    private readonly Option<int?> _shardSize = Options.Value<int?>("--shard-size", "Images of a shard: what a killed process loses at most. The batch size if absent.");

    private readonly Option<bool?> _stepHashes = Options.Flag("--step-hashes", "Hash x after every step for the receipt, so that kernels reproduce finds the step where two runs part; true unless told otherwise.");

    private readonly Option<int?> _rank = Options.Value<int?>(
        "--rank", "Which of several processes this one is, from 0; with --world-size. Open MPI, Slurm's srun, torchrun and indexed jobs of Kubernetes tell by themselves.");

    private readonly Option<int?> _worldSize = Options.Value<int?>("--world-size", "Number of processes that share the job: they need a common --output, and nothing else.");

    /// <summary>Creates the options.</summary>
    public JobOptions() => _format.AcceptOnlyFromAmong("png", "npz");

    /// <summary>Adds the options to a command.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _format, _shardSize, _stepHashes, _rank, _worldSize })
        {
            command.Add(option);
        }
    }

    /// <summary>Which of the processes of the job this one is.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="tell">Receives what is worth knowing.</param>
    /// <exception cref="ConfigurationException">Command line and environment are incomplete or contradict each other.</exception>
    public Rank RankOf(ParseResult parsed, Action<string> tell) =>
        RankDetection.Detect(Environment.GetEnvironmentVariable, parsed.GetValue(_rank), parsed.GetValue(_worldSize), tell);

    /// <summary>Where the images go.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="rank">Which process this is.</param>
    /// <param name="path">What <c>--output</c> says.</param>
    /// <param name="request">The images.</param>
    /// <exception cref="ConfigurationException">The options contradict each other.</exception>
    public SampleOutput OutputOf(ParseResult parsed, Rank rank, string path, SampleRequest request) => SampleOutput.Of(path, parsed.GetValue(_format), request.Count) with
    {
        Rank = rank,
        ShardSize = parsed.GetValue(_shardSize),
        HashSteps = parsed.GetValue(_stepHashes) ?? true,
        Columns = request.Classes.Count is > 1 and <= 32 ? request.Classes.Count : 0,
    };
}
