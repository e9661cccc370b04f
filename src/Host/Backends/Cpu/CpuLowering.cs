using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Cpu;

/// <summary>Turns the nodes of a plan into kernels with every pointer resolved.</summary>
internal sealed unsafe partial class CpuLowering(CpuBackend backend, Plan plan, Weights weights, NativeBuffer arena)
{
    private readonly List<CpuKernel> _kernels = [];

    /// <summary>The kernels of all nodes so far, in order.</summary>
    public IReadOnlyList<CpuKernel> Kernels => _kernels;

    /// <summary>Appends the kernels of a node.</summary>
    /// <param name="node">The node.</param>
    /// <exception cref="GraphException">This backend does not know the op.</exception>
    public void Lower(Node node)
    {
        Tensor[] i = [.. node.Inputs];
        Tensor y = node.Output;
        switch (node.Op)
        {
            case Ops.Convolution op:
                Lower(op, node);
                break;
            case ConvolutionSkip op:
                Lower(op, node);
                break;
            case ConvolutionGradient op:
                Lower(op, node);
                break;
            case Ops.Linear op:
                LowerLinear(node, WeightLayout.Forward, op.Bias ? i[2] : null, op.Residual ? i[op.ResidualInput] : null);
                break;
            case LinearGradient op:
                LowerLinear(node, WeightLayout.DataGradient, null, op.Residual ? i[2] : null);
                break;
            case Ops.GroupNorm op:
                Lower(op, node);
                break;
            case GroupNormGradient op:
                Lower(op, node);
                break;
            case Ops.Attention op:
                Emit(Attention.Forward(HeadShape(i[0].Shape, op.Heads, op.Order), F(i[0]), F(y), F(node.Outputs[1]), backend.Scratch));
                break;
            case AttentionGradient op:
                Emit(Attention.Backward(HeadShape(i[1].Shape, op.Heads, op.Order), F(i[1]), F(i[2]), F(i[3]), F(i[0]), F(y), backend.Scratch));
                break;
            case Concat op:
                LowerConcat(op, node);
                break;
            case Kernels.Diffusion.Steps.SamplerUpdate op:
                Lower(op, node);
                break;
            case Slice op:
                LowerSlice(op, node);
                break;
            case Pad op:
                LowerPad(op, node);
                break;
            default:
                Emit(Pointwise(node.Op, i, node.Outputs) ?? Sampling(node.Op, node) ?? throw new GraphException($"the CPU backend does not know {node.Op.Name} '{node.Name}'"));
                break;
        }
    }

