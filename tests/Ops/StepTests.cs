using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using static Kernels.Tests.Ops.Refusal;

namespace Kernels.Tests.Ops;

/// <summary>The ops around the models. They carry no gradients: guidance differentiates the classifier, not the sampler.</summary>
public sealed class StepTests : ForwardOpTests<StepTests>, IOpCases
{
    private const int Steps = 5;

    // Of DDIM.
    private const double Eta = 0.7;

    private static readonly (string Name, ModelMeanType Mean, ModelVarType Variance, bool Clip)[] s_parameterizations =
    [
        ("learned variance, clipped", ModelMeanType.Epsilon, ModelVarType.LearnedRange, true),
        ("learned variance", ModelMeanType.Epsilon, ModelVarType.LearnedRange, false),
        ("small variance, x_0, clipped", ModelMeanType.XStart, ModelVarType.FixedSmall, true),
        ("large variance, clipped", ModelMeanType.Epsilon, ModelVarType.FixedLarge, true),
    ];

    private static readonly SamplerKind[] s_solvers =
    [
        SamplerKind.Euler, SamplerKind.EulerAncestral, SamplerKind.Heun, SamplerKind.DpmSolverPlusPlus2M, SamplerKind.DpmSolverPlusPlus2MSde, SamplerKind.Plms,
    ];

    public static IEnumerable<OpCase> Cases =>
    [
        new("batch 3", new StepTimesteps(3), [.. Table(Of(s_parameterizations[0]), SamplerKind.Ddpm, 2)]),
        new("from the second step on", new ChunkTimesteps(3, 2), [.. Chunk(first: 1)]),
        new("beyond the last step", new ChunkTimesteps(4, 1), [.. Chunk(first: 3)]),
        new("one table", new SelectStep(3), Whole("step", [1], 2), Whole("first", [1], 0), Operand.Input("table", [3, 3, 8])),
        new(
            "a row per image, one for all, two halves",
            new SelectStep(2),
            Whole("step", [1], 9),
            Whole("first", [1], 8),
            Operand.Input("labelled", [4, 2, 6]),
            Operand.Input("one", [4, 1, 5]),
            Operand.Input("halves", [4, 4, 33])),
        new("one step", new SelectStep(1), Whole("step", [1], 7), Whole("first", [1], 7), Operand.Input("table", [1, 1, 1])),
        new("counter", new AdvanceStep(), Whole("step", [1], 41)),
        new("two images", new StepNoise([2, 4, 4, 3]), Whole("seed", [2], -7, 3), Whole("image_index", [2, 2], 5, 0, -1, 1), Whole("step", [1], 3)),
        .. s_parameterizations.Select(p => new OpCase(
            p.Name, new ClassifierFreeGuidance(Of(p)), [Output("both", [4, 3, 5, 3], Of(p)), .. Table(Of(p), SamplerKind.Ddpm, 1)])),
        .. from step in new[] { 0, 1, 2 }
           from width in new[] { 5, 8 }
           select Known($"step {step}, width {width}", [2, 3, width, 3], step),
        .. from p in s_parameterizations
           from sampler in new[] { SamplerKind.Ddpm, SamplerKind.Ddim, SamplerKind.DdimReverse }
           from step in new[] { 0, 2, Steps - 1 }
           from guided in sampler == SamplerKind.DdimReverse ? [false] : new[] { false, true }
           select Update(p.Name, Of(p), sampler, step, guided),

        // Those that differ in coefficients alone share their kernels. In row 3 every weight of a history is there, a corrector's among them.
        .. from p in new[] { s_parameterizations[0], s_parameterizations[2] }
           from sampler in s_solvers
           from step in new[] { 0, 3, Steps - 1 }
           from guided in new[] { false, true }
           select Update(p.Name, Of(p), sampler, step, guided),
        .. from sampler in new[] { SamplerKind.DpmSolverPlusPlus2MSde, SamplerKind.Plms }
           from guided in new[] { false, true }
           from free in new[] { false, true }
           select Fused(s_parameterizations[0].Name, Of(s_parameterizations[0]), sampler, guided, free),
        .. from p in s_parameterizations
           from sampler in new[] { SamplerKind.Ddpm, SamplerKind.Ddim }
           from guided in new[] { false, true }
           from free in new[] { false, true }
           select Fused(p.Name, Of(p), sampler, guided, free),
    ];

