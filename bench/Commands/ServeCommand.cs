using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Kernels.Backends.Cpu;
using Kernels.Measurement;
using Kernels.Models;

namespace Kernels.Bench.Commands;

/// <summary>
/// Runs guided steps at another program's word, one JSON line out for every line in, so that two implementations can be timed in turns while both stay warm. Prints a
/// description first; then answers <c>run</c> with one step's time, <c>split</c> with the time of each part, <c>verify</c> with the result under known noise.
/// </summary>
internal static class ServeCommand
{
    private const int SplitRepeats = 5;

    /// <summary>Serves until the standard input ends.</summary>
    /// <param name="model">The models.</param>
    /// <param name="batch">Number of images.</param>
    /// <param name="threads">Number of threads; null for one per core.</param>
    public static void Run(ModelPair model, int batch, int? threads)
    {
        using CpuBackend backend = new(threads);
        using GuidedWorkload workload = new(backend, model, batch);
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
                        writer.WriteStartObject("split_ms");
                        foreach ((string part, double ms) in StepParts.Measure(workload, SplitRepeats))
                        {
                            writer.WriteNumber(part, ms);
                        }

                        writer.WriteEndObject();
                        break;
                    case "verify":
                        using (GuidedWorkload known = new(backend, model, batch, suppliedNoise: true))
                        {
                            float[] result = known.Result();
                            writer.WriteBase64String("x_next", MemoryMarshal.AsBytes(result.AsSpan(0, result.Length / 2)));
                        }

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
        ModelPair model = workload.Model;
        writer.WriteString("model", model.Name);
        writer.WriteNumber("batch", workload.Batch);
        writer.WriteString("device", backend.Name);
        writer.WriteString("runtime", RuntimeInformation.FrameworkDescription);
        writer.WriteNumber("threads", backend.Pool.Workers);
        writer.WriteNumber("launches", workload.Plan.Launches.Count);
        writer.WriteNumber("arena_bytes", workload.Plan.Memory.ArenaBytes);
        writer.WriteNumber("flops", workload.Plan.Graph.Cost.Flops);
        writer.WriteNumber("bytes", workload.Plan.Graph.Cost.Bytes);
        writer.WriteNumber("step", workload.Step);
        writer.WriteNumber("classifier_scale", model.ClassifierScale);
        Raw("config", ModelConfigJson.Write(model.Unet));
        Raw("classifier_config", ModelConfigJson.Write(model.Classifier!));
        Raw("diffusion", model.Process.ToJson());

        void Raw(string name, string json)
        {
            writer.WritePropertyName(name);
            writer.WriteRawValue(json);
        }
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
