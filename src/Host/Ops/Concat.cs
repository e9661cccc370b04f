using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>Joins tensors along one axis.</summary>
/// <param name="Axis">The axis; negative counts from the innermost. Channels (-1) for skip connections, images (0) for classifier-free guidance.</param>
/// <remarks>Inputs: any number, of one shape but for the axis. Output: the extents of the axis added up.</remarks>
public sealed record Concat(int Axis = -1) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.Expect(inputs.Count >= 1, "takes at least one input, got 0");
        Shape first = inputs[0].Shape;
        inputs.Expect(Axis < first.Rank && -Axis <= first.Rank, $"axis {Axis} is not one of {inputs[0]}");
        int extent = 0;
        for (int i = 0; i < inputs.Count; i++)
        {
            inputs.Expect(inputs[i].Shape.Rank == first.Rank && inputs[i].Shape.With(Axis, first[Axis]) == first, $"{inputs[i]} does not fit {inputs[0]} along axis {Axis}");
            inputs.ExpectType(i, $"input {i}", inputs[0].DType);
            extent += inputs[i].Shape[Axis];
        }

        return [new TensorType(first.With(Axis, extent), inputs[0].DType)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        Split(scope, scope.Of(node.Output)!, Axis, node.Inputs);
    }

    /// <summary>Gives every input its part of the gradient.</summary>
    /// <param name="scope">Where the parts go.</param>
    /// <param name="gradient">The gradient of the inputs joined.</param>
    /// <param name="axis">The axis along which they are joined.</param>
    /// <param name="inputs">The inputs.</param>
    internal static void Split(GradientScope scope, Tensor gradient, int axis, IEnumerable<Tensor> inputs)
    {
        int start = 0;
        foreach (Tensor input in inputs)
        {
            int extent = input.Shape[axis];
            if (scope.Wants(input))
            {
                scope.Accumulate(input, scope.Emit(new Slice(axis, start, extent), gradient));
            }

            start += extent;
        }
    }
}

/// <summary>A contiguous part of a tensor along one axis.</summary>
/// <param name="Axis">The axis; negative counts from the innermost.</param>
/// <param name="Start">First index.</param>
/// <param name="Length">Number of indices.</param>
/// <remarks>Input: any tensor. Output: its extent along the axis replaced by the length.</remarks>
public sealed record Slice(int Axis, int Start, int Length) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape x = inputs[0].Shape;
        inputs.Expect(Axis < x.Rank && -Axis <= x.Rank, $"axis {Axis} is not one of {inputs[0]}");
        inputs.Expect(Start >= 0 && Length >= 0 && Length <= x[Axis] - Start, $"{Start}..{(long)Start + Length} is not within axis {Axis} of {inputs[0]}");
        return [new TensorType(x.With(Axis, Length), inputs[0].DType)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override Cost Cost(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return new Cost(node.Output.Bytes, node.Output.Bytes, 0);
    }

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new Pad(Axis, Start, node.Inputs[0].Shape[Axis] - Start - Length), scope.Of(node.Output)!));
    }
}

/// <summary>Adds zeros at both ends of one axis; the adjoint of <see cref="Slice"/>.</summary>
/// <param name="Axis">The axis; negative counts from the innermost.</param>
/// <param name="Before">Zeros in front.</param>
/// <param name="After">Zeros behind.</param>
/// <remarks>Input: any tensor. Output: its extent along the axis grown by both.</remarks>
public sealed record Pad(int Axis, int Before, int After) : Op
{
    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        Shape x = inputs[0].Shape;
        inputs.ExpectType(0, "x", DType.F32);
        inputs.Expect(Axis < x.Rank && -Axis <= x.Rank, $"axis {Axis} is not one of {inputs[0]}");
        inputs.Expect(Before >= 0 && After >= 0, $"cannot pad by {Before} and {After}");
        return [new TensorType(x.With(Axis, Before + x[Axis] + After))];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(scope);
        ArgumentNullException.ThrowIfNull(node);
        scope.Accumulate(node.Inputs[0], scope.Emit(new Slice(Axis, Before, node.Inputs[0].Shape[Axis]), scope.Of(node.Output)!));
    }
}
