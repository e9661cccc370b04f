using System.Runtime.InteropServices;
using System.Text;
using Kernels.Backends.Gpu.Native;

namespace Kernels.Backends.Gpu;

/// <content>Modules, streams, events and graphs: each owns its handle and gives it back when disposed, whatever has become of the device.</content>
public sealed unsafe partial class CudaDriver
{
    // Sources of copies captured so far; the graph takes them over.
    private List<nint> kept = [];
    private bool isCapturing;

    /// <inheritdoc/>
    public override DriverStream CreateStream() => NewStream();

    /// <inheritdoc/>
    public override void Synchronize(DriverStream? stream = null)
    {
        Enter();
        Check(cuda.StreamSynchronize(Handle(stream)), "cuStreamSynchronize");
    }

    /// <inheritdoc/>
    public override DriverEvent CreateEvent()
    {
        Enter();
        nint handle = 0;
        Check(cuda.EventCreate(&handle, 0), "cuEventCreate");
        return new CudaEvent(this, handle);
    }

    /// <inheritdoc/>
    public override void Record(DriverEvent driverEvent, DriverStream? stream = null)
    {
        Enter();
        var target = (CudaEvent)driverEvent;
        Check(cuda.EventRecord(target.Handle, Handle(stream)), "cuEventRecord");
        target.IsRecorded = true;
    }

    /// <inheritdoc/>
    public override void Wait(DriverStream stream, DriverEvent driverEvent)
    {
        Enter();
        var target = (CudaEvent)driverEvent;
        // CUDA takes such a wait for none at all.
        if (!target.IsRecorded)
            throw new DeviceException($"{Name}: the event to wait for was never recorded");
        Check(cuda.StreamWaitEvent(Handle(stream), target.Handle, 0), "cuStreamWaitEvent");
    }

    /// <inheritdoc/>
    public override double ElapsedMilliseconds(DriverEvent start, DriverEvent end)
    {
        Enter();
        var (from, to) = ((CudaEvent)start, (CudaEvent)end);
        if (!from.IsRecorded || !to.IsRecorded)
            throw new DeviceException($"{Name}: an event was never recorded");
        Check(cuda.EventSynchronize(from.Handle), "cuEventSynchronize");
        Check(cuda.EventSynchronize(to.Handle), "cuEventSynchronize");
        float milliseconds = 0;
        Check(cuda.EventElapsedTime(&milliseconds, from.Handle, to.Handle), "cuEventElapsedTime");
        return milliseconds;
    }

    /// <inheritdoc/>
    public override void BeginCapture(DriverStream stream)
    {
        Enter();
        if (stream == defaultStream)
            throw new DeviceException($"{Name}: the default stream cannot capture");
        if (isCapturing)
            throw new DeviceException($"{Name}: a stream is capturing already");
        // Relaxed: a driver is used by one thread at a time and never by the legacy stream, so nothing unsafe can slip in.
        Check(cuda.StreamBeginCapture(Handle(stream), Cu.CaptureModeRelaxed), "cuStreamBeginCapture");
        isCapturing = true;
    }

    /// <inheritdoc/>
    public override DriverGraph EndCapture(DriverStream stream)
    {
        Enter();
        var handle = Handle(stream);
        if (!IsCapturing(handle))
            throw new DeviceException($"{Name}: the stream is not capturing");
        isCapturing = false;
        var owned = kept;
        kept = [];
        nint graph = 0, executable = 0;
        try
        {
            Check(cuda.StreamEndCapture(handle, &graph), "cuStreamEndCapture");
            nuint nodes = 0;
            Check(cuda.GraphGetNodes(graph, null, &nodes), "cuGraphGetNodes");
            Check(cuda.GraphInstantiate(&executable, graph, 0), "cuGraphInstantiate");
            return new CudaGraph(this, executable, (int)nodes, owned);
        }
        catch
        {
            FreeKept(owned);
            throw;
        }
        finally
        {
            // The executable graph is complete without it.
            if (graph != 0)
                _ = cuda.GraphDestroy(graph);
        }
    }

    /// <inheritdoc/>
    public override void Launch(DriverGraph graph, DriverStream? stream = null)
    {
        Enter();
        Check(cuda.GraphLaunch(((CudaGraph)graph).Handle, Handle(stream)), "cuGraphLaunch");
    }

    private CudaStream NewStream()
    {
        Enter();
        nint handle = 0;
        Check(cuda.StreamCreate(&handle, Cu.StreamNonBlocking), "cuStreamCreate");
        return new CudaStream(this, handle);
    }

    private nint Handle(DriverStream? stream) => ((CudaStream?)stream ?? defaultStream).Handle;

    private bool IsCapturing(nint stream)
    {
        if (!isCapturing)
            return false;
        int status = 0;
        Check(cuda.StreamIsCapturing(stream, &status), "cuStreamIsCapturing");
        return status != 0;
    }

    private byte* Keep(ReadOnlySpan<byte> source)
    {
        var copy = (byte*)NativeMemory.Alloc((nuint)source.Length);
        kept.Add((nint)copy);
        source.CopyTo(new Span<byte>(copy, source.Length));
        return copy;
    }

    private static void FreeKept(List<nint> copies)
    {
        foreach (var copy in copies)
            NativeMemory.Free((void*)copy);
        copies.Clear();
    }

