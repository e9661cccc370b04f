using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>The bytes of a pickle and the encodings of its arguments; no length is believed before as many bytes are there.</summary>
internal sealed class PickleBytes(ByteSource source, byte[] bytes)
{
    // The magic number of the legacy container has 10 bytes, the states of random generators 16.
    private const int MaxIntegerBytes = 128;
    private const int MaxLine = 1024;

    private int _opcodeAt;

    /// <summary>Past the last byte read.</summary>
    public int Position { get; private set; }

    /// <summary>Reads an opcode, to which errors refer until the next.</summary>
    public PickleOpcode Opcode()
    {
        _opcodeAt = Position;
        return (PickleOpcode)Take(1)[0];
    }

    /// <summary>An error at the current opcode.</summary>
    public InvalidFileException Invalid(string reason) => source.Invalid(_opcodeAt, reason);

    public byte U8() => Take(1)[0];

    public ushort U16() => BinaryPrimitives.ReadUInt16LittleEndian(Take(2));

    public uint U32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(4));

    public ulong U64() => BinaryPrimitives.ReadUInt64LittleEndian(Take(8));

    // The one number that pickles hold big-endian.
    public double Float() => BinaryPrimitives.ReadDoubleBigEndian(Take(8));

    /// <summary>Checks that a frame is there; its content follows as if it were none.</summary>
    public void Frame(ulong length)
    {
        int at = Position;
        Take(length);
        Position = at;
    }

    public byte[] Bytes(ulong length) => Take(length).ToArray();

    public string Utf8(ulong length) => Text(Take(length));

    public string Latin1(ulong length) => Encoding.Latin1.GetString(Take(length));

    /// <summary>A line of the text opcodes, without its end.</summary>
    public string Line()
    {
        ReadOnlySpan<byte> rest = bytes.AsSpan(Position, Math.Min(bytes.Length - Position, MaxLine));
        int end = rest.IndexOf((byte)'\n');
        if (end < 0)
        {
            throw Invalid("the pickle has a line without end");
        }

        Position += end + 1;
        return Text(rest[..end]);
    }

    /// <summary>An integer in decimal digits: long, or BigInteger beyond.</summary>
    public object Integer(string digits)
    {
        if (digits.Length > 2 * MaxIntegerBytes || !BigInteger.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out BigInteger value))
        {
            throw Invalid("the pickle has an integer that is none, or too long");
        }

        return Fits(value) ? (long)value : (object)value;
    }

    /// <summary>An integer in two's complement, least byte first: long, or BigInteger beyond.</summary>
    public object Integer(uint length)
    {
        if (length > MaxIntegerBytes)
        {
            throw Invalid($"the pickle has an integer of {length} bytes; at most {MaxIntegerBytes} are read");
        }

        BigInteger value = new(Take(length));
        return Fits(value) ? (long)value : (object)value;
    }

    private static bool Fits(BigInteger value) => value >= long.MinValue && value <= long.MaxValue;

    private string Text(ReadOnlySpan<byte> utf8) => System.Text.Unicode.Utf8.IsValid(utf8)
        ? Encoding.UTF8.GetString(utf8)
        : throw Invalid("the pickle has a string that is not UTF-8");

    private ReadOnlySpan<byte> Take(ulong count)
    {
        int left = bytes.Length - Position;
        if (count > (ulong)left)
        {
            throw Invalid($"the pickle ends inside this value: {count} bytes are claimed and {left} are left");
        }

        ReadOnlySpan<byte> taken = bytes.AsSpan(Position, (int)count);
        Position += (int)count;
        return taken;
    }
}
