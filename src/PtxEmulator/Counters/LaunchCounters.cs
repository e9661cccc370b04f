using System.Globalization;
using System.Text;
using System.Text.Json;
using Kernels.Emulation.Counting;
using Kernels.Emulation.Execution;

namespace Kernels.Emulation;

/// <summary>What a launch did, counted. Sums over all threads unless said otherwise.</summary>
public sealed record LaunchCounters
{
    /// <summary>The kernel.</summary>
    public required string Kernel { get; init; }

    /// <summary>Instructions executed by warps.</summary>
    public required long WarpInstructions { get; init; }

    /// <summary>Instructions executed by threads: those whose guard held.</summary>
    public required long ThreadInstructions { get; init; }

    /// <summary>Thread instructions by class, for instance <c>Float</c>; classes that do not occur are left out.</summary>
    public required IReadOnlyDictionary<string, long> ByClass { get; init; }

    /// <summary>Floating-point operations outside the tensor cores, a fused multiply-add counting two.</summary>
    public required long Flops { get; init; }

    /// <summary>Operations of the tensor cores, a multiply-add counting two.</summary>
    public required long TensorFlops { get; init; }

    /// <summary>Bytes of global memory that threads asked to read.</summary>
    public required long GlobalReadBytes { get; init; }

    /// <summary>Bytes of global memory that threads asked to write, atomics among them.</summary>
    public required long GlobalWrittenBytes { get; init; }

    /// <summary>32-byte sectors read, each counted once per warp access.</summary>
    public required long GlobalReadSectors { get; init; }

    /// <summary>32-byte sectors written, each counted once per warp access.</summary>
    public required long GlobalWrittenSectors { get; init; }

    /// <summary>Different bytes read: with <see cref="DistinctWrittenBytes"/> the least traffic that any schedule of this kernel needs.</summary>
    public required long DistinctReadBytes { get; init; }

    /// <summary>Different bytes written.</summary>
    public required long DistinctWrittenBytes { get; init; }

    /// <summary>Bytes of shared memory that threads asked for.</summary>
    public required long SharedBytes { get; init; }

    /// <summary>Wavefronts that shared memory took.</summary>
    public required long SharedWavefronts { get; init; }

    /// <summary>Wavefronts beyond the fewest possible: bank conflicts.</summary>
    public required long SharedExtraWavefronts { get; init; }

    /// <summary>Bytes of local memory.</summary>
    public required long LocalBytes { get; init; }

    /// <summary>Block barriers reached by warps.</summary>
    public required long Barriers { get; init; }

    /// <summary>Conditional branches executed by warps.</summary>
    public required long Branches { get; init; }

    /// <summary>Those whose lanes parted.</summary>
    public required long DivergentBranches { get; init; }

    /// <summary>Bytes asked for over bytes moved: 1 when every byte of every sector is wanted by the warp that moves it.</summary>
    public double CoalescingEfficiency => GlobalReadSectors + GlobalWrittenSectors == 0
        ? 1
        : (GlobalReadBytes + GlobalWrittenBytes) / (32.0 * (GlobalReadSectors + GlobalWrittenSectors));

    /// <summary>Share of conditional branches whose lanes stayed together.</summary>
    public double BranchEfficiency => Branches == 0 ? 1 : 1 - (double)DivergentBranches / Branches;

    internal static LaunchCounters From(Launch launch, WorkerCounters counted)
    {
        long warps = 0, threads = 0, flops = 0, tensor = 0;
        var classes = new SortedDictionary<string, long>(StringComparer.Ordinal);
        foreach (var instruction in launch.Program.Instructions)
        {
            var (w, t) = (counted.WarpExecutions(instruction), counted.ThreadExecutions(instruction));
            warps += w;
            threads += t;
            flops += t * instruction.Flops;
            tensor += w * instruction.TensorFlops;
            if (t > 0)
                classes[instruction.Class.ToString()] = classes.GetValueOrDefault(instruction.Class.ToString()) + t;
        }
        var (read, written) = WorkerCounters.CountTouched(launch.Memory);
        return new LaunchCounters
        {
            Kernel = launch.Function.Name,
            WarpInstructions = warps,
            ThreadInstructions = threads,
            ByClass = classes,
            Flops = flops,
            TensorFlops = tensor,
            GlobalReadBytes = counted.GlobalReadBytes,
            GlobalWrittenBytes = counted.GlobalWrittenBytes,
            GlobalReadSectors = counted.GlobalReadSectors,
            GlobalWrittenSectors = counted.GlobalWrittenSectors,
            DistinctReadBytes = read,
            DistinctWrittenBytes = written,
            SharedBytes = counted.SharedBytes,
            SharedWavefronts = counted.SharedWavefronts,
            SharedExtraWavefronts = counted.SharedExtraWavefronts,
            LocalBytes = counted.LocalBytes,
            Barriers = counted.Barriers,
            Branches = counted.Branches,
            DivergentBranches = counted.DivergentBranches,
        };
    }

