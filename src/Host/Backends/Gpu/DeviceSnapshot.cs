using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>
/// A snapshot that does not stall the device: the output is copied aside on the device in the order of the runs, and from there to page-locked host memory on a stream of its own,
/// beside the next run.
/// </summary>
internal sealed unsafe class DeviceSnapshot : OutputSnapshot
{
    private readonly Driver _driver;
    private readonly Lock _gate;
    private readonly DriverStream _runs;
    private readonly DriverStream _copies;
    private readonly DriverEvent _isAside;
    private readonly DriverEvent _isOut;
    private readonly DeviceBuffer _aside;
    private readonly ulong _source;
    private nint _host;
    private bool _isTaken;

    /// <summary>Creates the snapshot.</summary>
    /// <param name="driver">The device.</param>
    /// <param name="gate">What keeps the threads of the caller apart.</param>
    /// <param name="runs">The stream of the runs.</param>
    /// <param name="output">The output.</param>
    /// <param name="source">Its address.</param>
    public DeviceSnapshot(Driver driver, Lock gate, DriverStream runs, Tensor output, ulong source)
        : base(output)
    {
        (_driver, _gate, _runs, _source) = (driver, gate, runs, source);
        lock (gate)
        {
            _aside = new DeviceBuffer(driver, output.Bytes, $"snapshots of {output.Name}");
            try
            {
                _host = driver.AllocateHost(output.Bytes);
                _copies = driver.CreateStream();
                _isAside = driver.CreateEvent();
                _isOut = driver.CreateEvent();
            }
            catch
            {
                Free();
                throw;
            }
        }
    }

    public override void Take()
    {
        lock (_gate)
        {
            // The copy before may still be on its way out.
            if (_isTaken)
            {
                _driver.Wait(_runs, _isOut);
            }

            _driver.Copy(_aside.Address, _source, _aside.Bytes, _runs);
            _driver.Record(_isAside, _runs);
            _driver.Wait(_copies, _isAside);
            _driver.CopyToHost(_host, _aside.Address, _aside.Bytes, _copies);
            _driver.Record(_isOut, _copies);
            _isTaken = true;
        }
    }

    protected override void ReadCore(Span<byte> bytes)
    {
        if (!_isTaken)
        {
            throw new InvalidOperationException("nothing has been kept yet");
        }

        lock (_gate)
        {
            _driver.Synchronize(_copies);
        }

        new ReadOnlySpan<byte>((void*)_host, bytes.Length).CopyTo(bytes);
    }

    protected override void Dispose(bool disposing)
    {
        if (!disposing || _host == 0)
        {
            return;
        }

        lock (_gate)
        {
            try
            {
                _driver.Synchronize(_copies);
            }
            catch (DeviceException)
            {
                // Nothing is under way on a device that was lost, and whoever was to hear of it has.
            }

            Free();
        }
    }

    // What of it there is: the constructor may have come no further.
    private void Free()
    {
        _isAside?.Dispose();
        _isOut?.Dispose();
        _copies?.Dispose();
        _aside.Dispose();
        if (_host != 0)
        {
            _driver.FreeHost(_host);
            _host = 0;
        }
    }
}
