using System.Buffers.Binary;

namespace Kernels.Files;

/// <summary>The numbers of PKWARE's APPNOTE 6.3.10 that the reader and the writer share; the sections are named beside them.</summary>
internal static class ZipFormat
{
    public const uint LocalHeader = 0x04034b50; // 4.3.7
    public const uint DataDescriptor = 0x08074b50; // 4.3.9
    public const uint CentralHeader = 0x02014b50; // 4.3.12
    public const uint Zip64End = 0x06064b50; // 4.3.14
    public const uint Zip64Locator = 0x07064b50; // 4.3.15
    public const uint End = 0x06054b50; // 4.3.16

    public const int LocalHeaderBytes = 30;
    public const int CentralHeaderBytes = 46;
    public const int Zip64EndBytes = 56;
    public const int Zip64LocatorBytes = 20;
    public const int EndBytes = 22;

    public const ushort Stored = 0; // 4.4.5
    public const ushort Deflated = 8;

    public const int FlagEncrypted = 1 << 0; // 4.4.4
    public const int FlagDescriptor = 1 << 3;
    public const int FlagPatched = 1 << 5;
    public const int FlagStrongEncryption = 1 << 6;
    public const int FlagUtf8 = 1 << 11;
    public const int FlagMaskedHeaders = 1 << 13;

    public const ushort Zip64Extra = 0x0001; // 4.5.3

    /// <summary>A 32-bit field with this value stands for one in the ZIP64 extra field.</summary>
    public const uint InZip64 = uint.MaxValue;

    public static ushort U16(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[offset..]);

    public static uint U32(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    public static ulong U64(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);
}
