using System.Text;
using Kernels.Checkpoints;
using Kernels.Files;
using Kernels.Tests.Checkpoints;
using Xunit;

namespace Kernels.Tests.Fuzzing;

/// <summary>Damaged checkpoints; <see cref="Fuzzer"/> says how to run longer.</summary>
public sealed class CheckpointFuzzTests
{
    private static readonly string[] SmallFiles = ["views", "dtypes", "training", "protocol-1", "protocol-3", "protocol-4", "protocol-5"];

    private static byte[][] Zips { get; } = [.. SmallFiles.Select(name => File.ReadAllBytes(Fixtures.Small($"{name}.pt")))];

    private static byte[][] Legacies { get; } = [.. SmallFiles.Select(name => File.ReadAllBytes(Fixtures.Small($"{name}-legacy.pt")))];

    private static byte[][] SafeTensors { get; } =
    [
        .. new[] { "schedule-cosine-25", "schedule-cosine-10-15-20", "schedule-linear-ddim50" }.Select(name => File.ReadAllBytes(Fixtures.Pack($"{name}.safetensors"))),
        SafeTensorsTests.File("""{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"I32","shape":[],"data_offsets":[12,16]}}""", new byte[16]),
    ];

    [Fact]
    public void SafeTensorsFiles() => Fuzzer.Run(3000, SafeTensors, (mutator, bytes, other) => mutator.Bytes(bytes, other), OpenCheckpoint);

    [Fact]
    public void SafeTensorsHeaders() => Fuzzer.Run(3000, SafeTensors, MutateHeader, OpenCheckpoint);

    [Fact]
    public void TorchZipFiles() => Fuzzer.Run(3000, Zips, (mutator, bytes, other) => mutator.Bytes(bytes, other), OpenCheckpoint);

    [Fact]
    public void TorchZipEntriesUnderARightCrc() => Fuzzer.Run(4000, Zips, MutateEntries, OpenCheckpoint);

    [Fact]
    public void TorchZipHeaders() => Fuzzer.Run(3000, Zips, MutateZipHeaders, OpenCheckpoint);

    [Fact]
    public void TorchLegacyFiles() => Fuzzer.Run(4000, Legacies, (mutator, bytes, other) => mutator.Bytes(bytes, other), OpenCheckpoint);

    [Theory]
    [InlineData("checkpoint-zip.pt")]
    [InlineData("checkpoint-half.pt")]
    [InlineData("checkpoint-legacy.pt")]
    [InlineData("checkpoint-expected.safetensors")]
    public void WholeCheckpoints(string name)
    {
        byte[] file = File.ReadAllBytes(Fixtures.Pack(name));
        Fuzzer.Run(150, [file], (mutator, bytes, _) => mutator.Bytes(bytes, bytes), OpenCheckpoint);
    }

    /// <summary>Opens a checkpoint as a whole or by a key; what it returns reads every tensor in three types.</summary>
    private static Action OpenCheckpoint(byte[] bytes)
    {
        Checkpoint checkpoint = Open(bytes);
        return () =>
        {
            foreach (CheckpointTensor tensor in checkpoint.Tensors.Values)
            {
                tensor.ToBytes();
                tensor.ToFloat32();
                if (!tensor.DType.IsFloatingPoint())
                {
                    tensor.ToInt64();
                }
            }
        };
    }

    private static Checkpoint Open(byte[] bytes)
    {
        try
        {
            return Checkpoint.Load(new MemorySource("mutant", bytes));
        }
        catch (InvalidFileException e) when (e.Reason.Contains("--key", StringComparison.Ordinal))
        {
            return Checkpoint.Load(new MemorySource("mutant", bytes), "model");
        }
    }

    // The header's text is edited and its length put right, so that mutants get past the first eight bytes.
    private static byte[] MutateHeader(Mutator mutator, byte[] bytes, byte[] other)
    {
        int length = (int)BitConverter.ToInt64(bytes);
        return SafeTensorsTests.File(mutator.Text(Encoding.UTF8.GetString(bytes, 8, length)), bytes[(8 + length)..]);
    }

    // The content of entries is damaged before it is packed again, so that mutants get past the CRC.
    private static byte[] MutateEntries(Mutator mutator, byte[] bytes, byte[] other)
    {
        ZipBuilder zip = new();
        bool pickleOnly = mutator.Random.Next(3) > 0;
        foreach ((string name, byte[] content) in Entries(bytes))
        {
            bool chosen = pickleOnly ? name.EndsWith(".pkl", StringComparison.Ordinal) : mutator.Random.Next(4) == 0;
            byte[] donor = Entries(other)[0].Content;
            zip.Add(name, chosen ? mutator.Bytes(content, donor) : content, deflate: mutator.Random.Next(4) == 0, descriptor: mutator.Random.Next(2) == 0);
        }

        return zip.Build();
    }

    // Honest content under headers that are not: the same field may lie in one of them, or alike in both.
    private static byte[] MutateZipHeaders(Mutator mutator, byte[] bytes, byte[] other)
    {
        ZipBuilder zip = new();
        (string Name, byte[] Content)[] entries = Entries(bytes);
        int victim = mutator.Random.Next(entries.Length);
        for (int i = 0; i < entries.Length; i++)
        {
            ZipBuilder.Entry entry = zip.Add(entries[i].Name, entries[i].Content, deflate: mutator.Random.Next(2) == 0, descriptor: mutator.Random.Next(2) == 0);
            if (i == victim)
            {
                (int local, int central) = new[] { (6, 8), (8, 10), (14, 16), (18, 20), (22, 24), (26, 28), (28, 30), (30, 46) }[mutator.Random.Next(8)];
                byte value = (byte)mutator.Random.Next(256);
                int which = mutator.Random.Next(5);
                entry.Local = which is 0 or 2 ? header => header[local] = value : null;
                entry.Central = which is 1 or 2 ? header => header[central] = value : null;
                entry.CentralExtra = mutator.Random.Next(3) == 0 ? mutator.Bytes(ZipBuilder.Zip64Extra(entries[i].Content.Length, entry.Data.Length, 0), [1]) : [];
            }
        }

        if (mutator.Random.Next(3) == 0)
        {
            zip.EndRecords = (start, size, count) =>
                [.. mutator.Bytes(ZipBuilder.Zip64End(start, size, count, start + size), [0]), .. ZipBuilder.End(start, size, count)];
        }

        return zip.Build();
    }

    private static (string Name, byte[] Content)[] Entries(byte[] bytes) =>
        [.. ZipContainer.Open(new MemorySource("seed", bytes)).Entries.Values.Select(entry => (entry.Place, entry.ReadAll(1 << 20)))];
}
