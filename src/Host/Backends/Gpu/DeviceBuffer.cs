namespace Kernels.Backends.Gpu;

/// <summary>Device memory with one owner.</summary>
internal sealed class DeviceBuffer : IDisposable
{
    private readonly Driver _driver;
    private bool _isDisposed;

    /// <summary>Allocates.</summary>
    /// <param name="driver">The device.</param>
    /// <param name="bytes">The size; nothing is rounded up to one byte.</param>
    /// <param name="label">A name for messages.</param>
    public DeviceBuffer(Driver driver, long bytes, string label)
    {
        _driver = driver;
        Bytes = bytes;
        Address = driver.Allocate(Math.Max(bytes, 1), label);
    }

    public ulong Address { get; }

    public long Bytes { get; }

    public void Dispose()
    {
        if (!_isDisposed)
        {
            _isDisposed = true;
            _driver.Free(Address);
        }
    }
}
