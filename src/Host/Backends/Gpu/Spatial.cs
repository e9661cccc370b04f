using System.Numerics;
using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>spatial.cu</c>.</summary>
internal static class Spatial
{
    private const string File = "spatial.cu";

    // Half a megabyte of binary32 at 256 channels: work for one block.
    private const int Slice = 512;
    private const int MostPacks = 32;

    /// <summary>Lowers the sum over positions or its adjoint.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        (Tensor x, Tensor y) = (node.Inputs[0], node.Output);
        switch (node.Op)
        {
            case SpatialSum op:
                Sum(lowering, x, y, op.Factor);
                break;
            case SpatialBroadcast op:
                Tensor? residual = op.Residual ? node.Inputs[1] : null;
                DType added = residual?.DType ?? y.DType;
                int channels = y.Shape[-1], width = Packs.Width(channels, x.DType, y.DType, added), threads = y.Shape.Elements / width;
                lowering.Emit(
                    new KernelSpec(File, "spatial_broadcast", [("X", x.DType), ("Y", y.DType), ("V", width), ("C", channels), ("ROWS", Rows(y.Shape)), ("R", added), ("RESIDUAL", op.Residual)]),
                    Packs.Geometry(threads),
                    lowering.Arguments().Add(lowering.Address(x)).Add(residual is null ? 0 : lowering.Address(residual)).Add(lowering.Address(y)).Add(op.Factor).Add(threads));
                break;
            default:
                throw new GraphException($"{node.Op.Name} sums over no positions");
        }
    }

    private static void Sum(GpuLowering lowering, Tensor x, Tensor y, float factor)
    {
        int images = x.Shape[0], channels = x.Shape[-1], rows = Rows(x.Shape), slices = Math.Max(1, (rows + Slice - 1) / Slice);
        ulong source = lowering.Address(x), target = lowering.Address(y);
        if (slices == 1)
        {
            Emit(source, x.DType, target, y.DType, rows, 1, factor);
            return;
        }

        ulong sums = lowering.Scratch((long)images * slices * channels * sizeof(float));
        Emit(source, x.DType, sums, DType.F32, rows, slices, 1);

        // Images of so many rows that even the slices must be sliced do not exist: one block takes them all.
        Emit(sums, DType.F32, target, y.DType, slices, 1, factor);

        void Emit(ulong from, DType fromType, ulong to, DType toType, int positions, int parts, float scale)
        {
            int width = Packs.Width(channels, fromType, toType), packs = channels / width;
            int inBlock = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Min(packs, MostPacks));
            KernelSpec kernel = new(
                File,
                "spatial_sum",
                [("X", fromType), ("Y", toType), ("V", width), ("C", channels), ("ROWS", positions), ("SLICE", (positions + parts - 1) / parts), ("PACKS", inBlock)]);
            LaunchGeometry geometry = new((packs + inBlock - 1) / inBlock, parts, images, Packs.Threads, 1, 1, 0);
            lowering.Emit(kernel, geometry, lowering.Arguments().Add(from).Add(to).Add(scale));
        }
    }

    private static int Rows(Shape shape) => shape.Elements / shape[0] / shape[-1];
}