    /// <summary>Ops of one kernel that needs nothing but pointers and extents.</summary>
    private CpuKernel? Pointwise(Op node, Tensor[] i, IReadOnlyList<Tensor> outputs)
    {
        Tensor y = outputs[0];
        Shape s = y.Shape;
        int elements = s.Elements;
        switch (node)
        {
            case Add:
                return new AddKernel(F(i[0]), F(i[1]), F(y), elements);
            case Multiply:
                return new MultiplyKernel(F(i[0]), F(i[1]), F(y), elements);
            case Fill op:
                return new FillKernel(op.Value, F(y), elements);
            case Activation { Kind: ActivationKind.ReLU }:
                return new ReLUKernel(F(i[0]), F(y), elements);
            case ActivationGradient { Kind: ActivationKind.ReLU }:
                return new ReLUGradientKernel(F(i[0]), F(i[1]), F(y), elements);
            case Activation:
                return Simd.Bits switch
                {
                    512 => new SiLUKernel<Simd512>(F(i[0]), F(y), elements),
                    256 => new SiLUKernel<Simd256>(F(i[0]), F(y), elements),
                    _ => new SiLUKernel<Simd128>(F(i[0]), F(y), elements),
                };
            case ActivationGradient:
                return Simd.Bits switch
                {
                    512 => new SiLUGradientKernel<Simd512>(F(i[0]), F(i[1]), F(y), elements),
                    256 => new SiLUGradientKernel<Simd256>(F(i[0]), F(i[1]), F(y), elements),
                    _ => new SiLUGradientKernel<Simd128>(F(i[0]), F(i[1]), F(y), elements),
                };
            case AddBias:
                return new AddRowKernel(F(i[0]), F(i[1]), F(y), Rows(s), s[-1], rowsPerImage: int.MaxValue);
            case AddEmbedding:
                return new AddRowKernel(F(i[0]), F(i[1]), F(y), Rows(s), s[-1], Rows(s) / s[0]);
            case AddPositional:
                return new AddPositionalKernel(F(i[0]), F(i[1]), F(y), s[0], s[1], s[2]);
            case ScaleShift or ScaleShiftGradient:
                return new ScaleShiftKernel(F(i[0]), F(i[1]), F(y), Rows(s), s[-1], Rows(s) / s[0], node is ScaleShiftGradient);
            case SpatialSum op:
                return new SpatialSumKernel(F(i[0]), F(y), s[0], Rows(i[0].Shape) / s[0], s[1], op.Factor);
            case SpatialBroadcast op:
                return new SpatialBroadcastKernel(F(i[0]), op.Residual ? F(i[1]) : null, F(y), s[0], Rows(s) / s[0], s[-1], op.Factor);
            case Pool2x op:
                return new Pool2xKernel(F(i[0]), F(y), s[0], i[0].Shape[1], i[0].Shape[2], s[3], op.Factor);
            case Upsample2x op:
                return new Upsample2xKernel(F(i[0]), F(y), s[0], s[1], s[2], s[3], op.Factor);
            case BilinearUpsample:
                return new BilinearUpsampleKernel(F(i[0]), F(y), s[0], i[0].Shape[1], i[0].Shape[2], s[1], s[2], s[3]);
            case BilinearUpsampleGradient:
                return new BilinearUpsampleGradientKernel(F(i[0]), F(y), s[0], s[1], s[2], i[0].Shape[1], i[0].Shape[2], s[3]);
            case Embedding:
                return new EmbeddingKernel(I(i[0]), F(i[1]), F(y), s[0], i[1].Shape[0], s[1]);
            case TimestepEmbedding op:
                return new TimestepEmbeddingKernel(F(i[0]), F(y), s[0], s[1], op.MaxPeriod);
            case TimestepEmbeddingGradient op:
                return new TimestepEmbeddingGradientKernel(F(i[0]), F(i[1]), F(y), s[0], i[0].Shape[1], op.MaxPeriod);
            case LogSoftmax:
                return new LogSoftmaxKernel(F(i[0]), F(y), s[0], s[1]);
            case LogSoftmaxGradient:
                return new LogSoftmaxGradientKernel(F(i[0]), F(i[1]), F(y), s[0], s[1]);
            case LabelGradient op:
                return new LabelGradientKernel(F(i[0]), I(i[1]), F(y), F(outputs[1]), s[0], s[1], op.Factor);
            case SelectLabel:
                return new SelectLabelKernel(F(i[0]), I(i[1]), F(y), s[0], i[0].Shape[1]);
            case ScatterLabel op:
                return new ScatterLabelKernel(F(i[0]), I(i[1]), F(y), s[0], op.Classes);
            default:
                return null;
        }
    }

    private void Lower(Ops.GroupNorm op, Node node)
    {
        IReadOnlyList<Tensor> i = node.Inputs;
        Tensor x = i[0];
        Tensor? second = op.TwoInputs ? i[op.SecondInput] : null;
        Emit(GroupNorm.Forward(
            NormShape(x.Shape, op.Groups, op.Epsilon) with { C = i[1].Shape[0] },
            second is null ? F(x) : new GroupNormInput(F(x), F(second), second.Shape[-1]),
            F(i[1]),
            F(i[2]),
            op.ScaleShift ? F(i[3]) : null,
            op.SiLU,
            op.Pool ? x.Shape[2] : 0,
            F(node.Output),
            F(node.Outputs[1]),
            backend.Scratch));
    }

