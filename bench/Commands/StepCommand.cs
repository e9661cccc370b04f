using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Kernels.Backends.Cpu;
using Kernels.Bench.Workloads;
using Kernels.Models;

namespace Kernels.Bench.Commands;

/// <summary>Times whole guided steps, by itself or at another program's word.</summary>
internal static class StepCommand
{
    private const int WarmUps = 3;

    /// <summary>Runs the step repeatedly and prints what it took.</summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="repeats">Number of timed runs.</param>
    /// <param name="threads">Number of threads; null for one per core.</param>
    /// <param name="weights">A file of weights, or null.</param>
    /// <param name="json">Whether to print JSON rather than text.</param>
    public static void Run(BenchModel model, int batch, int repeats, int? threads, string? weights, bool json)
    {
        using CpuBackend backend = new(threads);
        using GuidedWorkload workload = new(backend, model, batch, weights);
        double[] milliseconds = new double[repeats];
        for (int i = -WarmUps; i < repeats; i++)
        {
            double elapsed = Time(workload);
            if (i >= 0)
            {
                milliseconds[i] = elapsed;
            }
        }

        IReadOnlyList<(string Part, double Milliseconds)> split = StepParts.Measure(workload, Math.Min(repeats, 5));
        if (json)
        {
            Console.WriteLine(Json(writer =>
            {
                Describe(writer, backend, workload);
                writer.WriteNumber("median_ms", Statistics.Median(milliseconds));
                writer.WriteNumber("min_ms", milliseconds.Min());
                writer.WriteNumber("spread", Statistics.Spread(milliseconds));
                WriteNumbers(writer, "milliseconds", milliseconds);
                WriteSplit(writer, split);
            }));
            return;
        }

        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{model.Name}, batch {batch}, {backend.Name}: median {Statistics.Median(milliseconds):F2} ms, min {milliseconds.Min():F2} ms, spread {Statistics.Spread(milliseconds):P1}"));
        foreach ((string part, double ms) in split)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {part,-20} {ms,10:F2} ms"));
        }
    }

    /// <summary>
    /// Runs steps at another program's word, one JSON line out for every line in, so that two implementations can be timed in turns while both stay warm. Prints a
    /// description first; then answers <c>run</c> with one step's time, <c>split</c> with the time of each part, <c>verify</c> with the result under known noise.
    /// </summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="threads">Number of threads; null for one per core.</param>
    /// <param name="weights">A file of weights, or null.</param>
    public static void Serve(BenchModel model, int batch, int? threads, string? weights)
    {
        using CpuBackend backend = new(threads);
        using GuidedWorkload workload = new(backend, model, batch, weights);
        Console.WriteLine(Json(writer => Describe(writer, backend, workload)));
        while (Console.ReadLine() is string line)
        {
            Console.WriteLine(Json(writer =>
            {
                switch (line.Trim())
                {
                    case "run":
                        writer.WriteNumber("ms", Time(workload));
                        break;
                    case "split":
                        WriteSplit(writer, StepParts.Measure(workload, 5));
                        break;
                    case "verify":
                        writer.WriteBase64String("x_next", MemoryMarshal.AsBytes<float>(workload.RunWithKnownNoise()));
                        break;
                    default:
                        writer.WriteString("error", $"'{line}' is not run, split or verify");
                        break;
                }
            }));
        }
    }

    private static double Time(GuidedWorkload workload)
    {
        long start = Stopwatch.GetTimestamp();
        workload.Run();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private static void Describe(Utf8JsonWriter writer, CpuBackend backend, GuidedWorkload workload)
    {
        BenchModel model = workload.Model;
        writer.WriteString("model", model.Name);
        writer.WriteNumber("batch", workload.Batch);
        writer.WriteString("device", backend.Name);
        writer.WriteString("runtime", RuntimeInformation.FrameworkDescription);
        writer.WriteNumber("threads", backend.Pool.Workers);
        writer.WriteNumber("launches", workload.Plan.Launches.Count);
        writer.WriteNumber("arena_bytes", workload.Plan.Memory.ArenaBytes);
        writer.WriteNumber("flops", workload.Plan.Graph.Cost.Flops);
        writer.WriteNumber("step", workload.Step);
        writer.WriteNumber("classifier_scale", model.ClassifierScale);
        Raw("config", ModelConfigJson.Write(model.Unet));
        Raw("classifier_config", ModelConfigJson.Write(model.Classifier));
        Raw("diffusion", model.Process.ToJson());

        void Raw(string name, string json)
        {
            writer.WritePropertyName(name);
            writer.WriteRawValue(json);
        }
    }

    private static void WriteSplit(Utf8JsonWriter writer, IReadOnlyList<(string Part, double Milliseconds)> split)
    {
        writer.WriteStartObject("split_ms");
        foreach ((string part, double ms) in split)
        {
            writer.WriteNumber(part, ms);
        }

        writer.WriteEndObject();
    }

    private static void WriteNumbers(Utf8JsonWriter writer, string name, double[] values)
    {
        writer.WriteStartArray(name);
        foreach (double value in values)
        {
            writer.WriteNumberValue(value);
        }

        writer.WriteEndArray();
    }

    private static string Json(Action<Utf8JsonWriter> write)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter writer = new(stream))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
