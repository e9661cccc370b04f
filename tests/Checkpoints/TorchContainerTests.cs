using Kernels.Checkpoints;
using Xunit;
using static Kernels.Tests.Checkpoints.TorchBuilder;

namespace Kernels.Tests.Checkpoints;

/// <summary>Files of torch.save with honest pickles in dishonest containers, and tensors that do not fit their storages.</summary>
public sealed class TorchContainerTests
{
    private static readonly byte[] Four = Dict("x", p => p.Tensor("0", 4));

    [Fact]
    public void BothContainersAreRead()
    {
        using Checkpoint zip = Open(Zip(Four, ("0", FourFloats)));
        using Checkpoint legacy = Open(Legacy(Four, ("0", 4, FourFloats)));
        Assert.Equal([1, 2, 3, 4], zip.Tensors["x"].ToFloat32());
        Assert.Equal([1, 2, 3, 4], legacy.Tensors["x"].ToFloat32());
        Assert.Equal(16, legacy.Tensors["x"].Bytes);
    }

    [Fact]
    public void DeflatedRecordsAreRead()
    {
        ZipBuilder zip = new();
        zip.Add("made/data.pkl", Dict("x", p => p.Tensor("0", "FloatStorage", 4, 1, [2], [2])), deflate: true);
        zip.Add("made/data/0", FourFloats, deflate: true);
        using Checkpoint checkpoint = Open(zip);
        Assert.Equal([2, 4], checkpoint.Tensors["x"].ToFloat32());
    }

    [Fact]
    public void ARecordWithAWrongCrcIsRefused()
    {
        ZipBuilder zip = Zip(Four, ("0", FourFloats));
        byte[] file = zip.Build();
        file[file.AsSpan().IndexOf(FourFloats) + 3] ^= 1;
        InvalidFileException error = Refused(file, "its CRC is");
        Assert.Equal("made/data/0", error.Place);
    }

    [Theory]
    [InlineData(0, new long[] { 5 }, new long[] { 1 })]
    [InlineData(1, new long[] { 4 }, new long[] { 1 })]
    [InlineData(4, new long[] { 1 }, new long[] { 1 })]
    [InlineData(0, new long[] { 2 }, new long[] { 4 })]
    [InlineData(0, new long[] { 2, 2 }, new long[] { 2, 2 })]
    [InlineData(-1, new long[] { 1 }, new long[] { 1 })]
    [InlineData(long.MaxValue, new long[] { 1 }, new long[] { 1 })]
    [InlineData(1, new long[] { 2 }, new[] { long.MaxValue })]
    [InlineData(0, new long[] { 3, 3 }, new[] { long.MaxValue, long.MaxValue })]
    [InlineData(5, new long[] { 0 }, new long[] { 1 })]
    public void ATensorThatReachesPastItsStorageIsRefused(long offset, long[] sizes, long[] strides)
    {
        byte[] pickle = Dict("x", p => p.Tensor("0", "FloatStorage", 4, offset, sizes, strides));
        Refused(Zip(pickle, ("0", FourFloats)), "reaches past the 4 elements of storage '0'");
        Refused(Legacy(pickle, ("0", 4, FourFloats)), "reaches past the 4 elements of storage '0'");
    }

    [Theory]
    [InlineData(new long[] { 2 }, new long[] { -1 }, "a stride of -1")]
    [InlineData(new long[] { -2 }, new long[] { 1 }, "a size of -2")]
    [InlineData(new[] { long.MinValue }, new long[] { 1 }, "a size of -9223372036854775808")]
    [InlineData(new long[] { 2, 2 }, new long[] { 1 }, "2 sizes and 1 strides")]
    [InlineData(new[] { long.MaxValue, long.MaxValue }, new long[] { 0, 0 }, "is larger than")]
    [InlineData(new long[] { 4194304, 2 }, new long[] { 0, 1 }, "save a contiguous copy")]
    public void SizesAndStridesThatCannotBeAreRefused(long[] sizes, long[] strides, string reason) =>
        Refused(Zip(Dict("x", p => p.Tensor("0", "FloatStorage", 4, 0, sizes, strides)), ("0", FourFloats)), reason);

