using System.Diagnostics;
using Kernels.Backends.Gpu;

namespace Kernels.Measurement;

/// <summary>What a device can do at most, measured on it: no launch is faster than its bytes at the one rate, nor than its operations at the other.</summary>
/// <param name="Precision">The precision that the operations were measured at.</param>
/// <param name="CopyGBPerSecond">Bytes read plus bytes written by a large copy, in 10⁹ bytes per second.</param>
/// <param name="CopyProbe">What was copied.</param>
/// <param name="Tflops">Operations of the best of several large products, in 10¹² per second. Fewer multiplications than operations may have been made (Winograd).</param>
/// <param name="ArithmeticProbe">The best product.</param>
public sealed record Roofline(string Precision, double CopyGBPerSecond, string CopyProbe, double Tflops, string ArithmeticProbe)
{
    /// <summary>Operations per byte at which both limits are alike.</summary>
    public double Ridge => Tflops * 1e3 / CopyGBPerSecond;

    /// <summary>The least time that work can take, in milliseconds: max(bytes / bandwidth, operations / throughput).</summary>
    /// <param name="cost">The work.</param>
    public double LimitMs(Cost cost) => Math.Max(MemoryMs(cost), ArithmeticMs(cost));

    /// <summary>What limits work: <c>memory</c> or <c>arithmetic</c>.</summary>
    /// <param name="cost">The work.</param>
    public string Bound(Cost cost) => ArithmeticMs(cost) > MemoryMs(cost) ? "arithmetic" : "memory";

    private double MemoryMs(Cost cost) => cost.Bytes / CopyGBPerSecond / 1e6;

    private double ArithmeticMs(Cost cost) => cost.Flops / Tflops / 1e9;
}

/// <summary>Measures a <see cref="Roofline"/>.</summary>
internal static class RooflineProbe
{
    private const long CopyBytes = 128L << 20;

    /// <summary>Measures the limits of a device.</summary>
    /// <param name="device">A device that tells time.</param>
    /// <param name="timeLimit">For each probe.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    public static Roofline Measure(MeasuredDevice device, TimeSpan timeLimit, CancellationToken cancellationToken)
    {
        RepeatRule rule = new(timeLimit, MostRepeats: 20);
        (double Rate, string Probe) copy = Copy(device, rule, cancellationToken), product = (0, "");
        foreach (Node node in Products(device.Backend is GpuBackend))
        {
            using OpWorkload workload = new(device, node);
            double rate = workload.Cost.Flops / rule.Measure(workload.Time, cancellationToken).MinMs / 1e9;
            product = rate > product.Rate ? (rate, $"{node.Op.Name} {OpUse.ShapesOf(node)}") : product;
        }

        return new Roofline(device.PrecisionName, copy.Rate, copy.Probe, product.Rate, product.Probe);
    }

    private static (double Rate, string Probe) Copy(MeasuredDevice device, RepeatRule rule, CancellationToken cancellationToken)
    {
        string probe = $"{CopyBytes >> 20} MiB to another place";
        if (device.Backend is GpuBackend gpu)
        {
            using DeviceBuffer from = new(gpu.Driver, CopyBytes, "copied"), to = new(gpu.Driver, CopyBytes, "copied to");
            using DriverEvent start = gpu.Driver.CreateEvent(), end = gpu.Driver.CreateEvent();
            gpu.Driver.Fill(from.Address, 0, CopyBytes);
            return Rate(() =>
            {
                gpu.EvictCache();
                gpu.Driver.Record(start);
                gpu.Driver.Copy(to.Address, from.Address, CopyBytes);
                gpu.Driver.Record(end);
                return gpu.Driver.ElapsedMilliseconds(start, end);
            });
        }

        // As many threads as the backend has; more would fight over the same memory.
        int threads = device.Threads ?? 1;
        byte[] source = new byte[CopyBytes], destination = new byte[CopyBytes];
        int part = (int)(CopyBytes / threads);
        source.AsSpan().Fill(1);
        return Rate(() =>
        {
            long begin = Stopwatch.GetTimestamp();
            Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, i => source.AsSpan(i * part, part).CopyTo(destination.AsSpan(i * part)));
            return Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
        });

        (double, string) Rate(Func<double> measure) => (2 * CopyBytes / rule.Measure(measure, cancellationToken).MinMs / 1e6, probe);
    }

    // A product of matrices and 3x3 convolutions, large enough that nothing but arithmetic counts, as large as a GPU or a CPU needs for that.
    private static IEnumerable<Node> Products(bool large)
    {
        int n = large ? 16 : 1, channels = large ? 512 : 256;
        yield return Node([n, 32, 32, channels], [channels, channels, 1, 1], padding: 0);
        yield return Node([n, 32, 32, channels], [channels, channels, 3, 3], padding: 1);
        yield return Node([n, 64, 64, channels / 2], [channels / 2, channels / 2, 3, 3], padding: 1);

        static Node Node(Shape x, Shape w, int padding) => Kernels.Node.Create(
            "product", new Ops.Convolution(1, padding), new Tensor("x", new TensorType(x), TensorKind.Input), new Tensor("product.weight", new TensorType(w), TensorKind.Weight));
    }
}
