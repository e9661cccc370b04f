using System.Buffers;
using System.IO.Compression;
using System.Text;
using System.Text.Unicode;
using static Kernels.Files.ZipFormat;

namespace Kernels.Files;

/// <summary>One entry of a <see cref="ZipContainer"/>: its bytes uncompressed, handed out only where their CRC is right.</summary>
internal sealed class ZipEntry : ByteSource
{
    private readonly ByteSource _file;
    private readonly int _flags;
    private readonly uint _crc;
    private readonly byte[] _rawName;
    private long _dataOffset = -1;
    private volatile bool _verified;
    private volatile byte[]? _inflated;

    private ZipEntry(ByteSource file, string name, byte[] rawName, int flags, ushort method, uint crc, long compressed, long length, long header)
        : base(file.File, name, length)
    {
        _file = file;
        _rawName = rawName;
        _flags = flags;
        Method = method;
        _crc = crc;
        CompressedLength = compressed;
        HeaderOffset = header;
    }

    /// <summary>0 stored, 8 deflated.</summary>
    public ushort Method { get; }

    /// <summary>Bytes in the file.</summary>
    public long CompressedLength { get; }

    /// <summary>Where the local header is.</summary>
    public long HeaderOffset { get; }

    /// <summary>Where the entry's last byte, its data descriptor included, is past. Known once located.</summary>
    public long End { get; private set; }

    /// <summary>Reads one central header, whose length is already checked.</summary>
    public static ZipEntry Parse(ByteSource file, ReadOnlySpan<byte> header, long at)
    {
        int nameBytes = U16(header, 28);
        ReadOnlySpan<byte> rawName = header.Slice(CentralHeaderBytes, nameBytes);
        int flags = U16(header, 8);
        string name = DecodeName(rawName, (flags & FlagUtf8) != 0) ?? throw file.Invalid(at, "the name of a ZIP entry is not text");

        ulong length = U32(header, 24);
        ulong compressed = U32(header, 20);
        ulong offset = U32(header, 42);
        ReadOnlySpan<byte> zip64 = FindZip64(header.Slice(CentralHeaderBytes + nameBytes, U16(header, 30)), out bool wellFormed);
        if (!wellFormed || !Take(ref length, ref zip64) || !Take(ref compressed, ref zip64) || !Take(ref offset, ref zip64)
            || zip64.Length != 0 || U16(header, 34) != 0)
        {
            throw new InvalidFileException(file.File, name, "its ZIP64 field contradicts its header");
        }

        if (length > long.MaxValue || compressed > (ulong)file.Length || offset > (ulong)file.Length)
        {
            throw new InvalidFileException(file.File, name, $"claims {compressed} bytes at {offset}; the file has {file.Length}");
        }

        ZipEntry entry = new(file, name, rawName.ToArray(), flags, U16(header, 10), U32(header, 16), (long)compressed, (long)length, (long)offset);
        entry.CheckMethod();
        return entry;
    }

    /// <summary>Reads the local header and compares it with the central one.</summary>
    /// <param name="limit">Where the central directory begins: entries lie before it.</param>
    public void Locate(long limit)
    {
        Span<byte> header = stackalloc byte[LocalHeaderBytes];
        if (HeaderOffset > limit - LocalHeaderBytes)
        {
            throw Invalid($"its local header is said to be at {HeaderOffset}, inside or past the ZIP directory");
        }

        _file.Read(HeaderOffset, header);
        int nameBytes = U16(header, 26);
        int extraBytes = U16(header, 28);
        long data = HeaderOffset + LocalHeaderBytes + nameBytes + extraBytes;
        if (U32(header, 0) != LocalHeader || data > limit || CompressedLength > limit - data)
        {
            throw Invalid($"there is no local ZIP header with room for its {CompressedLength} bytes at {HeaderOffset}");
        }

        byte[] tail = _file.Read(HeaderOffset + LocalHeaderBytes, nameBytes + extraBytes);
        if (U16(header, 6) != _flags || U16(header, 8) != Method || !tail.AsSpan(0, nameBytes).SequenceEqual(_rawName)
            || !SizesAgree(header, tail.AsSpan(nameBytes)))
        {
            throw Invalid("its local and its central ZIP header differ");
        }

        _dataOffset = data;
        End = data + CompressedLength + DescriptorBytes(data + CompressedLength, limit);
    }

    /// <inheritdoc/>
    protected override void ReadCore(long offset, Span<byte> destination)
    {
        if (destination.Length == Length)
        {
            ReadWhole(destination);
        }
        else if (Method == Stored)
        {
            // A part of an entry says nothing about its CRC, so the whole passes by once before the first part is handed out.
            Verify();
            _file.Read(_dataOffset + offset, destination);
        }
        else
        {
            byte[] inflated = _inflated ??= ReadAll(Array.MaxLength);
            inflated.AsSpan((int)offset, destination.Length).CopyTo(destination);
        }
    }

    private static string? DecodeName(ReadOnlySpan<byte> name, bool utf8)
    {
        if (name.Contains((byte)0) || (utf8 && !Utf8.IsValid(name)))
        {
            return null;
        }

        // Without the flag the encoding is a code page nobody recorded; any reversible reading serves, names are only compared.
        return Utf8.IsValid(name) ? Encoding.UTF8.GetString(name) : Encoding.Latin1.GetString(name);
    }