    [Fact]
    public void ATensorOfTooManyAxesIsRefused()
    {
        long[] ones = [.. Enumerable.Repeat(1L, 65)];
        Refused(Zip(Dict("x", p => p.Tensor("0", "FloatStorage", 4, 0, ones, ones)), ("0", FourFloats)), "65 sizes");
    }

    [Fact]
    public void StoragesSharedTooOftenAreRefused()
    {
        // A thousand times 64 KiB out of one storage is fine for one, but not what any file does.
        byte[] storage = new byte[1 << 20];
        PickleBuilder pickle = PickleBuilder.New.Raw("}");
        for (int i = 0; i < 400; i++)
        {
            pickle.Text($"{i}").Tensor("0", 1 << 18).Raw("s");
        }

        Refused(Zip(pickle.Stop(), ("0", storage)), "share storages so often");
    }

    [Theory]
    [InlineData(12)]
    [InlineData(20)]
    [InlineData(0)]
    public void ARecordOfAnotherSizeThanItsStorageIsRefused(int bytes) =>
        Refused(Zip(Four, ("0", new byte[bytes])), $"has {bytes} bytes where 4 elements of F32 take 16");

    [Fact]
    public void AMissingRecordIsRefused() => Refused(Zip(Four, ("1", FourFloats)), "the record 'made/data/0' of a storage is missing");

    [Fact]
    public void AStorageOfTwoDescriptionsIsRefused()
    {
        byte[] pickle = PickleBuilder.New.Raw("}").Text("x").Tensor("0", 4).Raw("s").Text("y").Tensor("0", "IntStorage", 4, 0, [4], [1]).Raw("s").Stop();
        Refused(Zip(pickle, ("0", FourFloats)), "storage '0' is described twice");
        Refused(Legacy(pickle, ("0", 4, FourFloats)), "storage '0' is described twice");
    }

    [Theory]
    [InlineData("ComplexFloatStorage")]
    [InlineData("QInt8Storage")]
    public void StoragesOfOtherTypesAreRefused(string type) =>
        Refused(Zip(Dict("x", p => p.Tensor("0", type, 2, 0, [2], [1])), ("0", FourFloats)), $"'torch.{type}'");

    [Theory]
    [InlineData(-1)]
    [InlineData(long.MaxValue)]
    public void AStorageThatClaimsTheImpossibleIsRefused(long elements) =>
        Refused(Zip(Dict("x", p => p.Tensor("0", "FloatStorage", elements, 0, [4], [1])), ("0", FourFloats)), $"claims {elements} elements");

    [Fact]
    public void ASecondPickleIsRefused()
    {
        Refused(Zip([.. Four, .. Four], ("0", FourFloats)), $"{Four.Length} bytes follow the pickle");
        byte[] legacy = Legacy(Four, ("0", 4, FourFloats));
        Refused([.. legacy, .. legacy], $"{legacy.Length} bytes follow the last storage");
        Refused([.. LegacyHead(littleEndian: true), .. Four, .. Four], "keys of the storages are missing");
    }

    [Fact]
    public void SeveralPicklesInAContainerAreRefused()
    {
        ZipBuilder zip = Zip(Four, ("0", FourFloats));
        zip.Add("other/data.pkl", Four);
        Refused(zip, "holds 2 pickles");
    }

    [Fact]
    public void AZipFileWithoutAPickleIsRefused()
    {
        ZipBuilder zip = new();
        zip.Add("word/document.xml", [1]);
        Refused(zip, "a ZIP file without a data.pkl");
    }

