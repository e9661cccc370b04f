using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>
/// Reads what <c>torch.save</c> writes since PyTorch 1.6: a ZIP file with <c>name/data.pkl</c>, <c>name/version</c>, <c>name/byteorder</c>
/// (since 2.1) and one record <c>name/data/key</c> per storage.
/// </summary>
/// <remarks>Source: <c>_save</c> and <c>_load</c> in torch/serialization.py, caffe2/serialize/inline_container.h.</remarks>
internal static class TorchZip
{
    public const string Format = "torch zip";

    private const string Pickle = "/data.pkl";

    // kMaxSupportedFileFormatVersion.
    private const int MaxVersion = 10;

    /// <summary>Whether the container is one that torch.save wrote.</summary>
    public static bool Recognizes(ZipContainer zip) => zip.Entries.Keys.Any(IsPickle);

    /// <summary>The object that was saved.</summary>
    public static object? Read(ByteSource file, ZipContainer zip)
    {
        string[] pickles = [.. zip.Entries.Keys.Where(IsPickle)];
        if (pickles.Length != 1)
        {
            throw file.Invalid($"holds {pickles.Length} pickles: {string.Join(", ", pickles.Take(4))}");
        }

        string prefix = pickles[0][..^Pickle.Length];
        if (zip.Entries.ContainsKey($"{prefix}/constants.pkl"))
        {
            throw file.Invalid("is a TorchScript program; save the model's state_dict() with torch.save instead");
        }

        CheckVersion(zip, $"{prefix}/version");
        CheckByteOrder(zip, $"{prefix}/byteorder");

        ZipEntry entry = zip.Entries[pickles[0]];
        TorchStorages storages = new();
        Unpickler pickle = new(entry, entry.ReadAll(Unpickler.MaxBytes), (unpickler, id) =>
        {
            TorchStorage storage = storages.Load(unpickler, id);
            storage.Data ??= Find(zip, $"{prefix}/data/{storage.Key}", storage, unpickler);
            return storage;
        });
        object? saved = pickle.Load();
        return pickle.Position == entry.Length
            ? saved
            : throw entry.Invalid(pickle.Position, $"{entry.Length - pickle.Position} bytes follow the pickle");
    }

    private static bool IsPickle(string name) =>
        name.EndsWith(Pickle, StringComparison.Ordinal) && name.IndexOf('/', StringComparison.Ordinal) == name.Length - Pickle.Length;

    private static ZipEntry Find(ZipContainer zip, string name, TorchStorage storage, Unpickler pickle)
    {
        if (storage.Whole is not null)
        {
            throw pickle.Invalid($"storage '{storage.Key}' is a view, which this container does not have");
        }

        if (!zip.Entries.TryGetValue(name, out ZipEntry? record))
        {
            throw pickle.Invalid($"the record '{name}' of a storage is missing from the file");
        }

        long bytes = storage.Elements * storage.DType.SizeInBytes();
        return record.Length == bytes
            ? record
            : throw record.Invalid($"has {record.Length} bytes where {storage.Elements} elements of {storage.DType} take {bytes}");
    }

    private static void CheckVersion(ZipContainer zip, string name)
    {
        if (zip.Entries.TryGetValue(name, out ZipEntry? entry)
            && (!int.TryParse(Text(entry), out int version) || version < 1 || version > MaxVersion))
        {
            throw entry.Invalid($"is not a known version of the format (1 to {MaxVersion})");
        }
    }

    private static void CheckByteOrder(ZipContainer zip, string name)
    {
        if (zip.Entries.TryGetValue(name, out ZipEntry? entry) && Text(entry) is var order && order != "little")
        {
            throw entry.Invalid(order == "big"
                ? "the file was saved on a big-endian machine; load and save it again on a little-endian one"
                : "is neither 'little' nor 'big'");
        }
    }

    private static string Text(ZipEntry entry) => System.Text.Encoding.Latin1.GetString(entry.ReadAll(limit: 64)).Trim();
}
