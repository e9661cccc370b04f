using Kernels.Diffusion.Steps;
using Kernels.Ops;

namespace Kernels.Tests;

/// <summary>Evaluates ops and whole graphs in float64, by the plain loops of <see cref="Reference"/>: what every backend is measured against.</summary>
internal static class ReferenceInterpreter
{
    /// <summary>Evaluates a graph.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="values">The values of its inputs and weights, by name.</param>
    /// <returns>The values of every tensor.</returns>
    public static Dictionary<Tensor, double[]> Run(Graph graph, IReadOnlyDictionary<string, double[]> values)
    {
        Dictionary<Tensor, double[]> results = graph.Inputs.Concat(graph.Weights).ToDictionary(t => t, t => values[t.Name]);
        foreach (Node node in graph.Nodes)
        {
            double[][] outputs = Evaluate(node.Op, [.. node.Inputs.Select(t => t.Shape)], [.. node.Inputs.Select(t => results[t])]);
            foreach ((Tensor tensor, double[] output) in node.Outputs.Zip(outputs))
            {
                results.Add(tensor, output);
            }
        }

        return results;
    }

    /// <summary>Evaluates an op.</summary>
    /// <param name="op">The op.</param>
    /// <param name="shapes">Shapes of its inputs.</param>
    /// <param name="x">Values of its inputs.</param>
    /// <returns>Values of its outputs.</returns>
    public static double[][] Evaluate(Op op, Shape[] shapes, double[][] x) => op switch
    {
        Convolution { TwoInputs: true } o => Evaluate(o with { TwoInputs = false }, Joined(shapes, o.SecondInput), Joined(shapes, x, o.SecondInput)),
        Convolution o => [Plus(Convolve(o, shapes, x[0], x[1], o.Bias ? x[2] : null), o.Residual ? Resampled(o.ResidualResampling, shapes[o.ResidualInput], x[o.ResidualInput]) : null)],
        ConvolutionSkip { TwoInputs: true } o => Evaluate(o with { TwoInputs = false }, Joined(shapes, 6, 3), Joined(shapes, x, 6, 3)),
        ConvolutionSkip o => [Plus(
            Convolve(new Convolution(1, o.Padding), shapes[..2], x[0], x[1], x[2]), Convolve(new Convolution(), shapes[3..5], x[3], x[4], x[5]))],
        ConvolutionGradient o => [Plus(ConvolveBack(o, shapes, x[0], x[1]), o.Residual ? x[2] : null)],
        Linear o => [Plus(Affine(shapes, x[0], x[1], o.Bias ? x[2] : null), o.Residual ? x[o.ResidualInput] : null)],
        LinearGradient o => [Plus(AffineBack(shapes, x[0], x[1]), o.Residual ? x[2] : null)],
        GroupNorm { TwoInputs: true } o => Evaluate(o with { TwoInputs = false }, Joined(shapes, o.SecondInput), Joined(shapes, x, o.SecondInput)),
        GroupNorm { Pool: true } o => Norm(o, shapes[0], x) is [double[] y, double[] statistics] ? [Resampled(Resampling.Down, shapes[0], y), statistics] : [],
        GroupNorm o => Norm(o, shapes[0], x),
        GroupNormGradient { Residual: true } o => [Plus(
            Evaluate(o with { Residual = false, ResidualPool = false }, shapes, x)[0], o.ResidualPool ? Spread(shapes[o.ResidualInput], x[o.ResidualInput]) : x[o.ResidualInput])],
        GroupNormGradient { Pool: true } o => [NormBack(o, shapes[1], [Spread(shapes[0], x[0]), .. x[1..]])],
        GroupNormGradient o => [NormBack(o, shapes[1], x)],
        Attention o => Attend(o, shapes[0], x[0]),
        AttentionGradient o => [AttendBack(o, shapes[1], x)],
        Concat o => [Reference.Concatenate(Around(shapes[0], o.Axis).Outer, x)],
        Slice o => [Reference.Slice(x[0], shapes[0][o.Axis], Around(shapes[0], o.Axis).Inner, o.Start, o.Length)],
        Pad o => [Reference.Pad(x[0], shapes[0][o.Axis], Around(shapes[0], o.Axis).Inner, o.Before, o.After)],
        SpatialSum o => [Reference.SpatialSum(x[0], shapes[0][0], shapes[0][-1], o.Factor)],
        SpatialBroadcast o => [Reference.SpatialBroadcast(x[0], o.Shape.Elements / (o.Shape[0] * o.Shape[-1]), o.Shape[-1], o.Factor, o.Residual ? x[1] : null)],
        Pool2x o => [Reference.Pool(x[0], shapes[0][0], shapes[0][1], shapes[0][2], shapes[0][3], o.Factor)],
        Upsample2x o => [Reference.UpsampleTo(x[0], shapes[0][0], shapes[0][1], shapes[0][2], shapes[0][3], o.Height, o.Width, o.Factor)],
        BilinearUpsample o => [Reference.Bilinear(x[0], shapes[0][0], shapes[0][1], shapes[0][2], shapes[0][3], o.Height, o.Width, adjoint: false)],
        BilinearUpsampleGradient o => [Reference.Bilinear(x[0], shapes[0][0], o.Height, o.Width, shapes[0][3], shapes[0][1], shapes[0][2], adjoint: true)],
        Embedding => [Reference.Rows(x[0], x[1], shapes[1][1])],
        TimestepEmbedding o => [Reference.TimestepEmbedding(x[0], o.Dimension, o.MaxPeriod)],
        TimestepEmbeddingGradient o => [Reference.TimestepEmbeddingBackward(x[0], x[1], o.MaxPeriod)],
        LogSoftmax => [Reference.LogSoftmax(x[0], shapes[0][1])],
        LogSoftmaxGradient => [Reference.LogSoftmaxBackward(x[0], x[1], shapes[0][1])],
        LabelGradient o => LabelBack(o, shapes[0][1], x),
        SelectLabel => [Reference.Select(x[0], x[1], shapes[0][1])],
        ScatterLabel o => [Reference.Scatter(x[0], x[1], o.Classes)],
        SelectStep o => ReferenceSteps.Select(o, shapes, x),
        SamplerUpdate o => ReferenceSteps.Update(o, shapes[0], x),
        _ => [Elementwise(op, shapes, x) ?? ReferenceSteps.Evaluate(op, shapes, x) ?? throw new NotSupportedException($"no reference for {op}")],
    };

