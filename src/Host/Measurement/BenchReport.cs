using System.Text.Json;
using System.Text.Json.Serialization;
using Kernels.Files;

namespace Kernels.Measurement;

/// <summary>One thing measured: a guided step, or one kernel. Rates are null where there is nothing to divide by.</summary>
public sealed record BenchRow
{
    /// <summary>What a row of a whole step is called.</summary>
    public const string Step = "guided step";

    /// <summary>Who computed: <c>kernels</c>, or a rival.</summary>
    public string Engine { get; init; } = "kernels";

    /// <summary>The models whose shapes these are.</summary>
    public required string Model { get; init; }

    /// <summary>Number of images.</summary>
    public required int Batch { get; init; }

    /// <summary>How products were made: <c>fp32</c>, <c>tf32</c>, <c>fp16</c> or <c>bf16</c>.</summary>
    public required string Precision { get; init; }

    /// <summary><see cref="Step"/>, <c>op</c> for one op by itself, or <c>kernel</c> for all launches of one kernel in a step.</summary>
    public required string Part { get; init; }

    /// <summary>The op or kernel.</summary>
    public string? Op { get; init; }

    /// <summary>The shapes of its operands.</summary>
    public string? Shapes { get; init; }

    /// <summary>Launches of a step that are alike.</summary>
    public int? Uses { get; init; }

    /// <summary>Whether it computes the right thing.</summary>
    public Verdict? Verified { get; init; }

    /// <summary>Why it could not be measured.</summary>
    public string? Error { get; init; }

    /// <summary>How often it was timed.</summary>
    public int? Repeats { get; init; }

    /// <summary>The middle time.</summary>
    public double? MedianMs { get; init; }

    /// <summary>A quarter of the times are shorter.</summary>
    public double? LowerQuartileMs { get; init; }

    /// <summary>A quarter of the times are longer.</summary>
    public double? UpperQuartileMs { get; init; }

    /// <summary>The shortest time.</summary>
    public double? MinMs { get; init; }

    /// <summary>Half the distance between the quartiles over the median.</summary>
    public double? Spread { get; init; }

    /// <summary>Least operations (<see cref="Cost"/>) over the median time, in 10¹² per second.</summary>
    public double? Tflops { get; init; }

    /// <summary>Least bytes over the median time, in 10⁹ per second.</summary>
    public double? GBPerSecond { get; init; }

    /// <summary>The limit that the roofline sets over the median time; of a step, the sum of its launches' limits.</summary>
    public double? RooflineShare { get; init; }

    /// <summary>Least operations.</summary>
    public long? Flops { get; init; }

    /// <summary>Least bytes: every operand read or written once.</summary>
    public long? Bytes { get; init; }

    /// <summary>Launches of the plan.</summary>
    public int? Launches { get; init; }

    /// <summary>Kernels that a GPU is asked to run.</summary>
    public int? Kernels { get; init; }

    /// <summary>Memory for activations.</summary>
    public long? ArenaBytes { get; init; }

    /// <summary>Time of each part of a step (<see cref="StepParts"/>).</summary>
    public IReadOnlyDictionary<string, double>? SplitMs { get; init; }

    /// <summary>What was counted, on a device that counts.</summary>
    public KernelCounters? Counters { get; init; }

    /// <summary>The same for each part of a step.</summary>
    public IReadOnlyDictionary<string, KernelCounters>? SplitCounters { get; init; }

    /// <summary>Fills in times and rates.</summary>
    /// <param name="timing">The times.</param>
    /// <param name="cost">The least work.</param>
    /// <param name="limitMs">The least time that the roofline allows.</param>
    internal BenchRow With(Timing timing, Cost cost, double limitMs) => this with
    {
        Repeats = timing.Repeats,
        MedianMs = timing.MedianMs,
        LowerQuartileMs = timing.LowerQuartileMs,
        UpperQuartileMs = timing.UpperQuartileMs,
        MinMs = timing.MinMs,
        Spread = timing.Spread,
        Tflops = timing.MedianMs > 0 ? cost.Flops / timing.MedianMs / 1e9 : null,
        GBPerSecond = timing.MedianMs > 0 ? cost.Bytes / timing.MedianMs / 1e6 : null,
        RooflineShare = timing.MedianMs > 0 ? limitMs / timing.MedianMs : null,
    };
}

