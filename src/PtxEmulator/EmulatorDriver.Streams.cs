using System.Diagnostics;
using Kernels.Backends.Gpu;
using Kernels.Emulation.Execution;

namespace Kernels.Emulation;

/// <content>Streams, events and graph capture: order is all there is to them when work runs at once.</content>
public sealed unsafe partial class EmulatorDriver
{
    /// <inheritdoc/>
    public override DriverStream CreateStream() => new EmulatorStream();

    /// <inheritdoc/>
    public override void Synchronize(DriverStream? stream = null)
    {
        if (Capturing(stream) is not null)
            throw new DeviceException($"{Name}: a stream that captures cannot be waited for");
    }

    /// <inheritdoc/>
    public override DriverEvent CreateEvent() => new EmulatorEvent();

    /// <inheritdoc/>
    public override void Record(DriverEvent driverEvent, DriverStream? stream = null)
    {
        var target = (EmulatorEvent)driverEvent;
        target.Graph = Capturing(stream);
        target.Timestamp = Stopwatch.GetTimestamp();
    }

    /// <inheritdoc/>
    public override void Wait(DriverStream stream, DriverEvent driverEvent)
    {
        var target = (EmulatorEvent)driverEvent;
        if (target.Timestamp == 0)
            throw new DeviceException($"{Name}: the event to wait for was never recorded");
        // A stream that waits for captured work joins the capture.
        if (target.Graph is { IsOpen: true } graph)
            ((EmulatorStream)stream).Graph = graph;
    }

    /// <inheritdoc/>
    public override double ElapsedMilliseconds(DriverEvent start, DriverEvent end)
    {
        var (from, to) = ((EmulatorEvent)start, (EmulatorEvent)end);
        if (from.Timestamp == 0 || to.Timestamp == 0)
            throw new DeviceException($"{Name}: an event was never recorded");
        return Stopwatch.GetElapsedTime(from.Timestamp, to.Timestamp).TotalMilliseconds;
    }

    /// <inheritdoc/>
    public override void BeginCapture(DriverStream stream)
    {
        if (stream == defaultStream)
            throw new DeviceException($"{Name}: the default stream cannot capture");
        if (Capturing(stream) is not null)
            throw new DeviceException($"{Name}: the stream is capturing already");
        ((EmulatorStream)stream).Graph = new EmulatorGraph();
    }

    /// <inheritdoc/>
    public override DriverGraph EndCapture(DriverStream stream)
    {
        var graph = Capturing(stream) ?? throw new DeviceException($"{Name}: the stream is not capturing");
        graph.IsOpen = false;
        ((EmulatorStream)stream).Graph = null;
        return graph;
    }

    /// <inheritdoc/>
    public override void Launch(DriverGraph graph, DriverStream? stream = null)
    {
        var captured = (EmulatorGraph)graph;
        if (captured.IsOpen)
            throw new DeviceException($"{Name}: the graph is still being captured");
        captured.Replay();
    }

    private static EmulatorGraph? Capturing(DriverStream? stream) => stream is EmulatorStream { Graph: { IsOpen: true } graph } ? graph : null;

    private static void Do(DriverStream? stream, Action work)
    {
        if (Capturing(stream) is { } captured)
            captured.Add(work);
        else
            work();
    }

    private sealed class EmulatorStream : DriverStream
    {
        internal EmulatorGraph? Graph { get; set; }

        protected override void Dispose(bool disposing)
        {
        }
    }

    private sealed class EmulatorEvent : DriverEvent
    {
        internal long Timestamp { get; set; }

        internal EmulatorGraph? Graph { get; set; }

        protected override void Dispose(bool disposing)
        {
        }
    }

    private sealed class EmulatorGraph : DriverGraph
    {
        private readonly List<Action> work = [];

        internal bool IsOpen { get; set; } = true;

        public override int Nodes => work.Count;

        internal void Add(Action node) => work.Add(node);

        internal void Replay()
        {
            foreach (var node in work)
                node();
        }

        protected override void Dispose(bool disposing) => work.Clear();
    }

    private sealed class EmulatorModule(EmulatorDriver driver, LoadedModule module) : DriverModule
    {
        private bool isUnloaded;

        public override DriverFunction Function(string name) => module.Entries.TryGetValue(name, out var program)
            ? new EmulatorFunction(program)
            : name.Length == 0 && module.Entries.Count == 1 ? new EmulatorFunction(module.Entries.Values.Single())
            : throw new DeviceException($"'{module.Name}' has no kernel '{name}'; it has {string.Join(", ", module.Entries.Keys)}");

        public override (ulong Address, long Bytes) Variable(string name) => module.Variable(name)
            ?? throw new DeviceException($"'{module.Name}' has no device variable '{name}'");

        protected override void Dispose(bool disposing)
        {
            if (!isUnloaded)
                driver.Unload(module);
            isUnloaded = true;
        }
    }

    internal sealed class EmulatorFunction(EntryProgram program) : DriverFunction
    {
        internal EntryProgram Program => program;

        public override string Name => program.Entry.Name;

        public override int ArgumentBytes => program.Entry.ArgumentBytes;
    }
}
