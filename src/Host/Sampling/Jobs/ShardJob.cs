using Kernels.Diffusion;

namespace Kernels.Sampling;

/// <summary>
/// A job whose images go to shards: shard i is sampled by the process of rank i modulo the number of processes, unless it is there already. Nothing is claimed and nobody waits; who
/// finds all shards there when his own are finished merges them.
/// </summary>
internal sealed class ShardJob : SampleJob
{
    /// <summary>What is added to the name of an archive for the folder of its shards.</summary>
    public const string PartsExtension = ".parts";

    private const int WouldBlock = 11;
    private const int WouldBlockBsd = 35;
    private const int SharingViolation = unchecked((int)0x80070020);

    private readonly ShardFolder? _folder;
    private readonly JobManifest _job;
    private readonly int[] _mine;
    private readonly List<int> _missing = [];
    private readonly DateTime _archiveWritten;

    private ShardJob(Sampler sampler, SampleRequest request, SampleOutput output, JobManifest job, ShardFolder? folder)
        : base(sampler, request, output)
    {
        _job = job;
        _folder = folder;
        _mine = [.. Enumerable.Range(0, job.Shards).Where(i => i % output.Rank.World == output.Rank.Index)];
        _archiveWritten = File.GetLastWriteTimeUtc(output.Path);
    }

    public override int Remaining => _missing.Sum(i => _job.ImagesOf(i).Count);

    private string? Archive => Output.Kind == OutputKind.Archive ? Output.Path : null;

    public static ShardJob Begin(Sampler sampler, SampleRequest request, SampleOutput output, Action<string> tell)
    {
        if (output.ShardSize < 1)
        {
            throw new ConfigurationException($"--shard-size is {output.ShardSize}; it must be positive");
        }

        if (request.Random.IsTorch && output.ShardSize % request.BatchSize > 0)
        {
            throw new ConfigurationException($"--shard-size is {output.ShardSize}; random numbers of {request.Random} are drawn by the batch, so that it must be a multiple of the batch size, {request.BatchSize}");
        }

        JobManifest job = JobManifest.Of(sampler, request, output.ShardSize ?? request.BatchSize, output.HashSteps);
        bool archive = output.Kind == OutputKind.Archive;
        if (archive)
        {
            OutputFolder.Prepare(output.Path);
            if (ReceiptFile.IsDone(output.Path, job.Settings))
            {
                ShardFolder.DeleteRemains(output.Path + PartsExtension, job);
                return new ShardJob(sampler, request, output, job, folder: null) { Tell = tell };
            }
        }
        else if (File.Exists(output.Path))
        {
            throw new ConfigurationException($"--output {output.Path}: is a file, not a folder");
        }

        ShardFolder folder = ShardFolder.Open(archive ? output.Path + PartsExtension : output.Path, job, output.ShardSize is not null);
        ShardJob opened = new(sampler, request, output, folder.Job, folder) { Tell = tell };
        opened.FindMissing();
        return opened;
    }

    public override JobResult Run(BatchStepCallback? onStep = null, bool keepSteps = false, CancellationToken cancellationToken = default)
    {
        int total = _mine.Sum(i => _job.ImagesOf(i).Count);
        JobResult result = new(total, total, Output.Path) { IsComplete = true };
        if (_folder is null)
        {
            Tell($"{Output.Path} is there already, made with the same settings; nothing is to be done");
            return result;
        }

        int sampled = 0;
        foreach (int i in _missing)
        {
            if (IsMerged())
            {
                _folder.Delete();
                return result with { Sampled = sampled };
            }

            (int first, int count) = _job.ImagesOf(i);
            try
            {
                _folder.Write(i, Sample(first, count, onStep, keepSteps, cancellationToken));
            }
            catch (OperationCanceledException)
            {
                return new JobResult(total - Remaining + sampled, total, _folder.Path) { Sampled = sampled, Interrupted = true, CanGoOn = true };
            }

            sampled += count;
        }

        bool complete = Enumerable.Range(0, _job.Shards).All(_folder.Has);
        if (complete && Archive is null)
        {
            Tell($"all {_job.Shards} shards are there; kernels merge makes one archive of them");
        }

        return result with { Sampled = sampled, IsComplete = (complete && (Archive is null || Merge())) || IsMerged() };
    }

    private void FindMissing()
    {
        int found = 0;
        foreach (int i in _mine)
        {
            if (!_folder!.Has(i))
            {
                _missing.Add(i);
                continue;
            }

            try
            {
                _ = _folder.Read(i);
                found += _job.ImagesOf(i).Count;
            }
            catch (InvalidFileException e)
            {
                Tell($"{e.Message}; the shard is sampled again");
                _missing.Add(i);
            }
        }

        if (found > 0)
        {
            Tell(FormattableString.Invariant($"{found} of {_mine.Sum(i => _job.ImagesOf(i).Count)} images are in {_folder!.Path} already"));
        }
    }

    // Whether another process of the job has made the archive since this one began.
    private bool IsMerged() => Archive is not null && File.GetLastWriteTimeUtc(Archive) != _archiveWritten && ReceiptFile.IsDone(Archive, _job.Settings);

    private bool Merge()
    {
        try
        {
            using FileStream gate = new(Path.Combine(_folder!.Path, ".merging.tmp"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 1, FileOptions.DeleteOnClose);
            if (!IsMerged())
            {
                // Only a shard of another process may be damaged: it is being sampled again, and that process merges.
                IReadOnlyList<(int Shard, string Reason)> defects = ShardMerger.Defects(_folder);
                if (defects.Any(d => !_mine.Contains(d.Shard)))
                {
                    return false;
                }

                MergeNow();
            }
        }
        catch (IOException e) when (e is DirectoryNotFoundException or FileNotFoundException || e.HResult is WouldBlock or WouldBlockBsd or SharingViolation)
        {
            Tell("another process of the job merges the shards");
            return false;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(_folder!.Path, "", $"cannot be written: {e.Message}", e);
        }

        _folder.Delete();
        return true;
    }

    private void MergeNow()
    {
        try
        {
            ShardMerger.Merge(_folder!, Archive!);
        }
        catch (InvalidFileException e) when (e.InnerException is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(e.File, e.Place, $"{e.Reason}. All {_job.Shards} shards are safe in {_folder!.Path}; the same command merges them when there is room", e);
        }
    }
}
