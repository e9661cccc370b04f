using System.Runtime.InteropServices;
using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Linear layers: over the pixels of images by <c>convolution.cu</c>, over one row per image by <c>linear.cu</c>.</summary>
internal static class Linear
{
    private const string File = "linear.cu";
    private const int Rows = 8, Features = 4;

    /// <summary>Lowers a linear layer or its data gradient.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        (Tensor? bias, Tensor? residual) = node.Op switch
        {
            Ops.Linear op => (op.Bias ? node.Inputs[2] : null, op.Residual ? node.Inputs[op.ResidualInput] : null),
            LinearGradient op => (null, op.Residual ? node.Inputs[2] : null),
            _ => throw new GraphException($"{node.Op.Name} is no linear layer"),
        };
        bool turned = node.Op is LinearGradient;
        (Shape x, Shape y) = (node.Inputs[0].Shape, node.Output.Shape);

        // What kernel sums a row must not depend on the batch, so the rank decides and not the number of rows.
        if (x.Rank < 3)
        {
            EmitRows(lowering, node, turned, bias, residual);
            return;
        }

        int pixels = x.Elements / x[0] / x[-1];
        ImplicitProduct product = new() { Images = x[0], Input = (pixels, 1, x[-1]), Output = (pixels, 1, y[-1]), Turned = turned };
        Convolution.Emit(lowering, node, product, new Convolution.Operands { Bias = bias, Residual = residual });
    }

    private static void EmitRows(GpuLowering lowering, Node node, bool turned, Tensor? bias, Tensor? residual)
    {
        (Tensor x, Tensor weight, Tensor y) = (node.Inputs[0], node.Inputs[1], node.Output);
        (int rows, int k, int m) = (x.Shape.Elements / x.Shape[-1], x.Shape[-1], y.Shape[-1]);
        if (turned && weight.Kind != TensorKind.Weight)
        {
            throw new GraphException($"{node.Op.Name} '{node.Name}': the GPU backend transposes weights once, so '{weight.Name}' must be a weight, not an activation");
        }

        ulong w = turned ? lowering.Packed(weight, "transposed F32", values => Transpose(values, k, m)) : lowering.Address(weight);
        List<(string, object)> constants =
        [
            ("X", x.DType), ("Y", y.DType), ("R", residual?.DType ?? y.DType), ("K", k), ("M", m), ("BIAS", bias is not null), ("RESIDUAL", residual is not null),
            ("ROWS", Rows), ("FEATURES", Features),
        ];
        lowering.Emit(
            new KernelSpec(File, "linear", constants),
            new LaunchGeometry((m + Features - 1) / Features, (rows + Rows - 1) / Rows, 1, Features * 32, 1, 1, 0),
            lowering.Arguments()
                .Add(lowering.Address(x)).Add(w)
                .Add(bias is null ? 0UL : lowering.Address(bias))
                .Add(residual is null ? 0UL : lowering.Address(residual))
                .Add(lowering.Address(y)).Add(rows));
    }

    // [rows, columns] to [columns, rows].
    private static byte[] Transpose(ReadOnlySpan<float> values, int rows, int columns)
    {
        float[] transposed = new float[values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            transposed[(i % columns * rows) + (i / columns)] = values[i];
        }

        return MemoryMarshal.AsBytes(transposed.AsSpan()).ToArray();
    }
}