    /// <summary>Binds the context for a destruction; false if the driver was disposed first, which frees everything.</summary>
    private bool CanRelease()
    {
        if (isDisposed)
            return false;
        if (!ReferenceEquals(current, this) && cuda.ContextSetCurrent(context) == 0)
            current = this;
        return true;
    }

    /// <summary>Names of the kernels in an image: <c>.entry</c> directives of PTX, text sections of machine code.</summary>
    internal static string[] EntryNames(ReadOnlySpan<byte> image)
    {
        var isBinary = image.StartsWith("\u007fELF"u8);
        var mark = isBinary ? ".text."u8 : ".entry"u8;
        var names = new List<string>();
        while (image.IndexOf(mark) is >= 0 and var at)
        {
            image = image[(at + mark.Length)..];
            var rest = isBinary ? image : image.TrimStart(" \t\r\n"u8);
            var end = isBinary ? rest.IndexOf((byte)0) : rest.IndexOfAny(" \t\r\n("u8);
            var name = end > 0 ? Encoding.UTF8.GetString(rest[..end]) : "";
            if (name.Length > 0 && !names.Contains(name))
                names.Add(name);
        }
        return [.. names];
    }

    private sealed class CudaModule(CudaDriver driver, nint handle, string name, string[] entries) : DriverModule
    {
        // One object per kernel: what dynamic shared memory it may have is a property of the kernel, and whoever asked for less later would take it from who asked for more.
        private readonly Dictionary<string, CudaFunction> functions = [];
        private nint handle = handle;

        /// <inheritdoc/>
        public override DriverFunction Function(string entry)
        {
            driver.Enter();
            if (entry.Length == 0 && entries.Length == 1)
                entry = entries[0];
            if (functions.TryGetValue(entry, out var known))
                return known;
            nint function = 0;
            var bytes = Encoding.UTF8.GetBytes(entry + '\0');
            fixed (byte* text = bytes)
            {
                var result = entry.Length == 0 ? Cu.NotFound : driver.cuda.ModuleGetFunction(&function, handle, text);
                if (result == Cu.NotFound)
                    throw new DeviceException($"'{name}' has no kernel '{entry}'; it has {string.Join(", ", entries)}");
                driver.Check(result, "cuModuleGetFunction");
            }
            int shared = 0;
            driver.Check(driver.cuda.FuncGetAttribute(&shared, Cu.SharedSizeBytes, function), "cuFuncGetAttribute");
            return functions[entry] = new CudaFunction(entry, function, ArgumentBytes(function), shared);
        }

        private int ArgumentBytes(nint function)
        {
            if (driver.cuda.FuncGetParamInfo == null)
                return -1;
            var bytes = 0;
            nuint offset = 0, size = 0;
            // The first index that is out of range ends the list.
            for (nuint i = 0; driver.cuda.FuncGetParamInfo(function, i, &offset, &size) == 0; i++)
                bytes = (int)(offset + size);
            return bytes;
        }

        /// <inheritdoc/>
        public override (ulong Address, long Bytes) Variable(string variable)
        {
            driver.Enter();
            ulong address = 0;
            nuint bytes = 0;
            fixed (byte* text = Encoding.UTF8.GetBytes(variable + '\0'))
            {
                var result = driver.cuda.ModuleGetGlobal(&address, &bytes, handle, text);
                if (result == Cu.NotFound)
                    throw new DeviceException($"'{name}' has no device variable '{variable}'");
                driver.Check(result, "cuModuleGetGlobal");
            }
            return (address, (long)bytes);
        }

        protected override void Dispose(bool disposing)
        {
            if (handle != 0 && driver.CanRelease())
                _ = driver.cuda.ModuleUnload(handle);
            handle = 0;
        }
    }

    private sealed class CudaFunction(string name, nint handle, int argumentBytes, int staticSharedBytes) : DriverFunction
    {
        // What a kernel may have without asking.
        private const int DefaultSharedBytes = 48 << 10;

        internal nint Handle => handle;

        internal int SharedBytesAllowed { get; set; } = DefaultSharedBytes - staticSharedBytes;

        /// <inheritdoc/>
        public override string Name => name;

        /// <inheritdoc/>
        public override int ArgumentBytes => argumentBytes;
    }

    private sealed class CudaStream(CudaDriver driver, nint handle) : DriverStream
    {
        internal nint Handle { get; private set; } = handle;

        protected override void Dispose(bool disposing)
        {
            if (Handle != 0 && driver.CanRelease())
                _ = driver.cuda.StreamDestroy(Handle);
            Handle = 0;
        }
    }

    private sealed class CudaEvent(CudaDriver driver, nint handle) : DriverEvent
    {
        internal nint Handle { get; private set; } = handle;

        internal bool IsRecorded { get; set; }

        protected override void Dispose(bool disposing)
        {
            if (Handle != 0 && driver.CanRelease())
                _ = driver.cuda.EventDestroy(Handle);
            Handle = 0;
        }
    }

    private sealed class CudaGraph(CudaDriver driver, nint handle, int nodes, List<nint> sources) : DriverGraph
    {
        internal nint Handle { get; private set; } = handle;

        /// <inheritdoc/>
        public override int Nodes => nodes;

        protected override void Dispose(bool disposing)
        {
            if (Handle != 0 && driver.CanRelease())
            {
                // A replay under way still reads the sources.
                if (sources.Count > 0)
                    _ = driver.cuda.ContextSynchronize();
                _ = driver.cuda.GraphExecDestroy(Handle);
            }
            Handle = 0;
            FreeKept(sources);
        }
    }
}
