using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>
/// Finished images of a job, a consecutive range, as one file: an archive of NumPy arrays <c>arr_0</c> (pixels <c>[N, H, W, C]</c>), <c>arr_1</c> (labels), <c>step_hashes</c>
/// <c>[N, S, 32]</c> and <c>sha256</c>, which binds all of them to the settings of the job and to the shard's place in it.
/// </summary>
/// <param name="Pixels">The samples of all its images.</param>
/// <param name="Labels">One label each; empty if there are none.</param>
/// <param name="Hashes">What x was after every step; null if it was not looked at.</param>
public sealed record Shard(byte[] Pixels, long[] Labels, StepHashes? Hashes)
{
    private const string PixelsName = "arr_0";
    private const string LabelsName = "arr_1";
    private const string HashesName = "step_hashes";
    private const string ChecksumName = "sha256";

    /// <summary>Writes the shard.</summary>
    /// <param name="stream">Where to.</param>
    /// <param name="job">The job.</param>
    /// <param name="index">Its place in the job.</param>
    internal void Write(Stream stream, JobManifest job, int index)
    {
        ReceiptImages images = job.Images;
        (_, int count) = job.ImagesOf(index);
        List<KeyValuePair<string, NpyArray>> arrays = [new(PixelsName, NpyArray.Of(Pixels, count, images.Height, images.Width, images.Channels))];
        if (job.Labels)
        {
            arrays.Add(new(LabelsName, NpyArray.Of(Labels, count)));
        }

        if (Hashes is not null)
        {
            arrays.Add(new(HashesName, NpyArray.Of(Hashes.Bytes, count, Hashes.Steps, StepHashes.HashBytes)));
        }

        arrays.Add(new(ChecksumName, NpyArray.Of(Checksum(job, index), StepHashes.HashBytes)));
        Npz.Write(stream, arrays, compress: false);
    }

    /// <summary>Reads a shard and checks it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="job">The job.</param>
    /// <param name="index">The shard's place in it.</param>
    /// <exception cref="InvalidFileException">The file is damaged, or belongs to another job or place.</exception>
    internal static Shard Read(string path, JobManifest job, int index)
    {
        using Npz npz = Npz.Open(path);
        ReceiptImages images = job.Images;
        (_, int count) = job.ImagesOf(index);
        Shard shard = new(
            Array(npz, path, PixelsName, DType.U8, count, images.Height, images.Width, images.Channels).ToBytes(),
            job.Labels ? Array(npz, path, LabelsName, DType.I64, count).ToInt64() : [],
            job.HashedSteps is int steps ? new StepHashes(steps, Array(npz, path, HashesName, DType.U8, count, steps, StepHashes.HashBytes).ToBytes()) : null);
        return Array(npz, path, ChecksumName, DType.U8, StepHashes.HashBytes).ToBytes().AsSpan().SequenceEqual(shard.Checksum(job, index))
            ? shard
            : throw new InvalidFileException(path, ChecksumName, "is not that of this shard of this job");
    }

    private static NpyArray Array(Npz npz, string path, string name, DType dtype, params long[] dims)
    {
        NpyArray array = npz.Read(name);
        return array.DType == dtype && array.Dims.SequenceEqual(dims)
            ? array
            : throw new InvalidFileException(path, name, $"is [{string.Join(", ", array.Dims)}] of {array.DType}, where the job has [{string.Join(", ", dims)}] of {dtype}");
    }

    private byte[] Checksum(JobManifest job, int index)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Convert.FromHexString(job.Sha256));
        (int first, int count) = job.ImagesOf(index);
        Span<byte> place = stackalloc byte[2 * sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(place, first);
        BinaryPrimitives.WriteInt64LittleEndian(place[sizeof(long)..], count);
        hash.AppendData(place);
        hash.AppendData(Pixels);
        hash.AppendData(MemoryMarshal.AsBytes(Labels.AsSpan()));
        hash.AppendData(Hashes?.Bytes ?? []);
        return hash.GetHashAndReset();
    }
}
