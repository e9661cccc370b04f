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
                int width = Width(shape.Elements);
                lowering.Emit(
                    new KernelSpec(File, "fill", ("Y", node.Output.DType), ("V", width)),
                    Packs.Geometry(shape.Elements / width),
                    lowering.Arguments().Add(lowering.Address(node.Output)).Add(op.Value).Add(shape.Elements));
                break;
            default:
                throw new GraphException($"{node.Op.Name} is no element-wise op");
        }
    }

    private static void Emit(GpuLowering lowering, Node node, string entry, int? channels = null, int rowsPerB = 1, bool gradient = false)
    {
        int elements = node.Output.Shape.Elements;
        int width = Width(channels ?? elements);
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

    // Four elements are 16 bytes of binary32.
    private static int Width(int extent) => extent % 4 == 0 ? 4 : extent % 2 == 0 ? 2 : 1;
}
