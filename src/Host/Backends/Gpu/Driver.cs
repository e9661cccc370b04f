namespace Kernels.Backends.Gpu;

/// <summary>Blocks in a grid, threads in a block, and dynamic shared memory of a launch.</summary>
/// <param name="GridX">Blocks along x, at least 1.</param>
/// <param name="GridY">Blocks along y, at least 1.</param>
/// <param name="GridZ">Blocks along z, at least 1.</param>
/// <param name="BlockX">Threads along x, at least 1.</param>
/// <param name="BlockY">Threads along y, at least 1.</param>
/// <param name="BlockZ">Threads along z, at least 1.</param>
/// <param name="SharedBytes">Dynamic shared memory per block in bytes.</param>
public readonly record struct LaunchGeometry(int GridX, int GridY, int GridZ, int BlockX, int BlockY, int BlockZ, int SharedBytes)
{
    /// <summary>A one-dimensional launch.</summary>
    /// <param name="blocks">Blocks in the grid.</param>
    /// <param name="threads">Threads per block.</param>
    /// <param name="sharedBytes">Dynamic shared memory per block in bytes.</param>
    public static LaunchGeometry Linear(int blocks, int threads, int sharedBytes = 0) => new(blocks, 1, 1, threads, 1, 1, sharedBytes);

    /// <summary>Threads in a block.</summary>
    public int ThreadsPerBlock => BlockX * BlockY * BlockZ;

    /// <summary>Blocks in the grid.</summary>
    public long Blocks => (long)GridX * GridY * GridZ;

    /// <inheritdoc/>
    public override string ToString() => $"grid ({GridX},{GridY},{GridZ}), block ({BlockX},{BlockY},{BlockZ}), {SharedBytes} bytes of dynamic shared memory";
}

/// <summary>A loaded module: kernels and device variables. Unloaded when disposed.</summary>
public abstract class DriverModule : IDisposable
{
    /// <summary>A kernel of the module.</summary>
    /// <param name="name">The entry's name as compiled.</param>
    /// <exception cref="DeviceException">There is no such kernel; the message lists those there are.</exception>
    public abstract DriverFunction Function(string name);

    /// <summary>Address and size in bytes of a device variable.</summary>
    /// <param name="name">The variable's name as compiled.</param>
    /// <exception cref="DeviceException">There is no such variable.</exception>
    public abstract (ulong Address, long Bytes) Variable(string name);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Unloads the module.</summary>
    /// <param name="disposing">Whether it is called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>A kernel that can be launched. Lives as long as its module.</summary>
public abstract class DriverFunction
{
    /// <summary>The entry's name.</summary>
    public abstract string Name { get; }

    /// <summary>Bytes of the argument block that the kernel expects; -1 if the driver cannot tell.</summary>
    public abstract int ArgumentBytes { get; }
}

/// <summary>A queue of work that runs in order. Freed when disposed.</summary>
public abstract class DriverStream : IDisposable
{
    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the stream after what it holds has run.</summary>
    /// <param name="disposing">Whether it is called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>A point in a stream that others can wait for and that tells time. Freed when disposed.</summary>
public abstract class DriverEvent : IDisposable
{
    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the event.</summary>
    /// <param name="disposing">Whether it is called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>Captured work that replays as one. Freed when disposed.</summary>
public abstract class DriverGraph : IDisposable
{
    /// <summary>Launches, copies and fills in the graph.</summary>
    public abstract int Nodes { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the graph.</summary>
    /// <param name="disposing">Whether it is called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>
/// The seam between everything above and a device: memory, modules, launches, streams, events, graph capture, and nothing else. Device addresses are plain numbers, so that a
/// memory plan is an addition; a launch takes its arguments as the one block of bytes the kernel reads, so that it allocates nothing.
/// </summary>
/// <remarks>Work given to a stream may run later; errors of it may surface in a later call. A driver is used by one thread at a time.</remarks>
public abstract class Driver : IDisposable
{
    /// <summary>The device's name.</summary>
    public abstract string Name { get; }

    /// <summary>The architecture to compile for, for instance <c>sm_90</c>.</summary>
    public abstract string Architecture { get; }

    /// <summary>Whether it runs machine code; otherwise it is given PTX.</summary>
    public virtual bool RunsMachineCode => true;

    /// <summary>Memory of the device in bytes.</summary>
    public abstract long TotalBytes { get; }

    /// <summary>Memory that can still be allocated, in bytes.</summary>
    public abstract long FreeBytes { get; }

    /// <summary>Multiprocessors, for choosing grids.</summary>
    public abstract int Multiprocessors { get; }

    /// <summary>Dynamic shared memory that one block may have, in bytes.</summary>
    public abstract int MaximumSharedBytes { get; }

    /// <summary>The stream that work goes to where none is named.</summary>
    public abstract DriverStream DefaultStream { get; }

    /// <summary>Allocates device memory, aligned to 256 bytes, with undefined contents.</summary>
    /// <param name="bytes">The size, at least 1.</param>
    /// <param name="label">A name for messages.</param>
    /// <returns>The address.</returns>
    /// <exception cref="DeviceException">There is not enough memory.</exception>
    public abstract ulong Allocate(long bytes, string label = "");

    /// <summary>Frees memory, after the work that uses it.</summary>
    /// <param name="address">What <see cref="Allocate"/> returned.</param>
    /// <exception cref="DeviceException">It is not the address of an allocation.</exception>
    public abstract void Free(ulong address);

    /// <summary>Copies from host to device in stream order; the source may be reused when the call returns.</summary>
    /// <param name="destination">Device address.</param>
    /// <param name="source">Host bytes.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    /// <exception cref="DeviceException">The range is not in one allocation.</exception>
    public abstract void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null);

    /// <summary>Copies from device to host and waits for the data.</summary>
    /// <param name="destination">Host bytes.</param>
    /// <param name="source">Device address.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    /// <exception cref="DeviceException">The range is not in one allocation, or earlier work failed.</exception>
    public abstract void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null);

