using System.Buffers;
using System.Buffers.Binary;
using System.Text.Json;
using Kernels.Checkpoints;
using Kernels.Files;
using Kernels.Models;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>
/// A safetensors file of any size that exists as its header only: whoever reads a weight from it fails the test. So models of gigabytes can be opened, and opening them
/// is known to read no values.
/// </summary>
internal static class SyntheticCheckpoint
{
    /// <summary>The state dict that a model has.</summary>
    public static OrderedDictionary<string, Shape> ShapesOf(ModelConfig config) => new(WeightList.Of(config).Select(w => KeyValuePair.Create(w.Name, w.Shape)));

    /// <summary>Opens a model with exactly its weights.</summary>
    public static LoadedModel Load(
        ModelConfig config, ModelOverrides? flags = null, string file = "model.safetensors", Dictionary<string, string>? metadata = null, ModelKind? expected = null) =>
        Load(ShapesOf(config), flags, file, metadata, expected);

    /// <summary>Opens a model with these weights.</summary>
    public static LoadedModel Load(
        IReadOnlyDictionary<string, Shape> shapes,
        ModelOverrides? flags = null,
        string file = "model.safetensors",
        Dictionary<string, string>? metadata = null,
        ModelKind? expected = null) =>
        ModelLoader.Complete(Inspect(shapes, flags, file, metadata, expected));

    /// <summary>Opens a model of which settings may be unknown.</summary>
    public static LoadedModel Inspect(
        IReadOnlyDictionary<string, Shape> shapes,
        ModelOverrides? flags = null,
        string file = "model.safetensors",
        Dictionary<string, string>? metadata = null,
        ModelKind? expected = null,
        string dtype = "F32")
    {
        HeaderOnly source = new(file, Header(shapes, metadata, dtype), shapes.Values.Sum(s => 4L * s.Elements));
        return ModelLoader.Resolve(Checkpoint.Load(source), flags ?? new ModelOverrides(), expected);
    }

    private static byte[] Header(IReadOnlyDictionary<string, Shape> shapes, Dictionary<string, string>? metadata, string dtype)
    {
        ArrayBufferWriter<byte> buffer = new();
        buffer.Write(new byte[sizeof(ulong)]);
        using (Utf8JsonWriter json = new(buffer))
        {
            json.WriteStartObject();
            if (metadata is not null)
            {
                json.WriteStartObject("__metadata__");
                foreach ((string key, string value) in metadata)
                {
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }

            long offset = 0;
            foreach ((string name, Shape shape) in shapes)
            {
                json.WriteStartObject(name);
                json.WriteString("dtype", dtype);
                json.WriteStartArray("shape");
                foreach (int extent in shape)
                {
                    json.WriteNumberValue(extent);
                }

                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += 4L * shape.Elements);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        byte[] header = buffer.WrittenSpan.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - sizeof(ulong));
        return header;
    }

    private sealed class HeaderOnly(string file, byte[] header, long dataBytes) : ByteSource(file, "", header.Length + dataBytes)
    {
        protected override void ReadCore(long offset, Span<byte> destination)
        {
            Assert.True(offset + destination.Length <= header.Length, "a weight was read");
            header.AsSpan((int)offset, destination.Length).CopyTo(destination);
        }
    }
}
