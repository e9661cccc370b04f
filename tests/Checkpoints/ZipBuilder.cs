using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Kernels.Files;

namespace Kernels.Tests.Checkpoints;

/// <summary>
/// Writes ZIP files of its own, honest ones unless told otherwise: every header passes through a hook on its way out.
/// </summary>
internal sealed class ZipBuilder
{
    public const uint LocalSignature = 0x04034b50;
    public const uint CentralSignature = 0x02014b50;
    public const uint EndSignature = 0x06054b50;

    private readonly List<Entry> _entries = [];

    /// <summary>Changes the end record (22 bytes).</summary>
    public Action<byte[]>? EndHook { get; set; }

    /// <summary>Replaces the end record, given the directory's offset and size.</summary>
    public Func<long, long, int, byte[]>? EndRecords { get; set; }

    public Entry Add(string name, byte[] content, bool deflate = false, bool descriptor = false)
    {
        Entry entry = new(name, content, deflate ? Deflate(content) : content) { Method = (ushort)(deflate ? 8 : 0), Flags = (ushort)(descriptor ? 0x808 : 0x800) };
        _entries.Add(entry);
        return entry;
    }

    public byte[] Build()
    {
        using MemoryStream output = new();
        List<byte[]> central = [];
        foreach (Entry entry in _entries)
        {
            long offset = entry.Offset ?? output.Position;
            byte[] name = Encoding.UTF8.GetBytes(entry.Name);
            bool descriptor = (entry.Flags & 8) != 0;
            uint crc = Crc32.Compute(entry.Content);

            byte[] local = new byte[30 + name.Length + entry.LocalExtra.Length];
            Put32(local, 0, LocalSignature);
            Put16(local, 6, entry.Flags);
            Put16(local, 8, entry.Method);
            Put32(local, 14, descriptor ? 0 : crc);
            Put32(local, 18, descriptor ? 0 : (uint)entry.Data.Length);
            Put32(local, 22, descriptor ? 0 : (uint)entry.Content.Length);
            Put16(local, 26, name.Length);
            Put16(local, 28, entry.LocalExtra.Length);
            name.CopyTo(local, 30);
            entry.LocalExtra.CopyTo(local, 30 + name.Length);
            entry.Local?.Invoke(local);
            output.Write(local);
            output.Write(entry.Data);
            if (descriptor)
            {
                byte[] record = new byte[16];
                Put32(record, 0, 0x08074b50);
                Put32(record, 4, crc);
                Put32(record, 8, (uint)entry.Data.Length);
                Put32(record, 12, (uint)entry.Content.Length);
                output.Write(entry.Descriptor?.Invoke(record) ?? record);
            }

            byte[] header = new byte[46 + name.Length + entry.CentralExtra.Length];
            Put32(header, 0, CentralSignature);
            Put16(header, 8, entry.Flags);
            Put16(header, 10, entry.Method);
            Put32(header, 16, crc);
            Put32(header, 20, (uint)entry.Data.Length);
            Put32(header, 24, (uint)entry.Content.Length);
            Put16(header, 28, name.Length);
            Put16(header, 30, entry.CentralExtra.Length);
            Put32(header, 42, (uint)offset);
            name.CopyTo(header, 46);
            entry.CentralExtra.CopyTo(header, 46 + name.Length);
            entry.Central?.Invoke(header);
            central.Add(header);
        }

        long start = output.Position;
        central.ForEach(header => output.Write(header));
        long size = output.Position - start;
        if (EndRecords is not null)
        {
            output.Write(EndRecords(start, size, _entries.Count));
        }
        else
        {
            byte[] end = End(start, size, _entries.Count);
            EndHook?.Invoke(end);
            output.Write(end);
        }

        return output.ToArray();
    }

    /// <summary>An end record.</summary>
    public static byte[] End(long start, long size, int count)
    {
        byte[] end = new byte[22];
        Put32(end, 0, EndSignature);
        Put16(end, 8, count);
        Put16(end, 10, count);
        Put32(end, 12, (uint)size);
        Put32(end, 16, (uint)start);
        return end;
    }

    /// <summary>ZIP64 end record and locator.</summary>
    public static byte[] Zip64End(long start, long size, long count, long at)
    {
        byte[] bytes = new byte[76];
        Put32(bytes, 0, 0x06064b50);
        Put64(bytes, 4, 44);
        Put64(bytes, 24, count);
        Put64(bytes, 32, count);
        Put64(bytes, 40, size);
        Put64(bytes, 48, start);
        Put32(bytes, 56, 0x07064b50);
        Put64(bytes, 64, at);
        Put32(bytes, 72, 1);
        return bytes;
    }

    /// <summary>A ZIP64 extra field.</summary>
    public static byte[] Zip64Extra(params long[] fields)
    {
        byte[] extra = new byte[4 + (8 * fields.Length)];
        Put16(extra, 0, 1);
        Put16(extra, 2, 8 * fields.Length);
        for (int i = 0; i < fields.Length; i++)
        {
            Put64(extra, 4 + (8 * i), fields[i]);
        }

        return extra;
    }

    public static void Put16(byte[] bytes, int at, int value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(at), (ushort)value);

    public static void Put32(byte[] bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);

    public static void Put64(byte[] bytes, int at, long value) => BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(at), value);

    public static byte[] Deflate(byte[] content)
    {
        using MemoryStream output = new();
        using (DeflateStream deflater = new(output, CompressionLevel.Optimal, leaveOpen: true))
        {
            deflater.Write(content);
        }

        return output.ToArray();
    }

    internal sealed class Entry(string name, byte[] content, byte[] data)
    {
        public string Name { get; set; } = name;

        public byte[] Content { get; set; } = content;

        /// <summary>The content as it stands in the file.</summary>
        public byte[] Data { get; set; } = data;

        public ushort Method { get; set; }

        public ushort Flags { get; set; }

        /// <summary>Where the directory says the entry is, if not where it is.</summary>
        public long? Offset { get; set; }

        public byte[] LocalExtra { get; set; } = [];

        public byte[] CentralExtra { get; set; } = [];

        /// <summary>Changes the local header.</summary>
        public Action<byte[]>? Local { get; set; }

        /// <summary>Changes the central header.</summary>
        public Action<byte[]>? Central { get; set; }

        /// <summary>Replaces the data descriptor.</summary>
        public Func<byte[], byte[]>? Descriptor { get; set; }
    }
}