    private void Lower(GroupNormGradient op, Node node)
    {
        IReadOnlyList<Tensor> i = node.Inputs;
        Tensor dy = i[0], dx = node.Output;
        Shape s = dx.Shape;
        if (op.Pool)
        {
            // Spread where the result will be.
            Emit(new Upsample2xKernel(F(dy), F(dx), s[0], s[1], s[2], s[3], 0.25f));
            dy = dx;
        }

        Emit(GroupNorm.Backward(
            NormShape(s, op.Groups, 0),
            F(i[1]),
            F(i[2]),
            F(i[3]),
            op.HasForwardParameters ? F(i[4]) : null,
            op.ScaleShift ? F(i[5]) : null,
            op.SiLU,
            F(dy),
            new GroupNormResidual(op.Residual ? F(i[op.ResidualInput]) : null, op.ResidualPool ? s[2] : 0),
            F(dx),
            backend.Scratch));
    }

    private void Lower(Ops.Convolution op, Node node)
    {
        Tensor y = node.Output;
        Tensor? residual = op.Residual ? node.Inputs[op.ResidualInput] : null;
        Shape s = y.Shape;
        if (op.ResidualResampling != Resampling.None)
        {
            // The residual takes its resolution where the result will be, which is then added to.
            Emit(op.ResidualResampling == Resampling.Up
                ? new Upsample2xKernel(F(residual!), F(y), s[0], s[1], s[2], s[3], 1)
                : new Pool2xKernel(F(residual!), F(y), s[0], 2 * s[1], 2 * s[2], s[3], 0.25f));
            residual = y;
        }

        ConvolutionShape shape = ShapeOf(node.Inputs[0].Shape, node.Inputs[1].Shape, op.Stride, op.Padding) with { Upsample = op.Upsample };
        Emit(shape, node.Inputs[0], op.TwoInputs ? node.Inputs[op.SecondInput] : null, node.Inputs[1], op.Bias ? node.Inputs[2] : null, residual, y);
    }

    // The skip connection writes the result, and the convolution adds to it.
    private void Lower(ConvolutionSkip op, Node node)
    {
        IReadOnlyList<Tensor> i = node.Inputs;
        Emit(ShapeOf(i[3].Shape, i[4].Shape, 1, 0), i[3], op.TwoInputs ? i[6] : null, i[4], i[5], null, node.Output);
        Emit(ShapeOf(i[0].Shape, i[1].Shape, 1, op.Padding), i[0], null, i[1], i[2], node.Output, node.Output);
    }

    private void Emit(in ConvolutionShape shape, Tensor x, Tensor? second, Tensor weight, Tensor? bias, Tensor? residual, Tensor y) =>
        Emit(Convolution.Forward(
            second is null ? shape : shape with { C2 = second.Shape[3] },
            Packed(weight, WeightLayout.Forward),
            F(x),
            second is null ? null : F(second),
            bias is null ? null : F(bias),
            residual is null ? null : F(residual),
            F(y),
            silu: false,
            backend.Scratch));

    private void Lower(ConvolutionGradient op, Node node)
    {
        Tensor weight = node.Inputs[1];
        ConvolutionShape shape = ShapeOf(node.Output.Shape, weight.Shape, op.Stride, op.Padding);
        Emit(Convolution.DataGradient(
            shape, Packed(weight, WeightLayout.DataGradient), F(node.Inputs[0]), op.Residual ? F(node.Inputs[2]) : null, F(node.Output), backend.Scratch));
    }

    private void LowerLinear(Node node, WeightLayout layout, Tensor? bias, Tensor? residual)
    {
        Shape x = node.Inputs[0].Shape;
        Emit(Linear.Create(
            new LinearShape(Rows(x), x[-1], node.Output.Shape[-1]),
            Packed(node.Inputs[1], layout),
            F(node.Inputs[0]),
            bias is null ? null : F(bias),
            residual is null ? null : F(residual),
            F(node.Output),
            siluInput: false,
            siluOutput: false,
            backend.Scratch));
    }