    public static IEnumerable<Refusal> Refusals =>
    [
        new(new StepTimesteps(2), [F(5, 16)], "takes 2 inputs, got 1"),
        new(new StepTimesteps(2), [F(80), I(1)], "step table [S, 16] must have 2 axes", "f32[80]"),
        new(new StepTimesteps(2), [F(5, 15), I(1)], "the step table must have 16 columns", "f32[5, 15]"),
        new(new StepTimesteps(2), [F(5, 16), F(1)], "step counter [1] must be I32", "f32[1]"),
        new(new ChunkTimesteps(2, 1), [F(5, 16)], "takes 2 inputs, got 1"),
        new(new ChunkTimesteps(2, 1), [F(5, 16), F(1)], "step counter [1] must be I32", "f32[1]"),
        new(new ChunkTimesteps(0, 2), [F(5, 16), I(1)], "0 steps of 2 images"),
        new(new SelectStep(2), [I(1), I(1)], "takes a counter, a first step and tables, got 2 inputs"),
        new(new SelectStep(0), [I(1), I(1), F(3, 1, 4)], "cannot select for 0 images"),
        new(new SelectStep(2), [F(1), I(1), F(3, 2, 4)], "step counter [1] must be I32", "f32[1]"),
        new(new SelectStep(2), [I(1), I(2), F(3, 2, 4)], "first step [1] must be [1]", "i32[2]"),
        new(new SelectStep(2), [I(1), I(1), F(3, 2)], "table [K, R, C] must have 3 axes", "f32[3, 2]"),
        new(new SelectStep(2), [I(1), I(1), F(3, 2, 4), F(2, 2, 4)], "the tables must hold the same steps", "f32[2, 2, 4]"),
        new(new AdvanceStep(), [], "takes 1 inputs, got 0"),
        new(new AdvanceStep(), [I(2)], "step counter [1] must be [1]", "i32[2]"),
        new(new StepNoise([2, 4, 4, 3]), [I(2)], "takes 3 inputs, got 1"),
        new(new StepNoise([2, 4, 4, 3]), [I(1), I(2, 2), I(1)], "seed [2] must be [2]", "i32[1]"),
        new(new StepNoise([2, 4, 4, 3]), [I(2), I(3, 2), I(1)], "image indices [N, 2] must be [2, 2]", "i32[3, 2]"),
        new(new StepNoise([2, 4, 4, 3]), [I(2), I(2, 2), I(2)], "step counter [1] must be [1]", "i32[2]"),
        new(new ClassifierFreeGuidance(Of(s_parameterizations[0])), [F(2, 4, 4, 6)], "takes 3 inputs, got 1"),
        new(new ClassifierFreeGuidance(Of(s_parameterizations[0])), [F(4, 4, 6), F(5, 16), I(1)], "model output [2N, H, W, K] must have 4 axes"),
        new(new ClassifierFreeGuidance(Of(s_parameterizations[0])), [F(3, 4, 4, 6), F(5, 16), I(1)], "the two halves of", "f32[3, 4, 4, 6]"),
        new(new ClassifierFreeGuidance(Of(s_parameterizations[0])), [F(2, 4, 4, 5), F(5, 16), I(1)], "predictions and variances", "f32[2, 4, 4, 5]"),
        new(new KnownRegion(), [F(2, 4, 4, 3)], "takes 7 inputs, got 1"),
        new(new KnownRegion(), KnownTypes(known: F(1, 4, 4, 3)), "known image must be [2, 4, 4, 3]", "f32[1, 4, 4, 3]"),
        new(new KnownRegion(), KnownTypes(mask: F(2, 4, 4, 3)), "mask [N, H, W, 1] must be [2, 4, 4, 1]", "f32[2, 4, 4, 3]"),
        new(new KnownRegion(), KnownTypes(levels: F(5, 3)), "the levels must have 4 columns", "f32[5, 3]"),
        new(new KnownRegion(), KnownTypes(seed: I(1)), "seed [2] must be [2]", "i32[1]"),
        new(Plain, [F(2, 4, 4, 3), F(2, 4, 4, 6)], "takes 4 inputs, got 2"),
        new(Plain, [F(4, 4, 3), F(4, 4, 6), F(5, 16), I(1)], "x [N, H, W, C] must have 4 axes", "f32[4, 4, 3]"),
        new(Plain, [F(2, 4, 4, 3), F(2, 4, 4, 3), F(5, 16), I(1)], "model output [N, H, W, K] must be [2, 4, 4, 6]", "f32[2, 4, 4, 3]"),
        new(Plain, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 12), I(1)], "the step table must have 16 columns", "f32[5, 12]"),
        new(Plain with { Noise = true }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1), F(1, 4, 4, 3)], "noise must be [2, 4, 4, 3]", "f32[1, 4, 4, 3]"),
        new(Plain with { Guided = true, Noise = true, DrawsNoise = true }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1), I(2), F(2, 4, 4, 3)], "takes 7 inputs, got 6"),
        new(Plain with { Noise = true, DrawsNoise = true }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1), I(2), I(3, 2)], "image indices [N, 2] must be [2, 2]", "i32[3, 2]"),
        new(Plain with { DrawsNoise = true }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1)], "draws no noise where none is wanted"),
        new(Plain with { ClassifierFree = true }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1)], "model output [2N, H, W, K] must be [4, 4, 4, 6]", "f32[2, 4, 4, 6]"),
        new(Plain with { Guided = true }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1), F(1, 4, 4, 3)], "gradient must be [2, 4, 4, 3]", "f32[1, 4, 4, 3]"),
        new(Plain with { Sampler = SamplerKind.Heun }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1)], "takes 5 inputs, got 4"),
        new(
            Plain with { Sampler = SamplerKind.Plms }, [F(2, 4, 4, 3), F(2, 4, 4, 6), F(5, 16), I(1), F(1, 2, 4, 4, 3)], "history [H, N, H, W, C] must be [3, 2, 4, 4, 3]",
            "f32[1, 2, 4, 4, 3]"),
    ];

    private static OpCase Fused(string name, Parameterization parameterization, SamplerKind sampler, bool guided, bool free)
    {
        Shape x = [2, 5, 13, 3];
        bool noise = sampler.IsNoisy(Eta);
        SamplerUpdate op = new(sampler, parameterization, noise, guided, DrawsNoise: noise, ClassifierFree: free, Advances: true);
        List<Operand> operands = [Operand.Input("x", x), Output("output", free ? x.With(0, 4) : x, parameterization), .. Table(parameterization, sampler, 2)];
        operands.AddRange(noise ? [Whole("seed", [2], -7, 3), Whole("image_index", [2, 2], 5, 0, -1, 1)] : []);
        operands.AddRange(guided ? [Operand.Input("gradient", x)] : []);
        operands.AddRange(History(sampler, x));
        return new OpCase($"{name}, {sampler}, {(noise ? "draws and " : "")}advances{(guided ? ", guided" : "")}{(free ? ", two halves" : "")}", op, operands) { Tolerance = 3e-6 };
    }

    private static TensorType[] KnownTypes(TensorType? known = null, TensorType? mask = null, TensorType? levels = null, TensorType? seed = null) =>
        [F(2, 4, 4, 3), known ?? F(2, 4, 4, 3), mask ?? F(2, 4, 4, 1), levels ?? F(5, 4), I(1), seed ?? I(2), I(2, 2)];

    // Step 0 jumps back up, step 2 is the last: nothing is added. A mask of 0, of 1 and between.
    private static OpCase Known(string name, Shape x, int step) => new(
        name,
        new KnownRegion(),
        Operand.Input("x", x),
        Operand.Input("known", x, 0.5),
        new Operand("mask", x.With(3, 1), (random, _) => [.. Enumerable.Range(0, x.Elements / x[3]).Select(_ => random.Next(3) / 2.0)]),
        Operand.Of("levels", [3, 4], 0.3, 0.95, 0.8, 0.6, 0.6, 0.8, 1, 0, 1, 0, 1, 0),
        Whole("step", [1], step),
        Whole("seed", [2], -7, 3),
        Whole("image_index", [2, 2], 5, 0, -1, 1));

    private static Operand[] History(SamplerKind sampler, Shape x) => sampler.HistoryLength() > 0 ? [Operand.Input("history", [sampler.HistoryLength(), .. x])] : [];

    private static SamplerUpdate Plain => new(SamplerKind.Ddpm, Of(s_parameterizations[0]), Noise: false, Guided: false);

    private static OpCase Update(string name, Parameterization parameterization, SamplerKind sampler, int step, bool guided)
    {
        Shape x = [2, 3, 5, 3];
        SamplerUpdate op = new(sampler, parameterization, sampler.IsNoisy(Eta), guided);
        List<Operand> operands = [Operand.Input("x", x), Output("output", x, parameterization), .. Table(parameterization, sampler, step)];
        operands.AddRange(op.Noise ? [Operand.Input("noise", x)] : []);
        operands.AddRange(guided ? [Operand.Input("gradient", x)] : []);
        operands.AddRange(History(sampler, x));
        return new OpCase($"{name}, {sampler}, step {step}{(guided ? ", guided" : "")}", op, operands)
        {
            // The first steps divide by sqrt(alpha-bar), some thousand times, and multiply back: their rounding is relative to numbers of that size.
            Tolerance = 3e-6,
        };
    }

    private static Parameterization Of((string Name, ModelMeanType Mean, ModelVarType Variance, bool Clip) p) => new(p.Mean, p.Variance, p.Clip);

    // Variances stay in [-1, 1], where a trained model keeps them.
    private static Operand Output(string name, Shape x, Parameterization p) =>
        Operand.Input(name, x.With(3, x[3] * p.OutputsPerChannel), scale: 0.4);

    private static IEnumerable<Operand> Table(Parameterization p, SamplerKind sampler, int step)
    {
        DiffusionConfig config = new()
        {
            NoiseSchedule = NoiseSchedule.Cosine,
            TimestepRespacing = $"{Steps}",
            LearnSigma = p.VarType == ModelVarType.LearnedRange,
            SigmaSmall = p.VarType == ModelVarType.FixedSmall,
            PredictXstart = p.MeanType == ModelMeanType.XStart,
        };
        StepTable table = new(new GaussianDiffusion(config), sampler, sampler == SamplerKind.Ddim ? Eta : 0, classifierScale: 2.5, cfgScale: 1.5);
        float[] values = table.Values.ToArray();
        return [Operand.Of("step_table", [table.Count, StepTable.Columns], Array.ConvertAll(values, v => (double)v)), Whole("step", [1], step)];
    }

    private static IEnumerable<Operand> Chunk(int first) => Table(Of(s_parameterizations[0]), SamplerKind.Ddpm, first);

    private static Operand Whole(string name, Shape shape, params double[] values) => Operand.Of(name, shape, values) with { DType = DType.I32 };
}
