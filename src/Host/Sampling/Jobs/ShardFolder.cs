using System.Globalization;
using System.Text.Json;
using Kernels.Files;

namespace Kernels.Sampling;

/// <summary>
/// The folder of a job's shards: a manifest, and a file per finished shard. Every file is written whole under another name, flushed and renamed, so that a file that is there is whole,
/// whenever the process was killed; what a failing disk does to it later, its checksum shows.
/// </summary>
public sealed class ShardFolder
{
    /// <summary>The name of the manifest.</summary>
    public const string ManifestName = "manifest.json";

    private readonly Action<string, Action<Stream>> _write;

    private ShardFolder(string path, JobManifest job, Action<string, Action<Stream>> write)
    {
        Path = path;
        Job = job;
        _write = write;
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>The job, as the manifest has it.</summary>
    public JobManifest Job { get; }

    /// <summary>Opens the folder of a job, and makes it if it is not there.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="job">The job.</param>
    /// <param name="shardSizeMatters">Whether the shards must have the size that the job says; otherwise a folder that was begun with another keeps it.</param>
    /// <exception cref="ConfigurationException">The folder belongs to a job with other settings: the message says which.</exception>
    /// <exception cref="InvalidFileException">The folder cannot be made or written.</exception>
    public static ShardFolder Open(string path, JobManifest job, bool shardSizeMatters = false) => Open(path, job, shardSizeMatters, AtomicFile.Write);

    /// <summary>The same with another way to write files, for tests of disks that fail.</summary>
    internal static ShardFolder Open(string path, JobManifest job, bool shardSizeMatters, Action<string, Action<Stream>> write)
    {
        ArgumentNullException.ThrowIfNull(job);
        string manifest = System.IO.Path.Combine(path, ManifestName);
        try
        {
            if (!Directory.Exists(path))
            {
                Directory.CreateDirectory(path);
                DirectorySync.Flush(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", $"the folder cannot be made: {e.Message}", e);
        }

        if (!File.Exists(manifest))
        {
            write(manifest, stream => JsonSerializer.Serialize(stream, job, ReceiptJson.Indented.JobManifest));
        }

        // Read even if it was written here: another process of the job may have been faster.
        JobManifest theirs = ReadManifest(manifest);
        Expect(path, theirs, job, shardSizeMatters);
        CheckWritable(path);
        return new ShardFolder(path, theirs, write);
    }

    /// <summary>Opens the folder of a job that was begun.</summary>
    /// <param name="path">The folder.</param>
    /// <exception cref="InvalidFileException">There is no manifest, or it is damaged.</exception>
    public static ShardFolder Open(string path) => new(path, ReadManifest(System.IO.Path.Combine(path, ManifestName)), AtomicFile.Write);

    /// <summary>The file of a shard.</summary>
    /// <param name="index">The shard, from 0.</param>
    public string FileOf(int index) => System.IO.Path.Combine(Path, string.Create(CultureInfo.InvariantCulture, $"shard-{index:D6}.npz"));

    /// <summary>Whether a shard is there; <see cref="Read"/> tells whether it is whole.</summary>
    /// <param name="index">The shard, from 0.</param>
    public bool Has(int index) => File.Exists(FileOf(index));

    /// <summary>Reads a shard and checks it.</summary>
    /// <param name="index">The shard, from 0.</param>
    /// <exception cref="InvalidFileException">It is missing or damaged.</exception>
    public Shard Read(int index) => Shard.Read(FileOf(index), Job, index);

    /// <summary>Writes a shard, whole or not at all.</summary>
    /// <param name="index">The shard, from 0.</param>
    /// <param name="shard">Its images.</param>
    /// <exception cref="InvalidFileException">The disk is full or failed; the message says what is safe.</exception>
    public void Write(int index, Shard shard)
    {
        ArgumentNullException.ThrowIfNull(shard);
        string file = FileOf(index);
        try
        {
            AtomicFile.RemoveLeftovers(file);
            _write(file, stream => shard.Write(stream, Job, index));
        }
        catch (Exception e) when (e is InvalidFileException or IOException or UnauthorizedAccessException)
        {
            string reason = e is InvalidFileException invalid ? invalid.Reason : e.Message;
            int done = Enumerable.Range(0, Job.Shards).Count(Has);
            throw new InvalidFileException(
                file, "", $"{reason}. {done} of {Job.Shards} shards are safe in {Path}; when there is room again, the same command goes on from there", e);
        }
    }

    /// <summary>Removes the shards and what killed processes left half-written, the manifest last: until then the folder is one of this job.</summary>
    /// <exception cref="InvalidFileException">A file cannot be removed.</exception>
    public void Delete() => Delete(Path);

    /// <summary>Removes what a process left that was killed when the job was finished and its folder was being removed.</summary>
    /// <param name="path">The folder; it may be gone.</param>
    /// <param name="job">The job. A folder of another is left alone, and so is what cannot be removed: the job is finished.</param>
    internal static void DeleteRemains(string path, JobManifest job)
    {
        string manifest = System.IO.Path.Combine(path, ManifestName);
        try
        {
            if (Directory.Exists(path) && (!File.Exists(manifest) || ReadManifest(manifest).Sha256 == job.Sha256))
            {
                Delete(path);
            }
        }
        catch (InvalidFileException)
        {
            // In nobody's way.
        }
    }

    private static void Delete(string path)
    {
        try
        {
            foreach (string shard in Directory.EnumerateFiles(path, "shard-*.npz"))
            {
                File.Delete(shard);
            }

            AtomicFile.RemoveAllLeftovers(path);
            File.Delete(System.IO.Path.Combine(path, ManifestName));

            // What somebody else has put there is his.
            if (!Directory.EnumerateFileSystemEntries(path).Any())
            {
                Directory.Delete(path);
            }
        }
        catch (DirectoryNotFoundException)
        {
            // Another process of the job was faster.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", $"cannot be removed: {e.Message}", e);
        }
    }

    private static JobManifest ReadManifest(string path)
    {
        try
        {
            using FileSource file = FileSource.Open(path);
            JobManifest? job = JsonSerializer.Deserialize(file.ReadAll(Array.MaxLength), ReceiptJson.Default.JobManifest);
            string? wrong = job is null ? "is null"
                : job.Format != JobManifest.CurrentFormat ? $"has the format '{job.Format}'; this program reads {JobManifest.CurrentFormat}"
                : job.ShardSize < 1 || job.Images.Count < 1 || job.Images.Count != job.Job.Request.Count || job.HashedSteps < 1 || !IsImage(job.Images)
                    ? "speaks of a job that cannot be" : null;
            return wrong is null ? job! : throw new InvalidFileException(path, "", wrong);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidFileException(path, (e as JsonException)?.Path ?? "", $"is no manifest of a job: {e.Message}", e);
        }
    }

    // Known before anything is sampled.
    private static void CheckWritable(string path)
    {
        try
        {
            string probe = System.IO.Path.Combine(path, $".writable.{Guid.NewGuid():N}.tmp");
            using FileStream stream = new(probe, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1, FileOptions.DeleteOnClose);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", $"cannot be written: {e.Message}", e);
        }
    }

    private static bool IsImage(ReceiptImages images) =>
        images is { Height: > 0, Width: > 0, Channels: > 0 } && (long)images.Height * images.Width <= int.MaxValue / images.Channels;

    private static void Expect(string path, JobManifest theirs, JobManifest ours, bool shardSizeMatters)
    {
        IReadOnlyList<JsonDifference> differences = JsonDifference.Between(theirs.Settings.ToJson(), ours.Settings.ToJson());
        string? first = differences.Count > 0 ? differences[0].Describe("there", "here")
            : shardSizeMatters && theirs.ShardSize != ours.ShardSize ? FormattableString.Invariant($"shard_size is {theirs.ShardSize} there and {ours.ShardSize} here")
            : null;
        if (first is not null)
        {
            string others = differences.Count > 1 ? $" (and {string.Join(", ", differences.Skip(1).Select(d => d.Setting))})" : "";
            throw new ConfigurationException($"{path} holds a job with other settings: {first}{others}. Go on with the settings it was begun with, delete the folder, or give another --output");
        }
    }
}