    [Fact]
    public void BigEndianFilesAreRefused()
    {
        ZipBuilder zip = Zip(Four, ("0", FourFloats));
        zip.Add("made/byteorder", "big"u8.ToArray());
        Refused(zip, "big-endian machine");
        Refused([.. LegacyHead(littleEndian: false), .. Four], "big-endian machine");

        zip = Zip(Four, ("0", FourFloats));
        zip.Add("made/byteorder", "little"u8.ToArray());
        ReadAll(zip.Build());
        zip = Zip(Four, ("0", FourFloats));
        zip.Add("made/byteorder", "middle"u8.ToArray());
        Refused(zip, "neither 'little' nor 'big'");
    }

    [Theory]
    [InlineData("11")]
    [InlineData("0")]
    [InlineData("x")]
    [InlineData("")]
    public void AnUnknownVersionIsRefused(string version)
    {
        ZipBuilder zip = new();
        zip.Add("made/data.pkl", Four);
        zip.Add("made/data/0", FourFloats);
        zip.Add("made/version", Latin1(version));
        Refused(zip, "not a known version of the format");
    }

    [Fact]
    public void ALegacyFileIsReadUpToItsLastByteAndNoFurther()
    {
        byte[] file = Legacy(Four, ("0", 4, FourFloats));
        for (int length = 1; length < file.Length; length++)
        {
            Refused(file[..length], "");
        }
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(-1)]
    [InlineData(long.MaxValue)]
    public void ALegacyStorageOfAnotherCountIsRefused(long elements) =>
        Refused(Legacy(Four, ("0", elements, FourFloats)), $"has {elements} elements where its tensors expect 4");

    [Fact]
    public void ALegacyFileWithMissingExtraOrRepeatedStoragesIsRefused()
    {
        Refused(Legacy(Four), "storage '0' is missing");
        Refused(Legacy(Four, ("0", 4, FourFloats), ("1", 4, FourFloats)), "storage '1' is listed twice, or belongs to no tensor");
        Refused(Legacy(Four, ("0", 4, FourFloats), ("0", 4, FourFloats)), "storage '0' is listed twice");
        Refused(Legacy(Four, ("0", 4, FourFloats[..8])), "the file is truncated");
    }

    [Fact]
    public void LegacyViewsAreReadWhereTheyLie()
    {
        byte[] pickle = PickleBuilder.New.Raw("}").Text("x").BeginTensor().StorageView("0", "FloatStorage", 4, "v", 1, 3).EndTensor(1, [2], [1]).Raw("s")
            .Text("y").BeginTensor().StorageView("0", "FloatStorage", 4, "v", 1, 3).EndTensor(0, [2], [2]).Raw("s").Stop();
        using Checkpoint checkpoint = Open(Legacy(pickle, ("0", 4, FourFloats)));
        Assert.Equal([3, 4], checkpoint.Tensors["x"].ToFloat32());
        Assert.Equal([2, 4], checkpoint.Tensors["y"].ToFloat32());
        Refused(Zip(pickle, ("0", FourFloats)), "is a view, which this container does not have");
    }

    [Theory]
    [InlineData(2, 3)]
    [InlineData(-1, 1)]
    [InlineData(0, -1)]
    [InlineData(long.MaxValue, 1)]
    [InlineData(0, long.MaxValue)]
    public void ALegacyViewOutsideItsStorageIsRefused(long offset, long elements) => Refused(
        Legacy(Dict("x", p => p.BeginTensor().StorageView("0", "FloatStorage", 4, "v", offset, elements).EndTensor(0, [1], [1])), ("0", 4, FourFloats)),
        "a view does not lie inside");

    [Fact]
    public void APickleOfAnotherProgramIsRefused()
    {
        Refused(PickleBuilder.New.Raw("}").Stop(), "a pickle, but not one that torch.save wrote");
        Refused([.. LegacyHead(littleEndian: true)[..15], .. PickleBuilder.New.Int(1002).Stop()], "unknown protocol version");
    }

