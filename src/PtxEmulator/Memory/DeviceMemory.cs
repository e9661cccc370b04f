using System.Runtime.InteropServices;

namespace Kernels.Emulation.Memory;

/// <summary>One allocation of global memory, with what the checks remember about it.</summary>
internal sealed unsafe class Allocation
{
    internal required ulong Address { get; init; }

    internal required long Bytes { get; init; }

    internal required string Label { get; init; }

    internal required int Number { get; init; }

    /// <summary>One byte per byte: whether it was ever written; null when reads are not checked.</summary>
    internal byte* Written { get; init; }

    /// <summary>Per 4-byte word who wrote it last and who read it last in the running launch; null when races are not checked.</summary>
    internal ulong* Accesses { get; init; }

    /// <summary>Bytes touched by counted launches, one bit each; null until counted.</summary>
    internal byte* Touched { get; set; }

    internal bool IsFreed { get; set; }

    internal ulong End => Address + (ulong)Bytes;

    /// <inheritdoc/>
    public override string ToString() => Label.Length > 0 ? $"'{Label}' ({Bytes} bytes)" : $"allocation {Number} ({Bytes} bytes)";

    internal void Release()
    {
        IsFreed = true;
        NativeMemory.AlignedFree((void*)(Address - DeviceMemory.Guard));
        NativeMemory.Free(Written);
        NativeMemory.Free(Accesses);
        NativeMemory.Free(Touched);
    }
}

/// <summary>
/// Global memory. A device address is a host address, so that no access is translated; every access is looked up before it happens, so that a
/// kernel's wrong address never reaches the host. Freed memory is held back for a while, so that its use can be told from a wild address.
/// </summary>
internal sealed unsafe class DeviceMemory(bool trackWrites, bool trackAccesses) : IDisposable
{
    /// <summary>Bytes before and after every allocation that belong to nobody.</summary>
    internal const int Guard = 256;

    private const long QuarantineBytes = 256L << 20;

    private readonly Lock gate = new();
    private readonly Queue<Allocation> quarantine = new();
    private long quarantined;
    private int numbers;

    // Replaced as a whole, so that launches read it without a lock.
    private volatile Allocation[] live = [];
    private volatile Allocation[] freed = [];

    internal Allocation Allocate(long bytes, string label)
    {
        lock (gate)
        {
            var address = (ulong)NativeMemory.AlignedAlloc((nuint)(bytes + 2 * Guard), Guard) + Guard;
            // Contents of new memory are whatever they are; a pattern that is a NaN in every format makes relying on them visible.
            new Span<byte>((void*)address, checked((int)Math.Min(bytes, int.MaxValue))).Fill(0xFF);
            var allocation = new Allocation
            {
                Address = address,
                Bytes = bytes,
                Label = label,
                Number = ++numbers,
                Written = trackWrites ? (byte*)NativeMemory.AllocZeroed((nuint)bytes + 16) : null,
                Accesses = trackAccesses ? (ulong*)NativeMemory.AllocZeroed((nuint)(bytes / 4 + 1), 8) : null,
            };
            live = [.. live.Append(allocation).OrderBy(a => a.Address)];
            return allocation;
        }
    }

    /// <returns>Whether the address is the start of a live allocation.</returns>
    internal bool Free(ulong address)
    {
        lock (gate)
        {
            if (Find(live, address) is not { } allocation || allocation.Address != address)
                return false;
            allocation.IsFreed = true;
            live = [.. live.Where(a => a != allocation)];
            quarantine.Enqueue(allocation);
            quarantined += allocation.Bytes;
            while (quarantined > QuarantineBytes)
            {
                var oldest = quarantine.Dequeue();
                quarantined -= oldest.Bytes;
                oldest.Release();
            }
            freed = [.. quarantine.OrderBy(a => a.Address)];
            return true;
        }
    }

    /// <summary>The live allocation that an address lies in.</summary>
    internal Allocation? Find(ulong address) => Find(live, address);

    /// <summary>The freed allocation, not yet given back, that an address lies in.</summary>
    internal Allocation? FindFreed(ulong address) => Find(freed, address);

    /// <summary>The live allocation that an address is nearest to, for messages.</summary>
    internal Allocation? Nearest(ulong address)
    {
        Allocation? best = null;
        var distance = ulong.MaxValue;
        foreach (var allocation in live)
        {
            var away = address < allocation.Address ? allocation.Address - address : address - allocation.End + 1;
            if (away < distance)
                (best, distance) = (allocation, away);
        }
        return best;
    }

    internal IEnumerable<Allocation> Live => live;

    private static Allocation? Find(Allocation[] sorted, ulong address)
    {
        int low = 0, high = sorted.Length - 1;
        while (low <= high)
        {
            var middle = (low + high) / 2;
            if (address < sorted[middle].Address)
                high = middle - 1;
            else if (address >= sorted[middle].End)
                low = middle + 1;
            else
                return sorted[middle];
        }
        return null;
    }

    public void Dispose()
    {
        foreach (var allocation in live.Concat(quarantine))
            allocation.Release();
        live = [];
        freed = [];
        quarantine.Clear();
    }
}
