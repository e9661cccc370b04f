using System.Buffers.Binary;
using System.Numerics;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>
/// Reads what <c>torch.save</c> wrote before PyTorch 1.6, and still writes on request: five pickles in a row - a magic number, a
/// protocol version, facts about the machine, the object, the keys of its storages - then, for every key, a count and the elements.
/// </summary>
/// <remarks>Source: <c>_legacy_save</c> and <c>_legacy_load</c> in torch/serialization.py.</remarks>
internal static class TorchLegacy
{
    public const string Format = "torch legacy";

    private const long ProtocolVersion = 1001;

    private static readonly BigInteger MagicNumber = BigInteger.Parse("119547037146038801333356", System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Whether the first bytes may be those of a pickle: the protocol, or the number in digits as protocol 1 has it.</summary>
    public static bool Recognizes(ReadOnlySpan<byte> head) => head is [0x80, <= 5, ..] or [(byte)'L', >= (byte)'0' and <= (byte)'9', ..];

    /// <summary>The object that was saved.</summary>
    public static object? Read(ByteSource file)
    {
        // The storages come last, so all the pickles are in the first bytes.
        TorchStorages storages = new();
        Unpickler pickle = new(file, file.Read(0, (int)Math.Min(file.Length, Unpickler.MaxBytes)), storages.Load);
        if (pickle.Load() is not BigInteger magic || magic != MagicNumber)
        {
            throw file.Invalid("is a pickle, but not one that torch.save wrote");
        }

        if (pickle.Load() is not ProtocolVersion)
        {
            throw file.Invalid(pickle.Position, $"has an unknown protocol version; {ProtocolVersion} is the only one");
        }

        CheckMachine(file, pickle.Load(), pickle.Position);
        object? saved = pickle.Load();
        string[] keys = Keys(file, pickle);
        Locate(file, storages, keys, pickle.Position);
        return saved;
    }

    private static void CheckMachine(ByteSource file, object? facts, int position)
    {
        if (facts is not PickleDict dict || !dict.Items.TryGetValue("little_endian", out object? value) || value is not bool littleEndian)
        {
            throw file.Invalid(position, "does not say which byte order it has");
        }

        if (!littleEndian)
        {
            throw file.Invalid(position, "the file was saved on a big-endian machine; load and save it again on a little-endian one");
        }
    }

    private static string[] Keys(ByteSource file, Unpickler pickle)
    {
        int position = pickle.Position;
        if (pickle.Load() is not List<object?> list || list.Any(key => key is not string))
        {
            throw file.Invalid(position, "the keys of the storages are missing");
        }

        return [.. list.Cast<string>()];
    }

    private static void Locate(ByteSource file, TorchStorages storages, string[] keys, long position)
    {
        Span<byte> count = stackalloc byte[sizeof(long)];
        foreach (string key in keys)
        {
            if (!storages.ByKey.TryGetValue(key, out TorchStorage? storage) || storage.Data is not null)
            {
                throw file.Invalid(position, $"storage '{key}' is listed twice, or belongs to no tensor");
            }

            file.Read(position, count);
            long elements = BinaryPrimitives.ReadInt64LittleEndian(count);
            long bytes = storage.Elements * storage.DType.SizeInBytes();
            if (elements != storage.Elements)
            {
                throw file.Invalid(position, $"storage '{key}' has {elements} elements where its tensors expect {storage.Elements}");
            }

            position += count.Length;
            if (bytes > file.Length - position)
            {
                throw file.Invalid(position, $"storage '{key}' needs {bytes} bytes and {file.Length - position} are left: the file is truncated");
            }

            storage.Data = file.Slice(position, bytes, $"storage '{key}'");
            position += bytes;
        }

        if (storages.ByKey.Values.FirstOrDefault(storage => storage.Data is null) is { } missing)
        {
            throw file.Invalid(position, $"storage '{missing.Key}' is missing");
        }

        if (position != file.Length)
        {
            throw file.Invalid(position, $"{file.Length - position} bytes follow the last storage");
        }
    }
}
