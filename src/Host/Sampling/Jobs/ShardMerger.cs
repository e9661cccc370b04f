using System.Runtime.InteropServices;
using Kernels.Files;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>Makes one archive of a job's shards, as guided-diffusion's scripts write it and its evaluator reads it: <c>arr_0</c> the pixels, <c>arr_1</c> the labels.</summary>
public static class ShardMerger
{
    private const int MaxNamed = 8;

    /// <summary>Shards that are missing or damaged, with the reason; none if the job is finished.</summary>
    /// <param name="folder">The job.</param>
    /// <exception cref="InvalidFileException">Never; what is wrong is returned.</exception>
    public static IReadOnlyList<(int Shard, string Reason)> Defects(ShardFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        List<(int, string)> defects = [];
        for (int i = 0; i < folder.Job.Shards; i++)
        {
            if (!folder.Has(i))
            {
                defects.Add((i, "missing"));
                continue;
            }

            try
            {
                _ = folder.Read(i);
            }
            catch (InvalidFileException e)
            {
                defects.Add((i, e.Place.Length > 0 ? $"{e.Place}: {e.Reason}" : e.Reason));
            }
        }

        return defects;
    }

    /// <summary>Merges. One shard is in memory at a time; the archive and its receipt appear whole, the receipt first, or not at all.</summary>
    /// <param name="folder">The job.</param>
    /// <param name="path">The archive; its receipt is written beside it (<see cref="ReceiptFile"/>).</param>
    /// <exception cref="InvalidFileException">Shards are missing or damaged, and are named; or the archive cannot be written.</exception>
    public static void Merge(ShardFolder folder, string path)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(path);
        IReadOnlyList<(int Shard, string Reason)> defects = Defects(folder);
        if (defects.Count > 0)
        {
            string named = string.Join("; ", defects.Take(MaxNamed).Select(d => $"{Path.GetFileName(folder.FileOf(d.Shard))} ({d.Reason})"));
            throw new InvalidFileException(
                folder.Path, "", $"{defects.Count} of {folder.Job.Shards} shards cannot be merged: {named}{(defects.Count > MaxNamed ? "; …" : "")}. The command that samples the job makes them again");
        }

        JobManifest job = folder.Job;
        using ReceiptBuilder receipt = new(job.Images, job.HashedSteps);
        AtomicFile.RemoveLeftovers(path);
        AtomicFile.Write(path, stream =>
        {
            List<long> labels = new(job.Labels ? job.Images.Count : 0);
            ZipWriter zip = new(stream);
            byte[] header = NpyFormat.Header(DType.U8, [job.Images.Count, job.Images.Height, job.Images.Width, job.Images.Channels]);
            zip.Add("arr_0.npy", header.Length + ((long)job.Images.Count * job.ImageBytes), deflate: false, entry =>
            {
                entry.Write(header);
                for (int i = 0; i < job.Shards; i++)
                {
                    Shard shard = folder.Read(i);
                    entry.Write(shard.Pixels);
                    labels.AddRange(shard.Labels);
                    receipt.Add(shard.Pixels, shard.Hashes);
                }
            });
            if (job.Labels)
            {
                NpyArray array = NpyArray.Of(CollectionsMarshal.AsSpan(labels), labels.Count);
                zip.Add("arr_1.npy", NpyFormat.Length(array), deflate: false, entry => NpyFormat.Write(entry, array));
            }

            zip.Finish();

            // Before the archive has its name: an archive that is there has its receipt.
            stream.Flush();
            stream.Position = 0;
            ReceiptFile.WriteBeside(path, receipt.Finish(job.Job, FileHash.Sha256(stream)));
        });
    }
}