    // 4.5: records of a 2-byte tag, a 2-byte length and as many bytes.
    private static ReadOnlySpan<byte> FindZip64(ReadOnlySpan<byte> extra, out bool wellFormed)
    {
        ReadOnlySpan<byte> found = default;
        int seen = 0;
        while (extra.Length >= 4)
        {
            int bytes = U16(extra, 2);
            if (bytes > extra.Length - 4)
            {
                break;
            }

            if (U16(extra, 0) == Zip64Extra)
            {
                found = extra.Slice(4, bytes);
                seen++;
            }

            extra = extra[(4 + bytes)..];
        }

        // Up to three stray bytes are padding that some writers leave.
        wellFormed = extra.Length < 4 && seen <= 1;
        return found;
    }

    private static bool Take(ref ulong field, ref ReadOnlySpan<byte> zip64)
    {
        if (field != InZip64)
        {
            return true;
        }

        if (zip64.Length < sizeof(ulong))
        {
            return false;
        }

        field = U64(zip64, 0);
        zip64 = zip64[sizeof(ulong)..];
        return true;
    }

    private void CheckMethod()
    {
        if ((_flags & (FlagEncrypted | FlagStrongEncryption | FlagMaskedHeaders)) != 0)
        {
            throw Invalid("is encrypted; decrypt the file first");
        }

        if (Method is not (Stored or Deflated) || (_flags & FlagPatched) != 0)
        {
            throw Invalid($"is compressed by method {Method}; only stored (0) and deflated (8) entries are read");
        }

        if (Method == Stored && CompressedLength != Length)
        {
            throw Invalid($"is stored, yet claims {Length} bytes out of {CompressedLength}");
        }

        if (Length == 0 && _crc != 0)
        {
            throw Invalid($"is empty, yet records the CRC {_crc:x8}");
        }
    }

    // With a data descriptor the local header may leave all three at zero; without one it must repeat the central header.
    private bool SizesAgree(ReadOnlySpan<byte> header, ReadOnlySpan<byte> extra)
    {
        ReadOnlySpan<byte> zip64 = FindZip64(extra, out bool wellFormed);
        ulong length = U32(header, 22);
        ulong compressed = U32(header, 18);
        if ((length == InZip64 || compressed == InZip64) && !(wellFormed && Take(ref length, ref zip64) && Take(ref compressed, ref zip64)))
        {
            return false;
        }

        uint crc = U32(header, 14);
        bool repeated = crc == _crc && length == (ulong)Length && compressed == (ulong)CompressedLength;
        bool deferred = (_flags & FlagDescriptor) != 0 && crc is 0 && length is 0 && compressed is 0;
        return repeated || deferred;
    }

    // 4.3.9: CRC and sizes after the data, with or without a signature; sizes of 8 bytes in ZIP64 files - which torch also writes for small
    // entries beyond 4 GiB, so the form is whichever agrees with the directory.
    private int DescriptorBytes(long at, long limit)
    {
        if ((_flags & FlagDescriptor) == 0)
        {
            return 0;
        }

        Span<byte> buffer = stackalloc byte[24];
        ReadOnlySpan<byte> found = buffer[..(int)Math.Min(buffer.Length, limit - at)];
        _file.Read(at, buffer[..found.Length]);
        int signature = found.Length >= 4 && U32(found, 0) == DataDescriptor ? 4 : 0;
        ReadOnlySpan<byte> fields = found[signature..];
        if (fields.Length >= 12 && U32(fields, 0) == _crc)
        {
            if (fields.Length >= 20 && U64(fields, 4) == (ulong)CompressedLength && U64(fields, 12) == (ulong)Length)
            {
                return signature + 20;
            }

            if (U32(fields, 4) == CompressedLength && U32(fields, 8) == Length)
            {
                return signature + 12;
            }
        }

        throw Invalid("its ZIP data descriptor differs from the directory");
    }

    private void ReadWhole(Span<byte> destination)
    {
        if (Method == Stored)
        {
            _file.Read(_dataOffset, destination);
        }
        else
        {
            Inflate(destination);
        }

        Check(Crc32.Compute(destination));
    }

    private void Inflate(Span<byte> destination)
    {
        try
        {
            using ByteSourceStream compressed = new(_file, [(_dataOffset, CompressedLength)]);
            using DeflateStream inflater = new(compressed, CompressionMode.Decompress);
            int read = inflater.ReadAtLeast(destination, destination.Length, throwOnEndOfStream: false);
            if (read < destination.Length)
            {
                throw Invalid($"claims {Length} bytes but inflates to {read}");
            }

            if (inflater.ReadByte() >= 0)
            {
                throw Invalid($"claims {Length} bytes but inflates to more");
            }
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            throw Invalid("its compressed data are damaged", e);
        }
    }

    private void Verify()
    {
        if (_verified)
        {
            return;
        }

        byte[] buffer = ArrayPool<byte>.Shared.Rent((int)Math.Min(Length, 1 << 20));
        uint crc = 0;
        for (long at = 0; at < Length;)
        {
            int count = (int)Math.Min(buffer.Length, Length - at);
            _file.Read(_dataOffset + at, buffer.AsSpan(0, count));
            crc = Crc32.Append(crc, buffer.AsSpan(0, count));
            at += count;
        }

        ArrayPool<byte>.Shared.Return(buffer);
        Check(crc);
    }

    private void Check(uint crc)
    {
        if (crc != _crc)
        {
            throw Invalid($"its CRC is {crc:x8} where {_crc:x8} is recorded: the file is damaged; fetch it again");
        }

        _verified = true;
    }
}
