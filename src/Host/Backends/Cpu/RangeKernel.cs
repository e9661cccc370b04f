using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>A kernel over items that do not depend on each other: a part is a run of them.</summary>
internal abstract class RangeKernel : CpuKernel
{
    // A part should outlast its hand-over, some hundred nanoseconds, by far, and fit the first-level cache.
    private const int ElementsPerPart = 8192;

    private readonly int _items;
    private readonly int _grain;

    /// <summary>Divides the work.</summary>
    /// <param name="work">How much there is.</param>
    protected RangeKernel(WorkItems work)
    {
        _items = work.Items;
        _grain = Math.Max(1, ElementsPerPart / Math.Max(1, work.ElementsPerItem));
        Parts = (work.Items + _grain - 1) / _grain;
    }

    /// <inheritdoc/>
    public sealed override int Parts { get; }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public sealed override void Run(int part, int worker) => RunRange(part * _grain, Math.Min(_items, (part + 1) * _grain));

    /// <summary>Computes a run of items.</summary>
    /// <param name="begin">The first.</param>
    /// <param name="end">One past the last.</param>
    protected abstract void RunRange(int begin, int end);
}

/// <summary>An amount of work.</summary>
/// <param name="Items">Number of items.</param>
/// <param name="ElementsPerItem">Elements that one item touches.</param>
internal readonly record struct WorkItems(int Items, int ElementsPerItem);