    /// <summary>Allocates page-locked host memory, to and from which a device copies while it computes.</summary>
    /// <param name="bytes">The size, at least 1.</param>
    /// <returns>Its address in this process.</returns>
    /// <exception cref="DeviceException">There is not enough memory.</exception>
    public abstract nint AllocateHost(long bytes);

    /// <summary>Frees page-locked memory, after the work that uses it.</summary>
    /// <param name="address">What <see cref="AllocateHost"/> returned.</param>
    public abstract void FreeHost(nint address);

    /// <summary>Copies from device to page-locked memory in stream order and returns at once.</summary>
    /// <param name="destination">What <see cref="AllocateHost"/> returned.</param>
    /// <param name="source">Device address.</param>
    /// <param name="bytes">How many bytes.</param>
    /// <param name="stream">The stream.</param>
    /// <exception cref="DeviceException">The range is not in one allocation.</exception>
    public abstract void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream);

    /// <summary>Copies within the device.</summary>
    /// <param name="destination">Device address.</param>
    /// <param name="source">Device address; the ranges do not overlap.</param>
    /// <param name="bytes">How many bytes.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    /// <exception cref="DeviceException">A range is not in one allocation.</exception>
    public abstract void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null);

    /// <summary>Fills device memory with one byte.</summary>
    /// <param name="destination">Device address.</param>
    /// <param name="value">The byte.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    /// <exception cref="DeviceException">The range is not in one allocation.</exception>
    public abstract void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null);

    /// <summary>Loads PTX or machine code.</summary>
    /// <param name="image">The compiled module.</param>
    /// <param name="name">A name for messages.</param>
    /// <exception cref="DeviceException">The device cannot run it.</exception>
    public abstract DriverModule LoadModule(ReadOnlySpan<byte> image, string name);

    /// <summary>Launches a kernel.</summary>
    /// <param name="function">The kernel.</param>
    /// <param name="geometry">Grid, block and dynamic shared memory.</param>
    /// <param name="arguments">The argument block: every parameter at its natural alignment, as <see cref="LaunchArguments"/> lays it out. Copied before the call returns.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    /// <exception cref="DeviceException">The device refuses the launch; the message names kernel and geometry.</exception>
    public abstract void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null);

    /// <summary>Opens the device's library of matrix products.</summary>
    /// <exception cref="DeviceException">There is none.</exception>
    public virtual GemmLibrary OpenGemm() => throw new DeviceException($"{Name}: there is no library of matrix products behind this driver; take --gemm own, which needs none");

    /// <summary>Creates a stream.</summary>
    public abstract DriverStream CreateStream();

    /// <summary>Waits until all work of a stream has run.</summary>
    /// <param name="stream">The stream; the default one if null.</param>
    /// <exception cref="DeviceException">Some of the work failed.</exception>
    public abstract void Synchronize(DriverStream? stream = null);

    /// <summary>Creates an event.</summary>
    public abstract DriverEvent CreateEvent();

    /// <summary>Puts an event after the work now in a stream.</summary>
    /// <param name="driverEvent">The event.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    public abstract void Record(DriverEvent driverEvent, DriverStream? stream = null);

    /// <summary>Makes later work of a stream wait for an event.</summary>
    /// <param name="stream">The stream that waits.</param>
    /// <param name="driverEvent">The event, recorded before.</param>
    public abstract void Wait(DriverStream stream, DriverEvent driverEvent);

    /// <summary>Milliseconds between two recorded events; waits for both.</summary>
    /// <param name="start">The earlier one.</param>
    /// <param name="end">The later one.</param>
    public abstract double ElapsedMilliseconds(DriverEvent start, DriverEvent end);

    /// <summary>Begins to capture: work given to the stream, and to streams that wait for its events, is recorded and does not run.</summary>
    /// <param name="stream">The stream, not the default one.</param>
    /// <exception cref="DeviceException">It is capturing already.</exception>
    public abstract void BeginCapture(DriverStream stream);

    /// <summary>Ends the capture.</summary>
    /// <param name="stream">The stream that capture began on.</param>
    /// <returns>The work, ready to replay.</returns>
    /// <exception cref="DeviceException">The stream is not capturing, or work was captured that cannot be replayed.</exception>
    public abstract DriverGraph EndCapture(DriverStream stream);

    /// <summary>Replays captured work.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="stream">The stream; the default one if null.</param>
    public abstract void Launch(DriverGraph graph, DriverStream? stream = null);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees everything the driver holds.</summary>
    /// <param name="disposing">Whether it is called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}
