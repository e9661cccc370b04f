using Kernels.Ops;

namespace Kernels.Passes;

/// <summary>Ops that only move values, taken over by the addressing of those that read them: nothing is written that is read but once or twice.</summary>
internal static class AddressingRules
{
    /// <summary>[x1, x2] → GroupNorm and [x1, x2] → Convolution, provided that every reader of the concatenation can do so: otherwise it must be written anyway.</summary>
    public static FusionMatch? Concat(Graph graph, Node node)
    {
        if (!TakesParts(node)
            || graph.Producer(node.Inputs[0]) is not { Op: Ops.Concat op, Inputs: [Tensor first, Tensor second] } concat
            || (op.Axis != -1 && op.Axis != first.Shape.Rank - 1)
            || graph.Outputs.Values.Contains(concat.Output)
            || graph.Consumers(concat.Output).Any(c => !TakesParts(c) || c.Inputs.Count(t => t == concat.Output) != 1))
        {
            return null;
        }

        Op reader = node.Op switch
        {
            Convolution c => c with { Concat = true },
            GroupNorm g => g with { Concat = true },
            _ => node.Op,
        };
        return new FusionMatch(new Node(node.Name, reader, [first, .. node.Inputs.Skip(1), second], node.Outputs));
    }

    /// <summary>Upsample2x → Convolution.</summary>
    public static FusionMatch? Upsample(Graph graph, Node node) =>
        node.Op is Convolution { Upsample: false } op
        && graph.OnlyFor(node.Inputs[0], node) is { Op: Upsample2x { Factor: 1, Height: int height, Width: int width } } upsample
        && height % 2 == 0
        && width % 2 == 0
        && !op.Concat
            ? new FusionMatch(new Node(node.Name, op with { Upsample = true }, [upsample.Inputs[0], .. node.Inputs.Skip(1)], node.Outputs), upsample)
            : null;

    // The concatenated tensor as x, and not as anything else.
    private static bool TakesParts(Node node) => node.Op is GroupNorm { Concat: false } or Convolution { Concat: false, Upsample: false };
}
