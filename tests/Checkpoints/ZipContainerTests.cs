using Kernels.Files;
using Xunit;
using static Kernels.Tests.Checkpoints.ZipBuilder;

namespace Kernels.Tests.Checkpoints;

public sealed class ZipContainerTests
{
    private static readonly byte[] Content = [.. Enumerable.Range(0, 3000).Select(i => (byte)(i / 7))];

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void EntriesAreReadWholeAndInParts(bool deflate, bool descriptor)
    {
        ZipBuilder zip = new();
        zip.Add("first", Content, deflate, descriptor);
        zip.Add("dir/", []);
        zip.Add("größe", [1, 2, 3], deflate, descriptor);
        ZipContainer container = Open(zip.Build());

        Assert.Equal(["first", "dir/", "größe"], container.Entries.Keys);
        Assert.Equal(Content, container.Entries["first"].ReadAll(Content.Length));
        Assert.Equal(Content[100..2000], container.Entries["first"].Read(100, 1900));
        Assert.Equal([1, 2, 3], container.Entries["größe"].ReadAll(3));
        Assert.Empty(container.Entries["dir/"].ReadAll(0));
    }

    [Fact]
    public void AnEmptyFileHasNoEntries() => Assert.Empty(Open(new ZipBuilder().Build()).Entries);

    [Fact]
    public void ACommentAtTheEndIsPassedOver()
    {
        ZipBuilder zip = With(_ => { });
        zip.EndRecords = (start, size, count) =>
        {
            byte[] end = End(start, size, count);
            Put16(end, 20, 70);
            return [.. end, .. new byte[70]];
        };
        Assert.Single(Open(zip.Build()).Entries);
    }

