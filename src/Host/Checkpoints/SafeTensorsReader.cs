using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Unicode;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>
/// Reads the safetensors format: eight bytes of header length, a JSON header that gives type, shape and place of every tensor, the data.
/// Everything the header claims is held against the file before anything is allocated for it.
/// </summary>
/// <remarks>
/// Format: https://github.com/huggingface/safetensors#format. Its rules are enforced: no duplicate keys, string metadata only, data
/// covered exactly, without overlap and without gaps.
/// </remarks>
internal static class SafeTensorsReader
{
    public const string Format = "safetensors";

    /// <summary>The limit of the reference implementation; published models need a hundredth of it.</summary>
    public const int MaxHeaderBytes = 100_000_000;

    private const int PrefixBytes = sizeof(ulong);
    private const int MaxRank = 64;

    /// <summary>Whether the first bytes are those of a safetensors file: a length, then a JSON object.</summary>
    public static bool Recognizes(ReadOnlySpan<byte> head) => head.Length > PrefixBytes && head[PrefixBytes] == (byte)'{';

    /// <summary>Reads the header; tensors come in its order.</summary>
    public static (OrderedDictionary<string, CheckpointTensor> Tensors, Dictionary<string, string> Metadata) Read(ByteSource file)
    {
        ulong headerBytes = BinaryPrimitives.ReadUInt64LittleEndian(file.Read(0, PrefixBytes));
        if (headerBytes > (ulong)file.Length - PrefixBytes)
        {
            throw file.Invalid(0, $"claims a header of {headerBytes} bytes; the file has {file.Length}: it is truncated or damaged");
        }

        if (headerBytes > MaxHeaderBytes)
        {
            throw file.Invalid(0, $"claims a header of {headerBytes} bytes; the format allows {MaxHeaderBytes}");
        }

        byte[] header = file.Read(PrefixBytes, (int)headerBytes);
        if (!Utf8.IsValid(header))
        {
            throw file.Invalid(PrefixBytes, "the header is not UTF-8");
        }

        Header parsed = new(file, PrefixBytes + (long)headerBytes);
        try
        {
            // Object, tensor, list of extents: three levels are all there are.
            Utf8JsonReader json = new(header, new JsonReaderOptions { MaxDepth = 3 });
            parsed.Read(ref json);
        }
        catch (JsonException e)
        {
            throw file.Invalid(PrefixBytes, $"the header is not the JSON it should be: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            // Utf8JsonReader.GetString meets an escaped half of a surrogate pair.
            throw file.Invalid(PrefixBytes, "the header has a string that is not text", e);
        }

        parsed.CheckCoverage();
        return (parsed.Tensors, parsed.Metadata);
    }

    /// <summary>The tensors whose names begin with <paramref name="key"/> and a separator, under the rest of their names; all without a key.</summary>
    public static OrderedDictionary<string, CheckpointTensor> Select(ByteSource file, OrderedDictionary<string, CheckpointTensor> tensors, string? key)
    {
        if (string.IsNullOrEmpty(key))
        {
            return tensors;
        }

        OrderedDictionary<string, CheckpointTensor> selected = [];
        foreach ((string name, CheckpointTensor tensor) in tensors)
        {
            if (name.Length > key.Length + 1 && name.StartsWith(key, StringComparison.Ordinal) && name[key.Length] is '.' or '/')
            {
                selected.Add(name[(key.Length + 1)..], tensor.Renamed(name[(key.Length + 1)..]));
            }
        }

        return selected.Count > 0 ? selected : throw file.Invalid($"has no tensors named '{key}.…' or '{key}/…'");
    }

    private sealed class Header(ByteSource file, long dataStart)
    {
        private readonly long _dataBytes = file.Length - dataStart;
        private readonly List<(long Begin, long End, string Name)> _ranges = [];

        public OrderedDictionary<string, CheckpointTensor> Tensors { get; } = [];

        public Dictionary<string, string> Metadata { get; } = [];

        public void Read(ref Utf8JsonReader json)
        {
            bool sawMetadata = false;
            json.Read();
            Expect(ref json, JsonTokenType.StartObject, "the header");
            while (json.Read() && json.TokenType != JsonTokenType.EndObject)
            {
                string name = json.GetString()!;
                json.Read();
                if (name == "__metadata__")
                {
                    if (sawMetadata)
                    {
                        throw Invalid(ref json, "'__metadata__' is there twice");
                    }

                    sawMetadata = true;
                    ReadMetadata(ref json);
                }
                else if (!Tensors.TryAdd(name, ReadTensor(ref json, name)))
                {
                    throw Invalid(ref json, $"tensor '{name}' is there twice");
                }
            }

            // Only white space may follow; the reader throws on anything else.
            json.Read();
        }

        public void CheckCoverage()
        {
            long covered = 0;
            foreach ((long begin, long end, string name) in _ranges.Order())
            {
                if (begin != covered)
                {
                    string what = begin < covered ? "overlaps the tensor before it" : $"leaves a gap of {begin - covered} bytes before it";
                    throw InTensor(name, $"{what}: data_offsets [{begin}, {end}]");
                }

                covered = end;
            }

            if (covered != _dataBytes)
            {
                throw file.Invalid(dataStart + covered, $"{_dataBytes - covered} bytes follow the last tensor");
            }
        }

        private void ReadMetadata(ref Utf8JsonReader json)
        {
            Expect(ref json, JsonTokenType.StartObject, "'__metadata__'");
            while (json.Read() && json.TokenType != JsonTokenType.EndObject)
            {
                string key = json.GetString()!;
                json.Read();
                Expect(ref json, JsonTokenType.String, $"metadata '{key}'");
                if (!Metadata.TryAdd(key, json.GetString()!))
                {
                    throw Invalid(ref json, $"metadata '{key}' is there twice");
                }
            }
        }

        private CheckpointTensor ReadTensor(ref Utf8JsonReader json, string name)
        {
            string? dtypeName = null;
            long[]? sizes = null;
            long[]? offsets = null;
            Expect(ref json, JsonTokenType.StartObject, $"tensor '{name}'");
            while (json.Read() && json.TokenType != JsonTokenType.EndObject)
            {
                string field = json.GetString()!;
                json.Read();
                switch (field)
                {
                    case "dtype" when dtypeName is null:
                        Expect(ref json, JsonTokenType.String, $"the dtype of '{name}'");
                        dtypeName = json.GetString();
                        break;
                    case "shape" when sizes is null:
                        sizes = ReadIntegers(ref json, name, field);
                        break;
                    case "data_offsets" when offsets is null:
                        offsets = ReadIntegers(ref json, name, field);
                        break;
                    default:
                        throw Invalid(ref json, $"tensor '{name}' has a field '{field}' that is unknown or there twice");
                }
            }

            if (dtypeName is null || sizes is null || offsets is not [long begin, long end])
            {
                throw InTensor(name, "needs a dtype, a shape and two data_offsets");
            }

            return Place(name, dtypeName, sizes, begin, end);
        }

        private CheckpointTensor Place(string name, string dtypeName, long[] sizes, long begin, long end)
        {
            if (begin > end)
            {
                throw InTensor(name, $"its data_offsets [{begin}, {end}] run backwards");
            }

            if (end > _dataBytes)
            {
                throw InTensor(name, $"its data_offsets [{begin}, {end}] run past the end: the file holds {_dataBytes} bytes of data");
            }

            DType dtype = SafeTensorsTypes.Parse(dtypeName) ?? throw InTensor(name, $"its dtype '{dtypeName}' is not supported");
            if (TensorShapes.Bytes(sizes, dtype) is not { } bytes || bytes != end - begin)
            {
                throw InTensor(name, $"shape [{string.Join(", ", sizes)}] of {dtypeName} does not take the {end - begin} bytes that its data_offsets give it");
            }

            Shape shape = TensorShapes.Create(sizes, dtype) ?? throw InTensor(name, TensorShapes.TooLarge(sizes));
            _ranges.Add((begin, end, name));
            return new CheckpointTensor(name, dtype, shape, file, dataStart + begin);
        }

        private long[] ReadIntegers(ref Utf8JsonReader json, string name, string field)
        {
            List<long> values = [];
            Expect(ref json, JsonTokenType.StartArray, $"the {field} of '{name}'");
            while (json.Read() && json.TokenType != JsonTokenType.EndArray)
            {
                if (json.TokenType != JsonTokenType.Number || !json.TryGetInt64(out long value) || value < 0 || values.Count == MaxRank)
                {
                    throw Invalid(ref json, $"the {field} of '{name}' must be at most {MaxRank} whole numbers of 0 to 2^63 - 1");
                }

                values.Add(value);
            }

            return [.. values];
        }

        private void Expect(ref Utf8JsonReader json, JsonTokenType type, string what)
        {
            if (json.TokenType != type)
            {
                throw Invalid(ref json, $"{what} is {json.TokenType} where {type} is expected");
            }
        }

        private InvalidFileException Invalid(ref Utf8JsonReader json, string reason) => file.Invalid(PrefixBytes + json.TokenStartIndex, reason);

        private InvalidFileException InTensor(string name, string reason) => new(file.File, $"tensor '{name}'", reason);
    }
}
