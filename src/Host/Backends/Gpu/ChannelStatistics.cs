using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>What the producer of a tensor computes for the norm that reads it: per channel and tile, and from that per group.</summary>
/// <param name="Groups">Groups of the norm.</param>
/// <param name="Epsilon">Added to the variance.</param>
/// <param name="Partials">Address of the channels' float2 (mean, Σ (y − mean)²), <c>[N, Tiles, C]</c>.</param>
/// <param name="Statistics">Address of the groups' float2 (mean, rstd), <c>[N, Groups]</c>.</param>
/// <param name="Tickets">Address of one counter per image, all zero between launches.</param>
internal readonly record struct TensorStatistics(int Groups, float Epsilon, ulong Partials, ulong Statistics, ulong Tickets);

/// <summary>
/// The fusion <c>group_norm_statistics</c>: what writes a tensor that a group-norm reads also leaves the groups' statistics, so that the norm need not read the tensor for them. Tiles
/// depend on one image's shape alone, and so do the norm's bits.
/// </summary>
internal sealed class ChannelStatistics(Driver driver, Plan plan, GpuOptions options) : IDisposable
{
    /// <summary>The fusion's name.</summary>
    public const string Fusion = GpuOptions.GroupNormStatistics;

    private readonly Dictionary<Tensor, TensorStatistics> _statistics = [];

    // A buffer is free again for nodes behind the last reader; the two parts of a step that run side by side share none.
    private readonly List<Entry> _buffers = [];
    private readonly bool _enabled = !options.DisabledFusions.Contains(Fusion);

    /// <summary>The statistics of a tensor, if its producer left those that a norm wants.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="norm">The norm.</param>
    /// <param name="statistics">Where they lie.</param>
    public bool TryGet(Tensor tensor, Ops.GroupNorm norm, out TensorStatistics statistics) =>
        _statistics.TryGetValue(tensor, out statistics) && !norm.TwoInputs && statistics.Groups == norm.Groups && statistics.Epsilon == norm.Epsilon;

    /// <summary>Whether a group-norm reads the tensor and nothing but it, so that its statistics are worth computing.</summary>
    /// <param name="tensor">The tensor.</param>
    public bool AreWanted(Tensor tensor) => _enabled && plan.Graph.Consumers(tensor).Any(node => Normalises(node, tensor));

    /// <summary>Memory for the statistics of a tensor, which its producer is about to write.</summary>
    /// <param name="producer">The node that is being lowered.</param>
    /// <param name="tensor">Its output [N, …, C], whose statistics are wanted.</param>
    /// <param name="rows">Pixels of a tile; the last one of an image may have fewer.</param>
    public TensorStatistics Add(Node producer, Tensor tensor, int rows)
    {
        Shape shape = tensor.Shape;
        Node[] readers = [.. plan.Graph.Consumers(tensor).Where(node => Normalises(node, tensor))];
        Ops.GroupNorm norm = (Ops.GroupNorm)readers[0].Op;
        int tiles = ((shape.Elements / shape[0] / shape[-1]) + rows - 1) / rows;
        long pair = 2L * sizeof(float), partials = pair * shape[0] * tiles * shape[-1], groups = pair * shape[0] * norm.Groups;
        bool aside = plan.Concurrency?.Side.Contains(producer) == true;
        int now = plan.Graph.IndexOf(producer);
        Entry? entry = _buffers.Find(e => e.Aside == aside && e.Last < now && e.Buffer.Bytes >= partials + groups && e.Tickets.Bytes >= sizeof(uint) * shape[0]);
        if (entry is null)
        {
            entry = new Entry(driver, partials + groups, shape[0], aside);
            _buffers.Add(entry);
        }

        entry.Last = readers.Max(plan.Graph.IndexOf);
        TensorStatistics statistics = new(norm.Groups, norm.Epsilon, entry.Buffer.Address + (ulong)groups, entry.Buffer.Address, entry.Tickets.Address);
        _statistics[tensor] = statistics;
        return statistics;
    }

    public void Dispose()
    {
        foreach (Entry entry in _buffers)
        {
            entry.Buffer.Dispose();
            entry.Tickets.Dispose();
        }

        _buffers.Clear();
        _statistics.Clear();
    }

    private static bool Normalises(Node node, Tensor tensor) => node.Op is Ops.GroupNorm { TwoInputs: false } && node.Inputs[0] == tensor;

    private sealed class Entry
    {
        public Entry(Driver driver, long bytes, int images, bool aside)
        {
            Buffer = new DeviceBuffer(driver, bytes, "statistics");
            try
            {
                Tickets = new DeviceBuffer(driver, images * sizeof(uint), "tickets of statistics");
                driver.Fill(Tickets.Address, 0, Tickets.Bytes);
                driver.Synchronize();
            }
            catch
            {
                Tickets?.Dispose();
                Buffer.Dispose();
                throw;
            }

            Aside = aside;
        }

        public DeviceBuffer Buffer { get; }

        /// <summary>One counter per image, which every launch leaves as it found it.</summary>
        public DeviceBuffer Tickets { get; }

        public bool Aside { get; }

        /// <summary>Index of the last node that reads it.</summary>
        public int Last { get; set; }
    }
}
