using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>resample.cu</c>.</summary>
internal static class Resample
{
    private const string File = "resample.cu";

    /// <summary>Lowers pooling, doubling or interpolation.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        (Tensor x, Tensor y) = (node.Inputs[0], node.Output);
        int width = Packs.Width(y.Shape[3], x.DType, y.DType);
        switch (node.Op)
        {
            case Pool2x op:
                Emit(lowering, "pool_2x", x, y, x.Shape, y.Shape, width, y.Shape.Elements / width, op.Factor);
                break;
            case Upsample2x op:
                // A thread writes a block of 2x2, cut off at an odd edge.
                int blocks = y.Shape[0] * ((op.Height + 1) / 2) * ((op.Width + 1) / 2);
                Emit(lowering, "upsample_2x", x, y, y.Shape, x.Shape, width, blocks * (y.Shape[3] / width), op.Factor);
                break;
            case BilinearUpsample:
                Emit(lowering, "bilinear", x, y, x.Shape, y.Shape, width, y.Shape.Elements / width);
                break;
            case BilinearUpsampleGradient:
                Emit(lowering, "bilinear_backward", x, y, y.Shape, x.Shape, 1, y.Shape.Elements);
                break;
            default:
                throw new GraphException($"{node.Op.Name} resamples nothing");
        }
    }

    private static void Emit(GpuLowering lowering, string entry, Tensor x, Tensor y, Shape source, Shape target, int width, int threads, float? factor = null)
    {
        KernelSpec kernel = new(
            File,
            entry,
            [("X", x.DType), ("Y", y.DType), ("V", width), ("C", y.Shape[3]), ("H", source[1]), ("W", source[2]), ("OH", target[1]), ("OW", target[2])]);
        LaunchArguments arguments = lowering.Arguments().Add(lowering.Address(x)).Add(lowering.Address(y));
        lowering.Emit(kernel, Packs.Geometry(threads), (factor is float f ? arguments.Add(f) : arguments).Add(threads));
    }
}
