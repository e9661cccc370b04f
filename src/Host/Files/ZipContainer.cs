using static Kernels.Files.ZipFormat;

namespace Kernels.Files;

/// <summary>
/// The table of contents of a ZIP file, read with suspicion: what torch.save and numpy.savez write is accepted (stored or deflated entries,
/// data descriptors, ZIP64), and whatever could make two readers see two different files is refused - central and local headers that
/// disagree, duplicate names, overlapping entries, ZIP64 fields that contradict the rest, bytes that belong to no record at the end.
/// </summary>
/// <remarks>Layout and field names: PKWARE APPNOTE.TXT 6.3.10.</remarks>
internal sealed class ZipContainer
{
    private const int MaxEntries = 1 << 20;

    // Deflate shrinks at most 1032:1. Weights hardly shrink at all, so far less is plenty; the constant lets small arrays of zeros through.
    private const long FreeInflation = 64 << 20;
    private const long MaxInflation = 200;

    private readonly ByteSource _file;
    private readonly OrderedDictionary<string, ZipEntry> _entries = [];

    private ZipContainer(ByteSource file) => _file = file;

    /// <summary>The entries by name, in the order of the central directory.</summary>
    public IReadOnlyDictionary<string, ZipEntry> Entries => _entries;

    /// <summary>Whether the first bytes are those of a ZIP file, empty ones included.</summary>
    public static bool Recognizes(ReadOnlySpan<byte> head) => head.Length >= 4 && U32(head, 0) is LocalHeader or End;

    /// <summary>Reads and checks every header; the contents of entries are checked as they are read.</summary>
    /// <exception cref="InvalidFileException">The container is damaged or contradicts itself.</exception>
    public static ZipContainer Open(ByteSource file)
    {
        ZipContainer container = new(file);
        (long count, long offset, long size) = container.FindDirectory();
        container.ReadDirectory(count, offset, size);
        container.CheckLayout(offset);
        return container;
    }

    private (long Count, long Offset, long Size) FindDirectory()
    {
        int tailBytes = (int)Math.Min(_file.Length, EndBytes + ushort.MaxValue);
        byte[] tail = _file.Read(_file.Length - tailBytes, tailBytes);
        int at = tailBytes - EndBytes;
        while (at >= 0 && !(U32(tail, at) == End && at + EndBytes + U16(tail, at + 20) == tailBytes))
        {
            at--;
        }

        if (at < 0)
        {
            throw _file.Invalid("the ZIP end record is missing: the file is truncated, or has bytes after its end");
        }

        ReadOnlySpan<byte> end = tail.AsSpan(at);
        long endOffset = _file.Length - tailBytes + at;
        long count = U16(end, 10);
        long size = U32(end, 12);
        long offset = U32(end, 16);
        if (U16(end, 4) is not (0 or ushort.MaxValue) || U16(end, 6) is not (0 or ushort.MaxValue) || U16(end, 8) != count)
        {
            throw _file.Invalid(endOffset, "the ZIP end record speaks of several disks; join the parts first");
        }

        long directoryEnd = endOffset;
        if (ReadZip64End(endOffset) is { } zip64)
        {
            if ((count != ushort.MaxValue && count != zip64.Count) || (size != InZip64 && size != zip64.Size)
                || (offset != InZip64 && offset != zip64.Offset))
            {
                throw _file.Invalid(endOffset, "the ZIP end record and the ZIP64 end record contradict each other");
            }

            (count, offset, size, directoryEnd) = zip64;
        }

        if (offset < 0 || size < 0 || offset > directoryEnd || size != directoryEnd - offset)
        {
            throw _file.Invalid(
                endOffset, $"the ZIP directory is said to be {size} bytes at {offset}, which does not end where the end record begins ({directoryEnd})");
        }

        if (count < 0 || count > MaxEntries || count * CentralHeaderBytes > size || size > int.MaxValue)
        {
            throw _file.Invalid(endOffset, $"{count} ZIP entries are claimed in a directory of {size} bytes");
        }

        return (count, offset, size);
    }

    private (long Count, long Offset, long Size, long At)? ReadZip64End(long endOffset)
    {
        if (endOffset < Zip64LocatorBytes)
        {
            return null;
        }

        Span<byte> locator = stackalloc byte[Zip64LocatorBytes];
        long locatorOffset = endOffset - Zip64LocatorBytes;
        _file.Read(locatorOffset, locator);
        if (U32(locator, 0) != Zip64Locator)
        {
            return null;
        }

        Span<byte> record = stackalloc byte[Zip64EndBytes];
        ulong at = U64(locator, 8);
        if (locatorOffset < Zip64EndBytes || at > (ulong)(locatorOffset - Zip64EndBytes) || U32(locator, 4) != 0 || U32(locator, 16) > 1)
        {
            throw _file.Invalid(locatorOffset, $"the ZIP64 locator points to {at}, where no ZIP64 end record fits");
        }

        _file.Read((long)at, record);
        if (U32(record, 0) != Zip64End || U64(record, 4) != (ulong)locatorOffset - at - 12
            || U32(record, 16) != 0 || U32(record, 20) != 0 || U64(record, 24) != U64(record, 32))
        {
            throw _file.Invalid((long)at, "the ZIP64 end record is damaged");
        }

        return ((long)U64(record, 32), (long)U64(record, 48), (long)U64(record, 40), (long)at);
    }

    private void ReadDirectory(long count, long offset, long size)
    {
        byte[] directory = _file.Read(offset, (int)size);
        int at = 0;
        for (long i = 0; i < count; i++)
        {
            if (directory.Length - at < CentralHeaderBytes || U32(directory, at) != CentralHeader)
            {
                throw _file.Invalid(offset + at, $"the ZIP directory is damaged: entry {i} of {count} is not there");
            }

            int bytes = CentralHeaderBytes + U16(directory, at + 28) + U16(directory, at + 30) + U16(directory, at + 32);
            if (bytes > directory.Length - at)
            {
                throw _file.Invalid(offset + at, "the ZIP directory is damaged: an entry runs past its end");
            }

            ZipEntry entry = ZipEntry.Parse(_file, directory.AsSpan(at, bytes), offset + at);
            if (!_entries.TryAdd(entry.Place, entry))
            {
                throw entry.Invalid("is in the ZIP file twice");
            }

            at += bytes;
        }

        if (at != directory.Length)
        {
            throw _file.Invalid(offset + at, $"{directory.Length - at} bytes follow the last of {count} entries of the ZIP directory");
        }
    }

    private void CheckLayout(long directoryOffset)
    {
        long inflated = 0;
        long deflated = 0;
        foreach (ZipEntry entry in _entries.Values)
        {
            entry.Locate(directoryOffset);
            if (entry.Method == Deflated)
            {
                // Clamped, so that lengths near 2^63 cannot wrap around the sum.
                inflated += Math.Min(entry.Length, long.MaxValue / MaxEntries);
                deflated += entry.CompressedLength;
            }
        }

        ZipEntry? previous = null;
        foreach (ZipEntry entry in _entries.Values.OrderBy(e => e.HeaderOffset))
        {
            if (previous is not null && entry.HeaderOffset < previous.End)
            {
                throw entry.Invalid($"overlaps the ZIP entry '{previous.Place}'");
            }

            previous = entry;
        }

        if (inflated - FreeInflation > deflated * MaxInflation)
        {
            throw _file.Invalid($"is a decompression bomb: {deflated} compressed bytes claim to hold {inflated}");
        }
    }
}
