using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>embedding.cu</c>.</summary>
internal static class Embedding
{
    private const string File = "embedding.cu";

    /// <summary>Lowers the embedding of labels or timesteps.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        Tensor first = node.Inputs[0], y = node.Output;
        LaunchArguments arguments = lowering.Arguments();
        switch (node.Op)
        {
            case Ops.Embedding:
            {
                Tensor table = node.Inputs[1];
                ulong rows = lowering.Address(table);
                int width = Packs.Width(table.Shape[1], DType.F32), threads = y.Shape.Elements / width;
                lowering.Emit(
                    new KernelSpec(File, "embedding", ("V", width), ("D", table.Shape[1])),
                    Packs.Geometry(threads),
                    arguments.Add(lowering.Address(first)).Add(rows).Add(lowering.Address(y)).Add(table.Shape[0]).Add(threads));
                break;
            }

            case TimestepEmbedding op:
            {
                ulong frequencies = lowering.Constants<float>(TimestepFrequencies.Create(op.Dimension, op.MaxPeriod));
                int threads = first.Shape[0] * (op.Dimension / 2);
                lowering.Emit(
                    new KernelSpec(File, "timestep_embedding", ("D", op.Dimension)),
                    Packs.Geometry(threads),
                    arguments.Add(lowering.Address(first)).Add(frequencies).Add(lowering.Address(y)).Add(threads));
                break;
            }

            case TimestepEmbeddingGradient op:
            {
                int dimension = first.Shape[1];
                ulong frequencies = lowering.Constants<float>(TimestepFrequencies.Create(dimension, op.MaxPeriod));
                lowering.Emit(
                    new KernelSpec(File, "timestep_backward", ("D", dimension)),
                    LaunchGeometry.Linear(y.Shape[0], 32),
                    arguments.Add(lowering.Address(first)).Add(lowering.Address(node.Inputs[1])).Add(frequencies).Add(lowering.Address(y)));
                break;
            }

            default:
                throw new GraphException($"{node.Op.Name} embeds nothing");
        }
    }
}