    [Fact]
    public void NegatedViewsAreRefused()
    {
        byte[] pickle = Dict("x", p => p.BeginTensor().Storage("0", "FloatStorage", 4).Int(0).Tuple(4).Tuple(1).Raw("\u0089NN").Raw("0").Raw("}").Text("neg").Raw("\u0088stR"));
        Refused(Zip(pickle, ("0", FourFloats)), "lazily negated");
    }

    [Fact]
    public void OldTensorsAndParametersAreRead()
    {
        byte[] pickle = PickleBuilder.New.Raw("}").Text("old").Global("torch._utils", "_rebuild_tensor").Raw("(").Storage("0", "FloatStorage", 4).Int(1).Tuple(3).Tuple(1)
            .Raw("tRs").Text("parameter").Global("torch._utils", "_rebuild_parameter").Raw("(").Tensor("0", 4).Raw("\u0088").Global("collections", "OrderedDict").Raw(")RtRs").Stop();
        using Checkpoint checkpoint = Open(Zip(pickle, ("0", FourFloats)));
        Assert.Equal([2, 3, 4], checkpoint.Tensors["old"].ToFloat32());
        Assert.Equal([1, 2, 3, 4], checkpoint.Tensors["parameter"].ToFloat32());
    }

    [Theory]
    [InlineData("version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull")]
    [InlineData("<!DOCTYPE html><html>", "is a web page")]
    [InlineData("\u001f\u008b\b", "compressed with gzip")]
    [InlineData("\u0093NUMPY\u0001\0", "is a NumPy array")]
    [InlineData("ustar and others", "begins with 7573746172206")]
    public void FilesOfOtherKindsAreNamed(string content, string reason) => Refused(Latin1(content), reason);

    [Fact]
    public void AMissingFileAndADirectoryAreNamed()
    {
        Assert.Contains("there is no such file", Assert.Throws<InvalidFileException>(() => Checkpoint.Load("/no/such/file.pt")).Message, StringComparison.Ordinal);
        Assert.Contains("is a directory", Assert.Throws<InvalidFileException>(() => Checkpoint.Load(Path.GetTempPath())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void StateDictsAreFoundAndChosen()
    {
        byte[] Nested(string inner) => PickleBuilder.New.Raw("}").Text("epoch").Int(3).Raw("s").Text("net.work").Raw("}").Text(inner).Tensor("0", 4).Raw("ss").Stop();

        // The only one is taken; a key may contain dots.
        using Checkpoint only = Open(Zip(Nested("w"), ("0", FourFloats)));
        Assert.Equal(["w"], only.Tensors.Keys);
        using Checkpoint named = Open(Zip(Nested("w"), ("0", FourFloats)), "net.work");
        Assert.Equal(["w"], named.Tensors.Keys);
        Refused(Zip(Nested("w"), ("0", FourFloats)), "there are: 'net.work'", "net");

        // One at the top beside a nested one.
        byte[] both = PickleBuilder.New.Raw("}").Text("a").Tensor("0", 4).Raw("s").Text("ema").Raw("}").Text("b").Tensor("0", 4).Raw("ss").Stop();
        Refused(Zip(both, ("0", FourFloats)), "several state dicts; choose one with --key: '', 'ema' ('' is the top level)");
        using Checkpoint top = Open(Zip(both, ("0", FourFloats)), "");
        Assert.Equal(["a"], top.Tensors.Keys);

        Refused(Zip(PickleBuilder.New.Raw("}").Text("epoch").Int(3).Raw("s").Stop()), "holds no state dict");
        Refused(Zip(PickleBuilder.New.Raw("]").Stop()), "holds a list of 0, not a state dict");
    }

    [Fact]
    public void ADictThatContainsItselfIsSearchedOnce()
    {
        byte[] pickle = PickleBuilder.New.Raw("}q\u0001").Text("self").Raw("h\u0001s").Text("x").Tensor("0", 4).Raw("s").Stop();
        using Checkpoint checkpoint = Open(Zip(pickle, ("0", FourFloats)));
        Assert.Equal(["x"], checkpoint.Tensors.Keys);
    }
}
