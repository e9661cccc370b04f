using System.Globalization;
using System.Runtime.InteropServices;
using Kernels.Runtime;

namespace Kernels.Backends.Cpu;

/// <summary>Runs plans on the processor with managed SIMD, on all cores. Needs nothing but .NET.</summary>
/// <remarks>
/// One run at a time: executors of one backend share its threads and its scratch memory, and wait for each other. Results do not depend on the number of
/// threads. Executors of the same weights share the packed copies, which go with the last of them.
/// </remarks>
public sealed class CpuBackend : Backend
{
    private readonly Dictionary<(Weights Weights, string Name, WeightLayout Layout), IDisposable> _packed = [];
    private readonly Dictionary<Weights, int> _users = [];

    /// <summary>Starts the threads.</summary>
    /// <param name="threads">Number of threads, the calling one among them; null for one per core.</param>
    public CpuBackend(int? threads = null)
    {
        int count = threads ?? Environment.ProcessorCount;
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1, nameof(threads));
        Pool = new WorkerPool(count);
        Scratch = new WorkerScratch(count);
    }

    /// <inheritdoc/>
    public override string Name =>
        string.Create(CultureInfo.InvariantCulture, $"cpu ({RuntimeInformation.ProcessArchitecture}, {Pool.Workers} threads, {Simd.Bits}-bit vectors)");

    internal WorkerPool Pool { get; }

    internal WorkerScratch Scratch { get; }

    internal Lock Gate { get; } = new();

    /// <inheritdoc/>
    public override Executor Compile(Plan plan, Weights weights)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(weights);
        weights.Check(plan.Graph);
        lock (Gate)
        {
            return new CpuExecutor(this, plan, weights);
        }
    }

    /// <summary>Announces an executor: packed weights stay as long as one that uses them lives. Inside <see cref="Gate"/>.</summary>
    /// <param name="weights">What it uses.</param>
    internal void Acquire(Weights weights) => _users[weights] = _users.GetValueOrDefault(weights) + 1;

    /// <summary>Takes leave of an executor. With the last one its weights go.</summary>
    /// <param name="weights">What it used.</param>
    internal void Release(Weights weights)
    {
        lock (Gate)
        {
            if (--_users[weights] > 0)
            {
                return;
            }

            _users.Remove(weights);
            foreach ((Weights Weights, string Name, WeightLayout Layout) key in _packed.Keys.Where(k => ReferenceEquals(k.Weights, weights)).ToArray())
            {
                _packed[key].Dispose();
                _packed.Remove(key);
            }
        }
    }

    /// <summary>A weight in the layout that a kernel wants; made once for all executors.</summary>
    /// <param name="weights">Where it comes from.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="layout">The layout.</param>
    /// <param name="pack">Makes the layout from the dense values.</param>
    internal T Packed<T>(Weights weights, Tensor weight, WeightLayout layout, Func<NativeBuffer, T> pack)
        where T : class, IDisposable
    {
        if (!_packed.TryGetValue((weights, weight.Name, layout), out IDisposable? packed))
        {
            using NativeBuffer dense = Load(weights, weight);
            _packed.Add((weights, weight.Name, layout), packed = pack(dense));
        }

        return (T)packed;
    }

    /// <summary>A weight as the checkpoint holds it.</summary>
    /// <param name="weights">Where it comes from.</param>
    /// <param name="weight">The weight.</param>
    internal NativeBuffer Dense(Weights weights, Tensor weight)
    {
        if (!_packed.TryGetValue((weights, weight.Name, WeightLayout.Dense), out IDisposable? dense))
        {
            _packed.Add((weights, weight.Name, WeightLayout.Dense), dense = Load(weights, weight));
        }

        return (NativeBuffer)dense;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Pool.Dispose();
            Scratch.Dispose();
            foreach (IDisposable packed in _packed.Values)
            {
                packed.Dispose();
            }

            _packed.Clear();
        }
    }

    private static unsafe NativeBuffer Load(Weights weights, Tensor weight)
    {
        NativeBuffer buffer = new(weight.Shape.Elements);
        try
        {
            weights.CopyTo(weight.Name, new Span<float>(buffer.Pointer, weight.Shape.Elements));
            return buffer;
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }
}

/// <summary>Ways in which kernels hold a weight.</summary>
internal enum WeightLayout
{
    /// <summary>As the checkpoint holds it.</summary>
    Dense,

    /// <summary>Panels of output channels.</summary>
    Forward,

    /// <summary>Panels of input channels, for the data gradient.</summary>
    DataGradient,

    /// <summary>Transformed for Winograd's algorithm, forward.</summary>
    WinogradForward,

    /// <summary>Transformed for Winograd's algorithm, data gradient.</summary>
    WinogradDataGradient,
}
