using System.Runtime.InteropServices;
using Kernels.Diffusion.Steps;
using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>
/// Turns the nodes of a plan into kernel launches with every address resolved. This is what an op's lowering sees of the world; how an op becomes launches stands in a file of its
/// name beside this one.
/// </summary>
internal sealed class GpuLowering : IDisposable
{
    private readonly Driver _driver;
    private readonly Plan _plan;
    private readonly ulong _arena;
    private readonly DeviceWeights _deviceWeights;
    private readonly Weights _weights;
    private readonly GpuOptions _options;
    private readonly StatisticsMemory _memory;
    private readonly List<KernelCall> _calls = [];
    private readonly List<DeviceBuffer> _scratch = [];
    private readonly List<DeviceBuffer> _constants = [];

    // Parts that run side by side have scratch memory of their own.
    private readonly DeviceBuffer?[] _current = new DeviceBuffer?[2];
    private readonly LaunchArguments _arguments = new();
    private readonly GradientScale _gradientScale;
    private Node? _node;

    /// <summary>A lowering of nothing yet.</summary>
    /// <param name="driver">Where the launches will run.</param>
    /// <param name="plan">The plan.</param>
    /// <param name="arena">Address of its memory.</param>
    /// <param name="deviceWeights">The weights that are on the device already.</param>
    /// <param name="weights">The weights as the checkpoint holds them.</param>
    /// <param name="options">The backend's options.</param>
    public GpuLowering(Driver driver, Plan plan, ulong arena, DeviceWeights deviceWeights, Weights weights, GpuOptions options)
    {
        (_driver, _plan, _arena, _deviceWeights, _weights, _options) = (driver, plan, arena, deviceWeights, weights, options);
        _gradientScale = new GradientScale(plan, options);
        _memory = new StatisticsMemory(driver, plan);
        Statistics = new ChannelStatistics(plan, options, _memory);
        GradientStatistics = new GradientStatistics(plan, options, _memory);
    }

    /// <summary>The launches of all nodes so far, in order.</summary>
    public IReadOnlyList<KernelCall> Calls => _calls;

    /// <summary>Dynamic shared memory that one block may have, in bytes.</summary>
    public int MaximumSharedBytes => _driver.MaximumSharedBytes;

    /// <summary>Multiprocessors of the device. A grid may depend on it, a sum's order must not.</summary>
    public int Multiprocessors => _driver.Multiprocessors;

    /// <summary>The precision of the node that is being lowered.</summary>
    public Precision Precision => _options.Of(_node!);

    /// <summary>Statistics of tensors that the launches so far have left for group-norms to come.</summary>
    public ChannelStatistics Statistics { get; }

    /// <summary>Sums that convolutions so far have left for gradients of group-norms to come.</summary>
    public GradientStatistics GradientStatistics { get; }

    /// <summary>How often each of <see cref="GpuOptions.Fusions"/> was applied so far.</summary>
    public IReadOnlyDictionary<string, int> Applied => new Dictionary<string, int>
    {
        [GpuOptions.GroupNormStatistics] = Statistics.Count, [GpuOptions.GroupNormGradientStatistics] = GradientStatistics.Count,
        [GpuOptions.GroupNormPrologue] = _calls.Count(c => c.Node.Op is NormalizedConvolution && c.Kernel.Entry == "convolution"),
    };

    /// <summary>Appends the launches of a node.</summary>
    /// <param name="node">The node.</param>
    /// <exception cref="GraphException">This backend does not know the op.</exception>
    public void Lower(Node node)
    {
        _node = node;
        switch (node.Op)
        {
            case Add or Multiply or Activation or ActivationGradient or Fill or AddBias or AddEmbedding or AddPositional or ScaleShift or ScaleShiftGradient:
                Elementwise.Lower(this, node);
                break;
            case Concat or Slice or Pad:
                StridedCopy.Lower(this, node);
                break;
            case Ops.Convolution or ConvolutionSkip or ConvolutionGradient or NormalizedConvolution:
                Convolution.Lower(this, node);
                break;
            case Ops.Linear or LinearGradient:
                Linear.Lower(this, node);
                break;
            case Pool2x or Upsample2x or BilinearUpsample or BilinearUpsampleGradient:
                Resample.Lower(this, node);
                break;
            case SpatialSum or SpatialBroadcast:
                Spatial.Lower(this, node);
                break;
            case Ops.Embedding or TimestepEmbedding or TimestepEmbeddingGradient:
                Embedding.Lower(this, node);
                break;
            case Ops.LogSoftmax or LogSoftmaxGradient or LabelGradient or SelectLabel or ScatterLabel:
                LogSoftmax.Lower(this, node);
                break;
            case StepTimesteps or ChunkTimesteps or SelectStep or AdvanceStep:
                StepTables.Lower(this, node);
                break;
            case StepNoise or ClassifierFreeGuidance or SamplerUpdate or KnownRegion:
                Sampler.Lower(this, node);
                break;
            case Ops.GroupNorm or GroupNormGradient:
                GroupNorm.Lower(this, node);
                break;
            case Ops.Attention or AttentionGradient:
                Attention.Lower(this, node);
                break;
            default:
                throw new GraphException($"the GPU backend does not know {node.Op.Name} '{node.Name}'");
        }
    }

