using System.Globalization;
using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using Kernels.Checkpoints;

namespace Kernels.Bench.Files;

/// <summary>
/// Reads every weight of a 256 MiB checkpoint (in binary32) into memory that is there already, from the page cache. The bytes of the
/// file per second are what a disk would have to deliver.
/// </summary>
[MemoryDiagnoser]
[Config(typeof(Config))]
public class CheckpointLoading
{
    private const int Tensors = 64;
    private const int Elements = 1 << 20;

    private readonly string _path = Path.Combine(Path.GetTempPath(), $"kernels-bench-{Guid.NewGuid():N}.safetensors");
    private readonly float[] _destination = new float[Elements];

    /// <summary>The element type in the file.</summary>
    [Params(DType.F32, DType.F16, DType.BF16)]
    public DType Type { get; set; }

    /// <summary>Writes the file.</summary>
    [GlobalSetup]
    public void Setup()
    {
        float[] values = [.. Enumerable.Range(0, Elements).Select(i => MathF.Sin(i))];
        SafeTensorsWriter.Write(_path, Enumerable.Range(0, Tensors).Select(i => CheckpointTensor.FromFloat32($"w{i}", [Elements], values)), dtype: Type);
    }

    /// <summary>Removes the file.</summary>
    [GlobalCleanup]
    public void Cleanup() => File.Delete(_path);

    /// <summary>Opening alone: the header.</summary>
    [Benchmark]
    public int Open()
    {
        using Checkpoint checkpoint = Checkpoint.Load(_path);
        return checkpoint.Tensors.Count;
    }

    /// <summary>Opening and reading everything.</summary>
    [Benchmark]
    public float Load()
    {
        using Checkpoint checkpoint = Checkpoint.Load(_path);
        foreach (CheckpointTensor tensor in checkpoint.Tensors.Values)
        {
            tensor.CopyTo(_destination);
        }

        return _destination[^1];
    }

    private sealed class Config : ManualConfig
    {
        public Config() => AddColumn(new RateColumn());
    }

    private sealed class RateColumn : IColumn
    {
        public string Id => nameof(RateColumn);

        public string ColumnName => "GB/s";

        public string Legend => "Bytes of the file's weights over the mean time, in 10^9 per second";

        public bool AlwaysShow => true;

        public ColumnCategory Category => ColumnCategory.Custom;

        public int PriorityInCategory => 0;

        public bool IsNumeric => true;

        public UnitType UnitType => UnitType.Dimensionless;

        public bool IsAvailable(Summary summary) => true;

        public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase) =>
            benchmarkCase.Descriptor.WorkloadMethod.Name == nameof(Load) && summary[benchmarkCase]?.ResultStatistics is { } statistics
                ? ((long)Tensors * Elements * ((DType)benchmarkCase.Parameters[nameof(Type)]).SizeInBytes() / statistics.Mean).ToString("F2", CultureInfo.InvariantCulture)
                : "-";

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);
    }
}
