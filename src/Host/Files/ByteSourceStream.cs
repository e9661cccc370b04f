namespace Kernels.Files;

/// <summary>A stream over parts of a <see cref="ByteSource"/>, one after the other.</summary>
internal sealed class ByteSourceStream(ByteSource source, IReadOnlyList<(long Offset, long Length)> parts) : ReadOnlyStream
{
    private int _part;
    private long _read;

    public override int Read(Span<byte> buffer)
    {
        while (_part < parts.Count && _read == parts[_part].Length)
        {
            _part++;
            _read = 0;
        }

        if (_part == parts.Count)
        {
            return 0;
        }

        int count = (int)Math.Min(buffer.Length, parts[_part].Length - _read);
        source.Read(parts[_part].Offset + _read, buffer[..count]);
        _read += count;
        return count;
    }
}