    /// <summary>The counters as lines of a name and a value.</summary>
    public string ToTable()
    {
        var table = new StringBuilder();
        foreach (var (name, value) in Rows())
            table.Append(CultureInfo.InvariantCulture, $"{name,-34}{value,20}\n");
        return table.ToString();
    }

    /// <summary>Writes the counters as one JSON object.</summary>
    /// <param name="writer">Where to.</param>
    public void WriteJson(Utf8JsonWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.WriteStartObject();
        writer.WriteString("kernel", Kernel);
        writer.WriteNumber("warpInstructions", WarpInstructions);
        writer.WriteNumber("threadInstructions", ThreadInstructions);
        writer.WriteStartObject("byClass");
        foreach (var (name, count) in ByClass)
            writer.WriteNumber(JsonNamingPolicy.CamelCase.ConvertName(name), count);
        writer.WriteEndObject();
        writer.WriteNumber("flops", Flops);
        writer.WriteNumber("tensorFlops", TensorFlops);
        writer.WriteNumber("globalReadBytes", GlobalReadBytes);
        writer.WriteNumber("globalWrittenBytes", GlobalWrittenBytes);
        writer.WriteNumber("globalReadSectors", GlobalReadSectors);
        writer.WriteNumber("globalWrittenSectors", GlobalWrittenSectors);
        writer.WriteNumber("coalescingEfficiency", CoalescingEfficiency);
        writer.WriteNumber("distinctReadBytes", DistinctReadBytes);
        writer.WriteNumber("distinctWrittenBytes", DistinctWrittenBytes);
        writer.WriteNumber("sharedBytes", SharedBytes);
        writer.WriteNumber("sharedWavefronts", SharedWavefronts);
        writer.WriteNumber("sharedExtraWavefronts", SharedExtraWavefronts);
        writer.WriteNumber("localBytes", LocalBytes);
        writer.WriteNumber("barriers", Barriers);
        writer.WriteNumber("branches", Branches);
        writer.WriteNumber("divergentBranches", DivergentBranches);
        writer.WriteNumber("branchEfficiency", BranchEfficiency);
        writer.WriteEndObject();
    }

    private IEnumerable<(string Name, string Value)> Rows()
    {
        static string N(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
        static string Percent(double value) => value.ToString("P1", CultureInfo.InvariantCulture);
        yield return ("warp instructions", N(WarpInstructions));
        yield return ("thread instructions", N(ThreadInstructions));
        foreach (var (name, count) in ByClass)
            yield return ($"  {name}", N(count));
        yield return ("FLOPs", N(Flops));
        yield return ("tensor-core FLOPs", N(TensorFlops));
        yield return ("global bytes read (asked for)", N(GlobalReadBytes));
        yield return ("global bytes written (asked for)", N(GlobalWrittenBytes));
        yield return ("global sectors read (32 bytes)", N(GlobalReadSectors));
        yield return ("global sectors written (32 bytes)", N(GlobalWrittenSectors));
        yield return ("coalescing efficiency", Percent(CoalescingEfficiency));
        yield return ("distinct bytes read", N(DistinctReadBytes));
        yield return ("distinct bytes written", N(DistinctWrittenBytes));
        yield return ("shared bytes", N(SharedBytes));
        yield return ("shared wavefronts", N(SharedWavefronts));
        yield return ("  beyond the minimum", N(SharedExtraWavefronts));
        yield return ("local bytes", N(LocalBytes));
        yield return ("barriers", N(Barriers));
        yield return ("branches", N(Branches));
        yield return ("  divergent", N(DivergentBranches));
        yield return ("branch efficiency", Percent(BranchEfficiency));
    }
}