    private void LowerConcat(Concat op, Node node)
    {
        (int outer, int inner) = Around(node.Output.Shape, op.Axis);
        nint targetStride = (nint)node.Output.Shape[op.Axis] * inner;
        nint start = 0;
        foreach (Tensor input in node.Inputs)
        {
            int run = input.Shape[op.Axis] * inner;
            Emit(new StridedCopyKernel(U(input), run, U(node.Output) + start, targetStride, outer, run));
            start += run;
        }
    }

    private void LowerSlice(Slice op, Node node)
    {
        Tensor x = node.Inputs[0];
        (int outer, int inner) = Around(x.Shape, op.Axis);
        int run = op.Length * inner;
        Emit(new StridedCopyKernel(U(x) + ((nint)op.Start * inner), (nint)x.Shape[op.Axis] * inner, U(node.Output), run, outer, run));
    }

    private void LowerPad(Pad op, Node node)
    {
        Tensor x = node.Inputs[0];
        (int outer, int inner) = Around(x.Shape, op.Axis);
        int run = x.Shape[op.Axis] * inner;
        nint stride = (nint)node.Output.Shape[op.Axis] * inner;
        Emit(new StridedCopyKernel(U(x), run, U(node.Output) + ((nint)op.Before * inner), stride, outer, run));
        Emit(new StridedClearKernel(U(node.Output), stride, outer, op.Before * inner));
        Emit(new StridedClearKernel(U(node.Output) + ((nint)op.Before * inner) + run, stride, outer, op.After * inner));
    }

    private PackedWeights Packed(Tensor weight, WeightLayout layout)
    {
        if (weight.Kind != TensorKind.Weight)
        {
            throw new GraphException($"the CPU backend packs weights before it runs: '{weight.Name}' must be a weight of the checkpoint");
        }

        return backend.Packed(weights, weight, layout, dense =>
        {
            Shape w = weight.Shape;
            int taps = w.Elements / (w[0] * w[1]);
            return layout == WeightLayout.Forward
                ? PackedWeights.Forward(dense.Pointer, w[0], w[1], taps)
                : PackedWeights.DataGradient(dense.Pointer, w[0], w[1], taps);
        });
    }

    private static ConvolutionShape ShapeOf(Shape x, Shape w, int stride, int padding) =>
        new(x[0], x[1], x[2], x[3], 0, w[0], w[2], w[3], stride, padding);

    private static GroupNormShape NormShape(Shape x, int groups, float epsilon) => new(x[0], Rows(x) / x[0], x[-1], groups, epsilon);

    private static AttentionShape HeadShape(Shape qkv, int heads, QkvOrder order) =>
        new(qkv[0], Rows(qkv) / qkv[0], heads, qkv[-1] / 3 / heads, order == QkvOrder.New);

    private static int Rows(Shape shape) => shape.Elements / shape[-1];

    private static (int Outer, int Inner) Around(Shape shape, int axis)
    {
        int position = axis < 0 ? axis + shape.Rank : axis;
        int inner = 1;
        for (int k = position + 1; k < shape.Rank; k++)
        {
            inner *= shape[k];
        }

        return (shape.Elements / (inner * shape[position]), inner);
    }

    private void Emit(CpuKernel kernel) => _kernels.Add(kernel);

    private byte* Address(Tensor tensor) => tensor.Kind == TensorKind.Weight
        ? (byte*)backend.Dense(weights, tensor).Pointer
        : (byte*)arena.Pointer + plan.Memory.Offsets[tensor];

    private float* F(Tensor tensor) => (float*)Address(tensor);

    private int* I(Tensor tensor) => (int*)Address(tensor);

    private uint* U(Tensor tensor) => (uint*)Address(tensor);
}
