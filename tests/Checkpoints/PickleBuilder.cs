using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace Kernels.Tests.Checkpoints;

/// <summary>Writes pickles opcode by opcode, in protocol 2.</summary>
internal sealed class PickleBuilder
{
    private readonly List<byte> _bytes = [0x80, 2];

    public static PickleBuilder New => new();

    /// <summary>Any opcodes.</summary>
    public PickleBuilder Raw(params ReadOnlySpan<byte> bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    /// <summary>Opcodes that are letters.</summary>
    public PickleBuilder Raw(string letters) => Raw(Encoding.Latin1.GetBytes(letters));

    public PickleBuilder Global(string module, string name) => Raw($"c{module}\n{name}\n");

    public PickleBuilder Text(string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        return Raw([(byte)'X', .. Bytes(utf8.Length), .. utf8]);
    }

    public PickleBuilder Int(long value)
    {
        byte[] bytes = new BigInteger(value).ToByteArray();
        return Raw([0x8a, (byte)bytes.Length, .. bytes]);
    }

    public PickleBuilder Tuple(params ReadOnlySpan<long> values)
    {
        Raw("(");
        foreach (long value in values)
        {
            Int(value);
        }

        return Raw("t");
    }

    /// <summary>A storage by persistent id.</summary>
    public PickleBuilder Storage(string key, string type, long elements) =>
        Raw("(").Text("storage").Global("torch", type).Text(key).Text("cpu").Int(elements).Raw("tQ");

    /// <summary>A view of a storage, as the legacy container has them.</summary>
    public PickleBuilder StorageView(string key, string type, long elements, string viewKey, long offset, long viewElements) =>
        Raw("(").Text("storage").Global("torch", type).Text(key).Text("cpu").Int(elements).Raw("(").Text(viewKey).Int(offset).Int(viewElements).Raw("ttQ");

    /// <summary>What follows a storage to make a tensor of it; <see cref="BeginTensor"/> comes before.</summary>
    public PickleBuilder EndTensor(long offset, long[] sizes, long[] strides) =>
        Int(offset).Tuple(sizes).Tuple(strides).Raw(0x89).Global("collections", "OrderedDict").Raw(")RtR");

    public PickleBuilder BeginTensor() => Global("torch._utils", "_rebuild_tensor_v2").Raw("(");

    public PickleBuilder Tensor(string key, string type, long elements, long offset, long[] sizes, long[] strides) =>
        BeginTensor().Storage(key, type, elements).EndTensor(offset, sizes, strides);

    /// <summary>A float tensor of one axis that is all of its storage.</summary>
    public PickleBuilder Tensor(string key, long elements) => Tensor(key, "FloatStorage", elements, 0, [elements], [1]);

    public byte[] Stop() => [.. Raw(".")._bytes];

    private static byte[] Bytes(int value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }
}
