using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Xunit;

namespace Kernels.Tests.Support;

/// <summary>The least reader of a trusted reference pack: enough for tests of parts that do not read files themselves.</summary>
internal sealed class PackFile
{
    private readonly byte[] _bytes;
    private readonly int _data;
    private readonly JsonElement _header;

    public PackFile(string name)
    {
        _bytes = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "packs", name + ".safetensors"));
        _data = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(_bytes);
        _header = JsonDocument.Parse(_bytes.AsMemory(8, _data - 8)).RootElement;
    }

    public string Metadata(string key) => _header.GetProperty("__metadata__").GetProperty(key).GetString()!;

    public int[] Shape(string tensor) => [.. _header.GetProperty(tensor).GetProperty("shape").EnumerateArray().Select(d => d.GetInt32())];

    public T[] Read<T>(string tensor)
        where T : unmanaged
    {
        JsonElement entry = _header.GetProperty(tensor);
        string dtype = entry.GetProperty("dtype").GetString()!;
        string expected = typeof(T) == typeof(float) ? "F32" : typeof(T) == typeof(double) ? "F64" : "I64";
        Assert.Equal(expected, dtype);
        JsonElement offsets = entry.GetProperty("data_offsets");
        int begin = offsets[0].GetInt32();
        return MemoryMarshal.Cast<byte, T>(_bytes.AsSpan(_data + begin, offsets[1].GetInt32() - begin)).ToArray();
    }
}
