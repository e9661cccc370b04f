using Kernels.Passes;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>A plan bound to an arena on the device: kernels with their argument blocks, launched one by one or replayed as one graph.</summary>
internal sealed class GpuExecutor : Executor
{
    private readonly GpuBackend _backend;
    private readonly Driver _driver;
    private readonly GpuOptions _options;
    private readonly Lock _gate;
    private readonly DeviceWeights _deviceWeights;
    private readonly Weights _weights;
    private readonly DriverStream _stream;
    private readonly DeviceBuffer _arena;
    private readonly GpuLowering _lowering;
    // Null for products of the library.
    private readonly DriverFunction?[] _functions;
    private readonly GemmLibrary? _gemm;
    private readonly byte[][] _arguments;

    // _ends[i]: the kernels of launches 0 to i.
    private readonly int[] _ends;
    private readonly DriverEvent _start;
    private readonly DriverEvent _end;
    private readonly List<DriverEvent> _between = [];
    private readonly GpuDebugger? _debugger;
    private DriverGraph? _graph;
    private bool _isDisposed;

    public GpuExecutor(GpuBackend backend, KernelLibrary library, DeviceWeights deviceWeights, Plan plan, Weights weights)
    {
        Plan = plan;
        _backend = backend;
        _driver = backend.Driver;
        _options = backend.Options;
        _gate = backend.Gate;
        (_deviceWeights, _weights) = (deviceWeights, weights);
        _arena = new DeviceBuffer(_driver, plan.Memory.ArenaBytes, "the arena");
        _lowering = new GpuLowering(_driver, plan, _arena.Address, deviceWeights, weights, _options);
        deviceWeights.Acquire(weights);
        try
        {
            _ends = new int[plan.Launches.Count];
            foreach (Launch launch in plan.Launches)
            {
                _lowering.Lower(launch.Node);
                _ends[launch.Index] = _lowering.Calls.Count;
            }

            library.Load(_lowering.Calls.Where(c => c.Gemm is null).Select(c => c.Kernel));
            _functions = [.. _lowering.Calls.Select(c => c.Gemm is null ? library.Function(c.Kernel) : null)];
            _gemm = _lowering.Calls.Any(c => c.Gemm is not null) ? _driver.OpenGemm() : null;
            _arguments = [.. _lowering.Calls.Select(c => c.Arguments.ToArray())];
            _stream = _driver.CreateStream();
            _start = _driver.CreateEvent();
            _end = _driver.CreateEvent();
            _debugger = _options.DebugLevel > 0 ? new GpuDebugger(this, _driver, _options) : null;
        }
        catch
        {
            _start?.Dispose();
            _end?.Dispose();
            _stream?.Dispose();
            _lowering.Dispose();
            _arena.Dispose();
            deviceWeights.Release(weights);
            throw;
        }
    }

    public override Plan Plan { get; }

    /// <summary>The kernels in order.</summary>
    public IReadOnlyList<KernelCall> Calls => _lowering.Calls;

    /// <summary>The arena, for tests that poison it.</summary>
    internal DeviceBuffer Arena => _arena;

    public override OutputSnapshot CreateSnapshot(string output)
    {
        Tensor tensor = Plan.Graph.Output(output);
        return new DeviceSnapshot(_driver, _gate, _stream, tensor, Address(tensor));
    }

