using BenchmarkDotNet.Attributes;
using Kernels.Files;

namespace Kernels.Bench.Files;

/// <summary>The CRC-32 that runs over every byte of a ZIP container: by the widest instructions there are, and by tables.</summary>
public class Checksum
{
    private readonly byte[] _bytes = new byte[1 << 24];

    /// <summary>Fills the bytes.</summary>
    [GlobalSetup]
    public void Setup() => new Random(1).NextBytes(_bytes);

    /// <summary>As files are read.</summary>
    [Benchmark]
    public uint Fastest() => Crc32.Compute(_bytes);

    /// <summary>The portable path.</summary>
    [Benchmark(Baseline = true)]
    public uint Tables() => Crc32.AppendTables(~0u, _bytes);
}
