namespace Kernels.Files;

/// <summary>A forward, read-only stream over a part of a <see cref="ByteSource"/>, for the decompressors.</summary>
internal sealed class ByteSourceStream : Stream
{
    private readonly ByteSource _source;
    private readonly long _end;
    private long _next;

    public ByteSourceStream(ByteSource source, long offset, long length)
    {
        _source = source;
        _next = offset;
        _end = offset + length;
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(Span<byte> buffer)
    {
        int count = (int)Math.Min(buffer.Length, _end - _next);
        _source.Read(_next, buffer[..count]);
        _next += count;
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
