using System.Buffers;
using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>Writes safetensors files that every reader of the format maps without copies: header and tensors aligned, nothing between them.</summary>
public static class SafeTensorsWriter
{
    private const int Alignment = 8;

    /// <summary>
    /// Writes tensors and metadata, whole or not at all. Tensors keep their order, except that wider element types come first, which
    /// aligns every tensor to its elements without gaps. One tensor at a time is in memory.
    /// </summary>
    /// <param name="path">The file to create or replace.</param>
    /// <param name="tensors">What to write; names must differ.</param>
    /// <param name="metadata">Strings for the header's <c>__metadata__</c>; null for none.</param>
    /// <param name="dtype">
    /// The type to which floating-point tensors are rounded (to nearest, ties to even; from binary64 by way of binary32);
    /// null keeps each its own. Integers and truth values stay what they are.
    /// </param>
    /// <exception cref="ArgumentException">A name is there twice or reserved, or <paramref name="dtype"/> holds no real numbers.</exception>
    /// <exception cref="ConfigurationException">A finite value is too large for <paramref name="dtype"/>.</exception>
    /// <exception cref="InvalidFileException">A tensor's file is damaged, or <paramref name="path"/> cannot be written.</exception>
    public static void Write(
        string path, IEnumerable<CheckpointTensor> tensors, IReadOnlyDictionary<string, string>? metadata = null, DType? dtype = null)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        if (dtype is { } chosen && !chosen.IsFloatingPoint())
        {
            throw new ArgumentException($"weights cannot be written as {chosen}", nameof(dtype));
        }

        (CheckpointTensor Tensor, DType DType)[] entries =
        [
            .. tensors.Select(tensor => (tensor, DType: tensor.DType.IsFloatingPoint() ? dtype ?? tensor.DType : tensor.DType))
                .OrderByDescending(entry => entry.DType.SizeInBytes()),
        ];
        byte[] header = Header(entries, metadata);
        AtomicFile.Write(path, stream =>
        {
            stream.Write(header);
            foreach ((CheckpointTensor tensor, DType target) in entries)
            {
                stream.Write(target == tensor.DType ? tensor.ToBytes() : Round(tensor, target));
            }
        });
    }

    private static byte[] Header((CheckpointTensor Tensor, DType DType)[] entries, IReadOnlyDictionary<string, string>? metadata)
    {
        ArrayBufferWriter<byte> buffer = new();
        buffer.Write(stackalloc byte[sizeof(ulong)]);

        // Relaxed: the default would write every quote of a configuration kept in the metadata as six characters.
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject("__metadata__");
                foreach ((string key, string value) in metadata)
                {
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }

            WriteTensors(json, entries);
            json.WriteEndObject();
        }

        int padding = (Alignment - (buffer.WrittenCount % Alignment)) % Alignment;
        buffer.GetSpan(padding)[..padding].Fill((byte)' ');
        buffer.Advance(padding);
        byte[] header = buffer.WrittenSpan.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - sizeof(ulong));
        return header;
    }

    private static void WriteTensors(Utf8JsonWriter json, (CheckpointTensor Tensor, DType DType)[] entries)
    {
        HashSet<string> names = ["__metadata__"];
        long offset = 0;
        foreach ((CheckpointTensor tensor, DType dtype) in entries)
        {
            if (!names.Add(tensor.Name))
            {
                throw new ArgumentException($"two tensors are named '{tensor.Name}', or the name is reserved", nameof(entries));
            }

            json.WriteStartObject(tensor.Name);
            json.WriteString("dtype", SafeTensorsTypes.Name(dtype));
            json.WriteStartArray("shape");
            foreach (int dim in tensor.Shape.Dims)
            {
                json.WriteNumberValue(dim);
            }

            json.WriteEndArray();
            json.WriteStartArray("data_offsets");
            json.WriteNumberValue(offset);
            offset += (long)tensor.Shape.Elements * dtype.SizeInBytes();
            json.WriteNumberValue(offset);
            json.WriteEndArray();
            json.WriteEndObject();
        }
    }

    private static byte[] Round(CheckpointTensor tensor, DType dtype)
    {
        double[] values = tensor.ToFloat64();
        float[] singles = tensor.ToFloat32();
        byte[] bytes = new byte[checked(values.Length * dtype.SizeInBytes())];
        ElementConversion.FromFloat32(singles, dtype, bytes);

        ElementConversion.ToFloat32(dtype, bytes, singles);
        for (int i = 0; i < values.Length; i++)
        {
            if (float.IsInfinity(singles[i]) && double.IsFinite(values[i]))
            {
                throw new ConfigurationException(
                    $"tensor '{tensor.Name}' has the value {values[i]:g6}, which {dtype} cannot hold; keep its type, {tensor.DType}");
            }
        }

        return bytes;
    }
}
