using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>group_norm.cu</c> and <c>group_norm_backward.cu</c>.</summary>
internal static class GroupNorm
{
    private const string Forward = "group_norm.cu", Backward = "group_norm_backward.cu";

    // Of the 128 registers that each of 512 threads may have, 64 hold x; the gradient needs more of them for other things.
    private const int ForwardBytes = 256, BackwardBytes = 192, SplitSteps = 8;

    /// <summary>Lowers group normalisation or its gradient.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        if (node.Op is Ops.GroupNorm forward)
        {
            LowerForward(lowering, node, forward);
        }
        else
        {
            LowerBackward(lowering, node, (GroupNormGradient)node.Op);
        }
    }

    private static void LowerForward(GpuLowering lowering, Node node, Ops.GroupNorm op)
    {
        (Tensor y, Tensor statistics) = (node.Output, node.Outputs[1]);
        (Tensor x, Tensor? second, DType held) = Read(node, op);
        Tensor? scaleShift = op.ScaleShift ? node.Inputs[3] : null;
        GroupNormShape shape = ShapeOf(x.Shape, second?.Shape[-1] ?? 0, op.Groups, op.Pool, x, y, second);
        (string, object)[] constants =
        [
            .. shape.Constants, .. Modulation(scaleShift), ("X", x.DType), ("X2", second?.DType ?? x.DType), ("HELD", held), ("Y", y.DType), ("STATISTICS", statistics.DType),
            ("SILU", op.SiLU), ("EPSILON", op.Epsilon),
        ];
        ulong aX = lowering.Address(x), aX2 = Address(lowering, second), gamma = lowering.Address(node.Inputs[1]), beta = lowering.Address(node.Inputs[2]);
        ulong modulation = Address(lowering, scaleShift), aY = lowering.Address(y), aStatistics = lowering.Address(statistics);
        ulong given = lowering.Statistics.Of(node);
        if (given == 0 && GroupNormTiles.Fused(shape, (shape.Quad * held.SizeInBytes(), ForwardBytes)) is GroupNormTiles fused)
        {
            lowering.Emit(
                new KernelSpec(Forward, "group_norm_fused", [.. constants, .. fused.Constants]),
                fused.Geometry(shape),
                lowering.Arguments().Add(aX).Add(aX2).Add(gamma).Add(beta).Add(modulation).Add(aY).Add(aStatistics));
            return;
        }

        given = given == 0 ? EmitStatistics(lowering, node, op) : given;
        GroupNormTiles apply = GroupNormTiles.Split(shape, SplitSteps / shape.Quad);
        lowering.Emit(
            new KernelSpec(Forward, "group_norm_apply", [.. constants, .. apply.Constants]),
            apply.Geometry(shape),
            lowering.Arguments().Add(aX).Add(aX2).Add(gamma).Add(beta).Add(modulation).Add(given).Add(aY).Add(aStatistics));
    }

    /// <summary>Address of the groups' float2 (mean, rstd), <c>[N, Groups]</c>, of what a norm reads: as producers left them, or by a launch of its own.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node, whose first inputs are those of the norm.</param>
    /// <param name="op">The norm.</param>
    public static ulong Statistics(GpuLowering lowering, Node node, Ops.GroupNorm op) =>
        lowering.Statistics.Of(node) is ulong given and not 0 ? given : EmitStatistics(lowering, node, op);

    private static ulong EmitStatistics(GpuLowering lowering, Node node, Ops.GroupNorm op)
    {
        (Tensor x, Tensor? second, DType held) = Read(node, op);

        // Partials are of pixels, whatever y is made of.
        GroupNormShape pixels = ShapeOf(x.Shape, second?.Shape[-1] ?? 0, op.Groups, false, x, second);
        GroupNormTiles tiles = GroupNormTiles.Split(pixels, SplitSteps);
        LaunchGeometry geometry = tiles.Geometry(pixels);
        (ulong given, ulong partials) = PairsOf(lowering, pixels, geometry.GridY);
        lowering.Emit(
            new KernelSpec(
                Forward,
                "group_norm_partials",
                [
                    .. pixels.Constants, ("X", x.DType), ("X2", second?.DType ?? x.DType), ("HELD", held), ("EPSILON", op.Epsilon), .. tiles.Constants,
                    ("TILE_ROWS", tiles.Units), ("TILES", geometry.GridY),
                ]),
            geometry,
            lowering.Arguments().Add(lowering.Address(x)).Add(Address(lowering, second)).Add(partials).Add(given).Add(lowering.Constants<uint>(new uint[pixels.N])));
        return given;
    }

    // What a norm reads, and the type that registers hold of it.
    private static (Tensor X, Tensor? Second, DType Held) Read(Node node, Ops.GroupNorm op)
    {
        Tensor x = node.Inputs[0];
        Tensor? second = op.TwoInputs ? node.Inputs[op.SecondInput] : null;
        return (x, second, second is null || second.DType == x.DType ? x.DType : DType.F32);
    }

    private static void LowerBackward(GpuLowering lowering, Node node, GroupNormGradient op)
    {
        (Tensor dy, Tensor x, Tensor statistics, Tensor dx) = (node.Inputs[0], node.Inputs[1], node.Inputs[2], node.Output);
        Tensor? scaleShift = op.ScaleShift ? node.Inputs[5] : null;
        Tensor? residual = op.Residual ? node.Inputs[op.ResidualInput] : null;
        GroupNormShape shape = ShapeOf(node, op);
        (string, object)[] constants =
        [
            .. shape.Constants, .. Modulation(scaleShift), ("X", x.DType), ("DY", dy.DType), ("DX", dx.DType), ("STATISTICS", statistics.DType), ("SILU", op.SiLU), ("POOL", op.Pool),
            ("RESIDUAL", residual?.DType ?? DType.F32), ("ADDED", op.Residual), ("RESIDUAL_POOL", op.ResidualPool),
        ];
        ulong aDy = lowering.Address(dy), aX = lowering.Address(x), aStatistics = lowering.Address(statistics), gamma = lowering.Address(node.Inputs[3]);
        ulong beta = op.HasForwardParameters ? lowering.Address(node.Inputs[4]) : 0, modulation = Address(lowering, scaleShift);
        ulong aResidual = Address(lowering, residual), aDx = lowering.Address(dx);
        LaunchArguments Common() => lowering.Arguments().Add(aDy).Add(aX).Add(aStatistics).Add(gamma).Add(beta).Add(modulation);
        if (FusedGradient(node) is GroupNormTiles fused)
        {
            lowering.Emit(new KernelSpec(Backward, "group_norm_backward_fused", [.. constants, .. fused.Constants]), fused.Geometry(shape), Common().Add(aResidual).Add(aDx));
            return;
        }

        GroupNormTiles tiles = GroupNormTiles.Split(shape, SplitSteps / shape.Quad);
        LaunchGeometry geometry = tiles.Geometry(shape);
        (string, object)[] all = [.. constants, .. tiles.Constants, ("TILES", geometry.GridY)];
        ulong means = lowering.GradientStatistics.Of(node);
        if (means == 0)
        {
            (means, ulong partials) = PairsOf(lowering, shape, geometry.GridY);
            lowering.Emit(
                new KernelSpec(Backward, "group_norm_backward_partials", all),
                geometry,
                Common().Add(partials).Add(means).Add(lowering.Constants<uint>(new uint[shape.N])));
        }

        lowering.Emit(new KernelSpec(Backward, "group_norm_backward_apply", all), geometry, Common().Add(aResidual).Add(means).Add(aDx));
    }

    /// <summary>Whether a gradient's groups do not fit into registers: it then needs the means of the groups beforehand.</summary>
    /// <param name="gradient">A gradient's node.</param>
    public static bool ReadsTwice(Node gradient) => FusedGradient(gradient) is null;

    private static GroupNormTiles? FusedGradient(Node node)
    {
        GroupNormGradient op = (GroupNormGradient)node.Op;
        GroupNormShape shape = ShapeOf(node, op);
        int held = (shape.Quad * node.Inputs[1].DType.SizeInBytes()) + ((op.Pool ? 1 : shape.Quad) * node.Inputs[0].DType.SizeInBytes());
        return GroupNormTiles.Fused(shape, (held, BackwardBytes));
    }

    private static GroupNormShape ShapeOf(Node node, GroupNormGradient op) => ShapeOf(
        node.Inputs[1].Shape, 0, op.Groups, op.Pool || op.ResidualPool, node.Inputs[1], node.Output, node.Inputs[0], op.Residual ? node.Inputs[op.ResidualInput] : null);

    // Pairs of numbers per group of an image, and per channel of each of its tiles.
    private static (ulong Groups, ulong Channels) PairsOf(GpuLowering lowering, GroupNormShape shape, int tiles)
    {
        const long Pair = 2 * sizeof(float);
        ulong groups = lowering.Scratch(Pair * shape.N * (shape.Groups + ((long)tiles * shape.Channels)));
        return (groups, groups + (ulong)(Pair * shape.N * shape.Groups));
    }

    private static GroupNormShape ShapeOf(Shape x, int second, int groups, bool quads, params Tensor?[] tensors)
    {
        int pixels = x.Elements / (x[0] * x[-1]);
        return new GroupNormShape(
            x[0], pixels, x.Rank == 4 ? x[2] : pixels, x[-1] + second, x[-1], groups, quads ? 4 : 1, tensors.Max(t => t?.DType.SizeInBytes() ?? 0));
    }

    private static IEnumerable<(string, object)> Modulation(Tensor? scaleShift) => scaleShift is null ? [] : [("SCALE_SHIFT", scaleShift.DType)];

    private static ulong Address(GpuLowering lowering, Tensor? tensor) => tensor is null ? 0 : lowering.Address(tensor);
}