    /// <summary>Address of an activation, or of a weight as the checkpoint holds it, in binary32.</summary>
    /// <param name="tensor">The tensor.</param>
    public ulong Address(Tensor tensor) => tensor.Kind == TensorKind.Weight
        ? Packed(tensor, "dense", values => DeviceWeights.Convert(values, DType.F32))
        : _arena + (ulong)_plan.Memory.Offsets[tensor];

    /// <summary>Address of a weight in another layout.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="layout">A name for the layout, element type included: equal names mean equal layouts.</param>
    /// <param name="pack">Makes it from the values of the checkpoint.</param>
    public ulong Packed(Tensor weight, string layout, Func<float[], byte[]> pack) => _deviceWeights.Get(_weights, weight, layout, pack);

    /// <summary>The values of a weight as the checkpoint holds it, for layouts made of several weights.</summary>
    /// <param name="weight">The weight.</param>
    public float[] Values(Tensor weight)
    {
        float[] values = new float[weight.Shape.Elements];
        _weights.CopyTo(weight.Name, values);
        return values;
    }

    /// <summary>Memory for what one launch of the node hands to the next. What lay there before is undefined.</summary>
    /// <param name="bytes">How much.</param>
    public ulong Scratch(long bytes)
    {
        ref DeviceBuffer? current = ref _current[_plan.Concurrency?.Side.Contains(_node!) == true ? 1 : 0];

        // Launches already lowered keep the smaller buffer they were given.
        if (current is null || current.Bytes < bytes)
        {
            current = new DeviceBuffer(_driver, Math.Max(bytes, 1 << 16), "scratch memory");
            _scratch.Add(current);
        }

        return current.Address;
    }

    /// <summary>Memory that holds given values for as long as the launches live, such as a table that a kernel looks things up in.</summary>
    /// <param name="values">The values.</param>
    public ulong Constants<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        DeviceBuffer buffer = new(_driver, bytes.Length, $"constants of {_node!.Name}");
        _constants.Add(buffer);
        _driver.CopyToDevice(buffer.Address, bytes);
        _driver.Synchronize();
        return buffer.Address;
    }

    /// <summary>An empty argument block; good until the next call.</summary>
    public LaunchArguments Arguments() => _arguments.Clear();

    /// <summary>What the result of the node that is being lowered is multiplied by, beside what its op says.</summary>
    public float Scale => _gradientScale.Of(_node!);

    /// <summary>Whether the device's library multiplies for a linear layer.</summary>
    /// <param name="node">The node.</param>
    public bool IsLibrarys(Node node) => Linear.IsLibrarys(node, _options);

    /// <summary>Appends a product that the device's library computes.</summary>
    /// <param name="gemm">The product.</param>
    public void Emit(in Gemm gemm) => _calls.Add(
        new KernelCall(
            new KernelSpec("cuBLAS", "gemm", ("IMAGES", gemm.Images), ("ROWS", gemm.Rows), ("COLUMNS", gemm.Columns), ("DEPTH", gemm.Depth), ("OPERAND", gemm.Operand), ("RESULT", gemm.Result)),
            default,
            default,
            _node!)
        {
            Gemm = gemm,
        });

    /// <summary>Appends a launch.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="geometry">Grid, block and dynamic shared memory.</param>
    /// <param name="arguments">The arguments in the order of the kernel's parameters.</param>
    public void Emit(KernelSpec kernel, LaunchGeometry geometry, LaunchArguments arguments) =>
        _calls.Add(new KernelCall(kernel, geometry, arguments.Bytes.ToArray(), _node!));

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _scratch.Concat(_constants))
        {
            buffer.Dispose();
        }

        _scratch.Clear();
        _constants.Clear();
        _memory.Dispose();
    }
}
