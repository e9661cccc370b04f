namespace Kernels.Files;

/// <summary>
/// Random access to the bytes of a file, or of a part of one. Nothing is read before it is asked for, so a file of gigabytes opens
/// at the cost of its header, and what is asked for is read straight into the caller's memory.
/// Safe for concurrent reads. Every failure is an <see cref="InvalidFileException"/> that names the file and the place.
/// </summary>
internal abstract class ByteSource : IDisposable
{
    /// <param name="file">The path, for messages.</param>
    /// <param name="place">The part of the file, for messages; empty for the whole.</param>
    /// <param name="length">Number of bytes.</param>
    protected ByteSource(string file, string place, long length)
    {
        File = file;
        Place = place;
        Length = length;
    }

    /// <summary>The path of the file, for messages.</summary>
    public string File { get; }

    /// <summary>The part of the file, for messages; empty for the whole.</summary>
    public string Place { get; }

    /// <summary>Number of bytes.</summary>
    public long Length { get; }

    /// <summary>Fills <paramref name="destination"/> with the bytes from <paramref name="offset"/> on.</summary>
    public void Read(long offset, Span<byte> destination)
    {
        if (offset < 0 || offset > Length || destination.Length > Length - offset)
        {
            throw Invalid(offset, $"ends here: {destination.Length} bytes are needed and {Math.Max(0, Length - offset)} are left");
        }

        if (destination.Length > 0)
        {
            ReadCore(offset, destination);
        }
    }

    /// <summary>Reads <paramref name="count"/> bytes into a new array; their presence is checked before it is allocated.</summary>
    public byte[] Read(long offset, int count)
    {
        if (offset < 0 || offset > Length || count > Length - offset)
        {
            throw Invalid(offset, $"ends here: {count} bytes are needed and {Math.Max(0, Length - offset)} are left");
        }

        byte[] bytes = GC.AllocateUninitializedArray<byte>(count);
        Read(offset, bytes);
        return bytes;
    }

    /// <summary>Reads everything, if it is no more than <paramref name="limit"/> bytes.</summary>
    public byte[] ReadAll(int limit) => Length <= limit
        ? Read(0, (int)Length)
        : throw Invalid($"has {Length} bytes where at most {limit} are expected");

    /// <summary>A view of a part that lies inside.</summary>
    public ByteSource Slice(long offset, long length, string place) => new SliceSource(this, offset, length, place);

    /// <summary>An error about this part of the file.</summary>
    public InvalidFileException Invalid(string reason, Exception? cause = null) => new(File, Place, reason, cause);

    /// <summary>An error at an offset of this part of the file.</summary>
    public InvalidFileException Invalid(long offset, string reason, Exception? cause = null) =>
        new(File, Place.Length == 0 ? $"offset {offset}" : $"{Place} at offset {offset}", reason, cause);

    /// <inheritdoc/>
    public virtual void Dispose()
    {
    }

    /// <summary>Fills a destination that is not empty from an offset that leaves enough bytes.</summary>
    protected abstract void ReadCore(long offset, Span<byte> destination);

    private sealed class SliceSource : ByteSource
    {
        private readonly ByteSource _whole;
        private readonly long _start;

        public SliceSource(ByteSource whole, long start, long length, string place)
            : base(whole.File, place, length)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(start);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(start, whole.Length);
            ArgumentOutOfRangeException.ThrowIfNegative(length);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(length, whole.Length - start);
            _whole = whole;
            _start = start;
        }

        protected override void ReadCore(long offset, Span<byte> destination) => _whole.Read(_start + offset, destination);
    }
}
