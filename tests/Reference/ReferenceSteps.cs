using Kernels.Diffusion;
using Kernels.Diffusion.Steps;

namespace Kernels.Tests;

/// <summary>The ops around the models in float64: guidance and sampler updates as the papers write them, on the coefficients of the step table.</summary>
internal static class ReferenceSteps
{
    /// <summary>Evaluates an op of a sampler step; null if it is none.</summary>
    public static double[]? Evaluate(Op op, Shape[] shapes, double[][] x) => op switch
    {
        StepTimesteps o => [.. Enumerable.Repeat(Row(x, 0)(StepColumn.ModelTimestep), o.Images)],
        ChunkTimesteps o => [.. Enumerable.Range(0, o.Steps).SelectMany(k =>
            Enumerable.Repeat(x[0][(Math.Min((int)x[1][0] + k, shapes[0][0] - 1) * StepTable.Columns) + (int)StepColumn.ModelTimestep], o.Images))],
        AdvanceStep => [x[0][0] + 1],
        StepNoise o => Noise(o, x),
        ClassifierFreeGuidance o => Combine(o, shapes[0], x),
        KnownRegion => Known(shapes[0], x),
        _ => null,
    };

    /// <summary>The rows of every table that belong to the step.</summary>
    public static double[][] Select(SelectStep op, Shape[] shapes, double[][] x)
    {
        int row = (int)(x[0][0] - x[1][0]);
        return [.. Enumerable.Range(2, x.Length - 2).Select(i =>
        {
            int perStep = shapes[i][1] * shapes[i][2];
            double[] rows = x[i][(row * perStep)..((row + 1) * perStep)];
            return shapes[i][1] > 1 ? rows : [.. Enumerable.Range(0, op.Images).SelectMany(_ => rows)];
        })];
    }

    /// <summary>x_{t-1} and pred_xstart.</summary>
    public static double[][] Update(SamplerUpdate op, Shape shape, double[][] x)
    {
        // What is taken in is evaluated as the ops that it was.
        if (op.Advances)
        {
            return [.. Update(op with { Advances = false }, shape, x), [x[SamplerUpdate.StepInput][0] + 1]];
        }

        if (op.ClassifierFree)
        {
            ClassifierFreeGuidance combine = new(op.Parameterization);
            Shape both = [2 * shape[0], shape[1], shape[2], shape[3] * op.Parameterization.OutputsPerChannel];
            return Update(op with { ClassifierFree = false }, shape, [x[0], Combine(combine, both, [x[1], x[2], x[3]]), .. x[2..]]);
        }

        if (op.DrawsNoise)
        {
            return Update(op with { DrawsNoise = false }, shape, [.. x[..4], Noise(new StepNoise(shape), [x[4], x[5], x[3]]), .. x[6..]]);
        }

        int channels = shape[3], outputs = channels * op.Parameterization.OutputsPerChannel;
        Func<StepColumn, double> row = Row(x, 2);
        double[] next = new double[x[0].Length], predXstart = new double[x[0].Length], history = op.HistoryLength > 0 ? x[op.HistoryInput] : [];
        double[] nextHistory = new double[history.Length];
        for (int i = 0; i < next.Length; i++)
        {
            int at = (i / channels * outputs) + (i % channels);
            (next[i], predXstart[i], double eps) = Element(
                op,
                row,
                x[0][i],
                x[1][at],
                outputs > channels ? x[1][at + channels] : 0,
                op.Noise ? x[SamplerUpdate.NoiseInput][i] : 0,
                op.Guided ? x[op.GradientInput][i] * row(StepColumn.ClassifierScale) : 0);
            for (int k = 0; k < op.HistoryLength; k++)
            {
                next[i] += row(StepColumn.History1Coef + k) * history[(k * next.Length) + i];
                nextHistory[(k * next.Length) + i] = k > 0 ? history[((k - 1) * next.Length) + i] : op.Sampler.History() == SamplerHistory.Eps ? eps : predXstart[i];
            }
        }

        return op.HistoryLength > 0 ? [next, predXstart, nextHistory] : [next, predXstart];
    }

