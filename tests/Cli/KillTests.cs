using System.Diagnostics;
using System.Globalization;
using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>
/// The real process is killed (SIGKILL) at random moments and started again with the same command until it is done: in the end there are the bytes of an undisturbed run, and at no
/// moment is there an archive that is anything else. Few kills here; <c>KERNELS_KILLS=50</c> makes them fifty.
/// </summary>
public sealed class KillTests : IDisposable
{
    private const string Variable = "KERNELS_KILLS";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_job_that_is_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_run()
    {
        CliProcess.Require();
        int kills = int.TryParse(Environment.GetEnvironmentVariable(Variable), CultureInfo.InvariantCulture, out int asked) ? asked : 5;
        string path = _folder["a.npz"];
        string[] job = ["sample", "--device", "cpu", "--steps", "3", "--num-samples", "40", "--batch-size", "2", "--seed", "8", "--output"];
        long start = Stopwatch.GetTimestamp();
        using (CliProcess undisturbed = CliProcess.Start([.. job, _folder["undisturbed.npz"]]))
        {
            (await undisturbed.Finish()).Expect(ExitCode.Done);
        }

        TimeSpan whole = Stopwatch.GetElapsedTime(start);
        byte[] expected = File.ReadAllBytes(_folder["undisturbed.npz"]), receipt = File.ReadAllBytes(_folder["undisturbed.npz.json"]);
        Random random = new(kills);
        int killed = 0, finished = 0, resumed = 0;
        while (killed < kills)
        {
            using CliProcess process = CliProcess.Start([.. job, path]);
            if (await process.ExitsWithin(random.NextDouble() * whole * 1.1))
            {
                (await process.Finish()).Expect(ExitCode.Done);
                Compare();
                finished++;

                // There is more to kill.
                File.Delete(path);
                File.Delete(path + ".json");
                continue;
            }

            process.Kill();
            await process.Finish();
            killed++;
            if (File.Exists(path))
            {
                Assert.Equal(expected, File.ReadAllBytes(path));
            }

            resumed += Directory.Exists(path + ".parts") && Directory.GetFiles(path + ".parts", "shard-*").Length > 0 ? 1 : 0;
        }

        using (CliProcess last = CliProcess.Start([.. job, path]))
        {
            (await last.Finish()).Expect(ExitCode.Done);
        }

        Compare();
        TestContext.Current.TestOutputHelper!.WriteLine($"{killed} kills, {resumed} of them with finished shards to go on from; {finished + 1} jobs finished, all with the same bytes");
        Assert.Equal(["a.npz", "a.npz.json", "undisturbed.npz", "undisturbed.npz.json"], _folder.Files);

        void Compare()
        {
            Assert.Equal(expected, File.ReadAllBytes(path));
            Assert.Equal(receipt, File.ReadAllBytes(path + ".json"));
        }
    }
}
