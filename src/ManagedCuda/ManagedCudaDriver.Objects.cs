using System.Runtime.InteropServices;
using ManagedCuda;
using ManagedCuda.BasicTypes;
using static ManagedCuda.DriverAPINativeMethods;

namespace Kernels.Backends.Gpu;

/// <content>Modules, streams, events and graphs: each owns its handle and gives it back when disposed.</content>
public sealed partial class ManagedCudaDriver
{
    /// <inheritdoc/>
    public override DriverStream CreateStream() => NewStream();

    /// <inheritdoc/>
    public override void Synchronize(DriverStream? stream = null)
    {
        Enter();
        Check(Streams.cuStreamSynchronize(Handle(stream)), "cuStreamSynchronize");
    }

    /// <inheritdoc/>
    public override DriverEvent CreateEvent()
    {
        Enter();
        CUevent handle = default;
        Check(Events.cuEventCreate(ref handle, CUEventFlags.Default), "cuEventCreate");
        return new ManagedEvent(handle);
    }

    /// <inheritdoc/>
    public override void Record(DriverEvent driverEvent, DriverStream? stream = null)
    {
        Enter();
        ManagedEvent target = (ManagedEvent)driverEvent;
        Check(Events.cuEventRecord(target.Handle, Handle(stream)), "cuEventRecord");
        target.IsRecorded = true;
    }

    /// <inheritdoc/>
    public override void Wait(DriverStream stream, DriverEvent driverEvent)
    {
        Enter();
        ManagedEvent target = (ManagedEvent)driverEvent;
        if (!target.IsRecorded)
        {
            throw new DeviceException($"{Name}: the event to wait for was never recorded");
        }

        Check(Streams.cuStreamWaitEvent(Handle(stream), target.Handle, 0), "cuStreamWaitEvent");
    }

    /// <inheritdoc/>
    public override double ElapsedMilliseconds(DriverEvent start, DriverEvent end)
    {
        Enter();
        (ManagedEvent from, ManagedEvent to) = ((ManagedEvent)start, (ManagedEvent)end);
        if (!from.IsRecorded || !to.IsRecorded)
        {
            throw new DeviceException($"{Name}: an event was never recorded");
        }

        Check(Events.cuEventSynchronize(from.Handle), "cuEventSynchronize");
        Check(Events.cuEventSynchronize(to.Handle), "cuEventSynchronize");
        float milliseconds = 0;
        Check(Events.cuEventElapsedTime(ref milliseconds, from.Handle, to.Handle), "cuEventElapsedTime");
        return milliseconds;
    }

    /// <inheritdoc/>
    public override void BeginCapture(DriverStream stream)
    {
        Enter();
        if (stream == _defaultStream || _isCapturing)
        {
            throw new DeviceException($"{Name}: {(_isCapturing ? "a stream is capturing already" : "the default stream cannot capture")}");
        }

        Check(Streams.cuStreamBeginCapture(Handle(stream), CUstreamCaptureMode.Relaxed), "cuStreamBeginCapture");
        _isCapturing = true;
    }

    /// <inheritdoc/>
    public override DriverGraph EndCapture(DriverStream stream)
    {
        Enter();
        GCHandle[] sources = [.. _captured];
        _captured.Clear();
        _isCapturing = false;
        CUgraph graph = default;
        try
        {
            Check(Streams.cuStreamEndCapture(Handle(stream), ref graph), "cuStreamEndCapture");
            SizeT nodes = 0;
            Check(GraphManagment.cuGraphGetNodes(graph, null, ref nodes), "cuGraphGetNodes");
            CUgraphExec executable = default;
            Check(GraphManagment.cuGraphInstantiate(ref executable, graph, CUgraphInstantiate_flags.None), "cuGraphInstantiate");
            return new ManagedGraph(executable, (int)(uint)nodes, sources);
        }
        catch
        {
            Free(sources);
            throw;
        }
        finally
        {
            // The executable graph is complete without it.
            if (graph.Pointer != IntPtr.Zero)
            {
                _ = GraphManagment.cuGraphDestroy(graph);
            }
        }
    }

