using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using static Kernels.Files.ZipFormat;

namespace Kernels.Files;

/// <summary>
/// Writes a ZIP file to a seekable stream: stored or deflated entries, ZIP64 where 32 bits do not suffice, and the same bytes for
/// the same content on every day (all entries are dated 1980-01-01, the epoch of the format).
/// </summary>
internal sealed class ZipWriter
{
    private const ushort Version20 = 20;
    private const ushort Version45 = 45;
    private const ushort Date1980 = 0x0021;

    // An entry this long gets ZIP64 fields before it is known how far deflate expands it (at most 5 bytes in 16 KiB).
    private const long Zip64From = 0xFF00_0000;

    private readonly Stream _stream;
    private readonly List<Entry> _entries = [];

    public ZipWriter(Stream stream) => _stream = stream;

    /// <summary>Adds one entry.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="length">How many bytes <paramref name="write"/> writes.</param>
    /// <param name="deflate">Whether to compress.</param>
    /// <param name="write">Writes the content.</param>
    public void Add(string name, long length, bool deflate, Action<Stream> write)
    {
        Entry entry = new(Encoding.UTF8.GetBytes(name), deflate ? Deflated : Stored, _stream.Position, length, length >= Zip64From);
        _stream.Write(LocalHeaderOf(entry));
        long data = _stream.Position;
        using (DeflateStream? deflater = deflate ? new(_stream, CompressionLevel.Optimal, leaveOpen: true) : null)
        {
            CrcStream content = new(deflater ?? _stream);
            write(content);
            if (content.Written != length)
            {
                throw new ArgumentException($"entry '{name}' wrote {content.Written} bytes of {length}", nameof(write));
            }

            entry.Crc = content.Crc;
        }

        long end = _stream.Position;
        entry.Compressed = end - data;
        _stream.Position = entry.Offset;
        _stream.Write(LocalHeaderOf(entry));
        _stream.Position = end;
        _entries.Add(entry);
    }

    /// <summary>Writes the directory and the end records.</summary>
    public void Finish()
    {
        long start = _stream.Position;
        foreach (Entry entry in _entries)
        {
            _stream.Write(CentralHeaderOf(entry));
        }

        long end = _stream.Position;
        if (_entries.Count >= ushort.MaxValue || end >= InZip64)
        {
            _stream.Write(Zip64EndOf(start, end));
        }

        byte[] record = new byte[EndBytes];
        Put(record, 0, End);
        ushort count = (ushort)Math.Min(_entries.Count, ushort.MaxValue);
        Put(record, 8, count);
        Put(record, 10, count);
        Put(record, 12, Clamp(end - start));
        Put(record, 16, Clamp(start));
        _stream.Write(record);
    }

    private static byte[] LocalHeaderOf(Entry entry)
    {
        byte[] extra = entry.Zip64 ? Zip64ExtraOf(entry.Length, entry.Compressed) : [];
        byte[] header = new byte[LocalHeaderBytes + entry.Name.Length + extra.Length];
        Put(header, 0, LocalHeader);
        PutCommon(header.AsSpan(4), entry, entry.Zip64, entry.Zip64, entry.Zip64);
        Put(header, 28, (ushort)extra.Length);
        entry.Name.CopyTo(header, LocalHeaderBytes);
        extra.CopyTo(header, LocalHeaderBytes + entry.Name.Length);
        return header;
    }

    private static byte[] CentralHeaderOf(Entry entry)
    {
        // Only the fields that do not fit go to the extra field, in this order (4.5.3).
        long[] wide = [.. new[] { entry.Length, entry.Compressed, entry.Offset }.Where(field => field >= InZip64)];
        byte[] extra = wide.Length > 0 ? Zip64ExtraOf(wide) : [];

        byte[] header = new byte[CentralHeaderBytes + entry.Name.Length + extra.Length];
        Put(header, 0, CentralHeader);
        Put(header, 4, Version45);
        PutCommon(header.AsSpan(6), entry, entry.Zip64 || extra.Length > 0, entry.Length >= InZip64, entry.Compressed >= InZip64);
        Put(header, 30, (ushort)extra.Length);
        Put(header, 42, Clamp(entry.Offset));
        entry.Name.CopyTo(header, CentralHeaderBytes);
        extra.CopyTo(header, CentralHeaderBytes + entry.Name.Length);
        return header;
    }

    // The 24 bytes that both headers share: version, flags, method, time, date, CRC, sizes, length of the name.
    private static void PutCommon(Span<byte> bytes, Entry entry, bool version45, bool wideLength, bool wideCompressed)
    {
        Put(bytes, 0, version45 ? Version45 : Version20);
        Put(bytes, 2, (ushort)FlagUtf8);
        Put(bytes, 4, entry.Method);
        Put(bytes, 8, Date1980);
        Put(bytes, 10, entry.Crc);
        Put(bytes, 14, wideCompressed ? InZip64 : (uint)entry.Compressed);
        Put(bytes, 18, wideLength ? InZip64 : (uint)entry.Length);
        Put(bytes, 22, (ushort)entry.Name.Length);
    }

    private static byte[] Zip64ExtraOf(params ReadOnlySpan<long> fields)
    {
        byte[] extra = new byte[4 + (fields.Length * sizeof(long))];
        Put(extra, 0, Zip64Extra);
        Put(extra, 2, (ushort)(fields.Length * sizeof(long)));
        for (int i = 0; i < fields.Length; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(extra.AsSpan(4 + (i * sizeof(long))), fields[i]);
        }

        return extra;
    }

    private byte[] Zip64EndOf(long start, long end)
    {
        byte[] bytes = new byte[Zip64EndBytes + Zip64LocatorBytes];
        Put(bytes, 0, Zip64End);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(4), Zip64EndBytes - 12);
        Put(bytes, 12, Version45);
        Put(bytes, 14, Version45);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(24), _entries.Count);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(32), _entries.Count);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(40), end - start);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(48), start);
        Put(bytes, Zip64EndBytes, Zip64Locator);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(Zip64EndBytes + 8), end);
        Put(bytes, Zip64EndBytes + 16, 1u);
        return bytes;
    }

    private static uint Clamp(long value) => (uint)Math.Min(value, InZip64);

    private static void Put(Span<byte> bytes, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes[offset..], value);

    private static void Put(Span<byte> bytes, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes[offset..], value);

    private sealed class Entry(byte[] name, ushort method, long offset, long length, bool zip64)
    {
        public byte[] Name { get; } = name;

        public ushort Method { get; } = method;

        public long Offset { get; } = offset;

        public long Length { get; } = length;

        public bool Zip64 { get; } = zip64;

        public long Compressed { get; set; }

        public uint Crc { get; set; }
    }

    private sealed class CrcStream(Stream inner) : Stream
    {
        public uint Crc { get; private set; }

        public long Written { get; private set; }

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            Crc = Crc32.Append(Crc, buffer);
            Written += buffer.Length;
            inner.Write(buffer);
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Flush() => inner.Flush();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
