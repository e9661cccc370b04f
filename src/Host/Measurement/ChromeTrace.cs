using System.Text.Json;
using Kernels.Files;

namespace Kernels.Measurement;

/// <summary>A ledger as a trace that Chrome's <c>about:tracing</c> and Perfetto open (Trace Event Format, complete events).</summary>
public static class ChromeTrace
{
    /// <summary>Writes the launches one after the other in the order of the plan, each as long as its time in the ledger.</summary>
    /// <param name="profile">A profile with times.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="ConfigurationException">The profile has no times.</exception>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void Save(StepProfile profile, string path)
    {
        ArgumentNullException.ThrowIfNull(profile);
        if (profile.Totals.Ms is null)
        {
            throw new ConfigurationException($"a trace needs times, and {profile.Header.Device} only counts; take --device cpu or cuda");
        }

        AtomicFile.Write(path, stream =>
        {
            using Utf8JsonWriter writer = new(stream);
            Write(profile, writer);
        });
    }

    private static void Write(StepProfile profile, Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteString("displayTimeUnit", "ms");
        writer.WriteStartArray("traceEvents");
        Name("process_name", 0, $"{profile.Model}, batch {profile.Batch}, {profile.Precision}, {profile.Header.Device}");
        for (int part = 0; part < StepParts.All.Count; part++)
        {
            Name("thread_name", part, StepParts.All[part]);
        }

        double start = 0;
        foreach (LedgerLine line in profile.Ledger.OrderBy(l => l.Index))
        {
            double duration = line.Ms!.Value * 1e3;
            writer.WriteStartObject();
            writer.WriteString("ph", "X");
            writer.WriteString("name", line.Name);
            writer.WriteString("cat", line.Op.Split(' ')[0]);
            writer.WriteNumber("pid", 0);
            writer.WriteNumber("tid", StepParts.All.ToList().IndexOf(line.Part));
            writer.WriteNumber("ts", start);
            writer.WriteNumber("dur", duration);
            writer.WriteStartObject("args");
            writer.WriteString("op", line.Op);
            writer.WriteString("shapes", line.Shapes);
            writer.WriteNumber("bytes", line.Bytes);
            writer.WriteNumber("flops", line.Flops);
            writer.WriteNumber("limit_ms", line.LimitMs!.Value);
            writer.WriteEndObject();
            writer.WriteEndObject();
            start += duration;
        }

        writer.WriteEndArray();
        writer.WriteEndObject();

        void Name(string what, int thread, string name)
        {
            writer.WriteStartObject();
            writer.WriteString("ph", "M");
            writer.WriteString("name", what);
            writer.WriteNumber("pid", 0);
            writer.WriteNumber("tid", thread);
            writer.WriteStartObject("args");
            writer.WriteString("name", name);
            writer.WriteEndObject();
            writer.WriteEndObject();
        }
    }
}
