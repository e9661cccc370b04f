using Kernels.Ops;

namespace Kernels.Diffusion.Steps;

/// <summary>Checks that the ops of a step share.</summary>
internal static class StepInputs
{
    /// <summary>Checks a <see cref="StepTable"/> and the counter that selects its row.</summary>
    /// <param name="inputs">The inputs of the op.</param>
    /// <param name="table">Position of the table <c>[S, 16]</c>; the counter <c>[1]</c> follows it.</param>
    public static void ExpectTable(OpInputs inputs, int table)
    {
        Shape shape = inputs.ExpectRank(table, $"step table [S, {StepTable.Columns}]", 2);
        inputs.Expect(shape[1] == StepTable.Columns, $"the step table must have {StepTable.Columns} columns, got {inputs[table]}");
        inputs.ExpectShape(table + 1, "step counter [1]", [1], DType.I32);
    }

    /// <summary>Checks what noise is drawn from (<see cref="RandomStreams"/>).</summary>
    /// <param name="inputs">The inputs of the op.</param>
    /// <param name="seed">Position of the seed <c>[2]</c>; the image indices <c>[N, 2]</c> follow it.</param>
    /// <param name="images">Number of images N.</param>
    public static void ExpectSeed(OpInputs inputs, int seed, int images)
    {
        inputs.ExpectShape(seed, "seed [2]", [2], DType.I32);
        inputs.ExpectShape(seed + 1, "image indices [N, 2]", [images, 2], DType.I32);
    }
}

/// <summary>The timestep of the current step, once per image: t[n] = table[step, <see cref="StepColumn.ModelTimestep"/>].</summary>
/// <param name="Images">Number of images N.</param>
/// <remarks>Inputs: step table <c>[S, 16]</c>, step counter <c>[1]</c>. Output: <c>[N]</c>.</remarks>
public sealed record StepTimesteps(int Images) : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        StepInputs.ExpectTable(inputs, 0);
        return [new TensorType([Images])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override Cost Cost(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return new Cost(2 * sizeof(float), node.Output.Bytes, 0);
    }
}

/// <summary>
/// The timesteps of some consecutive steps at once, each once per image: t[k·N + n] = table[min(first + k, S − 1), <see cref="StepColumn.ModelTimestep"/>]. What lies beyond the
/// last step repeats it, and is never selected.
/// </summary>
/// <param name="Steps">Number of steps K.</param>
/// <param name="Images">Number of images N.</param>
/// <remarks>Inputs: step table <c>[S, 16]</c>, first step <c>[1]</c>. Output: <c>[K·N]</c>.</remarks>
public sealed record ChunkTimesteps(int Steps, int Images) : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(2);
        StepInputs.ExpectTable(inputs, 0);
        inputs.Expect(Steps > 0 && Images > 0, $"{Steps} steps of {Images} images have no timesteps");
        return [new TensorType([Steps * Images])];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override Cost Cost(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return new Cost((Steps + 1L) * sizeof(float), node.Output.Bytes, 0);
    }
}

/// <summary>The rows of the current step in tables that hold some consecutive steps: y_b[n,c] = table_b[step − first, n, c], for all tables in one launch.</summary>
/// <param name="Images">Number of images N. A table of one row per step gives that row to each of them: y_b[n,c] = table_b[step − first, 0, c].</param>
/// <remarks>
/// Inputs: step counter <c>[1]</c> and first step of the tables <c>[1]</c> of <see cref="DType.I32"/>; then tables <c>[K, R_b, C_b]</c>, any number.
/// Outputs: for each table <c>[R_b, C_b]</c>, or <c>[N, C_b]</c> if R_b is 1. The counter must lie in [first, first + K).
/// </remarks>
public sealed record SelectStep(int Images) : GradientOp
{
    /// <summary>Position of the first table among the inputs.</summary>
    internal const int FirstTable = 2;

    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.Expect(inputs.Count > FirstTable, $"takes a counter, a first step and tables, got {inputs.Count} inputs");
        inputs.Expect(Images > 0, $"cannot select for {Images} images");
        inputs.ExpectShape(0, "step counter [1]", [1], DType.I32);
        inputs.ExpectShape(1, "first step [1]", [1], DType.I32);
        List<TensorType> outputs = [];
        for (int i = FirstTable; i < inputs.Count; i++)
        {
            Shape table = inputs.ExpectRank(i, "table [K, R, C]", 3);
            inputs.Expect(table[0] == inputs[FirstTable].Shape[0], $"the tables must hold the same steps, got {inputs[FirstTable]} and {inputs[i]}");
            outputs.Add(new TensorType([table[1] == 1 ? Images : table[1], table[2]]));
        }

