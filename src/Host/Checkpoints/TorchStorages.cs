using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>The storages that a file's pickle refers to by persistent id: <c>('storage', type, key, location, numel[, view])</c>.</summary>
/// <remarks>Source: <c>persistent_id</c> and <c>persistent_load</c> in torch/serialization.py.</remarks>
internal sealed class TorchStorages
{
    private readonly Dictionary<string, TorchStorage> _byKey = [];

    // Views of the legacy container have keys of their own.
    private readonly Dictionary<string, TorchStorage> _views = [];

    /// <summary>The storages by key.</summary>
    public IReadOnlyDictionary<string, TorchStorage> ByKey => _byKey;

    /// <summary>Gives the storage for a persistent id; the same one for the same key.</summary>
    public TorchStorage Load(Unpickler pickle, object? id)
    {
        if (id is not object?[] tuple
            || tuple is not ["storage", PickleStorageType type, string key, string, long elements, ..] || tuple.Length > 6)
        {
            throw pickle.Invalid($"a persistent id is {PickleValues.Describe(id)}, not the description of a storage");
        }

        if (elements < 0 || TensorShapes.Bytes([elements], type.DType) is null)
        {
            throw pickle.Invalid($"storage '{key}' claims {elements} elements");
        }

        TorchStorage storage = Same(pickle, _byKey, new TorchStorage(key, type.DType, elements));
        return tuple.Length == 6 && tuple[5] is { } view ? View(pickle, storage, view) : storage;
    }

    private static TorchStorage Same(Unpickler pickle, Dictionary<string, TorchStorage> known, TorchStorage storage)
    {
        if (!known.TryGetValue(storage.Key, out TorchStorage? first))
        {
            known.Add(storage.Key, storage);
            return storage;
        }

        return first.DType == storage.DType && first.Elements == storage.Elements && first.Whole == storage.Whole && first.Start == storage.Start
            ? first
            : throw pickle.Invalid($"storage '{storage.Key}' is described twice, as {first.Elements} {first.DType} and as {storage.Elements} {storage.DType}");
    }

    private TorchStorage View(Unpickler pickle, TorchStorage whole, object view)
    {
        if (view is not object?[] tuple || tuple is not [string key, long start, long elements] || start < 0 || elements < 0
            || elements > whole.Elements || start > whole.Elements - elements)
        {
            throw pickle.Invalid($"a view does not lie inside the {whole.Elements} elements of storage '{whole.Key}'");
        }

        return Same(pickle, _views, new TorchStorage(key, whole.DType, elements) { Whole = whole, Start = start });
    }
}
