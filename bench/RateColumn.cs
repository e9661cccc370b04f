using System.Globalization;
using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;

namespace Kernels.Bench;

/// <summary>What one call of a benchmark does, for a column of the work done per second.</summary>
/// <param name="unit">The unit of the column, for instance <c>GFLOP/s</c>.</param>
/// <param name="work">Units done by one call.</param>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class WorkAttribute(string unit, double work) : Attribute
{
    internal string Unit => unit;

    internal double Work => work;
}

/// <summary>Work per second: <see cref="WorkAttribute.Work"/> by the mean time, or by the least.</summary>
internal sealed class RateColumn(string unit, bool best) : IColumn
{
    public string Id => $"{unit} {best}";

    public string ColumnName => best ? $"{unit}, best" : unit;

    public string Legend => $"{unit} of {(best ? "the fastest iteration" : "the mean time")}";

    public bool AlwaysShow => true;

    public ColumnCategory Category => ColumnCategory.Custom;

    public int PriorityInCategory => 0;

    public bool IsNumeric => true;

    public UnitType UnitType => UnitType.Dimensionless;

    public bool IsAvailable(Summary summary) => summary.BenchmarksCases.Any(benchmark => Work(benchmark) is not null);

    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
    {
        if (Work(benchmarkCase) is not { } work || summary[benchmarkCase]?.ResultStatistics is not { } statistics)
            return "-";
        return (work / ((best ? statistics.Min : statistics.Mean) * 1e-9)).ToString("0.00", CultureInfo.InvariantCulture);
    }

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);

    private double? Work(BenchmarkCase benchmark) =>
        Attribute.GetCustomAttribute(benchmark.Descriptor.WorkloadMethod, typeof(WorkAttribute)) is WorkAttribute found && found.Unit == unit ? found.Work : null;
}

/// <summary>Adds the columns of work per second to a class of benchmarks.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class RateColumnsAttribute(params string[] units) : ColumnConfigBaseAttribute([.. units.SelectMany(unit => new[] { new RateColumn(unit, false), new RateColumn(unit, true) })]);

/// <summary>Bytes that one call allocates, on any thread: 0 B where the default column shows a dash.</summary>
internal sealed class AllocatedColumn : IColumn
{
    public string Id => nameof(AllocatedColumn);

    public string ColumnName => "allocated";

    public string Legend => "managed memory that one call allocates, on any thread";

    public bool AlwaysShow => true;

    public ColumnCategory Category => ColumnCategory.Custom;

    public int PriorityInCategory => 0;

    public bool IsNumeric => true;

    public UnitType UnitType => UnitType.Dimensionless;

    public bool IsAvailable(Summary summary) => true;

    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase) =>
        summary[benchmarkCase]?.GcStats.GetBytesAllocatedPerOperation(benchmarkCase) is long bytes ? string.Create(CultureInfo.InvariantCulture, $"{bytes} B") : "-";

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);
}

/// <summary>Counts what is allocated and says so.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class AllocationsAttribute() : ColumnConfigBaseAttribute(new AllocatedColumn());