    private static double[]? Elementwise(Op op, Shape[] shapes, double[][] x)
    {
        int c = shapes.Length > 0 && shapes[0].Rank > 0 ? shapes[0][-1] : 1;
        int perImage = shapes.Length > 0 && shapes[0].Rank > 0 ? shapes[0].Elements / shapes[0][0] : 1;
        return op switch
        {
            Fill o => [.. Enumerable.Repeat((double)o.Value, o.Shape.Elements)],
            Reshape => [.. x[0]],
            Add => Map(i => x[0][i] + x[1][i]),
            Multiply => Map(i => x[0][i] * x[1][i]),
            Activation { Kind: ActivationKind.SiLU } => Map(i => Reference.SiLU(x[0][i])),
            Activation { Kind: ActivationKind.ReLU } => Map(i => Math.Max(x[0][i], 0)),
            ActivationGradient { Kind: ActivationKind.SiLU } => Map(i => x[0][i] * Reference.SiLUDerivative(x[1][i])),
            ActivationGradient { Kind: ActivationKind.ReLU } => Map(i => x[1][i] > 0 ? x[0][i] : 0),
            AddBias => Map(i => x[0][i] + x[1][i % c]),
            AddEmbedding => Map(i => x[0][i] + x[1][(i / perImage * c) + (i % c)]),
            AddPositional => Map(i => x[0][i] + x[1][(i % c * shapes[0][1]) + (i / c % shapes[0][1])]),
            ScaleShift => Map(i => (x[0][i] * (1 + x[1][(i / perImage * 2 * c) + (i % c)])) + x[1][(i / perImage * 2 * c) + c + (i % c)]),
            ScaleShiftGradient => Map(i => x[0][i] * (1 + x[1][(i / perImage * 2 * c) + (i % c)])),
            _ => null,
        };

        double[] Map(Func<int, double> value) => [.. Enumerable.Range(0, x[0].Length).Select(value)];
    }

    // Two tensors as one of their channels side by side, the shapes and values of all other inputs unchanged.
    private static Shape[] Joined(Shape[] shapes, int second, int first = 0)
    {
        Shape[] joined = [.. shapes];
        joined[first] = shapes[first].With(-1, shapes[first][-1] + shapes[second][-1]);
        return joined;
    }

    private static double[][] Joined(Shape[] shapes, double[][] x, int second, int first = 0)
    {
        double[][] joined = [.. x];
        joined[first] = Reference.Concatenate(shapes[first].Elements / shapes[first][-1], [x[first], x[second]]);
        return joined;
    }

