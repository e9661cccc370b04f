using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>Memory for what a launch leaves, beside its output, for launches to come. The two parts of a step that run side by side share none.</summary>
internal sealed class StatisticsMemory(Driver driver, Plan plan) : IDisposable
{
    private readonly List<Entry> _entries = [];

    /// <summary>Memory that is free again for nodes behind the last reader, and a counter per image that every launch leaves as it found it, zero.</summary>
    /// <param name="producer">The node that is being lowered.</param>
    /// <param name="lastReader">The last node that reads what it leaves.</param>
    /// <param name="bytes">How much.</param>
    /// <param name="images">Images.</param>
    public (ulong Address, ulong Tickets) Take(Node producer, Node lastReader, long bytes, int images)
    {
        bool aside = plan.Concurrency?.Side.Contains(producer) == true;
        int now = plan.Graph.IndexOf(producer);
        Entry? entry = _entries.Find(e => e.Aside == aside && e.Last < now && e.Buffer.Bytes >= bytes && e.Tickets.Bytes >= sizeof(uint) * images);
        if (entry is null)
        {
            entry = new Entry(driver, bytes, images, aside);
            _entries.Add(entry);
        }

        // What stands before both parts may be read by either, while the nodes of the other, wherever they stand in the order, run beside it.
        entry.Last = plan.Concurrency is { } parts && now < parts.Fork ? Math.Max(parts.Join, plan.Graph.IndexOf(lastReader)) : plan.Graph.IndexOf(lastReader);
        return (entry.Buffer.Address, entry.Tickets.Address);
    }

    public void Dispose()
    {
        foreach (Entry entry in _entries)
        {
            entry.Buffer.Dispose();
            entry.Tickets.Dispose();
        }

        _entries.Clear();
    }

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

        public DeviceBuffer Tickets { get; }

        public bool Aside { get; }

        /// <summary>Index of the last node that reads it.</summary>
        public int Last { get; set; }
    }
}
