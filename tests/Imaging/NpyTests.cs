using System.Runtime.InteropServices;
using System.Text;
using Kernels.Files;
using Kernels.Imaging;
using Kernels.Tests.Checkpoints;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Imaging;

public sealed class NpyTests
{
    private const string Good = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 2), }";

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void EveryVersionOfTheHeaderIsRead(int version)
    {
        using Npz arrays = Npz.Open(ImagesTests.Fixture("arrays.npz"));
        NpyArray array = Npy.Read(ImagesTests.Fixture($"version-{version}.npy"));
        Assert.Equal([3, 1, 2], array.Dims);
        Assert.Equal(arrays.Read("f4").ToBytes(), array.ToBytes());
    }

    [Theory]
    [InlineData("fortran.npy", "is in Fortran order")]
    [InlineData("big-endian.npy", "its elements '>f4' are big-endian")]
    [InlineData("complex.npy", "its elements '<c8' are of a type that is not supported")]
    [InlineData("object.npy", "its elements '|O' are of a type that is not supported")]
    [InlineData("structured.npy", "header is damaged at character")]
    [InlineData("rgb.png", "is not a NumPy array")]
    [InlineData("missing.npy", "there is no such file")]
    public void OtherArraysAreRefused(string name, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Npy.Read(ImagesTests.Fixture(name)));
        Assert.EndsWith(name, error.File, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 2)}")]
    [InlineData("{\"shape\":(3,1,2,),\"descr\":\"<f4\",\"fortran_order\":False}\n")]
    [InlineData("{'descr': '<i4', 'fortran_order': False, 'shape': (6,), }      \n")]
    [InlineData("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }")]
    [InlineData("{'descr': '<u1', 'fortran_order': False, 'shape': (24,), }")]
    [InlineData("{'descr': '>u1', 'fortran_order': False, 'shape': (24,), }")]
    public void HeadersThatPythonWouldReadAreRead(string header) => Assert.Equal(24, Read(File(header, 24)).Bytes);

    [Theory]
    [InlineData("", "damaged at character 0")]
    [InlineData("{", "damaged at character")]
    [InlineData("{}", "lacks descr")]
    [InlineData("{'descr': '<f4', 'fortran_order': False}", "lacks descr, fortran_order or shape")]
    [InlineData("{'descr': '<f4', 'shape': (6,)}", "lacks descr, fortran_order or shape")]
    [InlineData("{'descr': '<f4', 'descr': '<f4'}", "'descr' that is unknown or there twice")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}", "'x' that is unknown")]
    [InlineData("{'descr': '<f4', 'fortran_order': True, 'shape': (6,), }", "Fortran order")]
    [InlineData("{'descr': '<f4', 'fortran_order': 0, 'shape': (6,), }", "Fortran order")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (6), }", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (-6,), }", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': [6,], }", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (,), }", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (6,,), }", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), } x", "damaged")]
    [InlineData("{'descr': '<f4, 'fortran_order': False, 'shape': (6,), }", "its elements '<f4, ' are of a type that is not supported")]
    [InlineData("{'descr': '<f4", "damaged")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }", "does not take")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", "does not take")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "does not take")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", "does not take")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "does not take")]
    [InlineData("{'descr': '<f16', 'fortran_order': False, 'shape': (6,), }", "not supported")]
    [InlineData("{'descr': '', 'fortran_order': False, 'shape': (6,), }", "not supported")]
    [InlineData("{'descr': __import__('os'), 'fortran_order': False, 'shape': (6,), }", "damaged")]
    public void HeadersThatLieOrAreNoneAreRefused(string header, string reason) => Refused(File(header, 24), reason);

    [Fact]
    public void LengthsAndVersionsThatLieAreRefused()
    {
        byte[] file = File(Good, 24);
        Assert.Equal(24, Read(file).Bytes);
        for (int length = 0; length < file.Length; length++)
        {
            Refused(file[..length], "");
        }

        Refused([.. file, 0], "has 25 bytes of elements");
        Refused([.. file[..6], 4, .. file[7..]], "has version 4.0");
        Refused([.. file[..7], 1, .. file[8..]], "has version 1.1");
        Refused([.. file[..8], 0xFF, 0xFF, .. file[10..]], "claims a header of 65535 bytes");
        Refused([.. file[..6], 2, 0, 0xFF, 0xFF, 0xFF, 0xFF, .. file[12..]], "claims a header of 4294967295 bytes");
    }

    [Fact]
    public void AShapeOfTooManyAxesIsRefused() =>
        Refused(File($"{{'descr': '<f4', 'fortran_order': False, 'shape': ({string.Concat(Enumerable.Repeat("1, ", 65))}), }}", 4), "damaged");

    [Fact]
    public void WhatIsWrittenIsReadAgain()
    {
        using TemporaryFolder folder = new();
        foreach (NpyArray array in new[]
        {
            NpyArray.Of([1, 2, 3, 4, 5, 6], 2, 3),
            NpyArray.Of([long.MinValue, long.MaxValue], 2),
            NpyArray.Of([1.5f], []),
            NpyArray.Of([Math.PI, double.NaN], 1, 2, 1),
            new NpyArray(DType.F16, [2], MemoryMarshal.AsBytes<Half>([(Half)1, (Half)0.1]).ToArray()),
            new NpyArray(DType.Bool, [2], new byte[] { 0, 1 }),
            NpyArray.Of(Array.Empty<byte>(), 0, 5),
        })
        {
            Npy.Write(folder["a.npy"], array);
            NpyArray read = Npy.Read(folder["a.npy"]);
            Assert.Equal(array.DType, read.DType);
            Assert.Equal(array.Dims, read.Dims);
            Assert.Equal(array.ToBytes(), read.ToBytes());
            Assert.Equal(0, (new FileInfo(folder["a.npy"]).Length - array.Bytes) % 64);
        }
    }

    [Fact]
    public void ArraysThatCannotBeAreRefused()
    {
        Assert.Throws<ArgumentException>(() => NpyArray.Of(new byte[5], 2, 3));
        Assert.Throws<ArgumentException>(() => NpyArray.Of(Array.Empty<byte>(), -1, 0));
        Assert.Throws<ArgumentException>(() => new NpyArray(DType.BF16, [1], new byte[2]));
        Assert.Throws<InvalidOperationException>(() => NpyArray.Of([1f], 1).ToInt64());
    }

    internal static byte[] File(string header, int elements)
    {
        byte[] text = Encoding.UTF8.GetBytes(header);
        return [0x93, .. "NUMPY"u8, 1, 0, (byte)text.Length, (byte)(text.Length >> 8), .. text, .. new byte[elements]];
    }

    private static NpyArray Read(byte[] file) => NpyFormat.Read(new MemorySource("made.npy", file));

    private static void Refused(byte[] file, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Read(file));
        Assert.Equal("made.npy", error.File);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }
}