    /// <inheritdoc/>
    public override void Launch(DriverGraph graph, DriverStream? stream = null)
    {
        Enter();
        Check(GraphManagment.cuGraphLaunch(((ManagedGraph)graph).Handle, Handle(stream)), "cuGraphLaunch");
    }

    private static void Free(GCHandle[] sources)
    {
        foreach (GCHandle source in sources)
        {
            source.Free();
        }
    }

    private ManagedStream NewStream()
    {
        Enter();
        CUstream handle = default;
        Check(Streams.cuStreamCreate(ref handle, CUStreamFlags.NonBlocking), "cuStreamCreate");
        return new ManagedStream(handle);
    }

    private sealed class ManagedModule(ManagedCudaDriver driver, CUmodule module, string name) : DriverModule
    {
        // One object per kernel: what dynamic shared memory it may have is a property of the kernel.
        private readonly Dictionary<string, ManagedFunction> _functions = [];
        private bool _isDisposed;

        public override DriverFunction Function(string entry)
        {
            driver.Enter();
            if (_functions.TryGetValue(entry, out ManagedFunction? known))
            {
                return known;
            }

            CUfunction function = default;
            CUResult result = ModuleManagement.cuModuleGetFunction(ref function, module, entry);
            if (result == CUResult.ErrorNotFound)
            {
                throw new DeviceException($"'{name}' has no kernel '{entry}'");
            }

            driver.Check(result, "cuModuleGetFunction");
            int shared = 0;
            driver.Check(FunctionManagement.cuFuncGetAttribute(ref shared, CUFunctionAttribute.SharedSizeBytes, function), "cuFuncGetAttribute");
            return _functions[entry] = new ManagedFunction(entry, function, shared);
        }

        public override (ulong Address, long Bytes) Variable(string variable)
        {
            driver.Enter();
            CUdeviceptr address = default;
            SizeT bytes = 0;
            CUResult result = ModuleManagement.cuModuleGetGlobal_v2(ref address, ref bytes, module, variable);
            if (result == CUResult.ErrorNotFound)
            {
                throw new DeviceException($"'{name}' has no device variable '{variable}'");
            }

            driver.Check(result, "cuModuleGetGlobal");
            return (address, (long)(ulong)bytes);
        }

        protected override void Dispose(bool disposing)
        {
            if (!_isDisposed)
            {
                _isDisposed = true;
                _ = ModuleManagement.cuModuleUnload(module);
            }
        }
    }

    private sealed class ManagedFunction(string name, CUfunction handle, int staticSharedBytes) : DriverFunction
    {
        // What a kernel may have without asking.
        private const int DefaultSharedBytes = 48 << 10;

        public override string Name => name;

        public override int ArgumentBytes => -1;

        internal CUfunction Handle => handle;

        internal int SharedBytesAllowed { get; set; } = DefaultSharedBytes - staticSharedBytes;
    }

    private sealed class ManagedStream(CUstream handle) : DriverStream
    {
        private bool _isDisposed;

        internal CUstream Handle => handle;

        protected override void Dispose(bool disposing)
        {
            if (!_isDisposed)
            {
                _isDisposed = true;
                _ = Streams.cuStreamDestroy_v2(handle);
            }
        }
    }

    private sealed class ManagedEvent(CUevent handle) : DriverEvent
    {
        private bool _isDisposed;

        internal CUevent Handle => handle;

        internal bool IsRecorded { get; set; }

        protected override void Dispose(bool disposing)
        {
            if (!_isDisposed)
            {
                _isDisposed = true;
                _ = Events.cuEventDestroy_v2(handle);
            }
        }
    }

    private sealed class ManagedGraph(CUgraphExec handle, int nodes, GCHandle[] sources) : DriverGraph
    {
        private bool _isDisposed;

        public override int Nodes => nodes;

        internal CUgraphExec Handle => handle;

        protected override void Dispose(bool disposing)
        {
            if (_isDisposed)
            {
                return;
            }

            _isDisposed = true;

            // A replay under way still reads the sources.
            if (sources.Length > 0)
            {
                _ = ContextManagement.cuCtxSynchronize();
            }

            _ = GraphManagment.cuGraphExecDestroy(handle);
            Free(sources);
        }
    }
}
