using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>Where the statistics of a tensor's channels lie: float2 (mean, Σ (y − mean)²) in <c>[N, Tiles, C]</c>, tile t over pixels [t·Rows, min((t+1)·Rows, pixels)) of an image.</summary>
/// <param name="Address">Device address.</param>
/// <param name="Rows">Pixels of a tile; the last one of an image may have fewer.</param>
/// <param name="Tiles">Tiles of an image.</param>
internal readonly record struct PartialStatistics(ulong Address, int Rows, int Tiles);

/// <summary>
/// The fusion <c>group_norm_statistics</c>: what writes a tensor that a group-norm reads also leaves partial statistics of it, so that the norm need not read it for them. Tiles
/// depend on one image's shape alone, and so do the norm's bits.
/// </summary>
internal sealed class ChannelStatistics(Driver driver, Plan plan, GpuOptions options) : IDisposable
{
    /// <summary>The fusion's name.</summary>
    public const string Fusion = "group_norm_statistics";

    private readonly Dictionary<Tensor, PartialStatistics> _partials = [];

    // A buffer is free again for nodes behind the last reader; the two parts of a step that run side by side share none.
    private readonly List<Entry> _buffers = [];
    private readonly bool _enabled = !options.DisabledFusions.Contains(Fusion);

    /// <summary>The statistics of a tensor, if its producer left any.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="partials">Where they lie.</param>
    public bool TryGet(Tensor tensor, out PartialStatistics partials) => _partials.TryGetValue(tensor, out partials);

    /// <summary>Whether a group-norm reads the tensor and nothing but it, so that its statistics are worth writing.</summary>
    /// <param name="tensor">The tensor.</param>
    public bool AreWanted(Tensor tensor) => _enabled && plan.Graph.Consumers(tensor).Any(node => Normalises(node, tensor));

    /// <summary>Memory for the statistics of a tensor, which its producer is about to write.</summary>
    /// <param name="producer">The node that is being lowered.</param>
    /// <param name="tensor">Its output [N, …, C].</param>
    /// <param name="rows">Pixels of a tile.</param>
    /// <returns>The address.</returns>
    public ulong Add(Node producer, Tensor tensor, int rows)
    {
        Shape shape = tensor.Shape;
        int tiles = ((shape.Elements / shape[0] / shape[-1]) + rows - 1) / rows;
        long bytes = 2L * sizeof(float) * shape[0] * tiles * shape[-1];
        bool aside = plan.Concurrency?.Side.Contains(producer) == true;
        int now = plan.Graph.IndexOf(producer), last = plan.Graph.Consumers(tensor).Where(node => Normalises(node, tensor)).Max(plan.Graph.IndexOf);
        Entry? entry = _buffers.Find(e => e.Aside == aside && e.Last < now && e.Buffer.Bytes >= bytes);
        if (entry is null)
        {
            entry = new Entry(new DeviceBuffer(driver, bytes, "statistics"), aside);
            _buffers.Add(entry);
        }

        entry.Last = last;
        _partials[tensor] = new PartialStatistics(entry.Buffer.Address, rows, tiles);
        return entry.Buffer.Address;
    }

    public void Dispose()
    {
        foreach (Entry entry in _buffers)
        {
            entry.Buffer.Dispose();
        }

        _buffers.Clear();
        _partials.Clear();
    }

    private static bool Normalises(Node node, Tensor tensor) => node.Op is Ops.GroupNorm { TwoInputs: false } && node.Inputs[0] == tensor;

    private sealed class Entry(DeviceBuffer buffer, bool aside)
    {
        public DeviceBuffer Buffer => buffer;

        public bool Aside => aside;

        /// <summary>Index of the last node that reads it.</summary>
        public int Last { get; set; }
    }
}
