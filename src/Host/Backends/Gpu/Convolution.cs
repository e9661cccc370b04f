using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>convolution.cu</c>.</summary>
internal static class Convolution
{
    private const string File = "convolution.cu";

    /// <summary>Lowers a convolution, one with a skip connection, or a data gradient.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        IReadOnlyList<Tensor> i = node.Inputs;
        (int height, int width) = (i[1].Shape[2], i[1].Shape[3]);
        ImplicitProduct product = new()
        {
            Images = i[0].Shape[0],
            Input = (i[0].Shape[1], i[0].Shape[2], i[0].Shape[3]),
            Output = (node.Output.Shape[1], node.Output.Shape[2], node.Output.Shape[3]),
            Window = (height, width),
        };
        switch (node.Op)
        {
            case Ops.Convolution op:
            {
                Tensor? second = op.TwoInputs ? i[op.SecondInput] : null;
                product = product with { Stride = op.Stride, Padding = (op.Padding, op.Padding), Upsample = op.Upsample, SecondChannels = second?.Shape[3] ?? 0 };
                Emit(lowering, node, product, new Operands
                {
                    Second = second,
                    Bias = op.Bias ? i[2] : null,
                    Residual = op.Residual ? i[op.ResidualInput] : null,
                    ResidualResampling = op.ResidualResampling,
                });
                break;
            }

            case ConvolutionSkip op:
                product = product with { Padding = (op.Padding, op.Padding), Skip = (i[3].Shape[3], op.TwoInputs ? i[6].Shape[3] : 0) };
                Emit(lowering, node, product, new Operands { Bias = i[2], Skip = i[3], SkipWeight = i[4], SkipBias = i[5], SkipSecond = op.TwoInputs ? i[6] : null });
                break;
            case ConvolutionGradient op:
                product = product with { Spread = op.Stride, Padding = (height - 1 - op.Padding, width - 1 - op.Padding), Turned = true };
                Emit(lowering, node, product, new Operands { Residual = op.Residual ? i[2] : null });
                break;
            default:
                throw new GraphException($"{node.Op.Name} is no convolution");
        }
    }

    /// <summary>Emits the launch of a product.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node: input 0 is x, input 1 the weight.</param>
    /// <param name="product">Its extents.</param>
    /// <param name="operands">What else it reads.</param>
    public static void Emit(GpuLowering lowering, Node node, ImplicitProduct product, Operands operands)
    {
        (Tensor x, Tensor weight, Tensor y) = (node.Inputs[0], node.Inputs[1], node.Output);
        foreach (Tensor repacked in new[] { weight, operands.SkipWeight }.OfType<Tensor>())
        {
            if (repacked.Kind != TensorKind.Weight)
            {
                throw new GraphException($"{node.Op.Name} '{node.Name}': the GPU backend repacks weights once, so '{repacked.Name}' must be a weight, not an activation");
            }
        }

        Precision precision = lowering.Precision;
        DType multiplied = precision.Storage();
        ConvolutionTile tile = (product with { Converted = x.DType != multiplied || Type(operands.Second) != multiplied }).Tile(precision, lowering.MaximumSharedBytes);

        // With statistics tiles keep to one image each. What a data gradient writes may be the dy of a norm's gradient.
        TensorStatistics? statistics = !product.Turned && lowering.Statistics.AreWanted(y) ? lowering.Statistics.Add(node, y, tile.Pixels) : null;
        NormGradientSums? sums = product.Turned ? lowering.GradientStatistics.Add(node, product.Spread > 1, tile.Pixels) : null;
        List<(string, object)> constants =
        [
            ("X", x.DType), ("X2", Type(operands.Second)), ("S1", Type(operands.Skip)), ("S2", Type(operands.SkipSecond)), ("Y", y.DType), ("R", operands.Residual?.DType ?? y.DType),
            .. product.Constants(precision, tile),
            ("BIAS", operands.Bias is not null), ("RESIDUAL", operands.Residual is not null), ("RESAMPLE", (int)operands.ResidualResampling), ("STATISTICS", statistics is not null),
        ];
        constants.AddRange(statistics?.Constants ?? sums?.Constants ?? []);
        if (lowering.Scale is float scale and not 1)
        {
            constants.Add(("SCALE_Y", scale));
        }

        string layout = product.LayoutName(precision) + (operands.SkipWeight is null ? "" : $" + {operands.SkipWeight.Name}");
        ulong packed = lowering.Packed(
            weight, layout, values => product.Pack(values, operands.SkipWeight is null ? [] : lowering.Values(operands.SkipWeight), precision));
        lowering.Emit(
            new KernelSpec(File, "convolution", constants),
            product.Geometry(tile, perImage: statistics is not null || sums is not null),
            lowering.Arguments()
                .Add(lowering.Address(x)).Add(Address(operands.Second)).Add(Address(operands.Skip)).Add(Address(operands.SkipSecond))
                .Add(packed).Add(Address(operands.Bias)).Add(Address(operands.SkipBias)).Add(Address(operands.Residual)).Add(lowering.Address(y))
                .Add(statistics?.Own.Partials ?? sums?.Partials ?? 0).Add(statistics?.Other?.Partials ?? 0)
                .Add(statistics?.Statistics ?? sums?.Means ?? 0).Add(statistics?.Tickets ?? sums?.Tickets ?? 0)
                .Add(Address(sums?.X)).Add(Address(sums?.Statistics)).Add(Address(sums?.Gamma)).Add(Address(sums?.Beta)).Add(Address(sums?.ScaleShift))
                .Add(product.Images));

        DType Type(Tensor? tensor) => tensor?.DType ?? x.DType;

        ulong Address(Tensor? tensor) => tensor is null ? 0 : lowering.Address(tensor);
    }

    /// <summary>What a product reads beside x and its weight.</summary>
    internal readonly record struct Operands
    {
        /// <summary>The tensor whose channels follow those of x.</summary>
        public Tensor? Second { get; init; }

        /// <summary>Added per channel.</summary>
        public Tensor? Bias { get; init; }

        /// <summary>Added per element.</summary>
        public Tensor? Residual { get; init; }

        /// <summary>How the residual is brought to the output's resolution; its values are those of <c>RESAMPLE</c>.</summary>
        public Resampling ResidualResampling { get; init; }

        /// <summary>What the skip connection reads.</summary>
        public Tensor? Skip { get; init; }

        /// <summary>The tensor whose channels follow those of <see cref="Skip"/>.</summary>
        public Tensor? SkipSecond { get; init; }

        /// <summary>The skip connection's weight.</summary>
        public Tensor? SkipWeight { get; init; }

        /// <summary>The skip connection's bias.</summary>
        public Tensor? SkipBias { get; init; }
    }
}
