using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Kernels.Files;
using Kernels.Imaging;
using Kernels.Tests.Checkpoints;
using Kernels.Tests.Imaging;
using Xunit;

namespace Kernels.Tests.Fuzzing;

/// <summary>Damaged pictures and arrays; <see cref="Fuzzer"/> says how to run longer.</summary>
public sealed class ImagingFuzzTests
{
    private static byte[][] Pictures { get; } = [.. new[] { "grey.png", "rgb.png", "rgba.png", "filters.png" }.Select(name => File.ReadAllBytes(ImagesTests.Fixture(name)))];

    private static byte[][] Arrays { get; } = [.. new[] { 1, 2, 3 }.Select(version => File.ReadAllBytes(ImagesTests.Fixture($"version-{version}.npy")))];

    private static byte[][] Archives { get; } = [.. new[] { "arrays.npz", "arrays-compressed.npz" }.Select(name => File.ReadAllBytes(ImagesTests.Fixture(name)))];

    [Fact]
    public void PngChunksUnderARightCrc() => Fuzzer.Run(4000, Pictures, MutateChunks, bytes =>
    {
        Image image = PngDecoder.Decode(new MemorySource("mutant", bytes));
        return () => Assert.Equal(image.Height * image.Width * image.Channels, image.Pixels.Length);
    });

    [Fact]
    public void NpyFiles() => Fuzzer.Run(3000, Arrays, MutateArray, bytes => OpenArray(new MemorySource("mutant", bytes)));

    [Fact]
    public void NpzFiles() => Fuzzer.Run(3000, Archives, MutateArchive, bytes =>
    {
        Npz npz = Npz.Open(new MemorySource("mutant", bytes));
        return () =>
        {
            foreach (string name in npz.Names)
            {
                npz.Read(name).ToFloat64();
            }
        };
    });

    private static Action OpenArray(ByteSource source)
    {
        NpyArray array = NpyFormat.Read(source);
        return () => array.ToFloat32();
    }

    private static byte[] MutateChunks(Mutator mutator, byte[] bytes, byte[] other)
    {
        List<byte> file = [.. bytes[..8]];
        for (int at = 8; at < bytes.Length;)
        {
            int length = BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(at));
            string type = Encoding.Latin1.GetString(bytes, at + 4, 4);
            byte[] content = bytes[(at + 8)..(at + 8 + length)];
            at += length + 12;
            if (mutator.Random.Next(3) == 0)
            {
                // Either the bytes as they are, or the rows inside the compression.
                content = type == "IDAT" && mutator.Random.Next(2) == 0 ? Repack(mutator, content, other) : mutator.Bytes(content, other);
            }

            for (int copies = mutator.Random.Next(20) switch { 0 => 0, 1 => 2, _ => 1 }; copies > 0; copies--)
            {
                Append(file, mutator.Random.Next(20) == 0 ? "tEXt" : type, content);
            }
        }

        return mutator.Random.Next(10) == 0 ? mutator.Bytes([.. file], other) : [.. file];
    }

    private static byte[] Repack(Mutator mutator, byte[] content, byte[] other)
    {
        using MemoryStream rows = new();
        using (ZLibStream inflater = new(new MemoryStream(content), CompressionMode.Decompress))
        {
            try
            {
                inflater.CopyTo(rows);
            }
            catch (InvalidDataException)
            {
                // A part of several: its rows are the other parts' too.
                return mutator.Bytes(content, other);
            }
        }

        using MemoryStream packed = new();
        using (ZLibStream deflater = new(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            deflater.Write(mutator.Bytes(rows.ToArray(), other));
        }

        return packed.ToArray();
    }

    private static void Append(List<byte> file, string type, byte[] content)
    {
        byte[] number = new byte[4];
        byte[] body = [.. Encoding.Latin1.GetBytes(type), .. content];
        BinaryPrimitives.WriteInt32BigEndian(number, content.Length);
        file.AddRange(number);
        file.AddRange(body);
        BinaryPrimitives.WriteUInt32BigEndian(number, Crc32.Compute(body));
        file.AddRange(number);
    }

    private static byte[] MutateArray(Mutator mutator, byte[] bytes, byte[] other)
    {
        if (mutator.Random.Next(3) == 0)
        {
            return mutator.Bytes(bytes, other);
        }

        // The header's text, with its length put right.
        int prefix = bytes[6] == 1 ? 10 : 12;
        string header = mutator.Text(Encoding.UTF8.GetString(bytes, prefix, 128 - prefix));
        byte[] text = Encoding.UTF8.GetBytes(header);
        byte[] length = BitConverter.GetBytes(text.Length)[..(prefix - 8)];
        return [.. bytes[..8], .. length, .. text, .. bytes[128..]];
    }

    private static byte[] MutateArchive(Mutator mutator, byte[] bytes, byte[] other)
    {
        if (mutator.Random.Next(2) == 0)
        {
            return mutator.Bytes(bytes, other);
        }

        ZipBuilder zip = new();
        foreach ((string name, ZipEntry entry) in ZipContainer.Open(new MemorySource("seed", bytes)).Entries)
        {
            byte[] content = entry.ReadAll(1 << 20);
            zip.Add(name, mutator.Random.Next(8) == 0 ? MutateArray(mutator, content, content) : content, deflate: mutator.Random.Next(2) == 0);
        }

        return zip.Build();
    }
}
