namespace Kernels.Files;

/// <summary>Bytes in memory that are read like a file.</summary>
internal sealed class MemorySource : ByteSource
{
    private readonly ReadOnlyMemory<byte> _bytes;

    public MemorySource(string name, ReadOnlyMemory<byte> bytes)
        : base(name, "", bytes.Length) => _bytes = bytes;

    /// <inheritdoc/>
    protected override void ReadCore(long offset, Span<byte> destination) => _bytes.Span.Slice((int)offset, destination.Length).CopyTo(destination);
}
