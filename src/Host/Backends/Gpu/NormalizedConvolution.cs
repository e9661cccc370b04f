using Kernels.Passes;

namespace Kernels.Backends.Gpu;

/// <summary>A convolution that normalises its input where it brings it in: y = product(norm(x)), the norm's result never in memory. Made by <see cref="NormPrologue"/>.</summary>
/// <param name="Norm">What x passes through, unpooled.</param>
/// <param name="Product">A <see cref="Ops.Convolution"/> or <see cref="Ops.ConvolutionSkip"/> that reads the result alone as its input 0.</param>
/// <remarks>Inputs: those of the norm, then those of the product behind its first. Outputs: y of the product; statistics of the norm, which its gradient reads.</remarks>
internal sealed record NormalizedConvolution(Ops.GroupNorm Norm, Op Product) : Op
{
    /// <summary>How many of the inputs are the norm's.</summary>
    public int NormInputs => Norm.SecondInput + (Norm.TwoInputs ? 1 : 0);

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [.. Product.InPlaceInputs.Select(i => i + NormInputs - 1)];

    /// <summary>The norm that a node computes, by itself or in front of a convolution; null if it computes none.</summary>
    /// <param name="node">The node: the inputs of its norm come first.</param>
    public static Ops.GroupNorm? NormOf(Node node) => node.Op as Ops.GroupNorm ?? (node.Op as NormalizedConvolution)?.Norm;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        Tensor[] all = new Tensor[inputs.Count];
        for (int i = 0; i < all.Length; i++)
        {
            all[i] = inputs[i];
        }

        Node norm = Node.Create("norm", Norm, all.AsSpan(0, NormInputs));
        return [.. Node.Create("product", Product, [norm.Output, .. all.AsSpan(NormInputs)]).Outputs.Append(norm.Outputs[1]).Select(t => new TensorType(t.Shape, t.DType))];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        Tensor x = node.Inputs[0];
        int channels = x.Shape[-1] + (Norm.TwoInputs ? node.Inputs[Norm.SecondInput].Shape[-1] : 0);
        Tensor normalized = new(node.Name, new TensorType(x.Shape.With(-1, channels), x.DType), TensorKind.Value);
        return Norm.Flops(new Node(node.Name, Norm, [.. node.Inputs.Take(NormInputs)], [normalized, node.Outputs[1]]))
            + Product.Flops(new Node(node.Name, Product, [normalized, .. node.Inputs.Skip(NormInputs)], [node.Output]));
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node) =>
        throw new GraphException($"'{node?.Name}': gradients are appended before norms go into convolutions");
}
