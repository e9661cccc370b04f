using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>log_softmax.cu</c>.</summary>
internal static class LogSoftmax
{
    private const string File = "log_softmax.cu";

    /// <summary>Lowers the logarithm of softmax, its gradient, and the choice of a label.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        Tensor first = node.Inputs[0], y = node.Output;
        switch (node.Op)
        {
            case Ops.LogSoftmax:
                Rows(lowering, node, "log_softmax", Operands(lowering, node));
                break;
            case LogSoftmaxGradient:
                Rows(lowering, node, "log_softmax_backward", Operands(lowering, node));
                break;
            case LabelGradient op:
                Rows(lowering, node, "label_gradient", Operands(lowering, node).Add(lowering.Address(node.Outputs[1])).Add(op.Factor * lowering.Scale));
                break;
            case SelectLabel:
                Elements(lowering, node, "select_label", first.Shape[1]);
                break;
            case ScatterLabel op:
                Elements(lowering, node, "scatter_label", op.Classes);
                break;
            default:
                throw new GraphException($"{node.Op.Name} is not of the family of log-softmax");
        }
    }

    // About four classes a thread: the more threads, the more barriers cost.
    private static void Rows(GpuLowering lowering, Node node, string entry, LaunchArguments arguments)
    {
        Shape shape = node.Output.Shape;
        int threads = Math.Clamp((shape[1] + 127) / 128 * 32, 32, 1024);
        lowering.Emit(new KernelSpec(File, entry, ("K", shape[1]), ("THREADS", threads)), LaunchGeometry.Linear(shape[0], threads), arguments);
    }

    private static void Elements(GpuLowering lowering, Node node, string entry, int classes)
    {
        int threads = node.Output.Shape.Elements;
        lowering.Emit(new KernelSpec(File, entry, ("K", classes)), Packs.Geometry(threads), Operands(lowering, node).Add(threads));
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
}