    private static double[] Resampled(Resampling resampling, Shape s, double[] x) => resampling switch
    {
        Resampling.Up => Reference.Upsample(x, s[0], s[1], s[2], s[3]),
        Resampling.Down => Reference.Pool(x, s[0], s[1], s[2], s[3], 0.25f),
        _ => x,
    };

    // The gradient of averaging 2x2 blocks.
    private static double[] Spread(Shape s, double[] dy) => Reference.UpsampleTo(dy, s[0], s[1], s[2], s[3], 2 * s[1], 2 * s[2], 0.25f);

    // By the ops that it stands for.
    private static double[][] LabelBack(LabelGradient op, int classes, double[][] x)
    {
        double[] log = Reference.LogSoftmax(x[0], classes);
        double[] seed = Reference.Scatter([.. x[1].Select(_ => (double)op.Factor)], x[1], classes);
        return [Reference.LogSoftmaxBackward(seed, log, classes), Reference.Select(log, x[1], classes)];
    }

    private static double[] Plus(double[] y, double[]? residual) => residual is null ? y : Reference.Add(y, residual);

    private static double[] Convolve(Convolution op, Shape[] s, double[] x, double[] w, double[]? bias)
    {
        (int n, int height, int width, int channels) = (s[0][0], s[0][1], s[0][2], s[0][3]);
        return op.Upsample
            ? Reference.Convolution(
                Reference.Upsample(x, n, height, width, channels), n, 2 * height, 2 * width, channels, w, bias, s[1][0], s[1][2], s[1][3], op.Stride, op.Padding)
            : Reference.Convolution(x, n, height, width, channels, w, bias, s[1][0], s[1][2], s[1][3], op.Stride, op.Padding);
    }

    private static double[] ConvolveBack(ConvolutionGradient op, Shape[] s, double[] dy, double[] w) =>
        Reference.ConvolutionDataGradient(dy, s[0][0], op.Height, op.Width, s[1][1], w, s[1][0], s[1][2], s[1][3], op.Stride, op.Padding);

    private static double[] Affine(Shape[] s, double[] x, double[] w, double[]? bias) =>
        Reference.Linear(x, s[0].Elements / s[0][-1], s[0][-1], w, bias, s[1][0]);

    private static double[] AffineBack(Shape[] s, double[] dy, double[] w) =>
        Reference.Linear(dy, s[0].Elements / s[0][-1], s[0][-1], Reference.Transpose(w, s[1][0], s[1][1]), null, s[1][1]);

    private static double[][] Norm(GroupNorm op, Shape s, double[][] x)
    {
        (double[] y, double[] statistics) = Reference.GroupNorm(
            x[0], s[0], s.Elements / (s[0] * s[-1]), s[-1], op.Groups, x[1], x[2], op.ScaleShift ? x[3] : null, op.SiLU, op.Epsilon);
        return [y, statistics];
    }

    // Statistics are computed again from x, with the epsilon of every model: those that the op is given are then checked as well.
    private static double[] NormBack(GroupNormGradient op, Shape s, double[][] x) => Reference.GroupNormBackward(
        x[1],
        x[0],
        s[0],
        s.Elements / (s[0] * s[-1]),
        s[-1],
        op.Groups,
        x[3],
        op.HasForwardParameters ? x[4] : new double[s[-1]],
        op.ScaleShift ? x[5] : null,
        op.SiLU);

    private static double[][] Attend(Attention op, Shape s, double[] qkv)
    {
        (double[] output, double[] logSumExp) = Reference.Attention(
            qkv, s[0], s.Elements / (s[0] * s[-1]), op.Heads, s[-1] / 3 / op.Heads, op.Order == QkvOrder.New);
        return [output, logSumExp];
    }

    private static double[] AttendBack(AttentionGradient op, Shape s, double[][] x) =>
        Reference.AttentionBackward(x[1], x[0], s[0], s.Elements / (s[0] * s[-1]), op.Heads, s[-1] / 3 / op.Heads, op.Order == QkvOrder.New);

    private static (int Outer, int Inner) Around(Shape shape, int axis)
    {
        int position = axis < 0 ? axis + shape.Rank : axis;
        int[] dims = [.. shape];
        return (dims[..position].Aggregate(1, (a, b) => a * b), dims[(position + 1)..].Aggregate(1, (a, b) => a * b));
    }
}
