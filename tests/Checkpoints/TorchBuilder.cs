using System.Runtime.InteropServices;
using System.Text;
using Kernels.Checkpoints;
using Kernels.Files;
using Xunit;

namespace Kernels.Tests.Checkpoints;

/// <summary>Puts pickles and storages into the containers of <c>torch.save</c>.</summary>
internal static class TorchBuilder
{
    public const string Name = "made.pt";

    /// <summary>Four floats: 1, 2, 3, 4.</summary>
    public static byte[] FourFloats { get; } = Floats(1, 2, 3, 4);

    public static byte[] Floats(params ReadOnlySpan<float> values) => MemoryMarshal.AsBytes(values).ToArray();

    public static ZipBuilder Zip(byte[] pickle, params (string Key, byte[] Bytes)[] storages)
    {
        ZipBuilder zip = new();
        zip.Add("made/data.pkl", pickle);
        foreach ((string key, byte[] bytes) in storages)
        {
            zip.Add($"made/data/{key}", bytes);
        }

        zip.Add("made/version", "3\n"u8.ToArray());
        return zip;
    }

    public static byte[] Legacy(byte[] pickle, params (string Key, long Elements, byte[] Bytes)[] storages)
    {
        PickleBuilder keys = PickleBuilder.New.Raw("](");
        List<byte> data = [];
        foreach ((string key, long elements, byte[] bytes) in storages)
        {
            keys.Text(key);
            data.AddRange(BitConverter.GetBytes(elements));
            data.AddRange(bytes);
        }

        return [.. LegacyHead(littleEndian: true), .. pickle, .. keys.Raw("e").Stop(), .. data];
    }

    /// <summary>Magic number, protocol version and facts about the machine.</summary>
    public static byte[] LegacyHead(bool littleEndian) =>
    [
        .. PickleBuilder.New.Raw(0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19).Stop(),
        .. PickleBuilder.New.Int(1001).Stop(),
        .. PickleBuilder.New.Raw("}").Text("little_endian").Raw(littleEndian ? (byte)0x88 : (byte)0x89).Raw("s").Stop(),
    ];

    /// <summary>A dict with one item, made by what stands between.</summary>
    public static byte[] Dict(string key, Func<PickleBuilder, PickleBuilder> value) => value(PickleBuilder.New.Raw("}").Text(key)).Raw("s").Stop();

    public static Checkpoint Open(byte[] bytes, string? key = null) => Checkpoint.Load(new MemorySource(Name, bytes), key);

    public static Checkpoint Open(ZipBuilder zip, string? key = null) => Open(zip.Build(), key);

    /// <summary>Opens a file and reads every tensor; the error must name the file and contain <paramref name="reason"/>.</summary>
    public static InvalidFileException Refused(byte[] bytes, string reason, string? key = null)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => ReadAll(bytes, key));
        Assert.Equal(Name, error.File);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
        return error;
    }

    public static InvalidFileException Refused(ZipBuilder zip, string reason, string? key = null) => Refused(zip.Build(), reason, key);

    public static void ReadAll(byte[] bytes, string? key = null)
    {
        using Checkpoint checkpoint = Open(bytes, key);
        foreach (CheckpointTensor tensor in checkpoint.Tensors.Values)
        {
            tensor.ToFloat32();
        }
    }

    public static byte[] Latin1(string text) => Encoding.Latin1.GetBytes(text);
}
