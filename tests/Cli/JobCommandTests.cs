using System.Diagnostics;
using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>Jobs of many images on the command line: the folder of shards, its merge, processes, disks that are full or cannot be written.</summary>
public sealed class JobCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_folder_of_shards_is_merged_to_what_one_run_writes()
    {
        string[] job = ["--num-samples", "5", "--batch-size", "2", "--output"];
        (await Sample([.. job, _folder["a.npz"]])).Expect(ExitCode.Done);
        (await Sample([.. job, _folder["d"], "--format", "npz", "--rank", "1", "--world-size", "2"])).Expect(ExitCode.Done);
        CliRun early = (await CliRun.Of("merge", _folder["d"], _folder["m.npz"])).Expect(ExitCode.InvalidFile);
        Assert.Contains("2 of 3 shards cannot be merged: shard-000000.npz (missing); shard-000002.npz (missing)", early.Error, StringComparison.Ordinal);
        CliRun run = (await Sample([.. job, _folder["d"], "--format", "npz"])).Expect(ExitCode.Done);
        Assert.Contains("2 of 5 images are in", run.Error, StringComparison.Ordinal);
        Assert.Contains("3 images in", run.Error, StringComparison.Ordinal);
        CliRun merged = (await CliRun.Of("merge", _folder["d"], _folder["m.npz"])).Expect(ExitCode.Done);
        Assert.Equal(_folder["m.npz"], merged.Output.Trim());
        Assert.Equal(File.ReadAllBytes(_folder["a.npz"]), File.ReadAllBytes(_folder["m.npz"]));
        Assert.Equal(File.ReadAllBytes(_folder["a.npz.json"]), File.ReadAllBytes(_folder["m.npz.json"]));
        (await CliRun.Of("merge", _folder["d"], _folder["m.zip"])).Expect(ExitCode.Usage);
        (await CliRun.Of("merge", _folder["nowhere"], _folder["m.npz"])).Expect(ExitCode.InvalidFile);
        (await Sample([.. job, _folder["d"], "--format", "npz", "--seed", "9"])).Expect(ExitCode.Usage);
    }

    [Fact]
    public async Task Processes_divide_a_folder_of_pictures()
    {
        string[] job = ["--num-samples", "5", "--batch-size", "2", "--world-size", "2"];
        (await Sample([.. job, "--rank", "0", "--output", _folder["p"]])).Expect(ExitCode.Done);
        Assert.Equal(["p/000000-class0.png", "p/000001-class1.png", "p/000004-class4.png"], _folder.Files);
        (await Sample([.. job, "--rank", "1", "--output", _folder["p"]])).Expect(ExitCode.Done);
        Assert.Equal(5, _folder.Files.Count());
        Assert.Contains("several processes", (await Sample([.. job, "--rank", "1", "--output", _folder["x.png"]])).Expect(ExitCode.Usage).Error, StringComparison.Ordinal);
        (await Sample("--rank", "1", "--output", _folder["x.npz"])).Expect(ExitCode.Usage);
    }

    [Fact]
    public async Task An_interrupted_archive_says_where_its_images_are()
    {
        using CancellationTokenSource source = new();
        Task<CliRun> running = CliRun.Of(["sample", "--device", "cpu", "--steps", "3", "--num-samples", "100000", "--batch-size", "1", "--output", _folder["a.npz"]], source.Token);
        while (!running.IsCompleted && !_folder.Files.Any(f => f.Contains("shard-", StringComparison.Ordinal)))
        {
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }

        await source.CancelAsync();
        CliRun run = (await running).Expect(ExitCode.Interrupted);
        Assert.Contains($"finished images are in {_folder["a.npz.parts"]}; the same command goes on from there", run.Error, StringComparison.Ordinal);
    }

    // Twelve images of 3 KiB: the smaller disk has no room for their shards, the larger none for the archive beside them.
    [Theory]
    [InlineData("32k", " of 4 shards are safe")]
    [InlineData("64k", "All 4 shards are safe")]
    public async Task A_disk_that_is_full_or_read_only_is_told_and_loses_nothing(string size, string safe)
    {
        string disk = _folder["disk"];
        Directory.CreateDirectory(disk);
        Assert.SkipUnless(OperatingSystem.IsLinux() && Mount("-t", "tmpfs", "-o", $"size={size}", "tmpfs", disk), "a file system of few bytes can only be mounted by root");
        try
        {
            string[] job = ["--num-samples", "12", "--batch-size", "3", "--output", Path.Combine(disk, "a.npz")];
            CliRun full = (await Sample(job)).Expect(ExitCode.InvalidFile);
            Assert.Contains("No space left on device", full.Error, StringComparison.Ordinal);
            Assert.Contains(safe, full.Error, StringComparison.Ordinal);
            Assert.DoesNotContain(Directory.EnumerateFiles(disk, "*.tmp", SearchOption.AllDirectories), _ => true);

            Assert.True(Mount("-o", "remount,ro", disk));
            CliRun readOnly = (await Sample(job)).Expect(ExitCode.InvalidFile);
            Assert.Contains("cannot be written", readOnly.Error, StringComparison.Ordinal);
            Assert.Contains("Read-only file system", readOnly.Error, StringComparison.Ordinal);

            Assert.True(Mount("-o", "remount,rw,size=4m", disk));
            CliRun again = (await Sample(job)).Expect(ExitCode.Done);
            Assert.Contains("images are in", again.Error, StringComparison.Ordinal);
            job[^1] = _folder["b.npz"];
            (await Sample(job)).Expect(ExitCode.Done);
            Assert.Equal(File.ReadAllBytes(_folder["b.npz"]), File.ReadAllBytes(Path.Combine(disk, "a.npz")));
        }
        finally
        {
            Execute("umount", "-l", disk);
        }
    }

    private static bool Mount(params string[] args) => Execute("mount", args);

    private static bool Execute(string program, params string[] args)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, args) { RedirectStandardError = true, RedirectStandardOutput = true })!;
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    private static Task<CliRun> Sample(params string[] args) => CliRun.Of(["sample", "--device", "cpu", "--steps", "2", .. args]);
}
