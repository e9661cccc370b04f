using Kernels.Files;
using Xunit;
using static Kernels.Tests.Checkpoints.ZipBuilder;
using static Kernels.Tests.Checkpoints.ZipContainerTests;

namespace Kernels.Tests.Checkpoints;

/// <summary>ZIP64 in small files, where its fields need not be used but may be; large files are tested with the NPZ writer.</summary>
public sealed class Zip64Tests
{
    private const uint InZip64 = uint.MaxValue;
    private const int Bytes = 3000;

    [Fact]
    public void FieldsAreReadFromTheExtraFieldWhereTheHeaderSaysSo()
    {
        Assert.Equal(Bytes, ReadWith([Bytes, Bytes, 0], [24, 20, 42]));
        Assert.Equal(Bytes, ReadWith([Bytes], [24]));
        Assert.Equal(Bytes, ReadWith([Bytes], [20]));
        Assert.Equal(Bytes, ReadWith([0], [42]));
    }

    [Theory]
    [InlineData(new long[] { }, new[] { 24 })]
    [InlineData(new long[] { Bytes }, new int[] { })]
    [InlineData(new long[] { Bytes, Bytes }, new[] { 24 })]
    [InlineData(new long[] { Bytes }, new[] { 24, 20 })]
    [InlineData(new long[] { -1 }, new[] { 24 })]
    [InlineData(new[] { long.MaxValue }, new[] { 24 })]
    [InlineData(new[] { long.MaxValue }, new[] { 20 })]
    [InlineData(new[] { long.MaxValue }, new[] { 42 })]
    [InlineData(new long[] { -Bytes }, new[] { 42 })]
    [InlineData(new long[] { Bytes + 1 }, new[] { 24 })]
    [InlineData(new long[] { 1 }, new[] { 42 })]
    public void ExtraFieldsThatLieAreRefused(long[] extra, int[] fields) => AssertRefused(() => ReadWith(extra, fields), "");

    [Fact]
    public void TwoExtraFieldsOrATruncatedOneAreRefused()
    {
        Refused(With(e => e.CentralExtra = [.. Zip64Extra(), .. Zip64Extra()]), "ZIP64 field contradicts");
        Refused(With(e => e.CentralExtra = Zip64Extra(1)[..8]), "ZIP64 field contradicts");
    }

    [Fact]
    public void OtherExtraFieldsArePassedOver()
    {
        byte[] padding = [(byte)'F', (byte)'B', 5, 0, 1, 2, 3, 4, 5, 0, 0];
        ZipBuilder zip = With(e =>
        {
            e.LocalExtra = padding;
            e.CentralExtra = padding;
        });
        Assert.Equal(Bytes, Open(zip.Build()).Entries["a"].ReadAll(Bytes).Length);
    }

    [Fact]
    public void LocalHeadersMayUseTheExtraFieldOnTheirOwn()
    {
        // As numpy.savez does it.
        ZipBuilder zip = With(e =>
        {
            e.LocalExtra = Zip64Extra(Bytes, Bytes);
            e.Local = header =>
            {
                Put32(header, 18, InZip64);
                Put32(header, 22, InZip64);
            };
        });
        Assert.Equal(Bytes, Open(zip.Build()).Entries["a"].ReadAll(Bytes).Length);
        Refused(
            With(e =>
            {
                e.LocalExtra = Zip64Extra(Bytes, Bytes + 1);
                e.Local = header =>
                {
                    Put32(header, 18, InZip64);
                    Put32(header, 22, InZip64);
                };
            }),
            "local and its central ZIP header differ");
    }

    [Fact]
    public void TheZip64EndRecordMayRepeatTheOtherOrReplaceIt()
    {
        Assert.Single(Open(WithEnd((start, size, count) => [.. Zip64End(start, size, count, start + size), .. End(start, size, count)])).Entries);
        Assert.Single(Open(WithEnd((start, size, count) => [.. Zip64End(start, size, count, start + size), .. End(InZip64, InZip64, 65535)])).Entries);
    }

    [Theory]
    [InlineData(1, 0, 0, 0, "contradict each other")]
    [InlineData(0, 1, 0, 0, "contradict each other")]
    [InlineData(0, 0, 1, 0, "contradict each other")]
    [InlineData(0, 0, 0, 1, "no ZIP64 end record fits")]
    [InlineData(0, 0, 0, long.MinValue, "no ZIP64 end record fits")]
    [InlineData(0, 0, 0, -1, "is damaged")]
    public void AZip64EndRecordThatContradictsTheOtherIsRefused(long start, long size, long count, long at, string reason) =>
        AssertRefused(
            () => Open(WithEnd((s, z, c) => [.. Zip64End(s + start, z + size, c + count, s + z + at), .. End(s, z, c)])), reason);

    [Theory]
    [InlineData(1, 0, 0, "does not end where")]
    [InlineData(0, -1, 0, "does not end where")]
    [InlineData(long.MaxValue, 0, 0, "does not end where")]
    [InlineData(0, long.MaxValue, 0, "does not end where")]
    [InlineData(0, 0, 1, "entries are claimed")]
    [InlineData(0, 0, long.MaxValue - 1, "entries are claimed")]
    [InlineData(0, 0, long.MinValue, "entries are claimed")]
    public void AZip64EndRecordThatLiesIsRefused(long start, long size, long count, string reason) =>
        AssertRefused(
            () => Open(WithEnd((s, z, c) => [.. Zip64End(s + start, z + size, c + count, s + z), .. End(InZip64, InZip64, 65535)])), reason);

    [Theory]
    [InlineData(4)]
    [InlineData(16)]
    [InlineData(20)]
    [InlineData(24)]
    [InlineData(56 + 4)]
    [InlineData(56 + 16)]
    public void ADamagedZip64EndRecordIsRefused(int field) => AssertRefused(
        () => Open(WithEnd((start, size, count) =>
        {
            byte[] record = Zip64End(start, size, count, start + size);
            record[field] += 2;
            return [.. record, .. End(start, size, count)];
        })),
        "");

    private static byte[] WithEnd(Func<long, long, int, byte[]> records)
    {
        ZipBuilder zip = With(_ => { });
        zip.EndRecords = records;
        return zip.Build();
    }

    private static int ReadWith(long[] extra, int[] fields)
    {
        ZipBuilder zip = With(e =>
        {
            e.CentralExtra = Zip64Extra(extra);
            e.Central = header => Array.ForEach(fields, field => Put32(header, field, InZip64));
        });
        return Open(zip.Build()).Entries["a"].ReadAll(1 << 20).Length;
    }
}
