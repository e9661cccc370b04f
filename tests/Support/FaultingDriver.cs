using Kernels.Backends.Gpu;

namespace Kernels.Tests.Support;

/// <summary>What a <see cref="FaultingDriver"/> can let fail.</summary>
[Flags]
internal enum DriverCalls
{
    None = 0,
    Allocate = 1,
    Create = 2,
    Load = 4,
    Copy = 8,
    Launch = 16,
    Capture = 32,
    All = Allocate | Create | Load | Copy | Launch | Capture,
}

/// <summary>A driver that lets one call fail, or all from one on, and counts what is alive.</summary>
/// <param name="inner">The device; disposed with this one.</param>
internal sealed class FaultingDriver(Driver inner) : DriverAround(inner)
{
    private readonly HashSet<ulong> _allocations = [];
    private readonly HashSet<nint> _host = [];
    private DriverCalls _kinds;
    private DeviceFault _fault;
    private long _left = long.MaxValue;
    private bool _isLost;
    private int _objects;

    /// <summary>Calls so far that could have failed, by kind.</summary>
    public Dictionary<DriverCalls, int> Calls { get; } = [];

    /// <summary>Device and host memory, streams, events and graphs that are alive.</summary>
    public (int Device, int Host, int Objects) Alive => (_allocations.Count, _host.Count, _objects);

    /// <summary>Whether a stream is left capturing.</summary>
    public bool IsCapturing { get; private set; }

    /// <summary>Lets a call fail, once; a lost device from there on.</summary>
    /// <param name="kinds">Which calls count.</param>
    /// <param name="call">Which of them, from 1 on.</param>
    /// <param name="fault">What the failure leaves behind.</param>
    public void Fail(DriverCalls kinds, long call, DeviceFault fault = DeviceFault.Failed) => (_kinds, _left, _fault) = (kinds, call, fault);

    /// <summary>Lets nothing fail any more.</summary>
    public void Heal() => (_left, _isLost) = (long.MaxValue, false);

    public override ulong Allocate(long bytes, string label = "")
    {
        Pass(DriverCalls.Allocate, $"{bytes} bytes for '{label}'");
        ulong address = Inner.Allocate(bytes, label);
        _allocations.Add(address);
        return address;
    }

    public override void Free(ulong address)
    {
        _allocations.Remove(address);
        Inner.Free(address);
    }

    public override nint AllocateHost(long bytes)
    {
        Pass(DriverCalls.Allocate, $"{bytes} bytes of host memory");
        nint address = Inner.AllocateHost(bytes);
        _host.Add(address);
        return address;
    }

    public override void FreeHost(nint address)
    {
        _host.Remove(address);
        Inner.FreeHost(address);
    }

    public override void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null)
    {
        Pass(DriverCalls.Copy, $"a copy of {source.Length} bytes");
        Inner.CopyToDevice(destination, source, Of(stream));
    }

    public override void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null)
    {
        Pass(DriverCalls.Copy, $"a copy of {destination.Length} bytes");
        Inner.CopyToHost(destination, source, Of(stream));
    }

    public override void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream)
    {
        Pass(DriverCalls.Copy, $"a copy of {bytes} bytes");
        Inner.CopyToHost(destination, source, bytes, Of(stream)!);
    }

    public override void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null)
    {
        Pass(DriverCalls.Copy, $"a copy of {bytes} bytes");
        Inner.Copy(destination, source, bytes, Of(stream));
    }

    public override void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null) => Inner.Fill(destination, value, bytes, Of(stream));

    public override DriverModule LoadModule(ReadOnlySpan<byte> image, string name)
    {
        Pass(DriverCalls.Load, $"module '{name}'");
        return Inner.LoadModule(image, name);
    }

    public override void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null)
    {
        Pass(DriverCalls.Launch, $"launch of '{function.Name}'");
        Inner.Launch(function, geometry, arguments, Of(stream));
    }

    public override void Launch(DriverGraph graph, DriverStream? stream = null)
    {
        Pass(DriverCalls.Launch, "launch of a graph");
        Inner.Launch(((Graph)graph).Inner, Of(stream));
    }

    public override DriverStream CreateStream()
    {
        Pass(DriverCalls.Create, "a stream");
        return Begin(new Stream(this, Inner.CreateStream()));
    }

    public override void Synchronize(DriverStream? stream = null) => Inner.Synchronize(Of(stream));

    public override DriverEvent CreateEvent()
    {
        Pass(DriverCalls.Create, "an event");
        return Begin(new Event(this, Inner.CreateEvent()));
    }

    public override void Record(DriverEvent driverEvent, DriverStream? stream = null) => Inner.Record(((Event)driverEvent).Inner, Of(stream));

    public override void Wait(DriverStream stream, DriverEvent driverEvent) => Inner.Wait(Of(stream)!, ((Event)driverEvent).Inner);

    public override double ElapsedMilliseconds(DriverEvent start, DriverEvent end) => Inner.ElapsedMilliseconds(((Event)start).Inner, ((Event)end).Inner);

    public override void BeginCapture(DriverStream stream)
    {
        Pass(DriverCalls.Capture, "the capture");
        Inner.BeginCapture(Of(stream)!);
        IsCapturing = true;
    }

    public override DriverGraph EndCapture(DriverStream stream)
    {
        // The capture ends, as with CUDA, whether or not there is a graph of it.
        IsCapturing = false;
        DriverGraph graph = Inner.EndCapture(Of(stream)!);
        try
        {
            Pass(DriverCalls.Capture, "the end of the capture");
        }
        catch
        {
            graph.Dispose();
            throw;
        }

        return Begin(new Graph(this, graph));
    }

    private static DriverStream? Of(DriverStream? stream) => stream is Stream wrapped ? wrapped.Inner : stream;

    private void Pass(DriverCalls kind, string what)
    {
        Calls[kind] = Calls.GetValueOrDefault(kind) + 1;
        if ((_kinds & kind) != 0 && --_left == 0)
        {
            _isLost = _fault == DeviceFault.Lost;
            throw new DeviceException($"{Name}: {what} failed on purpose") { Fault = _fault };
        }

        if (_isLost)
        {
            throw new DeviceException($"{Name}: {what} failed: the device is lost") { Fault = DeviceFault.Lost };
        }
    }

    private T Begin<T>(T wrapped)
    {
        _objects++;
        return wrapped;
    }

    private void End(IDisposable inner)
    {
        _objects--;
        inner.Dispose();
    }

    private sealed class Stream(FaultingDriver driver, DriverStream inner) : DriverStream
    {
        public DriverStream Inner => inner;

        protected override void Dispose(bool disposing) => driver.End(inner);
    }

    private sealed class Event(FaultingDriver driver, DriverEvent inner) : DriverEvent
    {
        public DriverEvent Inner => inner;

        protected override void Dispose(bool disposing) => driver.End(inner);
    }

    private sealed class Graph(FaultingDriver driver, DriverGraph inner) : DriverGraph
    {
        public DriverGraph Inner => inner;

        public override int Nodes => inner.Nodes;

        protected override void Dispose(bool disposing) => driver.End(inner);
    }
}
