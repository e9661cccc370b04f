using System.Collections.Frozen;

namespace Kernels.Checkpoints;

/// <summary>
/// The allowlist: every name a state dict, or a training checkpoint around one, needs. What a pickle "calls" is a function of this
/// file that checks its arguments and builds plain data; nothing a file names is ever looked up, constructed or run.
/// </summary>
/// <remarks>Argument lists: torch/_utils.py (<c>_rebuild_tensor</c> and its relatives) and torch/_tensor.py (<c>_reduce_ex_internal</c>).</remarks>
internal static class PickleGlobals
{
    private static readonly FrozenDictionary<string, PickleGlobal> Allowed = new PickleGlobal[]
    {
        new("collections.OrderedDict", Dict),
        new("collections.Counter", Dict),
        new("argparse.Namespace", Dict),
        new("builtins.set", Set),
        new("builtins.frozenset", Set),
        new("__builtin__.set", Set),
        new("__builtin__.frozenset", Set),
        new("_codecs.encode", Bytes),
        new("torch.Size", Size),
        new("torch.device", Device),
        new("torch._utils._rebuild_tensor", RebuildTensor),
        new("torch._utils._rebuild_tensor_v2", RebuildTensor),
        new("torch._utils._rebuild_parameter", RebuildParameter),
        new PickleStorageType("torch.FloatStorage", DType.F32),
        new PickleStorageType("torch.HalfStorage", DType.F16),
        new PickleStorageType("torch.BFloat16Storage", DType.BF16),
        new PickleStorageType("torch.DoubleStorage", DType.F64),
        new PickleStorageType("torch.LongStorage", DType.I64),
        new PickleStorageType("torch.IntStorage", DType.I32),
        new PickleStorageType("torch.ShortStorage", DType.I16),
        new PickleStorageType("torch.CharStorage", DType.I8),
        new PickleStorageType("torch.ByteStorage", DType.U8),
        new PickleStorageType("torch.BoolStorage", DType.Bool),
        new("torch.float32"),
        new("torch.float16"),
        new("torch.bfloat16"),
        new("torch.float64"),
        new("torch.int64"),
        new("torch.int32"),
        new("torch.int16"),
        new("torch.int8"),
        new("torch.uint8"),
        new("torch.bool"),
    }.ToFrozenDictionary(global => global.Name);

    /// <summary>The entry of the allowlist, if there is one.</summary>
    public static PickleGlobal? Find(string module, string name) => Allowed.GetValueOrDefault($"{module}.{name}");

    // OrderedDict() and Namespace() are filled by later opcodes; Python 2 gave OrderedDict a list of pairs, and Counter takes a dict.
    private static PickleDict Dict(Unpickler pickle, object?[] args)
    {
        PickleDict dict = new();
        switch (args)
        {
            case []:
                return dict;
            case [PickleDict other]:
                pickle.Update(dict, other);
                return dict;
            case [List<object?> pairs]:
                pickle.Spend(pairs.Count);
                foreach (object? pair in pairs)
                {
                    (object? key, object? value) = pair switch
                    {
                        List<object?> { Count: 2 } list => (list[0], list[1]),
                        object?[] { Length: 2 } tuple => (tuple[0], tuple[1]),
                        _ => throw Unexpected(pickle, "a dict", args),
                    };
                    pickle.Set(dict, key, value);
                }

                return dict;
            default:
                throw Unexpected(pickle, "a dict", args);
        }
    }

    private static List<object?> Set(Unpickler pickle, object?[] args)
    {
        if (args is not [List<object?> items])
        {
            throw Unexpected(pickle, "a set", args);
        }

        pickle.Spend(items.Count);
        return [.. items];
    }

    // How protocol 2 writes bytes: as the text that Latin-1 makes of them.
    private static byte[] Bytes(Unpickler pickle, object?[] args)
    {
        if (args is not [string text, "latin1" or "latin-1"] || text.Any(c => c > byte.MaxValue))
        {
            throw Unexpected(pickle, "bytes", args);
        }

        pickle.Spend(text.Length);
        return System.Text.Encoding.Latin1.GetBytes(text);
    }

    private static object?[] Size(Unpickler pickle, object?[] args) =>
        args is [object?[] sizes] ? sizes : throw Unexpected(pickle, "torch.Size", args);

    private static string Device(Unpickler pickle, object?[] args) => args switch
    {
        [string type] => type,
        [string type, long index] => $"{type}:{index}",
        _ => throw Unexpected(pickle, "torch.device", args),
    };

    // (storage, storage_offset, size, stride[, requires_grad, backward_hooks[, metadata]])
    private static TorchTensor RebuildTensor(Unpickler pickle, object?[] args)
    {
        if (args is not [TorchStorage storage, long offset, object?[] sizes, object?[] strides, ..] || args.Length is not (4 or 6 or 7))
        {
            throw Unexpected(pickle, "a tensor", args);
        }

        // The metadata say that values are to be negated or conjugated as they are read, which no state dict has.
        if (args.Length == 7 && args[6] is not (null or PickleDict { Items.Count: 0 }))
        {
            throw pickle.Invalid("a tensor is a lazily negated or conjugated view; save it after .resolve_neg().resolve_conj()");
        }

        return TorchTensors.Create(pickle, storage, offset, sizes, strides);
    }

    // (data, requires_grad, backward_hooks)
    private static TorchTensor RebuildParameter(Unpickler pickle, object?[] args) =>
        args is [TorchTensor data, _, _] ? data : throw Unexpected(pickle, "a parameter", args);

    private static InvalidFileException Unexpected(Unpickler pickle, string what, object?[] args) =>
        pickle.Invalid($"{what} cannot be made of ({string.Join(", ", args.Take(8).Select(PickleValues.Describe))})");
}
