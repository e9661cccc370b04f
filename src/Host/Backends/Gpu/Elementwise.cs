using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>elementwise.cu</c>.</summary>
internal static class Elementwise
{
    private const string File = "elementwise.cu";

    /// <summary>Lowers an element-wise op.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        Shape shape = node.Output.Shape;
        switch (node.Op)
        {
            case Add:
                Emit(lowering, node, "add");
                break;
            case Multiply:
                Emit(lowering, node, "multiply");
                break;
            case Activation op:
                Emit(lowering, node, op.Kind == ActivationKind.SiLU ? "silu_forward" : "relu_forward");
                break;
            case ActivationGradient op:
                Emit(lowering, node, op.Kind == ActivationKind.SiLU ? "silu_backward" : "relu_backward");
                break;
            case AddBias:
                Emit(lowering, node, "add_row", shape[-1], rowsPerB: shape.Elements / shape[-1]);
                break;
            case AddEmbedding:
                Emit(lowering, node, "add_row", shape[-1], rowsPerB: shape.Elements / shape[0] / shape[-1]);
                break;
            case ScaleShift or ScaleShiftGradient:
                Emit(lowering, node, "scale_shift", shape[-1], rowsPerB: shape.Elements / shape[0] / shape[-1], gradient: node.Op is ScaleShiftGradient);
                break;
            case AddPositional:
                lowering.Emit(
                    new KernelSpec(File, "add_positional", [.. Types(node), ("C", shape[2])]),
                    Packs.Geometry(shape.Elements),
                    Operands(lowering, node).Add(shape.Elements).Add(shape[1]));
                break;
            case Fill op:
                int width = Packs.Width(shape.Elements, node.Output.DType);
                lowering.Emit(
                    new KernelSpec(File, "fill", ("Y", node.Output.DType), ("V", width)),
                    Packs.Geometry(shape.Elements / width),
                    lowering.Arguments().Add(lowering.Address(node.Output)).Add(op.Value).Add(shape.Elements));
                break;
            default:
                throw new GraphException($"{node.Op.Name} is no element-wise op");
        }
    }

    /// <summary>Emits y = a + bias + residual, for sums that a library of matrix products has left.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="sums">Address of a, in binary32 and of y's shape.</param>
    /// <param name="bias">Per channel; null if there is none.</param>
    /// <param name="residual">Of y's shape; null if there is none.</param>
    /// <param name="y">What is written.</param>
    public static void EmitEpilogue(GpuLowering lowering, ulong sums, Tensor? bias, Tensor? residual, Tensor y)
    {
        int channels = y.Shape[-1], elements = y.Shape.Elements;
        int width = Packs.Width(channels, [DType.F32, y.DType, .. residual is null ? Array.Empty<DType>() : [residual.DType]]);
        lowering.Emit(
            new KernelSpec(
                File,
                "epilogue",
                ("A", DType.F32), ("B", DType.F32), ("R", residual?.DType ?? y.DType), ("Y", y.DType), ("V", width), ("C", channels), ("BIAS", bias is not null), ("RESIDUAL", residual is not null)),
            Packs.Geometry(elements / width),
            lowering.Arguments()
                .Add(sums).Add(bias is null ? 0UL : lowering.Address(bias)).Add(residual is null ? 0UL : lowering.Address(residual)).Add(lowering.Address(y)).Add(elements));
    }

    private static void Emit(GpuLowering lowering, Node node, string entry, int? channels = null, int rowsPerB = 1, bool gradient = false)
    {
        int elements = node.Output.Shape.Elements;
        int width = Packs.Width(channels ?? elements, [node.Output.DType, .. node.Inputs.Select(t => t.DType)]);
        List<(string, object)> constants = [.. Types(node), ("V", width)];
        if (channels is int c)
        {
            constants.AddRange([("C", c), ("ROWS_PER_B", rowsPerB), ("GRADIENT", gradient)]);
        }

        lowering.Emit(new KernelSpec(File, entry, constants), Packs.Geometry(elements / width), Operands(lowering, node).Add(elements));
    }

    private static LaunchArguments Operands(GpuLowering lowering, Node node)
    {
        LaunchArguments arguments = lowering.Arguments();
        foreach (Tensor input in node.Inputs)
        {
            arguments.Add(lowering.Address(input));
        }

        return arguments.Add(lowering.Address(node.Output));
    }

    private static IEnumerable<(string, object)> Types(Node node)
    {
        yield return ("A", node.Inputs[0].DType);
        if (node.Inputs.Count > 1)
        {
            yield return ("B", node.Inputs[1].DType);
        }

        yield return ("Y", node.Output.DType);
    }
}
