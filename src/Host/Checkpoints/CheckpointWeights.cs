using System.Numerics.Tensors;
using Kernels.Runtime;

namespace Kernels.Checkpoints;

/// <summary>The tensors of a checkpoint as a model's weights.</summary>
/// <param name="checkpoint">The open checkpoint; it must stay open while weights are read.</param>
/// <param name="prefix">Part of the keys that the model does not have, such as <c>weights/</c>; tensors without it are not weights.</param>
public sealed class CheckpointWeights(Checkpoint checkpoint, string prefix = "") : Weights
{
    /// <inheritdoc/>
    public override string Source => checkpoint.File;

    /// <inheritdoc/>
    public override IReadOnlyCollection<string> Names { get; } =
        [.. checkpoint.Tensors.Keys.Where(k => k.StartsWith(prefix, StringComparison.Ordinal)).Select(k => k[prefix.Length..])];

    /// <inheritdoc/>
    public override Shape? ShapeOf(string name) => checkpoint.Tensors.TryGetValue(prefix + name, out CheckpointTensor? tensor) ? tensor.Shape : null;

    /// <inheritdoc/>
    public override void CopyTo(string name, Span<float> destination)
    {
        checkpoint.Tensors[prefix + name].CopyTo(destination);

        // One NaN would spread over the whole image within a step, and by then nobody could tell where it came from.
        if (!TensorPrimitives.IsFiniteAll(destination))
        {
            int index = 0;
            while (float.IsFinite(destination[index]))
            {
                index++;
            }

            throw new InvalidFileException(Source, prefix + name, $"element {index} is {destination[index]}; weights must be finite, so this checkpoint is damaged or its training diverged");
        }
    }
}
