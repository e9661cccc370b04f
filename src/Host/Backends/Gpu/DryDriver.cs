namespace Kernels.Backends.Gpu;

/// <summary>A device that takes memory and copies and runs nothing.</summary>
internal sealed class DryDriver(string architecture, int multiprocessors, int maximumSharedBytes) : Driver
{
    private const string Nothing = "there is no device behind a dry run";
    private ulong _next = 256;

    public override string Name => "nothing";

    public override string Architecture => architecture;

    public override long TotalBytes => long.MaxValue;

    public override long FreeBytes => long.MaxValue;

    public override int Multiprocessors => multiprocessors;

    public override int MaximumSharedBytes => maximumSharedBytes;

    public override DriverStream DefaultStream => throw new DeviceException(Nothing);

    public override ulong Allocate(long bytes, string label = "")
    {
        ulong address = _next;
        _next += ((ulong)bytes + 255) / 256 * 256;
        return address;
    }

    public override void Free(ulong address)
    {
    }

    public override void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null)
    {
    }

    public override void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null) => throw new DeviceException(Nothing);

    public override nint AllocateHost(long bytes) => throw new DeviceException(Nothing);

    public override void FreeHost(nint address)
    {
    }

    public override void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream) => throw new DeviceException(Nothing);

    public override void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null)
    {
    }

    public override void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null)
    {
    }

    public override DriverModule LoadModule(ReadOnlySpan<byte> image, string name) => throw new DeviceException(Nothing);

    public override void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null) => throw new DeviceException(Nothing);

    public override DriverStream CreateStream() => throw new DeviceException(Nothing);

    public override void Synchronize(DriverStream? stream = null)
    {
    }

    public override DriverEvent CreateEvent() => throw new DeviceException(Nothing);

    public override void Record(DriverEvent driverEvent, DriverStream? stream = null) => throw new DeviceException(Nothing);

    public override void Wait(DriverStream stream, DriverEvent driverEvent) => throw new DeviceException(Nothing);

    public override double ElapsedMilliseconds(DriverEvent start, DriverEvent end) => throw new DeviceException(Nothing);

    public override void BeginCapture(DriverStream stream) => throw new DeviceException(Nothing);

    public override DriverGraph EndCapture(DriverStream stream) => throw new DeviceException(Nothing);

    public override void Launch(DriverGraph graph, DriverStream? stream = null) => throw new DeviceException(Nothing);

    protected override void Dispose(bool disposing)
    {
    }
}
