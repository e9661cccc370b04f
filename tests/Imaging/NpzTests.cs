using Kernels.Files;
using Kernels.Imaging;
using Kernels.Tests.Checkpoints;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Imaging;

public sealed class NpzTests
{
    [Theory]
    [InlineData("arrays.npz")]
    [InlineData("arrays-compressed.npz")]
    public void ArchivesOfNumPyAreRead(string name)
    {
        using Npz npz = Npz.Open(ImagesTests.Fixture(name));
        Assert.Equal(["u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "b1", "scalar", "empty"], npz.Names);
        Assert.Equal([2, 3, 4], npz.Read("u1").Dims);
        Assert.Equal(Enumerable.Range(0, 24).Select(i => (byte)i), npz.Read("u1").ToBytes());
        Assert.Equal([-128, 127], npz.Read("i1").ToInt64());
        Assert.Equal([-32768, 32767], npz.Read("i2").ToInt64());
        Assert.Equal([int.MinValue, int.MaxValue], npz.Read("i4").ToInt64());
        Assert.Equal([long.MinValue, long.MaxValue, 0], npz.Read("i8").ToInt64());
        Assert.Equal([0.5f, 65504f, float.NegativeInfinity, 5.9604645e-08f], npz.Read("f2").ToFloat32());
        Assert.Equal(DType.F64, npz.Read("f8").DType);
        Assert.Equal([1, 0], npz.Read("b1").ToInt64());
        Assert.Equal([3.25], npz.Read("scalar").ToFloat64());
        Assert.Empty(npz.Read("scalar").Dims);
        Assert.Equal([0, 7], npz.Read("empty").Dims);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WhatIsWrittenIsReadAgainAndTheSameEveryTime(bool compress)
    {
        using TemporaryFolder folder = new();
        byte[] pixels = [.. Enumerable.Range(0, 2 * 16 * 16 * 3).Select(i => (byte)(i / 5))];
        KeyValuePair<string, NpyArray>[] arrays =
        [
            new("arr_0", NpyArray.Of(pixels, 2, 16, 16, 3)),
            new("arr_1", NpyArray.Of([3L, 7L], 2)),
        ];
        Npz.Write(folder["a.npz"], arrays, compress);
        Npz.Write(folder["b.npz"], arrays, compress);
        Assert.Equal(File.ReadAllBytes(folder["a.npz"]), File.ReadAllBytes(folder["b.npz"]));

        using Npz npz = Npz.Open(folder["a.npz"]);
        Assert.Equal(["arr_0", "arr_1"], npz.Names);
        Assert.Equal([2, 16, 16, 3], npz.Read("arr_0").Dims);
        Assert.Equal(pixels, npz.Read("arr_0").ToBytes());
        Assert.Equal([3, 7], npz.Read("arr_1").ToInt64());
        Assert.Equal(compress, new FileInfo(folder["a.npz"]).Length < pixels.Length);
    }

    [Fact]
    public void AnArrayMayComeInPieces()
    {
        using TemporaryFolder folder = new();
        Npz.Write(folder["a.npz"], [new("x", new NpyArray(DType.U8, [5], new byte[] { 1, 2 }, Array.Empty<byte>(), new byte[] { 3, 4, 5 }))]);
        using Npz npz = Npz.Open(folder["a.npz"]);
        Assert.Equal([1, 2, 3, 4, 5], npz.Read("x").ToBytes());
    }

    [Fact]
    public void ArchivesBeyondFourGiBAreWrittenAndRead()
    {
        // One array is longer than 32 bits count, the other lies past them. Zeros need no memory.
        ReadOnlyMemory<byte> zeros = new byte[1 << 24];
        const int Pieces = 257;
        NpyArray large = new(DType.U8, [Pieces, zeros.Length], [.. Enumerable.Repeat(zeros, Pieces)]);
        using SparseFile file = new();
        Npz.Write(file, [new("large", large), new("after", NpyArray.Of([1L, 2L, 3L], 3))], compress: false);

        Assert.True(file.Length > 1L << 32);
        using Npz npz = Npz.Open(file.AsSource());
        Assert.Equal(["large", "after"], npz.Names);
        Assert.Equal([1, 2, 3], npz.Read("after").ToInt64());

        // The first byte is handed out once the CRC of them all is right.
        ZipEntry entry = ZipContainer.Open(file.AsSource()).Entries["large.npy"];
        Assert.Equal(128 + large.Bytes, entry.Length);
        Assert.Equal(0x93, entry.Read(0, 1)[0]);
        Assert.Contains("at most", Assert.Throws<InvalidFileException>(() => npz.Read("large")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ADamagedArrayIsRefused()
    {
        byte[] file = File.ReadAllBytes(ImagesTests.Fixture("arrays.npz"));
        file[file.AsSpan().IndexOf("NUMPY"u8) + 140] ^= 1;
        using Npz npz = Npz.Open(new MemorySource("made.npz", file));
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => npz.Read("u1"));
        Assert.Equal("u1.npy", error.Place);
        Assert.Contains("its CRC is", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnArrayInAnEntryThatLiesIsRefused()
    {
        ZipBuilder zip = new();
        zip.Add("short.npy", [0x93]);
        zip.Add("lies.npy", NpyTests.File("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000,), }", 8), deflate: true);
        zip.Add("readme.txt", [1]);
        using Npz npz = Npz.Open(new MemorySource("made.npz", zip.Build()));
        Assert.Equal(["short", "lies"], npz.Names);
        Assert.Contains("is not a NumPy array", Assert.Throws<InvalidFileException>(() => npz.Read("short")).Message, StringComparison.Ordinal);
        Assert.Contains("does not take", Assert.Throws<InvalidFileException>(() => npz.Read("lies")).Message, StringComparison.Ordinal);
        Assert.Contains("has no array 'arr_0'; there are: short, lies", Assert.Throws<InvalidFileException>(() => npz.Read("arr_0")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OtherFilesAreRefused()
    {
        Assert.Contains("end record is missing", Assert.Throws<InvalidFileException>(() => Npz.Open(ImagesTests.Fixture("rgb.png"))).Message, StringComparison.Ordinal);
        using TemporaryFolder folder = new();
        NpyArray x = NpyArray.Of([1f], 1);
        Assert.Throws<ArgumentException>(() => Npz.Write(folder["a.npz"], [new("x", x), new("x", x)]));
        Assert.Empty(folder.Names);
    }
}
