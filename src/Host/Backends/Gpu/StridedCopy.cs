using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>copy.cu</c>.</summary>
internal static class StridedCopy
{
    private const string File = "copy.cu";

    /// <summary>Lowers a concatenation, slice or padding.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        (Tensor x, Tensor y) = (node.Inputs[0], node.Output);
        switch (node.Op)
        {
            case Concat op:
                Concatenate(lowering, node, op.Axis);
                break;
            case Slice op:
            {
                (int rows, int inner) = Around(x.Shape, op.Axis);
                Copy(lowering, (x, (long)op.Start * inner, (long)x.Shape[op.Axis] * inner), (y, 0, (long)op.Length * inner), rows, op.Length * inner);
                break;
            }

            case Pad op:
            {
                (int rows, int inner) = Around(x.Shape, op.Axis);
                (int before, int run, int after) = (op.Before * inner, x.Shape[op.Axis] * inner, op.After * inner);
                int width = Width(before, run, after);
                lowering.Emit(
                    new KernelSpec(File, "pad", ("X", TypeOf(x)), ("Y", TypeOf(y)), ("V", width)),
                    Packs.Geometry((long)rows * (before + run + after) / width),
                    lowering.Arguments().Add(lowering.Address(x)).Add(lowering.Address(y)).Add(rows).Add(before).Add(run).Add(after));
                break;
            }

            default:
                throw new GraphException($"{node.Op.Name} copies no rows");
        }
    }

    private static void Concatenate(GpuLowering lowering, Node node, int axis)
    {
        (int rows, int inner) = Around(node.Output.Shape, axis);
        if (node.Inputs.Count == 2)
        {
            (Tensor a, Tensor b, Tensor y) = (node.Inputs[0], node.Inputs[1], node.Output);
            (int first, int second) = (a.Shape[axis] * inner, b.Shape[axis] * inner);
            int width = Width(first, second);
            lowering.Emit(
                new KernelSpec(File, "concatenate", ("X", TypeOf(a)), ("X2", TypeOf(b)), ("Y", TypeOf(y)), ("V", width)),
                Packs.Geometry((long)rows * (first + second) / width),
                lowering.Arguments().Add(lowering.Address(a)).Add(lowering.Address(b)).Add(lowering.Address(y)).Add(rows).Add(first).Add(second));
            return;
        }

        long start = 0, stride = (long)node.Output.Shape[axis] * inner;
        foreach (Tensor input in node.Inputs)
        {
            int run = input.Shape[axis] * inner;
            Copy(lowering, (input, 0, run), (node.Output, start, stride), rows, run);
            start += run;
        }
    }

    private static void Copy(GpuLowering lowering, (Tensor Tensor, long Start, long Stride) from, (Tensor Tensor, long Start, long Stride) to, int rows, int run)
    {
        if (run == 0)
        {
            return;
        }

        int width = Width(run, from.Start, from.Stride, to.Start, to.Stride);
        lowering.Emit(
            new KernelSpec(File, "strided_copy", ("X", TypeOf(from.Tensor)), ("Y", TypeOf(to.Tensor)), ("V", width)),
            Packs.Geometry((long)rows * run / width),
            lowering.Arguments().Add(At(lowering, from)).Add(At(lowering, to)).Add(rows).Add(run).Add(from.Stride).Add(to.Stride));
    }

    // Integers of 32 bits travel as floats of the same bits.
    private static DType TypeOf(Tensor tensor) => tensor.DType == DType.I32 ? DType.F32 : tensor.DType;

    private static ulong At(GpuLowering lowering, (Tensor Tensor, long Start, long Stride) place) =>
        lowering.Address(place.Tensor) + (ulong)(place.Start * place.Tensor.DType.SizeInBytes());

    private static (int Rows, int Inner) Around(Shape shape, int axis)
    {
        int at = axis < 0 ? axis + shape.Rank : axis;
        int rows = 1, inner = 1;
        for (int i = 0; i < shape.Rank; i++)
        {
            rows *= i < at ? shape[i] : 1;
            inner *= i > at ? shape[i] : 1;
        }

        return (rows, inner);
    }

    private static int Width(params ReadOnlySpan<long> extents)
    {
        long all = 0;
        foreach (long extent in extents)
        {
            all |= extent;
        }

        return all % 4 == 0 ? 4 : all % 2 == 0 ? 2 : 1;
    }
}
