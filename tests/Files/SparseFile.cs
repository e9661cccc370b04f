using Kernels.Files;

namespace Kernels.Tests.Files;

/// <summary>A file of any length in memory that stores no long runs of zeros.</summary>
internal sealed class SparseFile : Stream
{
    private const int Page = 4096;

    private readonly Dictionary<long, byte[]> _pages = [];
    private long _length;

    public override bool CanRead => false;

    public override bool CanSeek => true;

    public override bool CanWrite => true;

    public override long Length => _length;

    public override long Position { get; set; }

    public ByteSource AsSource() => new Source(this);

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        _length = Math.Max(_length, Position + buffer.Length);
        if (!buffer.ContainsAnyExcept((byte)0) && buffer.Length >= Page)
        {
            Position += buffer.Length;
            return;
        }

        foreach (byte value in buffer)
        {
            if (!_pages.TryGetValue(Position / Page, out byte[]? page))
            {
                _pages.Add(Position / Page, page = new byte[Page]);
            }

            page[Position % Page] = value;
            Position++;
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    private sealed class Source(SparseFile file) : ByteSource("sparse", "", file.Length)
    {
        protected override void ReadCore(long offset, Span<byte> destination)
        {
            destination.Clear();
            for (long page = offset / Page; page <= (offset + destination.Length - 1) / Page; page++)
            {
                if (file._pages.TryGetValue(page, out byte[]? bytes))
                {
                    long begin = Math.Max(offset, page * Page);
                    long end = Math.Min(offset + destination.Length, (page + 1) * Page);
                    bytes.AsSpan((int)(begin % Page), (int)(end - begin)).CopyTo(destination[(int)(begin - offset)..]);
                }
            }
        }
    }
}
