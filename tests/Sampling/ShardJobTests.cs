using System.Globalization;
using Kernels.Files;
using Kernels.Imaging;
using Kernels.Sampling;
using Xunit;
using TemporaryFolder = Kernels.Tests.Files.TemporaryFolder;

namespace Kernels.Tests.Sampling;

/// <summary>Jobs that are written in shards: interrupted, resumed, divided, damaged, merged; in the end always the bytes that one undisturbed run gives.</summary>
public sealed class ShardJobTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly DemoSampler _demo = new(steps: 2);
    private readonly List<string> _told = [];

    private SampleRequest Request { get; } = DemoSampler.Request(7, 2);

    private string Archive => _folder["a.npz"];

    private string Parts => Archive + ".parts";

    public void Dispose()
    {
        _demo.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void The_archive_is_what_numpy_writes_of_the_images()
    {
        JobResult result = Run(Archive);
        Assert.Equal((7, 7, true, Archive), (result.Finished, result.Sampled, result.IsComplete, result.Path));
        SampledImages images = _demo.Sampler.Sample(Request, 0, 7);
        Npz.Write(_folder["b.npz"], [
            new("arr_0", NpyArray.Of(Images.ToBytes(images.Images), 7, 32, 32, 3)),
            new("arr_1", NpyArray.Of(images.Labels.Select(l => (long)l).ToArray(), 7)),
        ]);
        Assert.Equal(File.ReadAllBytes(_folder["b.npz"]), File.ReadAllBytes(Archive));
        Assert.Equal(["a.npz", "a.npz.json", "b.npz"], _folder.Names);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_killed_processes_leave_half_written_or_half_removed_is_gone_at_the_end(bool finished)
    {
        if (finished)
        {
            Run(Archive);
        }

        // Killed while the manifest was written, while the folder was probed, while shards were merged or removed.
        Directory.CreateDirectory(Parts);
        string[] names = [".manifest.json.0.tmp", ".writable.0.tmp", ".merging.tmp", ".shard-000001.npz.0.tmp"];
        foreach (string name in finished ? [.. names, "shard-000001.npz"] : names)
        {
            File.WriteAllText(Path.Combine(Parts, name), "half");
        }

        Assert.True(Run(Archive).IsComplete);
        Assert.Equal(["a.npz", "a.npz.json"], _folder.Names);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5)]
    public void An_interrupted_job_goes_on_where_it_stopped_whatever_the_batch(int stepsBefore)
    {
        byte[] expected = Undisturbed(out byte[] receipt);
        using CancellationTokenSource source = new();
        int steps = 0;
        JobResult first = Open(Archive).Run(
            (_, _, _) =>
            {
                if (++steps > stepsBefore)
                {
                    source.Cancel();
                }
            },
            cancellationToken: source.Token);
        Assert.True(first.Interrupted);
        Assert.False(File.Exists(Archive));
        int done = (stepsBefore + 1) / 2 * 2;
        Assert.Equal((done, Parts), (first.Finished, first.Path));

        // Other batches, same shards.
        SampleJob second = Open(Archive, Request with { BatchSize = 3 });
        Assert.Equal(7 - done, second.Remaining);
        Assert.Equal(7 - done, second.Run().Sampled);
        Assert.Equal(expected, File.ReadAllBytes(Archive));
        Assert.Equal(receipt, File.ReadAllBytes(Archive + ".json"));
        Assert.False(Directory.Exists(Parts));
    }

    [Fact]
    public void A_finished_job_is_not_done_again_and_a_damaged_one_is()
    {
        byte[] expected = Undisturbed(out _);
        Run(Archive);
        Assert.Equal(0, Run(Archive).Sampled);
        Assert.Contains("nothing is to be done", Assert.Single(_told), StringComparison.Ordinal);
        Flip(Archive, 1000);
        Assert.Equal(7, Run(Archive).Sampled);
        Assert.Equal(expected, File.ReadAllBytes(Archive));
        Assert.Equal(7, Open(Archive, Request with { Seed = 6 }).Remaining);
    }

    [Fact]
    public void A_folder_of_shards_stays_and_is_merged_by_word()
    {
        byte[] expected = Undisturbed(out byte[] receipt);
        Run(_folder["d"], format: "npz", shardSize: 3);
        Assert.Equal(["manifest.json", "shard-000000.npz", "shard-000001.npz", "shard-000002.npz"], Directory.GetFiles(_folder["d"]).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        ShardMerger.Merge(ShardFolder.Open(_folder["d"]), _folder["m.npz"]);
        Assert.Equal(expected, File.ReadAllBytes(_folder["m.npz"]));
        Assert.Equal(receipt, File.ReadAllBytes(_folder["m.npz.json"]));

        // A shard is an archive of NumPy too.
        using Npz shard = Npz.Open(ShardFolder.Open(_folder["d"]).FileOf(2));
        Assert.Equal(["arr_0", "arr_1", "step_hashes", "sha256"], shard.Names);
        Assert.Equal("1,32,32,3", string.Join(',', shard.Read("arr_0").Dims));
    }

    [Theory]
    [InlineData("seed", "job.request.seed is 5 there and 6 here")]
    [InlineData("count", "job.request.count is 7 there and 8 here")]
    [InlineData("classes", "job.request.classes is [] there and [1] here")]
    [InlineData("hashes", "hashed_steps is 2 there and absent here")]
    [InlineData("shard", "shard_size is 2 there and 4 here")]
    [InlineData("sampler", "job.settings.classifier_scale is 4 there and 2 here")]
    public void The_folder_of_another_job_is_refused_with_the_setting_that_differs(string what, string words)
    {
        Interrupt(steps: 2);
        using DemoSampler other = new(steps: 2, classifierScale: 2);
        SampleRequest request = what switch { "seed" => Request with { Seed = 6 }, "count" => Request with { Count = 8 }, "classes" => Request with { Classes = [1] }, _ => Request };
        SampleOutput output = SampleOutput.Of(Archive, null, 7) with { HashSteps = what != "hashes", ShardSize = what == "shard" ? 4 : null };
        ConfigurationException error = Assert.Throws<ConfigurationException>(() => SampleJob.Open(what == "sampler" ? other.Sampler : _demo.Sampler, request, output));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        Assert.Contains(Parts, error.Message, StringComparison.Ordinal);
        Assert.Single(Directory.GetFiles(Parts, "shard-*"));
    }

    [Theory]
    [InlineData("flip")]
    [InlineData("cut")]
    [InlineData("empty")]
    [InlineData("swap")]
    public void A_damaged_shard_is_refused_by_merge_and_named_and_sampled_again(string damage)
    {
        byte[] expected = Undisturbed(out _);
        Run(_folder["d"], format: "npz");
        ShardFolder shards = ShardFolder.Open(_folder["d"]);
        string file = shards.FileOf(1);
        byte[] whole = File.ReadAllBytes(file);
        switch (damage)
        {
            case "flip":
                Flip(file, 2000);
                break;
            case "cut":
                File.WriteAllBytes(file, whole[..^1]);
                break;
            case "empty":
                File.WriteAllBytes(file, []);
                break;
            default:
                File.Copy(shards.FileOf(0), file, overwrite: true);
                break;
        }

        InvalidFileException error = Assert.Throws<InvalidFileException>(() => ShardMerger.Merge(shards, _folder["m.npz"]));
        Assert.Contains("1 of 4 shards cannot be merged: shard-000001.npz", error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["m.npz"]));

        JobResult again = Run(_folder["d"], format: "npz");
        Assert.Equal((2, 7), (again.Sampled, again.Finished));
        Assert.Contains(_told, l => l.Contains("shard-000001.npz", StringComparison.Ordinal) && l.EndsWith("sampled again", StringComparison.Ordinal));
        Assert.Equal(whole, File.ReadAllBytes(file));
        ShardMerger.Merge(shards, _folder["m.npz"]);
        Assert.Equal(expected, File.ReadAllBytes(_folder["m.npz"]));
    }

    [Fact]
    public void Missing_shards_are_named_by_merge()
    {
        Interrupt(steps: 4, path: _folder["d"], format: "npz");
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => ShardMerger.Merge(ShardFolder.Open(_folder["d"]), _folder["m.npz"]));
        Assert.Contains("2 of 4 shards cannot be merged: shard-000002.npz (missing); shard-000003.npz (missing)", error.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidFileException>(() => ShardFolder.Open(_folder["nowhere"]));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public void Processes_that_share_a_job_make_the_same_bytes_in_any_order(int world)
    {
        byte[] expected = Undisturbed(out byte[] receipt);
        int sampled = 0;
        bool[] complete = new bool[world];
        for (int rank = world - 1; rank >= 0; rank--)
        {
            JobResult result = Open(Archive, rank: new Rank(rank, world)).Run();
            sampled += result.Sampled;
            complete[rank] = result.IsComplete;
        }

        Assert.Equal(7, sampled);
        Assert.Equal(expected, File.ReadAllBytes(Archive));
        Assert.Equal(receipt, File.ReadAllBytes(Archive + ".json"));
        Assert.True(complete[0]);
        Assert.DoesNotContain(true, complete[1..Math.Min(world, 4)]);
    }

    [Fact]
    public void Another_number_of_processes_goes_on_with_a_job()
    {
        byte[] expected = Undisturbed(out _);
        Assert.Equal(4, Open(Archive, rank: new Rank(0, 2)).Run().Sampled);
        Interrupt(steps: 0, rank: new Rank(1, 2));
        Assert.False(File.Exists(Archive));

        // Of three, the first owns shards 0 and 3, of which 0 is there.
        Assert.Equal(1, Open(Archive, rank: new Rank(0, 3)).Remaining + Open(Archive, rank: new Rank(2, 3)).Remaining);
        Assert.Equal(2, Open(Archive, rank: new Rank(1, 3)).Run().Sampled);
        Open(Archive, rank: new Rank(0, 3)).Run();
        Assert.Equal(expected, File.ReadAllBytes(Archive));

        // Who comes too late finds nothing to do.
        Assert.Equal(0, Open(Archive, rank: new Rank(2, 3)).Run().Sampled);
        Assert.False(Directory.Exists(Parts));
    }

    [Fact]
    public void A_full_disk_keeps_what_is_finished_and_the_job_goes_on()
    {
        byte[] expected = Undisturbed(out _);
        JobManifest job = JobManifest.Of(_demo.Sampler, Request, 2, hashSteps: true);
        int writes = 0;
        ShardFolder folder = ShardFolder.Open(Parts, job, shardSizeMatters: false, (path, write) => AtomicFile.Write(path, stream =>
        {
            write(stream);
            if (++writes == 3)
            {
                throw new IOException("No space left on device");
            }
        }));
        for (int i = 0; i < 2; i++)
        {
            (int first, int count) = job.ImagesOf(i);
            StepHashes hashes = new(count, 2);
            SampledImages images = _demo.Sampler.Sample(Request, first, count, hashes);
            Shard shard = new(Images.ToBytes(images.Images), [.. images.Labels.Select(l => (long)l)], hashes);
            if (i == 0)
            {
                folder.Write(i, shard);
            }
            else
            {
                InvalidFileException error = Assert.Throws<InvalidFileException>(() => folder.Write(i, shard));
                Assert.Contains("No space left on device", error.Message, StringComparison.Ordinal);
                Assert.Contains("1 of 4 shards are safe", error.Message, StringComparison.Ordinal);
            }
        }

        Assert.Equal(["manifest.json", "shard-000000.npz"], Directory.GetFiles(Parts).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.Equal(5, Run(Archive).Sampled);
        Assert.Equal(expected, File.ReadAllBytes(Archive));
    }

    [Fact]
    public void What_a_killed_process_left_half_written_is_removed_and_what_a_living_one_writes_stays()
    {
        Directory.CreateDirectory(_folder["x"]);
        string dead = Path.Combine(_folder["x"], ".a.npz.0123.tmp"), living = Path.Combine(_folder["x"], ".a.npz.4567.tmp"), other = Path.Combine(_folder["x"], ".b.npz.89.tmp");
        File.WriteAllText(dead, "half");
        File.WriteAllText(other, "half");
        using (FileStream stream = new(living, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None))
        {
            AtomicFile.RemoveLeftovers(Path.Combine(_folder["x"], "a.npz"));
        }

        Assert.Equal([".a.npz.4567.tmp", ".b.npz.89.tmp"], Directory.GetFiles(_folder["x"]).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("x.npz", null, 5, OutputKind.Archive)]
    [InlineData("x.png", null, 5000, OutputKind.Picture)]
    [InlineData("x", null, 1000, OutputKind.Pictures)]
    [InlineData("x", null, 1001, OutputKind.Shards)]
    [InlineData("x", "npz", 1, OutputKind.Shards)]
    [InlineData("x", "png", 50000, OutputKind.Pictures)]
    public void The_name_tells_what_is_written(string path, string? format, int count, OutputKind kind) => Assert.Equal(kind, SampleOutput.Of(path, format, count).Kind);

    [Theory]
    [InlineData("x.npz", "png", "contradict")]
    [InlineData("x.jpg", null, "give a .png")]
    public void A_name_that_tells_nothing_is_refused(string path, string? format, string word) =>
        Assert.Contains(word, Assert.Throws<ConfigurationException>(() => SampleOutput.Of(path, format, 1)).Message, StringComparison.Ordinal);

    [Fact]
    public void What_cannot_be_is_refused_before_anything_is_sampled()
    {
        File.WriteAllText(_folder["file"], "");
        Directory.CreateDirectory(_folder["folder.npz"]);
        Directory.CreateDirectory(_folder["folder.png"]);
        Assert.Throws<ConfigurationException>(() => Open(_folder["file"], format: "npz"));
        Assert.Throws<ConfigurationException>(() => Open(_folder["file"]));
        Assert.Throws<ConfigurationException>(() => Open(_folder["folder.npz"]));
        Assert.Throws<ConfigurationException>(() => Open(_folder["folder.png"]));
        Assert.Throws<ConfigurationException>(() => Open(_folder["x.png"], rank: new Rank(0, 2)));
        Assert.Throws<ConfigurationException>(() => Open(_folder["x.png"], shardSize: 2));
        Assert.Throws<ConfigurationException>(() => Open(_folder["x.npz"], shardSize: 0));
        Assert.Throws<ConfigurationException>(() => Open(Path.Combine(_folder["file"], "x.npz")));
    }

    private static void Flip(string file, int at)
    {
        byte[] bytes = File.ReadAllBytes(file);
        bytes[at] ^= 4;
        File.WriteAllBytes(file, bytes);
        File.SetLastWriteTimeUtc(file, DateTime.Parse("2020-01-01", CultureInfo.InvariantCulture));
    }

    // What one process makes without interruption, in one shard.
    private byte[] Undisturbed(out byte[] receipt)
    {
        string path = _folder["undisturbed.npz"];
        Open(path, Request with { BatchSize = 7 }).Run();
        byte[] bytes = File.ReadAllBytes(path);
        receipt = File.ReadAllBytes(path + ".json");
        File.Delete(path);
        File.Delete(path + ".json");
        return bytes;
    }

    private void Interrupt(int steps, string? path = null, string? format = null, Rank? rank = null)
    {
        using CancellationTokenSource source = new();
        Assert.True(Open(path ?? Archive, format: format, rank: rank).Run(
            (_, _, _) =>
            {
                if (--steps < 0)
                {
                    source.Cancel();
                }
            },
            cancellationToken: source.Token).Interrupted);
    }

    private JobResult Run(string path, string? format = null, int? shardSize = null) => Open(path, format: format, shardSize: shardSize).Run();

    private SampleJob Open(string path, SampleRequest? request = null, string? format = null, int? shardSize = null, Rank? rank = null) =>
        SampleJob.Open(
            _demo.Sampler,
            request ?? Request,
            SampleOutput.Of(path, format, Request.Count) with { ShardSize = shardSize, Rank = rank ?? Rank.Single },
            _told.Add);
}
