using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;

namespace Kernels.Tests.Support;

/// <summary>
/// A driver that finds what nothing orders: a copy, a fill or a read by the host of memory that a kernel, or a copy of another stream, may still be using. The emulator runs every call at
/// once, and so does not mind; a device runs streams beside each other.
/// </summary>
/// <remarks>
/// Every stream, and the host, has a vector clock; events and waits join them. A kernel may read and write whatever allocation its arguments point into; kernels are not held against each
/// other, as what they touch of an arena is the planner's business.
/// </remarks>
/// <param name="inner">The device; disposed with this one.</param>
internal sealed class OrderedDriver(Driver inner) : DriverAround(inner)
{
    private readonly SortedList<ulong, Allocation> _allocations = [];
    private readonly Dictionary<DriverStream, int> _streams = [];
    private readonly List<Clock> _clocks = [];
    private readonly Dictionary<DriverEvent, Clock> _events = [];
    private readonly Dictionary<DriverGraph, HashSet<Allocation>> _graphs = [];
    private readonly Clock _host = [];
    private HashSet<Allocation>? _captured;

    public override ulong Allocate(long bytes, string label = "")
    {
        ulong address = Inner.Allocate(bytes, label);
        _allocations[address] = new Allocation(address, (ulong)bytes, label);
        return address;
    }

    public override void Free(ulong address)
    {
        _allocations.Remove(address);
        Inner.Free(address);
    }

    public override nint AllocateHost(long bytes) => Inner.AllocateHost(bytes);

    public override void FreeHost(nint address) => Inner.FreeHost(address);

    public override void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null)
    {
        Touch(stream, destination, source.Length, writes: true, "a copy from the host");
        Inner.CopyToDevice(destination, source, stream);
    }

    public override void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null)
    {
        _host.Join(Touch(stream, source, destination.Length, writes: false, "a read by the host"));
        Inner.CopyToHost(destination, source, stream);
    }

    public override void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream)
    {
        Touch(stream, source, bytes, writes: false, "a copy to the host");
        Inner.CopyToHost(destination, source, bytes, stream);
    }

    public override void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null)
    {
        Touch(stream, source, bytes, writes: false, "a copy from it");
        Touch(stream, destination, bytes, writes: true, "a copy to it");
        Inner.Copy(destination, source, bytes, stream);
    }

    public override void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null)
    {
        Touch(stream, destination, bytes, writes: true, "a fill");
        Inner.Fill(destination, value, bytes, stream);
    }

    public override DriverModule LoadModule(ReadOnlySpan<byte> image, string name) => Inner.LoadModule(image, name);

    public override void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null)
    {
        HashSet<Allocation> used = [];
        foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(arguments[..(arguments.Length / sizeof(ulong) * sizeof(ulong))]))
        {
            if (Find(word) is Allocation allocation)
            {
                used.Add(allocation);
            }
        }

        if (_captured is not null)
        {
            _captured.UnionWith(used);
        }
        else
        {
            Run(used, stream, function.Name);
        }

        Inner.Launch(function, geometry, arguments, stream);
    }

    public override void Launch(DriverGraph graph, DriverStream? stream = null)
    {
        Run(_graphs[graph], stream, "a graph");
        Inner.Launch(graph, stream);
    }

    public override GemmLibrary OpenGemm() => Inner.OpenGemm();

    public override DriverStream CreateStream() => Inner.CreateStream();

    public override void Synchronize(DriverStream? stream = null)
    {
        _host.Join(Next(stream).Clock);
        Inner.Synchronize(stream);
    }

    public override DriverEvent CreateEvent() => Inner.CreateEvent();

    public override void Record(DriverEvent driverEvent, DriverStream? stream = null)
    {
        if (_captured is null)
        {
            _events[driverEvent] = [.. Next(stream).Clock];
        }

        Inner.Record(driverEvent, stream);
    }

    public override void Wait(DriverStream stream, DriverEvent driverEvent)
    {
        if (_captured is null)
        {
            Next(stream).Clock.Join(_events.GetValueOrDefault(driverEvent) ?? []);
        }

        Inner.Wait(stream, driverEvent);
    }

    public override double ElapsedMilliseconds(DriverEvent start, DriverEvent end)
    {
        _host.Join(_events[start]);
        _host.Join(_events[end]);
        return Inner.ElapsedMilliseconds(start, end);
    }

    public override void BeginCapture(DriverStream stream)
    {
        Inner.BeginCapture(stream);
        _captured = [];
    }

    public override DriverGraph EndCapture(DriverStream stream)
    {
        HashSet<Allocation> captured = _captured ?? [];
        _captured = null;
        DriverGraph graph = Inner.EndCapture(stream);
        _graphs[graph] = captured;
        return graph;
    }

    // The stream's clock at a new piece of its work, which the host hands over after all that it has seen.
    private (int Stream, Clock Clock) Next(DriverStream? stream)
    {
        DriverStream key = stream ?? DefaultStream;
        if (!_streams.TryGetValue(key, out int index))
        {
            _streams.Add(key, index = _streams.Count);
            _clocks.Add([]);
        }

        Clock clock = _clocks[index];
        clock.Join(_host);
        clock[index]++;
        return (index, clock);
    }

    private void Run(IEnumerable<Allocation> used, DriverStream? stream, string name)
    {
        (int index, Clock clock) = Next(stream);
        foreach (Allocation allocation in used)
        {
            allocation.Use(new Access(0, allocation.Bytes, true, true, index, name), clock);
        }
    }

    private Clock Touch(DriverStream? stream, ulong address, long bytes, bool writes, string what)
    {
        (int index, Clock clock) = Next(stream);
        if (bytes > 0 && Find(address) is Allocation allocation)
        {
            ulong begin = address - allocation.Address;
            allocation.Use(new Access(begin, begin + (ulong)bytes, writes, false, index, what), clock);
        }

        return clock;
    }

    private Allocation? Find(ulong address)
    {
        int low = 0, high = _allocations.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = _allocations.Keys[middle] <= address ? (middle + 1, high) : (low, middle);
        }

        return low > 0 && _allocations.Values[low - 1] is Allocation found && address - found.Address < found.Bytes ? found : null;
    }

    private readonly record struct Access(ulong Begin, ulong End, bool Writes, bool IsKernel, int Stream, string What);

    private sealed class Allocation(ulong address, ulong bytes, string label)
    {
        // The latest of each kind: what it is ordered behind, its predecessors are.
        private readonly Dictionary<Access, int> _latest = [];

        public ulong Address => address;

        public ulong Bytes => bytes;

        public void Use(Access access, Clock clock)
        {
            foreach ((Access other, int time) in _latest)
            {
                bool conflict = other.Begin < access.End && access.Begin < other.End && (other.Writes || access.Writes) && !(other.IsKernel && access.IsKernel);
                if (conflict && clock[other.Stream] < time)
                {
                    throw new InvalidOperationException($"'{label}': nothing orders {access.What}, bytes {access.Begin} to {access.End}, behind {other.What}, bytes {other.Begin} to {other.End}, of another stream");
                }
            }

            _latest[access] = clock[access.Stream];
        }
    }

    /// <summary>Work that is known to be done, by stream.</summary>
    private sealed class Clock : List<int>
    {
        public new int this[int stream]
        {
            get => stream < Count ? base[stream] : 0;
            set
            {
                while (Count <= stream)
                {
                    Add(0);
                }

                base[stream] = value;
            }
        }

        public void Join(Clock other)
        {
            for (int i = 0; i < other.Count; i++)
            {
                this[i] = Math.Max(this[i], other[i]);
            }
        }
    }
}
