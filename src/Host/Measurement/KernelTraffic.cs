using Kernels.Backends.Gpu;
using Kernels.Runtime;

namespace Kernels.Measurement;

/// <summary>What all launches of one kernel in a plan did, counted by a device that counts.</summary>
/// <param name="Kernel">Its file and entry.</param>
/// <param name="Launches">How many there are.</param>
/// <param name="Counters">What they did together.</param>
public sealed record KernelTraffic((string File, string Entry) Kernel, int Launches, KernelCounters Counters)
{
    /// <summary>Runs a graph once, on inputs of any values, and counts.</summary>
    /// <param name="device">A device that counts.</param>
    /// <param name="graph">The graph.</param>
    /// <param name="weights">Its weights.</param>
    /// <param name="cancellationToken">Looked at before every kernel.</param>
    /// <returns>A row per kernel, the one that moves most bytes first.</returns>
    public static IReadOnlyList<KernelTraffic> Count(MeasuredDevice device, Graph graph, Weights weights, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(device);
        using Executor executor = device.Backend.Compile(device.Backend.Plan(graph), weights);

        // No kernel's traffic depends on values; a zero is a valid label, timestep and step.
        foreach (Tensor input in executor.Plan.Graph.Inputs)
        {
            if (input.DType == DType.I32)
            {
                executor.Write(input.Name, new int[input.Shape.Elements]);
            }
            else
            {
                executor.Write(input.Name, new float[input.Shape.Elements]);
            }
        }

        return
        [
            .. device.Count(executor, cancellationToken)
                .GroupBy(c => (c.Call.Kernel.File, c.Call.Kernel.Entry))
                .Select(kernel => new KernelTraffic(kernel.Key, kernel.Count(), KernelCounters.Sum(kernel.Select(c => c.Counters))))
                .OrderByDescending(kernel => kernel.Counters.BytesMoved).ThenBy(kernel => kernel.Kernel),
        ];
    }
}