/// <summary>What models were measured, in the JSON that checkpoints carry too (<see cref="Kernels.Models.ModelConfigJson"/>, <see cref="Kernels.Diffusion.DiffusionConfig"/>).</summary>
/// <param name="Config">The diffusion model.</param>
/// <param name="ClassifierConfig">Its classifier; absent if nothing steers.</param>
/// <param name="Diffusion">Schedule and respacing.</param>
/// <param name="ClassifierScale">Guidance scale.</param>
/// <param name="Step">The step that was run, as its row in the table of steps: the first to be run is 0.</param>
public sealed record MeasuredModel(JsonElement Config, JsonElement? ClassifierConfig, JsonElement Diffusion, double ClassifierScale, int Step)
{
    /// <summary>Describes models.</summary>
    /// <param name="pair">The models.</param>
    public static MeasuredModel Of(ModelPair pair)
    {
        ArgumentNullException.ThrowIfNull(pair);
        return new MeasuredModel(
            Element(Kernels.Models.ModelConfigJson.Write(pair.Unet)), pair.Classifier is null ? null : Element(Kernels.Models.ModelConfigJson.Write(pair.Classifier)),
            Element(pair.Process.ToJson()), pair.ClassifierScale, GuidedWorkload.StepOf(pair.CreateTable()));

        static JsonElement Element(string json)
        {
            using JsonDocument document = JsonDocument.Parse(json);
            return document.RootElement.Clone();
        }
    }
}

/// <summary>What <c>kernels bench</c> measured.</summary>
public sealed record BenchReport
{
    /// <summary>The only value of <see cref="Format"/>.</summary>
    public const string CurrentFormat = "kernels-bench-1";

    /// <summary>Names the layout of the file.</summary>
    public required string Format { get; init; }

    /// <summary>Under what circumstances.</summary>
    public required ReportHeader Header { get; init; }

    /// <summary>The limits of the device at each precision, measured in the same run; none on a device that counts.</summary>
    public IReadOnlyList<Roofline> Rooflines { get; init; } = [];

    /// <summary>The models by the names that rows give them, so that another program can build the same.</summary>
    public IReadOnlyDictionary<string, MeasuredModel>? Models { get; init; }

    /// <summary>The measurements.</summary>
    public required IReadOnlyList<BenchRow> Rows { get; init; }

    /// <summary>Reads a report.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file is missing or is no such report.</exception>
    public static BenchReport Load(string path)
    {
        try
        {
            using FileStream stream = File.OpenRead(path);
            BenchReport? report = JsonSerializer.Deserialize(stream, ReportJson.Default.BenchReport);
            return report is null ? throw new InvalidFileException(path, "", "holds null in place of a report of kernels bench")
                : report.Format != CurrentFormat ? throw new InvalidFileException(path, "format", $"is '{report.Format}'; this program reads {CurrentFormat}, as kernels bench --json writes it")
                : report.Rows.Any(r => r is null) ? throw new InvalidFileException(path, "rows", "holds null in place of a measurement")
                : report;
        }
        catch (JsonException e)
        {
            throw new InvalidFileException(path, e.Path ?? "", $"is no report of kernels bench: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", $"cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Writes the report as JSON.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public void Save(string path) => AtomicFile.Write(path, stream => JsonSerializer.Serialize(stream, this, ReportJson.Default.BenchReport));
}

/// <summary>How reports are written: names in snake case, nothing for null.</summary>
[JsonSourceGenerationOptions(
    WriteIndented = true,
    RespectNullableAnnotations = true,
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(BenchReport))]
[JsonSerializable(typeof(StepProfile))]
internal sealed partial class ReportJson : JsonSerializerContext;