        return outputs;
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;

    /// <inheritdoc/>
    public override Cost Cost(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return new Cost((2 * sizeof(int)) + node.Inputs.Skip(FirstTable).Sum(t => t.Bytes / t.Shape[0]), node.Outputs.Sum(t => t.Bytes), 0);
    }
}

/// <summary>Moves on to the next step: the counter plus one.</summary>
/// <remarks>Input: step counter <c>[1]</c>. Output: <c>[1]</c>, in the same memory. So that a captured step can be replayed without a word from the host.</remarks>
public sealed record AdvanceStep : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(1);
        inputs.ExpectShape(0, "step counter [1]", [1], DType.I32);
        return [new TensorType([1], DType.I32)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node) => 0;
}

/// <summary>
/// The noise of the current step: standard normal values that depend on seed, image index, step and position alone (<see cref="RandomStreams"/>), so that an image is the same in
/// every batch.
/// </summary>
/// <param name="Shape">Shape of the noise <c>[N, H, W, C]</c>.</param>
/// <remarks>
/// Inputs: seed <c>[2]</c> of <see cref="DType.I32"/>, low word first; image indices <c>[N, 2]</c> likewise; step counter <c>[1]</c>. Output: <c>[N, H, W, C]</c>.
/// </remarks>
public sealed record StepNoise(Shape Shape) : GradientOp
{
    /// <summary>Philox and Box-Muller, about.</summary>
    internal const int FlopsPerElement = 60;

    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(3);
        StepInputs.ExpectSeed(inputs, 0, Shape[0]);
        inputs.ExpectShape(2, "step counter [1]", [1], DType.I32);
        return [new TensorType(Shape)];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return (long)FlopsPerElement * node.Output.Shape.Elements;
    }
}

/// <summary>
/// Classifier-free guidance (Ho and Salimans 2022): eps = (1 + w) · eps(y) − w · eps(null) with w of <see cref="StepColumn.CfgScale"/>, eps(y) as it is where that is 0; variances are the
/// conditional ones.
/// </summary>
/// <param name="Parameterization">How to read the model's output.</param>
/// <remarks>
/// Inputs: model output of both halves <c>[2N, H, W, K]</c>, the conditional one first; step table <c>[S, 16]</c>; step counter <c>[1]</c>. Output: <c>[N, H, W, K]</c>.
/// </remarks>
public sealed record ClassifierFreeGuidance(Parameterization Parameterization) : GradientOp
{
    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.ExpectCount(3);
        Shape both = inputs.ExpectRank(0, "model output [2N, H, W, K]", 4);
        inputs.Expect(both[0] % 2 == 0, $"the two halves of {inputs[0]} are not of one size");
        inputs.Expect(both[3] % Parameterization.OutputsPerChannel == 0, $"{inputs[0]} does not hold predictions and variances of as many channels");
        StepInputs.ExpectTable(inputs, 1);
        return [new TensorType(both.With(0, both[0] / 2))];
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return 3L * node.Output.Shape.Elements / Parameterization.OutputsPerChannel;
    }
}

