namespace Kernels.Checkpoints;

/// <summary>Tensors as <c>torch.save</c> describes them: offset, sizes and strides, in elements, into a storage.</summary>
internal static class TorchTensors
{
    private const int MaxRank = 64;

    // An expanded tensor (stride 0) has more elements than its storage; small ones occur, a large one is an allocation out of nothing.
    private const long MaxExpanded = 1 << 22;

    /// <summary>Checks that every element lies inside the storage.</summary>
    public static TorchTensor Create(Unpickler pickle, TorchStorage storage, long offset, object?[] sizes, object?[] strides)
    {
        if (sizes.Length != strides.Length || sizes.Length > MaxRank)
        {
            throw pickle.Invalid($"a tensor has {sizes.Length} sizes and {strides.Length} strides; they must be as many, at most {MaxRank}");
        }

        long[] extents = [.. sizes.Select(size => Whole(pickle, size, "size"))];
        long[] steps = [.. strides.Select(stride => Whole(pickle, stride, "stride"))];
        if (TensorShapes.Create(extents, storage.DType) is not { } shape)
        {
            throw pickle.Invalid(TensorShapes.TooLarge(extents));
        }

        long? extent = Strided.Extent(extents, steps);
        if (offset < 0 || extent is not { } reach || reach > storage.Elements || offset > storage.Elements - reach)
        {
            throw pickle.Invalid(
                $"a tensor [{string.Join(", ", extents)}] with strides [{string.Join(", ", steps)}] at {offset} " +
                $"reaches past the {storage.Elements} elements of storage '{storage.Key}'");
        }

        if ((shape.Elements > reach && shape.Elements > MaxExpanded) || reach > Array.MaxLength / storage.DType.SizeInBytes())
        {
            throw pickle.Invalid($"a tensor {shape} spread over {reach} elements of storage '{storage.Key}' is not supported; save a contiguous copy");
        }

        return new TorchTensor(storage, offset, extents, steps);
    }

    /// <summary>The tensor under its name.</summary>
    public static CheckpointTensor Named(string name, TorchTensor tensor)
    {
        TorchStorage storage = tensor.Storage;
        long start = checked((tensor.Offset + storage.Start) * storage.DType.SizeInBytes());
        Shape shape = TensorShapes.Create(tensor.Sizes, storage.DType)!.Value;
        long[]? strides = Strided.IsContiguous(tensor.Sizes, tensor.Strides) ? null : tensor.Strides;
        return new CheckpointTensor(name, storage.DType, shape, (storage.Whole ?? storage).Data!, start, strides);
    }

    private static long Whole(Unpickler pickle, object? value, string what) => value is long and >= 0
        ? (long)value
        : throw pickle.Invalid($"a tensor has {(value is long number ? $"a {what} of {number}" : $"{PickleValues.Describe(value)} for a {what}")}");
}
