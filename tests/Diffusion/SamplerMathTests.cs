using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class SamplerMathTests
{
    private static readonly DiffusionConfig Cosine = new() { NoiseSchedule = NoiseSchedule.Cosine, TimestepRespacing = "25" };

    public static TheoryData<bool, ModelVarType, bool, bool, int, int> Cases()
    {
        TheoryData<bool, ModelVarType, bool, bool, int, int> cases = [];
        foreach (bool xStart in new[] { false, true })
        {
            foreach (ModelVarType varType in Enum.GetValues<ModelVarType>())
            {
                foreach (bool clip in new[] { false, true })
                {
                    cases.Add(xStart, varType, clip, false, 3, 35);
                    cases.Add(xStart, varType, clip, true, 3, 200);
                    cases.Add(xStart, varType, clip, true, 1, 1);
                    cases.Add(xStart, varType, clip, true, 5, 103);
                }
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Ddpm_update_equals_the_float64_formula(bool xStart, ModelVarType varType, bool clip, bool guided, int channels, int pixels)
    {
        Run run = new(Configure(xStart, varType), SamplerKind.Ddpm, clip, guided, channels, pixels, eta: 0);
        run.Check(
            (t, e) => run.Reference.Ddpm(t, run.X[e], run.Prediction(e), run.Variance(e), run.ScaledGradient(e), run.Noise[e]),
            SamplerMath.DdpmUpdate);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Ddim_update_equals_the_float64_formula(bool xStart, ModelVarType varType, bool clip, bool guided, int channels, int pixels)
    {
        foreach (double eta in new[] { 0, 0.7, 1 })
        {
            Run run = new(Configure(xStart, varType), SamplerKind.Ddim, clip, guided, channels, pixels, eta);
            run.Check(
                (t, e) => run.Reference.Ddim(t, run.X[e], run.Prediction(e), run.ScaledGradient(e), run.Noise[e], run.Row(t)),
                LinearUpdate);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Ddim_inversion_equals_the_float64_formula(bool xStart, ModelVarType varType, bool clip, bool guided, int channels, int pixels)
    {
        _ = guided;
        Run run = new(Configure(xStart, varType), SamplerKind.DdimReverse, clip, guided: false, channels, pixels, eta: 0);
        run.Check((t, e) => run.Reference.Ddim(t, run.X[e], run.Prediction(e), null, 0, run.Row(t)), LinearUpdate);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Mean_and_variance_equal_the_float64_formula(bool xStart, ModelVarType varType, bool clip, bool guided, int channels, int pixels)
    {
        _ = guided;
        Run run = new(Configure(xStart, varType), SamplerKind.Ddpm, clip, guided: false, channels, pixels, eta: 0);
        float[] mean = new float[run.X.Length];
        float[] logVariance = new float[run.X.Length];
        float[] predXstart = new float[run.X.Length];
        for (int step = 0; step < run.Table.Count; step++)
        {
            SamplerMath.PMeanVariance(run.Table[step], run.Parameterization, channels, run.X, run.Output, mean, logVariance, predXstart);
            int t = run.Table.Timesteps[step];
            (double Mean, double Variance, double XStart)[] expected =
                [.. Enumerable.Range(0, run.X.Length).Select(e => run.Reference.Posterior(t, run.X[e], run.Prediction(e), run.Variance(e)))];
            Assert.InRange(Agreement.ErrorOfUnits(mean, [.. expected.Select(p => p.Mean)]), 0, Run.Tolerance);
            Assert.InRange(Agreement.ErrorOfUnits(logVariance, [.. expected.Select(p => Math.Log(p.Variance))]), 0, Run.Tolerance);
            Assert.InRange(Agreement.ErrorOfUnits(predXstart, [.. expected.Select(p => p.XStart)]), 0, Run.Tolerance);
        }
    }

    [Fact]
    public void A_value_does_not_depend_on_the_run_of_pixels_it_was_computed_in()
    {
        foreach (SamplerKind sampler in new[] { SamplerKind.Ddpm, SamplerKind.Ddim })
        {
            bool ddim = sampler == SamplerKind.Ddim;
            Run run = new(Configure(false, ModelVarType.LearnedRange), sampler, clip: false, guided: true, channels: 3, pixels: 500, eta: ddim ? 1 : 0);
            Update update = ddim ? LinearUpdate : SamplerMath.DdpmUpdate;
            float[] whole = new float[run.X.Length];
            float[] parts = new float[run.X.Length];
            update(run.Table[4], run.Parameterization, 3, run.X, run.Output, run.Gradient, run.Noise, whole, []);
            int[] cuts = [0, 1, 2, 7, 180, 351, 499, 500];
            for (int i = 1; i < cuts.Length; i++)
            {
                Range range = (cuts[i - 1] * 3)..(cuts[i] * 3);
                update(
                    run.Table[4],
                    run.Parameterization,
                    3,
                    run.X.AsSpan(range),
                    run.Output.AsSpan((cuts[i - 1] * 6)..(cuts[i] * 6)),
                    run.Gradient.AsSpan(range),
                    run.Noise.AsSpan(range),
                    parts.AsSpan(range),
                    []);
            }

            Assert.Equal(whole, parts);

            // In place.
            float[] x = [.. run.X];
            update(run.Table[4], run.Parameterization, 3, x, run.Output, run.Gradient, run.Noise, x, []);
            Assert.Equal(whole, x);
        }
    }

    [Fact]
    public void Both_kinds_of_guidance_move_the_mean_alike()
    {
        // condition_score moves the mean by beta / sqrt(alpha) gradient, condition_mean by variance gradient, which is beta here.
        DiffusionConfig config = Configure(false, ModelVarType.FixedLarge);
        Run score = new(config, SamplerKind.Ddim, clip: false, guided: true, channels: 3, pixels: 50, eta: 0);
        Run mean = new(config, SamplerKind.Ddpm, clip: false, guided: true, channels: 3, pixels: 50, eta: 0);
        float[] shifted = new float[mean.X.Length];
        float[] conditioned = new float[mean.X.Length];
        float[] guidedXstart = new float[mean.X.Length];
        for (int step = 2; step < mean.Table.Count - 1; step++)
        {
            SamplerMath.LinearUpdate(score.Table[step], score.Parameterization, 3, score.X, score.Output, score.Gradient, [], shifted, guidedXstart);
            float[] zero = new float[mean.X.Length];
            SamplerMath.DdpmUpdate(mean.Table[step], mean.Parameterization, 3, mean.X, mean.Output, mean.Gradient, zero, shifted, []);
            Parameterization predictsX = mean.Parameterization with { MeanType = ModelMeanType.XStart };
            SamplerMath.DdpmUpdate(mean.Table[step], predictsX, 3, mean.X, guidedXstart, [], zero, conditioned, []);
            double beta = mean.Diffusion.Betas[mean.Table.Timesteps[step]];
            double excess = (beta / Math.Sqrt(1 - beta)) - beta;
            double[] expected = [.. shifted.Select((s, e) => s + (excess * mean.ScaledGradient(e)!.Value))];
            Assert.InRange(Agreement.RelativeL2(conditioned, expected), 0, 2e-6);
        }
    }

    [Fact]
    public void Classifier_free_guidance_extrapolates_predictions_and_keeps_variances()
    {
        StepTable table = new(new GaussianDiffusion(Cosine with { LearnSigma = true }), SamplerKind.Ddpm, cfgScale: 1.5);
        Parameterization learned = new(ModelMeanType.Epsilon, ModelVarType.LearnedRange, false);
        float[] conditional = [1, 2, 0.5f, 0.25f, 3, 4, -1, -2];
        float[] unconditional = [3, 1, 9, 9, 2, 2, 9, 9];
        float[] guided = new float[8];
        SamplerMath.ClassifierFreeGuidance(table[0], learned, 2, conditional, unconditional, guided);
        Assert.Equal([-2, 3.5f, 0.5f, 0.25f, 4.5f, 7, -1, -2], guided);
        SamplerMath.ClassifierFreeGuidance(table[0], learned with { VarType = ModelVarType.FixedSmall }, 2, conditional, unconditional, conditional);
        Assert.Equal([-2, 3.5f, -12.25f, -12.875f, 4.5f, 7, -16, -18.5f], conditional);
    }

    [Fact]
    public void A_nan_of_the_model_is_not_clipped_away()
    {
        StepTable table = new(new GaussianDiffusion(Cosine), SamplerKind.Ddpm);
        Parameterization clipped = new(ModelMeanType.Epsilon, ModelVarType.FixedLarge, true);
        float[] next = new float[2];
        float[] xStart = new float[2];
        SamplerMath.DdpmUpdate(table[^1], clipped, 1, [0.5f, 0.5f], [float.NaN, 0], [], [], next, xStart);
        Assert.True(float.IsNaN(next[0]) && float.IsNaN(xStart[0]));
        Assert.Equal(0.5f, xStart[1], 1e-2f);
    }

    [Fact]
    public void Updates_allocate_nothing()
    {
        Run run = new(Configure(false, ModelVarType.LearnedRange), SamplerKind.Ddpm, clip: true, guided: true, channels: 3, pixels: 301, eta: 0);
        float[] next = new float[run.X.Length];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int step = 0; step < run.Table.Count; step++)
        {
            RandomStreams.Normals(1, 0, RandomStreams.StepNoise(step), 0, run.Noise);
            SamplerMath.ClassifierFreeGuidance(run.Table[step], run.Parameterization, 3, run.Output, run.Output, run.Output);
            SamplerMath.DdpmUpdate(run.Table[step], run.Parameterization, 3, run.X, run.Output, run.Gradient, run.Noise, next, []);
            SamplerMath.LinearUpdate(run.Table[step], run.Parameterization, 3, run.X, run.Output, run.Gradient, run.Noise, next, []);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Spans_that_do_not_fit_are_refused()
    {
        StepTable table = new(new GaussianDiffusion(Cosine), SamplerKind.Ddpm);
        Parameterization fixedVariance = new(ModelMeanType.Epsilon, ModelVarType.FixedLarge, true);
        Parameterization learned = fixedVariance with { VarType = ModelVarType.LearnedRange };
        float[] six = new float[6];
        Assert.Throws<ArgumentOutOfRangeException>(() => SamplerMath.DdpmUpdate(table[0], learned, 3, six, six, [], six, six, []));
        Assert.Throws<ArgumentOutOfRangeException>(() => SamplerMath.DdpmUpdate(table[0], fixedVariance, 3, six, six, [], [], six, []));
        Assert.Throws<ArgumentOutOfRangeException>(() => SamplerMath.LinearUpdate(table[0], fixedVariance, 3, six, six, new float[3], [], six, []));
    }

    private static DiffusionConfig Configure(bool xStart, ModelVarType varType) => Cosine with
    {
        PredictXstart = xStart,
        LearnSigma = varType == ModelVarType.LearnedRange,
        SigmaSmall = varType == ModelVarType.FixedSmall,
    };

    // Without a history.
    private static void LinearUpdate(
        StepRow row,
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> modelOutput,
        ReadOnlySpan<float> gradient,
        ReadOnlySpan<float> noise,
        Span<float> xNext,
        Span<float> predXstart) =>
        SamplerMath.LinearUpdate(row, parameterization, channels, x, modelOutput, gradient, noise, xNext, predXstart);

    internal delegate void Update(
        StepRow row,
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> modelOutput,
        ReadOnlySpan<float> gradient,
        ReadOnlySpan<float> noise,
        Span<float> xNext,
        Span<float> predXstart);

    /// <summary>Random inputs of one update, and its comparison with the reference at every step.</summary>
    private sealed class Run
    {
        // A dozen float32 roundings of values of order 1.
        public const double Tolerance = 2e-6;

        private const double Scale = 1.75;
        private readonly int _channels;
        private readonly int _stride;

        public Run(DiffusionConfig config, SamplerKind sampler, bool clip, bool guided, int channels, int pixels, double eta)
        {
            Diffusion = new GaussianDiffusion(config);
            Table = new StepTable(Diffusion, sampler, eta, guided ? Scale : 0);
            Parameterization = Parameterization.Of(config, clip);
            Reference = new ReferenceSampler(Diffusion, clip);
            _channels = channels;
            _stride = channels * Parameterization.OutputsPerChannel;
            Random random = new(channels + (31 * pixels));
            X = Values(random, channels * pixels);
            Output = Values(random, _stride * pixels);
            Gradient = guided ? Values(random, channels * pixels) : [];
            Noise = Values(random, channels * pixels);
        }

        public GaussianDiffusion Diffusion { get; }

        public StepTable Table { get; }

        public Parameterization Parameterization { get; }

        public ReferenceSampler Reference { get; }

        public float[] X { get; }

        public float[] Output { get; }

        public float[] Gradient { get; }

        public float[] Noise { get; }

        public StepRow Row(int t) => Table[Table.Timesteps.IndexOf(t)];

        public double Prediction(int e) => Output[(e / _channels * _stride) + (e % _channels)];

        public double Variance(int e) =>
            _stride == _channels ? double.NaN : Output[(e / _channels * _stride) + _channels + (e % _channels)];

        public double? ScaledGradient(int e) => Gradient.Length == 0 ? null : Gradient[e] * Scale;

        public void Check(Func<int, int, (double Next, double XStart)> reference, Update update)
        {
            float[] next = new float[X.Length];
            float[] predXstart = new float[X.Length];
            for (int step = 0; step < Table.Count; step++)
            {
                update(Table[step], Parameterization, _channels, X, Output, Gradient, Noise, next, predXstart);
                (double Next, double XStart)[] expected =
                    [.. Enumerable.Range(0, X.Length).Select(e => reference(Table.Timesteps[step], e))];
                Assert.InRange(Agreement.ErrorOfUnits(next, [.. expected.Select(p => p.Next)]), 0, Tolerance);
                Assert.InRange(Agreement.ErrorOfUnits(predXstart, [.. expected.Select(p => p.XStart)]), 0, Tolerance);
            }
        }

        private static float[] Values(Random random, int n) => [.. Enumerable.Range(0, n).Select(_ => (float)((random.NextDouble() * 3) - 1.5))];
    }
}
