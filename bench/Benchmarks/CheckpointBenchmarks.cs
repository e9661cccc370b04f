using System.Globalization;
using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using Kernels.Checkpoints;
using Kernels.Models;

namespace Kernels.Bench.Benchmarks;

/// <summary>Reading every weight of a checkpoint into memory, as an executor does when it is made.</summary>
[Config(typeof(Config))]
public class CheckpointBenchmarks
{
    private const int Tensors = 64;
    private const int TensorElements = 1 << 20;

    private string _path = "";
    private float[] _values = [];

    /// <summary>Element type in the file; half precision is widened on the way.</summary>
    [Params(DType.F32, DType.F16)]
    public DType DType { get; set; }

    /// <summary>Writes the file.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _path = Path.Combine(Path.GetTempPath(), $"kernels-bench-{Environment.ProcessId}.safetensors");
        _values = new float[TensorElements];
        SyntheticWeights.Fill("values", 1, 0, _values);
        byte[] bytes = MemoryMarshal.AsBytes<float>(_values).ToArray();
        SafeTensorsWriter.Write(
            _path, Enumerable.Range(0, Tensors).Select(i => CheckpointTensor.FromBytes($"t{i}", DType.F32, [TensorElements / 1024, 1024], bytes)), dtype: DType);
    }

    /// <summary>Opens, checks and reads the file, which the operating system has cached.</summary>
    [Benchmark]
    public void LoadSafeTensors()
    {
        using Checkpoint checkpoint = Checkpoint.Load(_path);
        CheckpointWeights weights = new(checkpoint);
        foreach (string name in weights.Names)
        {
            weights.CopyTo(name, _values);
        }
    }

    /// <summary>Removes the file.</summary>
    [GlobalCleanup]
    public void Cleanup() => File.Delete(_path);

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
            summary[benchmarkCase]?.ResultStatistics is { } statistics
                ? ((long)Tensors * TensorElements * ((DType)benchmarkCase.Parameters[nameof(DType)]).SizeInBytes() / statistics.Mean).ToString("F2", CultureInfo.InvariantCulture)
                : "-";

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);
    }
}
