using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Tests.PtxEmulator;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>An emulator that checks and counts, with short words for memory, kernels of <c>kernels/</c> and single ops.</summary>
internal sealed class CountedRun : IDisposable
{
    private readonly EmulatorDriver _driver;
    private readonly KernelLibrary _library;
    private readonly GpuBackend _backend;

    public CountedRun(Precision precision = Precision.Fp32, KernelSources? sources = null)
    {
        Cuda.Require();
        _driver = new EmulatorDriver(new EmulatorOptions { Counters = true });
        _library = new KernelLibrary(_driver, sources ?? KernelSources.Open(), new KernelCache());
        _backend = new GpuBackend(_driver, new GpuOptions { Precision = precision, Capture = false });
    }

    /// <summary>Allocates and fills.</summary>
    public ulong Put<T>(params ReadOnlySpan<T> values)
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        ulong address = _driver.Allocate(bytes.Length);
        _driver.CopyToDevice(address, bytes);
        return address;
    }

    /// <summary>Allocates memory that reads as uninitialized.</summary>
    public ulong New(long bytes) => _driver.Allocate(bytes);

    /// <summary>Reads back.</summary>
    public float[] Get(ulong address, int count)
    {
        float[] values = new float[count];
        _driver.CopyToHost(MemoryMarshal.AsBytes(values.AsSpan()), address);
        return values;
    }

    /// <summary>Reads back what is stored in another type.</summary>
    public float[] Get(ulong address, int count, DType type)
    {
        if (type == DType.F32)
        {
            return Get(address, count);
        }

        ushort[] stored = new ushort[count];
        _driver.CopyToHost(MemoryMarshal.AsBytes(stored.AsSpan()), address);
        return Array.ConvertAll(stored, bits => type == DType.F16 ? (float)BitConverter.UInt16BitsToHalf(bits) : BitConverter.UInt32BitsToSingle((uint)bits << 16));
    }

    /// <summary>Launches one kernel.</summary>
    public LaunchCounters Launch(KernelSpec kernel, LaunchGeometry geometry, ReadOnlySpan<byte> arguments)
    {
        _library.Load([kernel]);
        _driver.Launch(_library.Function(kernel), geometry, arguments);
        return _driver.LastCounters!;
    }

    /// <summary>Runs one op. With 16-bit storage its operands of three axes and more are copied into and out of it.</summary>
    /// <param name="op">The op.</param>
    /// <param name="inputs">Shape and values of each input; values are <c>float[]</c> or <c>int[]</c>.</param>
    public OpRun Run(Op op, params (Shape Shape, Array Values)[] inputs)
    {
        bool stored = _backend.Options.Precision.Storage() != DType.F32;
        GraphBuilder builder = new();
        List<Tensor> operands = [];
        foreach ((int i, (Shape shape, Array values)) in inputs.Index())
        {
            Tensor input = builder.Input($"x{i}", shape, values is int[] ? DType.I32 : DType.F32);
            operands.Add(stored && input.DType == DType.F32 ? builder.Add($"x{i}.copy", new Concat(0), input) : input);
        }

        Node node = builder.AddNode("op", op, [.. operands]);
        for (int k = 0; k < node.Outputs.Count; k++)
        {
            builder.Output($"y{k}", stored ? builder.Add($"y{k}.copy", new Concat(0), node.Outputs[k]) : node.Outputs[k]);
        }

        using GpuExecutor executor = (GpuExecutor)_backend.Compile(_backend.Plan(builder.Build()), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        foreach ((int i, (_, Array values)) in inputs.Index())
        {
            if (values is int[] whole)
            {
                executor.Write($"x{i}", whole);
            }
            else
            {
                executor.Write($"x{i}", (float[])values);
            }
        }

        List<LaunchCounters> counters = [];
        for (int call = 0; call < executor.Calls.Count; call++)
        {
            executor.LaunchCall(call);
            executor.Synchronize();
            if (executor.Calls[call].Node.Name == "op")
            {
                counters.Add(_driver.LastCounters!);
            }
        }

        float[][] outputs = [.. Enumerable.Range(0, node.Outputs.Count).Select(k => executor.Read($"y{k}"))];
        return new OpRun(outputs, counters, [.. executor.Calls.Where(c => c.Node.Name == "op")]);
    }

    /// <summary>Runs a graph and counts the one launch of a node.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="node">The node's name.</param>
    /// <param name="values">Values of inputs and weights; random ones if null.</param>
    public OpRun Single(Graph graph, string node, Func<Tensor, float[]>? values = null)
    {
        Random random = new(1);
        values ??= tensor => Array.ConvertAll(TestModels.Normals(random, tensor.Shape.Elements, 1, 0), v => (float)v);
        Weights weights = Weights.FromArrays(graph.Weights.ToDictionary(t => t.Name, t => (t.Shape, values(t))));
        using GpuExecutor executor = (GpuExecutor)_backend.Compile(_backend.Plan(graph), weights);
        foreach (Tensor input in graph.Inputs)
        {
            executor.Write(input.Name, values(input));
        }

        List<(LaunchCounters Counters, KernelCall Call)> counted = [];
        for (int call = 0; call < executor.Calls.Count; call++)
        {
            executor.LaunchCall(call);
            executor.Synchronize();
            if (executor.Calls[call].Node.Name == node)
            {
                counted.Add((_driver.LastCounters!, executor.Calls[call]));
            }
        }

        Xunit.Assert.Single(counted);
        return new OpRun([.. graph.Outputs.Keys.Select(executor.Read)], [.. counted.Select(c => c.Counters)], [.. counted.Select(c => c.Call)]);
    }

    public void Dispose()
    {
        _library.Dispose();
        _backend.Dispose();
    }
}

/// <summary>What an op left.</summary>
/// <param name="Outputs">The values of its outputs.</param>
/// <param name="Counters">What each of its launches did.</param>
/// <param name="Calls">Its launches.</param>
internal sealed record OpRun(float[][] Outputs, IReadOnlyList<LaunchCounters> Counters, IReadOnlyList<KernelCall> Calls);