    [Fact]
    public void ACommentThatHoldsAnotherEndRecordIsRefused()
    {
        ZipBuilder zip = With(_ => { });
        zip.EndRecords = (start, size, count) =>
        {
            byte[] end = End(start, size, count);
            Put16(end, 20, 22);
            return [.. end, .. End(0, 0, 0)];
        };
        Refused(zip, "does not end where the end record begins");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AWrongCrcIsRefused(bool deflate)
    {
        ZipBuilder zip = new();
        Entry(zip, deflate, descriptor: false, e =>
        {
            e.Local = header => header[14]++;
            e.Central = header => header[16]++;
        });
        ZipContainer container = Open(zip.Build());
        AssertRefused(() => container.Entries["a"].ReadAll(Content.Length), "its CRC is");
        AssertRefused(() => container.Entries["a"].Read(1, 1), "its CRC is");
    }

    [Fact]
    public void EveryDamagedByteOfAnEntryIsNoticed()
    {
        byte[] file = With(_ => { }).Build();
        for (int at = 31; at < 31 + Content.Length; at += 97)
        {
            byte[] damaged = [.. file];
            damaged[at] ^= 4;
            AssertRefused(() => Open(damaged).Entries["a"].ReadAll(Content.Length), "its CRC is");
        }
    }

    [Theory]
    [InlineData(1 << 0, "is encrypted")]
    [InlineData(1 << 6, "is encrypted")]
    [InlineData(1 << 13, "is encrypted")]
    [InlineData(1 << 5, "is compressed by method 0")]
    public void EncryptedAndPatchedEntriesAreRefused(int flag, string reason) => Refused(With(e => e.Flags |= (ushort)flag), reason);

    [Theory]
    [InlineData(1)]
    [InlineData(9)]
    [InlineData(12)]
    [InlineData(14)]
    [InlineData(93)]
    [InlineData(99)]
    public void OtherCompressionMethodsAreRefused(int method) => Refused(With(e => e.Method = (ushort)method), $"is compressed by method {method}");

    [Fact]
    public void DuplicateNamesAreRefused()
    {
        ZipBuilder zip = With(_ => { });
        zip.Add("a", [1]);
        Refused(zip, "a: is in the ZIP file twice");
    }

    [Theory]
    [InlineData(6, "flags")]
    [InlineData(8, "method")]
    [InlineData(14, "CRC")]
    [InlineData(18, "compressed size")]
    [InlineData(22, "size")]
    [InlineData(30, "name")]
    public void LocalAndCentralHeadersThatDifferAreRefused(int field, string what)
    {
        Assert.NotEmpty(what);
        Refused(With(e => e.Local = header => header[field]++), "local and its central ZIP header differ");
    }

    [Fact]
    public void AZeroCrcInTheLocalHeaderNeedsADataDescriptor() =>
        Refused(With(e => e.Local = header => Put32(header, 14, 0)), "local and its central ZIP header differ");

    [Fact]
    public void ALocalHeaderThatIsNotThereIsRefused()
    {
        Refused(With(e => e.Local = header => header[0] = 0), "there is no local ZIP header");
        Refused(With(e => e.Local = header => Put16(header, 28, 60000)), "there is no local ZIP header");
        Refused(With(e => e.Central = header => Put32(header, 42, 3010)), "inside or past the ZIP directory");
        Refused(With(e => e.Central = header => Put32(header, 42, 0x7FFFFFFF)), "claims 3000 bytes at 2147483647");
        Refused(With(e => e.Central = header => Put32(header, 20, 0x7FFFFFFF)), "claims 2147483647 bytes");
    }

    [Theory]
    [InlineData(4)]
    [InlineData(8)]
    [InlineData(12)]
    public void ADataDescriptorThatDiffersIsRefused(int field)
    {
        ZipBuilder zip = new();
        Entry(zip, deflate: true, descriptor: true, e => e.Descriptor = record => [.. record[..field], (byte)(record[field] + 1), .. record[(field + 1)..]]);
        Refused(zip, "data descriptor differs");
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void ADataDescriptorMayBeWideAndMayHaveASignature(bool wide, bool signature)
    {
        ZipBuilder zip = new();
        Entry(zip, deflate: true, descriptor: true, e => e.Descriptor = record =>
        [
            .. record[(signature ? 0 : 4)..8],
            .. record[8..12], .. wide ? new byte[4] : [],
            .. record[12..], .. wide ? new byte[4] : [],
        ]);
        zip.Add("b", [5]);
        Assert.Equal(Content, Open(zip.Build()).Entries["a"].ReadAll(Content.Length));
    }

    [Fact]
    public void OverlappingEntriesAreRefused()
    {
        // The whole of the second entry hides in the data of the first.
        ZipBuilder inner = new();
        inner.Add("b", [1, 2, 3]);
        ZipBuilder zip = new();
        zip.Add("a", inner.Build()[..34]);
        ZipBuilder.Entry second = zip.Add("b", [1, 2, 3]);
        second.Offset = 31;
        Refused(zip, "b: overlaps the ZIP entry 'a'");
    }

    [Theory]
    [InlineData(2999, "inflates to more")]
    [InlineData(3001, "but inflates to 3000")]
    [InlineData(0, "is empty, yet records the CRC")]
    public void ASizeThatInflationDoesNotConfirmIsRefused(int claimed, string reason)
    {
        ZipBuilder zip = new();
        Entry(zip, deflate: true, descriptor: false, e =>
        {
            e.Local = header => Put32(header, 22, (uint)claimed);
            e.Central = header => Put32(header, 24, (uint)claimed);
        });
        AssertRefused(() => Open(zip.Build()).Entries["a"].ReadAll(1 << 20), reason);
    }

    [Fact]
    public void AStoredEntryOfTwoSizesIsRefused() => Refused(
        With(e =>
        {
            e.Local = header => Put32(header, 22, 4000);
            e.Central = header => Put32(header, 24, 4000);
        }),
        "is stored, yet claims 4000 bytes out of 3000");

    [Fact]
    public void BombsAreRefusedBeforeAnythingIsInflated()
    {
        byte[] honest = Claim(Deflate(new byte[80 << 20]), 80 << 20).Build();
        long before = GC.GetAllocatedBytesForCurrentThread();
        AssertRefused(() => Open(honest), "is a decompression bomb");
        AssertRefused(() => Open(Claim([3, 0], uint.MaxValue - 1).Build()), "is a decompression bomb");
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 20);
    }

    [Fact]
    public void ManySmallBombsCountTogether()
    {
        byte[] content = new byte[1 << 20];
        byte[] deflated = Deflate(content);
        ZipBuilder zip = new();
        for (int i = 0; i < 80; i++)
        {
            ZipBuilder.Entry entry = zip.Add($"{i}", content);
            entry.Data = deflated;
            entry.Method = 8;
        }

        Refused(zip, "is a decompression bomb");
    }

    [Fact]
    public void DamagedDeflateDataAreRefused()
    {
        ZipBuilder zip = new();
        Entry(zip, deflate: true, descriptor: false, e => e.Data = [0xFF, .. e.Data[1..]]);
        AssertRefused(() => Open(zip.Build()).Entries["a"].ReadAll(Content.Length), "compressed data are damaged");
    }

    [Fact]
    public void ATruncatedFileIsRefused()
    {
        byte[] file = With(_ => { }).Build();
        for (int length = 4; length < file.Length; length += length > file.Length - 80 ? 1 : 53)
        {
            AssertRefused(() => Open(file[..length]), "");
        }
    }

    [Theory]
    [InlineData(4, 1, "several disks")]
    [InlineData(6, 1, "several disks")]
    [InlineData(8, 2, "several disks")]
    [InlineData(12, 0, "does not end where the end record begins")]
    [InlineData(16, 0, "does not end where the end record begins")]
    [InlineData(20, 9, "end record is missing")]
    public void AnEndRecordThatLiesIsRefused(int field, int value, string reason)
    {
        ZipBuilder zip = With(_ => { });
        zip.EndHook = end => Put16(end, field, value);
        Refused(zip, reason);
    }

    [Theory]
    [InlineData(0, "1 entries")]
    [InlineData(2, "2 ZIP entries are claimed")]
    [InlineData(65535, "65535 ZIP entries are claimed")]
    public void ACountThatLiesIsRefused(int count, string reason)
    {
        ZipBuilder zip = With(_ => { });
        zip.EndHook = end =>
        {
            Put16(end, 8, count);
            Put16(end, 10, count);
        };
        Refused(zip, count == 0 ? "follow the last of 0 entries" : reason);
    }

    [Fact]
    public void BytesAfterTheEndAreRefused() => AssertRefused(() => Open([.. With(_ => { }).Build(), 0]), "end record is missing");

    [Fact]
    public void NamesThatAreNotTextAreRefused()
    {
        Refused(With(e => e.Name = "a\0b"), "not text");
        Refused(With(e => e.Central = header => header[46] = 0xFF), "not text");
    }

    internal static ZipBuilder With(Action<ZipBuilder.Entry> change)
    {
        ZipBuilder zip = new();
        Entry(zip, deflate: false, descriptor: false, change);
        return zip;
    }

    internal static ZipContainer Open(byte[] file) => ZipContainer.Open(new MemorySource("made.zip", file));

    internal static void Refused(ZipBuilder zip, string reason) => AssertRefused(() => Open(zip.Build()), reason);

    internal static void AssertRefused(Action action, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(action);
        Assert.Equal("made.zip", error.File);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    private static ZipBuilder Claim(byte[] deflated, uint length)
    {
        ZipBuilder zip = new();
        ZipBuilder.Entry entry = zip.Add("a", []);
        entry.Data = deflated;
        entry.Method = 8;
        entry.Local = header => PutSizes(header, 14, length);
        entry.Central = header => PutSizes(header, 16, length);
        return zip;
    }

    private static void PutSizes(byte[] header, int at, uint length)
    {
        Put32(header, at, 1);
        Put32(header, at + 8, length);
    }

    private static void Entry(ZipBuilder zip, bool deflate, bool descriptor, Action<ZipBuilder.Entry> change) => change(zip.Add("a", Content, deflate, descriptor));
}
