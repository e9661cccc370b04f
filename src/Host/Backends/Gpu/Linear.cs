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
        if (lowering.IsLibrarys(node))
        {
            EmitGemm(lowering, node, turned, bias, residual);
            return;
        }

        ImplicitProduct product = new() { Images = x[0], Input = (pixels, 1, x[-1]), Output = (pixels, 1, y[-1]), Turned = turned };
        Convolution.Emit(lowering, node, product, new Convolution.Operands { X = node.Inputs[0], Weight = node.Inputs[1], Bias = bias, Residual = residual });
    }

    /// <summary>Whether the device's library multiplies for a node: if it was asked for, and the operands are of one type and in rows of whole 16 bytes, as tensor cores want them.</summary>
    /// <param name="node">A linear layer or its data gradient.</param>
    /// <param name="options">The backend's options.</param>
    public static bool IsLibrarys(Node node, GpuOptions options)
    {
        Tensor x = node.Inputs[0];
        DType type = options.Of(node).Storage();
        int unit = 16 / type.SizeInBytes();
        return options.Gemm == GemmKind.Cublas && x.Shape.Rank > 2 && x.DType == type && x.Shape[-1] % unit == 0 && node.Output.Shape[-1] % unit == 0
            && node.Inputs[1].Kind == TensorKind.Weight;
    }

    // The library knows neither bias nor residual. They are added to sums in binary32, so that y is rounded once, as by the kernel of our own; y may lie over the residual.
    private static void EmitGemm(GpuLowering lowering, Node node, bool turned, Tensor? bias, Tensor? residual)
    {
        (Tensor x, Tensor weight, Tensor y) = (node.Inputs[0], node.Inputs[1], node.Output);
        DType type = lowering.Precision.Storage();
        (int images, int depth, int columns) = (x.Shape[0], x.Shape[-1], y.Shape[-1]);
        bool direct = bias is null && residual is null;
        ulong w = lowering.Packed(weight, $"dense {type}", values => DeviceWeights.Convert(values, type));
        ulong sums = direct ? lowering.Address(y) : lowering.Scratch((long)sizeof(float) * y.Shape.Elements);
        lowering.Emit(new Gemm(
            images, x.Shape.Elements / images / depth, columns, depth, !turned, type, direct ? y.DType : DType.F32, lowering.Precision, lowering.Address(x), w, sums));
        if (!direct)
        {
            Elementwise.EmitEpilogue(lowering, sums, bias, residual, y);
        }
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