    private static (double Next, double PredXstart, double Eps) Element(
        SamplerUpdate op, Func<StepColumn, double> row, double x, double prediction, double v, double noise, double gradient)
    {
        double recip = row(StepColumn.SqrtRecipAlphasCumprod), recipm1 = row(StepColumn.SqrtRecipm1AlphasCumprod);
        double xStart = op.Parameterization.MeanType == ModelMeanType.XStart ? prediction : (recip * x) - (recipm1 * prediction);
        xStart = op.Parameterization.ClipDenoised ? Math.Clamp(xStart, -1, 1) : xStart;
        noise *= row(StepColumn.NoiseCoef);
        if (op.Sampler == SamplerKind.Ddpm)
        {
            bool learned = op.Parameterization.VarType == ModelVarType.LearnedRange;
            double log = row(StepColumn.MaxLogVariance);
            log = learned ? ((v + 1) / 2 * log) + ((1 - v) / 2 * row(StepColumn.MinLogVariance)) : log;
            double mean = (row(StepColumn.XStartCoef) * xStart) + (row(StepColumn.XCoef) * x);
            mean += (learned ? Math.Exp(log) : row(StepColumn.FixedVariance)) * gradient;
            return (mean + (Math.Exp(log / 2) * noise), xStart, double.NaN);
        }

        double eps = ((recip * x) - xStart) / recipm1;
        if (op.Guided)
        {
            eps -= row(StepColumn.SqrtOneMinusAlphasCumprod) * gradient;
            xStart = (recip * x) - (recipm1 * eps);
        }

        return ((row(StepColumn.XStartCoef) * xStart) + (row(StepColumn.EpsCoef) * eps) + noise, xStart, eps);
    }

    private static double[] Noise(StepNoise op, double[][] x) => Normals(op.Shape, x[0], x[1], RandomStreams.StepNoise((int)x[2][0]));

    private static double[] Known(Shape shape, double[][] x)
    {
        int row = (int)x[4][0] * 4;
        double[] known = Normals(shape, x[5], x[6], (uint)x[4][0] + (1u << 30)), jump = Normals(shape, x[5], x[6], (uint)x[4][0] + (1u << 31)), y = new double[x[0].Length];
        for (int i = 0; i < y.Length; i++)
        {
            double m = x[2][i / shape[3]];
            double mixed = (m * ((x[3][row] * x[1][i]) + (x[3][row + 1] * known[i]))) + ((1 - m) * x[0][i]);
            y[i] = (x[3][row + 2] * mixed) + (x[3][row + 3] * jump[i]);
        }

        return y;
    }

    private static double[] Normals(Shape shape, double[] seed, double[] images, uint draw)
    {
        int elements = shape.Elements / shape[0];
        float[] noise = new float[shape.Elements];
        for (int n = 0; n < shape[0]; n++)
        {
            RandomStreams.Normals(Word(seed, 0), Word(images, 2 * n), draw, 0, noise.AsSpan(n * elements, elements));
        }

        return Array.ConvertAll(noise, v => (double)v);

        static ulong Word(double[] words, int at) => (uint)(int)words[at] | ((ulong)(uint)(int)words[at + 1] << 32);
    }

    private static double[] Combine(ClassifierFreeGuidance op, Shape shape, double[][] x)
    {
        int half = x[0].Length / 2, outputs = shape[3], channels = outputs / op.Parameterization.OutputsPerChannel;
        double w = Row(x, 1)(StepColumn.CfgScale);
        double[] y = x[0][..half];
        for (int i = 0; i < half; i++)
        {
            y[i] = i % outputs < channels ? ((1 + w) * y[i]) - (w * x[0][half + i]) : y[i];
        }

        return y;
    }

    private static Func<StepColumn, double> Row(double[][] x, int table) =>
        column => x[table][((int)x[table + 1][0] * StepTable.Columns) + (int)column];
}
