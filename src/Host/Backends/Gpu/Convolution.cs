using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>convolution.cu</c>.</summary>
internal static class Convolution
{
    private const string File = "convolution.cu";

    /// <summary>Lowers a convolution or its data gradient.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        (Tensor x, Tensor weight, Tensor y) = (node.Inputs[0], node.Inputs[1], node.Output);
        ImplicitProduct product = new()
        {
            Images = x.Shape[0],
            Input = (x.Shape[1], x.Shape[2], x.Shape[3]),
            Output = (y.Shape[1], y.Shape[2], y.Shape[3]),
            Window = (weight.Shape[2], weight.Shape[3]),
        };
        switch (node.Op)
        {
            case Ops.Convolution op:
                Emit(
                    lowering,
                    node,
                    product with { Stride = op.Stride, Padding = (op.Padding, op.Padding), Upsample = op.Upsample },
                    op.Bias ? node.Inputs[2] : null,
                    op.Residual ? node.Inputs[op.ResidualInput] : null);
                break;
            case ConvolutionGradient op:
                Emit(
                    lowering,
                    node,
                    product with { Spread = op.Stride, Padding = (weight.Shape[2] - 1 - op.Padding, weight.Shape[3] - 1 - op.Padding), Turned = true },
                    bias: null,
                    op.Residual ? node.Inputs[2] : null);
                break;
            default:
                throw new GraphException($"{node.Op.Name} is no convolution");
        }
    }

    /// <summary>Emits the launch of a product.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node: input 0 is x, input 1 the weight.</param>
    /// <param name="product">Its extents.</param>
    /// <param name="bias">Added per channel, or null.</param>
    /// <param name="residual">Added per element, or null.</param>
    public static void Emit(GpuLowering lowering, Node node, ImplicitProduct product, Tensor? bias, Tensor? residual)
    {
        (Tensor x, Tensor weight, Tensor y) = (node.Inputs[0], node.Inputs[1], node.Output);
        if (weight.Kind != TensorKind.Weight)
        {
            throw new GraphException($"{node.Op.Name} '{node.Name}': the GPU backend repacks weights once, so '{weight.Name}' must be a weight, not an activation");
        }

        Precision precision = lowering.Precision;
        ConvolutionTile tile = product.Tile(precision);

        // With statistics tiles keep to one image each.
        bool statistics = !product.Turned && lowering.Statistics.AreWanted(y);
        List<(string, object)> constants =
        [
            ("X", x.DType), ("Y", y.DType), ("R", residual?.DType ?? y.DType), .. product.Constants(precision, tile),
            ("BIAS", bias is not null), ("RESIDUAL", residual is not null), ("STATISTICS", statistics),
        ];
        ulong packed = lowering.Packed(weight, product.LayoutName(precision), values => product.Pack(values, precision));
        lowering.Emit(
            new KernelSpec(File, "convolution", constants),
            product.Geometry(tile, perImage: statistics),
            lowering.Arguments()
                .Add(lowering.Address(x)).Add(0UL).Add(0UL).Add(0UL).Add(packed)
                .Add(bias is null ? 0UL : lowering.Address(bias)).Add(0UL)
                .Add(residual is null ? 0UL : lowering.Address(residual))
                .Add(lowering.Address(y))
                .Add(statistics ? lowering.Statistics.Add(node, y, tile.Pixels) : 0UL)
                .Add(product.Images));
    }
}
