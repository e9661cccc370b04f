using System.Globalization;
using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>Processes that Open MPI starts share a job. They need no MPI: a rank is a number, and the shards are files.</summary>
public sealed class MpiTests : IDisposable
{
    private static readonly string[] s_job = ["sample", "--device", "cpu", "--threads", "1", "--steps", "3", "--num-samples", "22", "--batch-size", "2", "--seed", "8", "--output"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Any_number_of_ranks_gives_the_same_bytes()
    {
        Require();
        byte[][] results = [await Run(1), await Run(2), await Run(3)];
        Assert.Equal(results[0], results[1]);
        Assert.Equal(results[0], results[2]);
        Assert.Equal(File.ReadAllBytes(_folder["1.npz.json"]), File.ReadAllBytes(_folder["3.npz.json"]));
        Assert.Equal(["1.npz", "1.npz.json", "2.npz", "2.npz.json", "3.npz", "3.npz.json"], _folder.Files);
    }

    [Fact]
    public async Task A_rank_that_is_killed_is_made_up_for_by_another_number_of_ranks()
    {
        Require();
        string[] longer = [.. s_job, _folder["killed.npz"]];
        longer[Array.IndexOf(longer, "--steps") + 1] = "12";
        while (!await KillRank(longer))
        {
            // The job was over before anybody looked: a busy machine. Again.
            File.Delete(_folder["killed.npz"]);
            File.Delete(_folder["killed.npz.json"]);
        }

        using (CliProcess again = CliProcess.StartUnder(Mpirun(3), longer))
        {
            CliRun run = (await again.Finish()).Expect(ExitCode.Done);
            Assert.Contains("already", run.Error, StringComparison.Ordinal);
        }

        longer[^1] = _folder["whole.npz"];
        (await CliRun.Of(longer)).Expect(ExitCode.Done);
        Assert.Equal(File.ReadAllBytes(_folder["whole.npz"]), File.ReadAllBytes(_folder["killed.npz"]));
    }

    private static string[] Mpirun(int ranks) => ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks.ToString(CultureInfo.InvariantCulture)];

    private static void Require()
    {
        CliProcess.Require();
        bool there = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(p => File.Exists(Path.Combine(p, "mpirun")));
        Assert.SkipUnless(there, "mpirun is not there: apt-get install openmpi-bin");
    }

    // mpirun says of none of its children which it is; the kernel knows their environment.
    private static int? ProcessOf(int rank, string output)
    {
        string variable = FormattableString.Invariant($"OMPI_COMM_WORLD_RANK={rank}\0");
        foreach (string process in Directory.EnumerateDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), CultureInfo.InvariantCulture, out _)))
        {
            try
            {
                if (File.ReadAllText(Path.Combine(process, "environ")).Contains(variable, StringComparison.Ordinal)
                    && File.ReadAllText(Path.Combine(process, "cmdline")).Contains(output, StringComparison.Ordinal))
                {
                    return int.Parse(Path.GetFileName(process), CultureInfo.InvariantCulture);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It has ended, or is another user's.
            }
        }

        return null;
    }

    // Whether a rank could be killed after its first shards.
    private async Task<bool> KillRank(string[] job)
    {
        using CliProcess process = CliProcess.StartUnder(Mpirun(2), job);
        while (!process.HasExited && !Directory.Exists(job[^1] + ".parts"))
        {
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }

        while (!process.HasExited && Directory.Exists(job[^1] + ".parts") && !File.Exists(Path.Combine(job[^1] + ".parts", "shard-000001.npz")))
        {
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }

        if (ProcessOf(rank: 1, job[^1]) is int rank)
        {
            CliProcess.Kill(rank);
        }

        // Open MPI ends the other ranks with the one that was killed.
        return (await process.Finish()).ExitCode != 0 && !File.Exists(job[^1]);
    }

    private async Task<byte[]> Run(int ranks)
    {
        string path = _folder[FormattableString.Invariant($"{ranks}.npz")];
        using CliProcess job = CliProcess.StartUnder(Mpirun(ranks), [.. s_job, path]);
        CliRun run = (await job.Finish()).Expect(ExitCode.Done);
        Assert.Equal(path, run.Output.Trim().Replace("\u001b[?1h\u001b=", "", StringComparison.Ordinal));
        return File.ReadAllBytes(path);
    }
}
