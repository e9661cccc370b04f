using System.Numerics;
using Kernels.Files;

namespace Kernels.Checkpoints;

// What the unpickler builds. Python's None, bool, int, float, str, bytes, tuple and list become null, bool, long (BigInteger beyond 64 bits),
// double, string, byte[], object?[] and List<object?>; sets become lists, for nothing here asks whether they contain something.

/// <summary>A dict. Only string keys are kept: a state dict has no others, and what hangs on them is never reached.</summary>
internal sealed class PickleDict
{
    /// <summary>Values by string key, in the order of insertion.</summary>
    public OrderedDictionary<string, object?> Items => field ??= [];
}

/// <summary>A name that a pickle may mention, and what our code does if the pickle calls it.</summary>
/// <param name="Name">Module and name, as <c>collections.OrderedDict</c>.</param>
/// <param name="Call">Builds plain data out of the arguments; null if the name cannot be called.</param>
internal record PickleGlobal(string Name, Func<Unpickler, object?[], object?>? Call = null);

/// <summary>A storage class, which gives the element type; never called.</summary>
internal sealed record PickleStorageType(string Name, DType DType) : PickleGlobal(Name);

/// <summary>A run of elements that tensors share.</summary>
/// <param name="key">Its name in the file.</param>
/// <param name="dtype">The element type.</param>
/// <param name="elements">How many there are.</param>
internal sealed class TorchStorage(string key, DType dtype, long elements)
{
    public string Key { get; } = key;

    public DType DType { get; } = dtype;

    public long Elements { get; } = elements;

    /// <summary>The bytes: exactly <see cref="Elements"/> elements from <see cref="Start"/> on. Set once the container has found them.</summary>
    public ByteSource? Data { get; set; }

    /// <summary>The storage of which this one is a part, in the legacy container.</summary>
    public TorchStorage? Whole { get; init; }

    /// <summary>The first element, counted in <see cref="Whole"/>.</summary>
    public long Start { get; init; }
}

/// <summary>A tensor: a view of a storage, known to lie inside it.</summary>
internal sealed record TorchTensor(TorchStorage Storage, long Offset, long[] Sizes, long[] Strides);

/// <summary>Names of values for messages.</summary>
internal static class PickleValues
{
    public static string Describe(object? value) => value switch
    {
        null => "None",
        bool => "a bool",
        long or BigInteger => "an int",
        double => "a float",
        string => "a str",
        byte[] => "bytes",
        object?[] tuple => $"a tuple of {tuple.Length}",
        List<object?> list => $"a list of {list.Count}",
        PickleDict dict => $"a dict of {dict.Items.Count}",
        PickleGlobal global => global.Name,
        TorchStorage => "a storage",
        TorchTensor => "a tensor",
        _ => "a mark",
    };
}