    public override void Run(CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        lock (_gate)
        {
            if (_debugger is not null && _options.DebugLevel > 1)
            {
                _debugger.Run(cancellationToken);
            }
            else if (_options.Capture)
            {
                _driver.Launch(_graph ??= Capture(), _stream);
            }
            else
            {
                for (int i = 0; i < _functions.Length; i++)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    LaunchCall(i);
                }
            }
        }
    }

    /// <summary>Launches one kernel.</summary>
    /// <param name="call">Its position in <see cref="Calls"/>.</param>
    /// <param name="stream">The stream; the executor's own if null.</param>
    internal void LaunchCall(int call, DriverStream? stream = null)
    {
        using NvtxRange range = Nvtx.Push(_lowering.Calls[call].Node.Name);
        if (_functions[call] is DriverFunction function)
        {
            _driver.Launch(function, _lowering.Calls[call].Geometry, _arguments[call], stream ?? _stream);
        }
        else
        {
            _gemm!.Multiply(_lowering.Calls[call].Gemm!.Value, stream is null ? 0 : 1, stream ?? _stream);
        }
    }

    /// <summary>Waits for everything launched.</summary>
    internal void Synchronize() => _driver.Synchronize(_stream);

    /// <summary>Address of a tensor in the arena.</summary>
    /// <param name="tensor">The tensor.</param>
    internal ulong Address(Tensor tensor) => _arena.Address + (ulong)Plan.Memory.Offsets[tensor];

    public override double Time(CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            // Capturing is not part of what is timed.
            if (_options.Capture && _graph is null)
            {
                _graph = Capture();
            }

            _driver.Record(_start, _stream);
            Run(cancellationToken);
            _driver.Record(_end, _stream);
            return _driver.ElapsedMilliseconds(_start, _end);
        }
    }

    /// <summary>Runs the plan kernel by kernel and waits for each, for a device that counts what the last one did.</summary>
    /// <param name="after">Told of every kernel that has run.</param>
    /// <param name="cancellationToken">Looked at before every kernel.</param>
    internal void RunEach(Action<KernelCall> after, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            for (int i = 0; i < _functions.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                LaunchCall(i);
                Synchronize();
                after(Calls[i]);
            }
        }
    }

    /// <summary>Empties the device's cache before what is launched next.</summary>
    internal void EvictCache() => _backend.EvictCache(_stream);

    // One event between every two launches and no waiting in between; the device is kept busy until all of them are queued, as they would be in a graph.
    protected override void ProfileCore(Span<double> milliseconds, CancellationToken cancellationToken)
    {
        // The host must not fall behind: 256 MiB written for every eight launches are 8 µs of the device's time for each at 4 TB/s.
        const int QueuedPerEviction = 8;
        cancellationToken.ThrowIfCancellationRequested();
        lock (_gate)
        {
            while (_between.Count <= _ends.Length)
            {
                _between.Add(_driver.CreateEvent());
            }

            for (int i = 0; i < Calls.Count; i += QueuedPerEviction)
            {
                EvictCache();
            }

            int call = 0;
            for (int launch = 0; launch < _ends.Length; launch++)
            {
                _driver.Record(_between[launch], _stream);
                for (; call < _ends[launch]; call++)
                {
                    LaunchCall(call);
                }
            }

            _driver.Record(_between[_ends.Length], _stream);
            for (int launch = 0; launch < _ends.Length; launch++)
            {
                milliseconds[launch] = _driver.ElapsedMilliseconds(_between[launch], _between[launch + 1]);
            }
        }
    }

    protected internal override double TimeLaunch(int launch)
    {
        lock (_gate)
        {
            _driver.Record(_start, _stream);
            for (int call = launch == 0 ? 0 : _ends[launch - 1]; call < _ends[launch]; call++)
            {
                LaunchCall(call);
            }

            _driver.Record(_end, _stream);
            return _driver.ElapsedMilliseconds(_start, _end);
        }
    }

    protected override void WriteCore(Tensor tensor, ReadOnlySpan<byte> bytes)
    {
        lock (_gate)
        {
            _driver.CopyToDevice(Address(tensor), bytes, _stream);
        }
    }

    protected override void ReadCore(Tensor tensor, Span<byte> bytes)
    {
        lock (_gate)
        {
            _driver.CopyToHost(bytes, Address(tensor), _stream);
        }
    }

    protected override void TransferCore(Tensor output, Executor destination, Tensor input)
    {
        if (destination is not GpuExecutor other || other._driver != _driver)
        {
            base.TransferCore(output, destination, input);
            return;
        }

        lock (_gate)
        {
            // The other stream may still read what is written over here, and must not go on before it is there.
            _driver.Synchronize(other._stream);
            _driver.Copy(other.Address(input), Address(output), output.Bytes, _stream);
            _driver.Synchronize(_stream);
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && !_isDisposed)
        {
            lock (_gate)
            {
                _isDisposed = true;
                _graph?.Dispose();
                _gemm?.Dispose();
                _start.Dispose();
                _end.Dispose();
                _between.ForEach(e => e.Dispose());
                _stream.Dispose();
                _lowering.Dispose();
                _arena.Dispose();
                _deviceWeights.Release(_weights);
            }
        }
    }

    private DriverGraph Capture()
    {
        using DriverStream side = _driver.CreateStream();
        using DriverEvent fork = _driver.CreateEvent(), join = _driver.CreateEvent();
        _driver.BeginCapture(_stream);
        try
        {
            LaunchParts(side, fork, join);
        }
        catch
        {
            // A stream that is left capturing takes no other work.
            Abandon();
            throw;
        }

        return _driver.EndCapture(_stream);
    }

    private void Abandon()
    {
        try
        {
            _driver.EndCapture(_stream).Dispose();
        }
        catch (DeviceException)
        {
            // What has failed makes no graph; the failure that counts is on its way.
        }
    }

    private void LaunchParts(DriverStream side, DriverEvent fork, DriverEvent join)
    {
        Concurrency? concurrency = Plan.Concurrency;
        bool forked = false, joined = false;
        for (int i = 0; i < _functions.Length; i++)
        {
            Node node = Calls[i].Node;
            if (concurrency?.Side.Contains(node) == true)
            {
                if (!forked)
                {
                    _driver.Record(fork, _stream);
                    _driver.Wait(side, fork);
                    forked = true;
                }

                LaunchCall(i, side);
                continue;
            }

            if (forked && !joined && Plan.Graph.IndexOf(node) >= concurrency!.Join)
            {
                _driver.Record(join, side);
                _driver.Wait(_stream, join);
                joined = true;
            }

            LaunchCall(i);
        }
    }
}