/// <summary>x_t to x_{t−1}: the update of a sampler, guidance included (<see cref="StepColumn"/> has the formulas).</summary>
/// <param name="Sampler">Which update.</param>
/// <param name="Parameterization">How to read the model's output.</param>
/// <param name="Noise">Whether noise is an input; a deterministic sampler needs none.</param>
/// <param name="Guided">Whether the classifier's gradient ∇ₓ log p(y | x_t) is an input; the step table scales it.</param>
/// <param name="DrawsNoise">Whether the noise is drawn on the spot (<see cref="StepNoise"/>): seed and image indices take the place of the noise among the inputs.</param>
/// <param name="ClassifierFree">Whether the model's output holds both halves of a classifier-free pass, which are combined first (<see cref="Steps.ClassifierFreeGuidance"/>).</param>
/// <param name="Advances">Whether the counter is moved on last (<see cref="AdvanceStep"/>): a last output.</param>
/// <remarks>
/// Inputs: x <c>[N, H, W, C]</c>; model output <c>[N, H, W, K]</c>, K = C or 2C, or <c>[2N, H, W, K]</c>; step table <c>[S, 16]</c>; step counter <c>[1]</c>; if declared noise like x, or
/// seed <c>[2]</c> and image indices <c>[N, 2]</c>; if declared the gradient like x; of a sampler with a history what the last evaluations left, <c>[H, N, H, W, C]</c>, the latest first.
/// Outputs: x_{t−1}, which may take the place of x, and pred_xstart, both like x; of a sampler with a history the next one, which may take its place; if declared the next counter
/// <c>[1]</c>, which may take the place of the counter: it is written when every element has read that.
/// </remarks>
public sealed record SamplerUpdate(
    SamplerKind Sampler,
    Parameterization Parameterization,
    bool Noise,
    bool Guided,
    bool DrawsNoise = false,
    bool ClassifierFree = false,
    bool Advances = false) : GradientOp
{
    /// <summary>Position of the step counter among the inputs.</summary>
    internal const int StepInput = 3;

    /// <summary>Position of the noise, or of the seed, if there is noise.</summary>
    internal const int NoiseInput = 4;

    /// <summary>Position of the next history among the outputs, if there is one.</summary>
    internal const int HistoryOutput = 2;

    /// <inheritdoc/>
    public override bool IsExact => true;

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputs => [0];

    /// <summary>Position of the gradient, if there is one.</summary>
    internal int GradientInput => NoiseInput + (Noise ? DrawsNoise ? 2 : 1 : 0);

    /// <summary>Position of the history, if there is one.</summary>
    internal int HistoryInput => GradientInput + (Guided ? 1 : 0);

    /// <summary>How many earlier evaluations are read.</summary>
    internal int HistoryLength => Sampler.HistoryLength();

    /// <inheritdoc/>
    public override IReadOnlyList<int> InPlaceInputsOf(int output) =>
        output == 0 ? InPlaceInputs
        : output == HistoryOutput && HistoryLength > 0 ? [HistoryInput]
        : output >= HistoryOutput ? [StepInput]
        : [];

    /// <inheritdoc/>
    public override IReadOnlyList<TensorType> Infer(OpInputs inputs)
    {
        inputs.Expect(Noise || !DrawsNoise, "draws no noise where none is wanted");
        inputs.ExpectCount(HistoryInput + (HistoryLength > 0 ? 1 : 0));
        Shape x = inputs.ExpectRank(0, "x [N, H, W, C]", 4);
        Shape output = x.With(3, x[3] * Parameterization.OutputsPerChannel);
        inputs.ExpectShape(1, ClassifierFree ? "model output [2N, H, W, K]" : "model output [N, H, W, K]", ClassifierFree ? output.With(0, 2 * x[0]) : output);
        StepInputs.ExpectTable(inputs, 2);
        if (DrawsNoise)
        {
            StepInputs.ExpectSeed(inputs, NoiseInput, x[0]);
        }
        else if (Noise)
        {
            inputs.ExpectShape(NoiseInput, "noise", x);
        }

        if (Guided)
        {
            inputs.ExpectShape(GradientInput, "gradient", x);
        }

        List<TensorType> outputs = [new TensorType(x), new TensorType(x)];
        if (HistoryLength > 0)
        {
            Shape history = [HistoryLength, .. x];
            inputs.ExpectShape(HistoryInput, "history [H, N, H, W, C]", history);
            outputs.Add(new TensorType(history));
        }

        if (Advances)
        {
            outputs.Add(new TensorType([1], DType.I32));
        }

        return outputs;
    }

    /// <inheritdoc/>
    public override long Flops(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return node.Output.Shape.Elements
            * (12L + (Noise ? 2 : 0) + (DrawsNoise ? StepNoise.FlopsPerElement : 0) + (Guided ? 4 : 0) + (ClassifierFree ? 3 : 0) + (2 * HistoryLength));
    }
}
