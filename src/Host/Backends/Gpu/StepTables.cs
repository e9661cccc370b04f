using Kernels.Diffusion.Steps;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>step_table.cu</c>.</summary>
internal static class StepTables
{
    /// <summary>A table and where the rows of the current step go, as the kernel declares it.</summary>
    private readonly record struct Selection(ulong Rows, ulong Target, int Run, int Elements);

    private const string File = "step_table.cu";

    /// <summary>Lowers what a step takes from the tables of its job.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        IReadOnlyList<Tensor> inputs = node.Inputs;
        Tensor y = node.Output;
        LaunchArguments arguments = lowering.Arguments();
        switch (node.Op)
        {
            case StepTimesteps:
                Row(lowering, arguments, inputs, 0).Add(lowering.Address(y)).Add(y.Shape[0]);
                lowering.Emit(new KernelSpec(File, "step_timesteps"), Packs.Geometry(y.Shape[0]), arguments);
                break;
            case ChunkTimesteps op:
                Row(lowering, arguments, inputs, 0).Add(lowering.Address(y)).Add(op.Images).Add(y.Shape[0]);
                lowering.Emit(new KernelSpec(File, "chunk_timesteps"), Packs.Geometry(y.Shape[0]), arguments);
                break;
            case SelectStep:
                Select(lowering, node, arguments);
                break;
            case AdvanceStep:
                arguments.Add(lowering.Address(inputs[0])).Add(lowering.Address(y));
                lowering.Emit(new KernelSpec(File, "advance_step"), LaunchGeometry.Linear(1, 1), arguments);
                break;
            default:
                throw new GraphException($"{node.Op.Name} reads no table of steps");
        }
    }

    private static void Select(GpuLowering lowering, Node node, LaunchArguments arguments)
    {
        Tensor[] tables = [.. node.Inputs.Skip(SelectStep.FirstTable)];
        Selection[] selections =
        [
            .. tables.Zip(node.Outputs, (rows, y) => new Selection(lowering.Address(rows), lowering.Address(y), rows.Shape[1] * rows.Shape[2], y.Shape.Elements)),
        ];
        int width = selections.Min(s => Packs.Width(s.Run, DType.F32)), most = selections.Max(s => s.Elements) / width;
        arguments.Add(lowering.Address(node.Inputs[0])).Add(lowering.Address(node.Inputs[1])).Add(tables[0].Shape[0]).Add(lowering.Constants<Selection>(selections));
        lowering.Emit(
            new KernelSpec(File, "select_step", ("V", width)),
            Packs.Geometry(most) with { GridY = selections.Length },
            arguments);
    }

    /// <summary>Appends the row of a step table that a counter selects: table, counter, number of rows.</summary>
    /// <param name="lowering">Where tensors lie.</param>
    /// <param name="arguments">What it is appended to.</param>
    /// <param name="inputs">The inputs of the op.</param>
    /// <param name="table">Position of the table; the counter follows it.</param>
    public static LaunchArguments Row(GpuLowering lowering, LaunchArguments arguments, IReadOnlyList<Tensor> inputs, int table) =>
        arguments.Add(lowering.Address(inputs[table])).Add(lowering.Address(inputs[table + 1])).Add(inputs[table].Shape[0]);
}
