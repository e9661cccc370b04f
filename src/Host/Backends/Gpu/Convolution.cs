using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>convolution.cu</c>.</summary>
internal static class Convolution
{
    private const string File = "convolution.cu";

    /// <summary>Lowers a convolution, one with a skip connection or behind a norm, or a data gradient.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        (ImplicitProduct product, Operands operands) = Describe(node);
        Emit(lowering, node, product, operands);
    }

    /// <summary>What a convolution multiplies and reads.</summary>
    /// <param name="node">The node.</param>
    public static (ImplicitProduct Product, Operands Operands) Describe(Node node)
    {
        if (node.Op is NormalizedConvolution fused)
        {
            // The product reads what the norm reads, as one tensor of all its channels.
            (ImplicitProduct ofX, Operands others) = Describe(fused.Product, [node.Inputs[0], .. node.Inputs.Skip(fused.NormInputs)], node.Output);
            Ops.GroupNorm norm = fused.Norm;
            Tensor? second = norm.TwoInputs ? node.Inputs[norm.SecondInput] : null;
            return (
                ofX with { SecondChannels = second?.Shape[3] ?? 0 },
                others with { Second = second, Norm = norm, Gamma = node.Inputs[1], Beta = node.Inputs[2], ScaleShift = norm.ScaleShift ? node.Inputs[3] : null });
        }

        return Describe(node.Op, node.Inputs, node.Output);
    }

    private static (ImplicitProduct Product, Operands Operands) Describe(Op convolution, IReadOnlyList<Tensor> i, Tensor y)
    {
        (int height, int width) = (i[1].Shape[2], i[1].Shape[3]);
        ImplicitProduct product = new()
        {
            Images = i[0].Shape[0],
            Input = (i[0].Shape[1], i[0].Shape[2], i[0].Shape[3]),
            Output = (y.Shape[1], y.Shape[2], y.Shape[3]),
            Window = (height, width),
        };
        Operands operands = new() { X = i[0], Weight = i[1] };
        switch (convolution)
        {
            case Ops.Convolution op:
                Tensor? second = op.TwoInputs ? i[op.SecondInput] : null;
                return (
                    product with { Stride = op.Stride, Padding = (op.Padding, op.Padding), Upsample = op.Upsample, SecondChannels = second?.Shape[3] ?? 0 },
                    operands with { Second = second, Bias = op.Bias ? i[2] : null, Residual = op.Residual ? i[op.ResidualInput] : null, ResidualResampling = op.ResidualResampling });
            case ConvolutionSkip op:
                return (
                    product with { Padding = (op.Padding, op.Padding), Skip = (i[3].Shape[3], op.TwoInputs ? i[6].Shape[3] : 0) },
                    operands with { Bias = i[2], Skip = i[3], SkipWeight = i[4], SkipBias = i[5], SkipSecond = op.TwoInputs ? i[6] : null });
            case ConvolutionGradient op:
                return (
                    product with { Spread = op.Stride, Padding = (height - 1 - op.Padding, width - 1 - op.Padding), Turned = true },
                    operands with { Residual = op.Residual ? i[2] : null });
            default:
                throw new GraphException($"{convolution.Name} is no convolution");
        }
    }

    /// <summary>The tile that a product takes on a device, by the extents of one image and the types of what it reads.</summary>
    /// <param name="product">The product.</param>
    /// <param name="operands">What it reads.</param>
    /// <param name="precision">What is multiplied.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    public static ConvolutionTile Tile(ImplicitProduct product, Operands operands, Precision precision, int sharedBytes)
    {
        DType multiplied = precision.Storage();
        bool converts = operands.X.DType != multiplied || (operands.Second is Tensor second && second.DType != multiplied);
        ConvolutionTile tile = product.Tile(precision, sharedBytes, converts);

        // A norm's table does not change what tile is taken, so that with the same statistics a norm gives the same bits by itself.
        return operands.Norm is null ? tile : tile with { TableBytes = 3 * sizeof(float) * product.AllChannels };
    }

    /// <summary>Emits the launch of a product.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    /// <param name="product">Its extents.</param>
    /// <param name="operands">What it reads.</param>
    public static void Emit(GpuLowering lowering, Node node, ImplicitProduct product, Operands operands)
    {
        (Tensor x, Tensor weight, Tensor y) = (operands.X, operands.Weight, node.Output);
        foreach (Tensor repacked in new[] { weight, operands.SkipWeight }.OfType<Tensor>())
        {
            if (repacked.Kind != TensorKind.Weight)
            {
                throw new GraphException($"{node.Op.Name} '{node.Name}': the GPU backend repacks weights once, so '{repacked.Name}' must be a weight, not an activation");
            }
        }

        Precision precision = lowering.Precision;
        ConvolutionTile tile = Tile(product, operands, precision, lowering.MaximumSharedBytes);

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
        constants.AddRange(operands.NormConstants);
        ulong given = operands.Norm is null ? Address(sums?.Statistics) : GroupNorm.Statistics(lowering, node, operands.Norm);
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
                .Add(Address(sums?.X)).Add(given).Add(Address(operands.Gamma ?? sums?.Gamma)).Add(Address(operands.Beta ?? sums?.Beta))
                .Add(Address(operands.ScaleShift ?? sums?.ScaleShift)).Add(Address(operands.Norm is null ? null : node.Outputs[1]))
                .Add(product.Images));

        DType Type(Tensor? tensor) => tensor?.DType ?? x.DType;

        ulong Address(Tensor? tensor) => tensor is null ? 0 : lowering.Address(tensor);
    }

    /// <summary>What a product reads.</summary>
    internal readonly record struct Operands
    {
        /// <summary>x, or what the norm in front reads.</summary>
        public required Tensor X { get; init; }

        /// <summary>The weight as the checkpoint holds it.</summary>
        public required Tensor Weight { get; init; }

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

        /// <summary>The norm that x passes through on its way in.</summary>
        public Ops.GroupNorm? Norm { get; init; }

        /// <summary>The norm's γ.</summary>
        public Tensor? Gamma { get; init; }

        /// <summary>The norm's β.</summary>
        public Tensor? Beta { get; init; }

        /// <summary>The norm's scale and shift.</summary>
        public Tensor? ScaleShift { get; init; }

        /// <summary>What the kernel must know of the norm.</summary>
        public IEnumerable<(string, object)> NormConstants => Norm is null
            ? []
            : [("NORM_INPUT", Norm.Groups), ("NORM_SILU", Norm.SiLU), .. ScaleShift is null ? [] : new (string, object)[] { ("NORM_SCALE_SHIFT", ScaleShift.DType) }];
    }
}
