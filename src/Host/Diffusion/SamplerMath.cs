using System.Numerics;
using System.Runtime.CompilerServices;

namespace Kernels.Diffusion;

/// <summary>How a model's output is to be read.</summary>
/// <param name="MeanType">Meaning of the first C channels.</param>
/// <param name="VarType">Origin of the variance; <see cref="ModelVarType.LearnedRange"/> means that C more channels follow in every
/// pixel.</param>
/// <param name="ClipDenoised">Whether pred_xstart is clamped to [-1, 1].</param>
public readonly record struct Parameterization(ModelMeanType MeanType, ModelVarType VarType, bool ClipDenoised)
{
    /// <summary>The parameterization of a process.</summary>
    /// <param name="config">Its settings.</param>
    /// <param name="clipDenoised">Whether pred_xstart is clamped to [-1, 1].</param>
    public static Parameterization Of(DiffusionConfig config, bool clipDenoised)
    {
        ArgumentNullException.ThrowIfNull(config);
        return new(config.MeanType, config.VarType, clipDenoised);
    }

    /// <summary>Output channels of the model per image channel: 2 with learned variance, else 1.</summary>
    public int OutputsPerChannel => VarType == ModelVarType.LearnedRange ? 2 : 1;
}

/// <summary>
/// The sampler updates, element by element in float32, in the order of operations of guided-diffusion's PyTorch code, so that results
/// agree to rounding. Spans hold whole pixels, channels innermost: x, gradient, noise and results C per pixel; the model's output C
/// predictions and, with learned variance, then C variances per pixel. Any run of pixels may be processed on its own: no result
/// depends on where a run begins or ends. A result may share memory with x.
/// </summary>
internal static class SamplerMath
{
    // Two blocks of model output (predictions, variances) stay in the first-level cache.
    private const int Block = 512;

    /// <summary>
    /// One step of <c>p_sample</c>: x_{t-1} = mean + variance · gradient + mask · exp(log_variance / 2) · noise.
    /// </summary>
    /// <param name="row">The step's coefficients.</param>
    /// <param name="parameterization">How to read the model's output.</param>
    /// <param name="channels">C.</param>
    /// <param name="x">x_t.</param>
    /// <param name="modelOutput">The UNet's output.</param>
    /// <param name="gradient">∇ₓ log p(y | x_t), scaled here by <see cref="StepColumn.ClassifierScale"/>; empty without a
    /// classifier.</param>
    /// <param name="noise">Standard normal values; may be empty where the row masks them.</param>
    /// <param name="xNext">x_{t-1}.</param>
    /// <param name="predXstart">The prediction of x_0; empty if it is not wanted.</param>
    public static void DdpmUpdate(
        StepRow row,
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> modelOutput,
        ReadOnlySpan<float> gradient,
        ReadOnlySpan<float> noise,
        Span<float> xNext,
        Span<float> predXstart)
    {
        Validate(parameterization, x, modelOutput, gradient, xNext, predXstart);
        bool noisy = RequireNoise(row[StepColumn.NoiseCoef], noise, x.Length), guided = IsGuided(row, gradient);
        PosteriorCoefficients posterior = new(row, parameterization);
        Vector<float> classifierScale = new(row[StepColumn.ClassifierScale]);
        Vector<float> mask = new(row[StepColumn.NoiseCoef]);
        Vector<float> half = new(0.5f);
        Span<float> predictions = stackalloc float[Block];
        Span<float> variances = stackalloc float[Block];
        for (int start = 0; start < x.Length; start += Block)
        {
            int count = Math.Min(Block, x.Length - start);
            ReadOnlySpan<float> prediction = Split(parameterization, channels, modelOutput, start, count, predictions, variances);
            for (int i = 0; i < count; i += Vector<float>.Count)
            {
                Vector<float> xt = Load(x, start + i);
                Vector<float> xStart = posterior.PredXstart(xt, Load(prediction, i));
                Vector<float> mean = posterior.Mean(xStart, xt);
                Vector<float> logVariance = posterior.LogVariance(variances, i);
                if (guided)
                {
                    mean += posterior.Variance(logVariance) * (Load(gradient, start + i) * classifierScale);
                }

                if (noisy)
                {
                    mean += mask * Vector.Exp(half * logVariance) * Load(noise, start + i);
                }

                Store(mean, xNext, start + i);
                Store(xStart, predXstart, start + i);
            }
        }
    }

    /// <summary>
    /// One step of any other sampler: x' = B · pred_xstart + E · eps + Σ H_k · history_k + S · noise, where a classifier's gradient first changes eps by -sqrt(1 - ᾱ_t) · gradient and
    /// pred_xstart, no longer clipped, with it (<c>condition_score</c>). Without a history that is <c>ddim_sample</c>, with the rows of an inversion <c>ddim_reverse_sample</c>.
    /// </summary>
    /// <param name="row">The step's coefficients.</param>
    /// <param name="parameterization">How to read the model's output.</param>
    /// <param name="channels">C.</param>
    /// <param name="x">x_t.</param>
    /// <param name="modelOutput">The UNet's output.</param>
    /// <param name="gradient">∇ₓ log p(y | x_t), scaled here by <see cref="StepColumn.ClassifierScale"/>; empty without a
    /// classifier.</param>
    /// <param name="noise">Standard normal values; may be empty where the row has no weight for them.</param>
    /// <param name="xNext">x'.</param>
    /// <param name="predXstart">The prediction of x_0; empty if it is not wanted.</param>
    /// <param name="history">What earlier evaluations have left, and where this one leaves it for later ones.</param>
    public static void LinearUpdate(
        StepRow row,
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> modelOutput,
        ReadOnlySpan<float> gradient,
        ReadOnlySpan<float> noise,
        Span<float> xNext,
        Span<float> predXstart,
        UpdateHistory history = default)
    {
        Validate(parameterization, x, modelOutput, gradient, xNext, predXstart);
        history.Validate(x.Length);
        bool noisy = RequireNoise(row[StepColumn.NoiseCoef], noise, x.Length), guided = IsGuided(row, gradient);
        PosteriorCoefficients posterior = new(row, parameterization);
        Vector<float> classifierScale = new(row[StepColumn.ClassifierScale]);
        Vector<float> scoreScale = new(row[StepColumn.SqrtOneMinusAlphasCumprod]);
        Vector<float> xStartCoef = new(row[StepColumn.XStartCoef]);
        Vector<float> epsCoef = new(row[StepColumn.EpsCoef]);
        Vector<float> sigma = new(row[StepColumn.NoiseCoef]);
        Span<float> predictions = stackalloc float[Block];
        for (int start = 0; start < x.Length; start += Block)
        {
            int count = Math.Min(Block, x.Length - start);
            ReadOnlySpan<float> prediction = Split(parameterization, channels, modelOutput, start, count, predictions, []);
            for (int i = 0; i < count; i += Vector<float>.Count)
            {
                Vector<float> xt = Load(x, start + i);
                Vector<float> xStart = posterior.PredXstart(xt, Load(prediction, i));
                if (guided)
                {
                    Vector<float> scaled = Load(gradient, start + i) * classifierScale;
                    xStart = posterior.XstartFromEps(xt, posterior.EpsFromXstart(xt, xStart) - (scoreScale * scaled));
                }

                // Derived again even where the model gave it: clipping moves eps too.
                Vector<float> eps = posterior.EpsFromXstart(xt, xStart);
                Vector<float> next = (xStart * xStartCoef) + (epsCoef * eps);
                if (history.Length > 0)
                {
                    next = history.Apply(row, next, history.Kept == SamplerHistory.Eps ? eps : xStart, start + i);
                }

                if (noisy)
                {
                    next += sigma * Load(noise, start + i);
                }

                Store(next, xNext, start + i);
                Store(xStart, predXstart, start + i);
            }
        }
    }

    /// <summary>Mean and log variance of p(x_{t-1} | x_t), and pred_xstart (<c>p_mean_variance</c>).</summary>
    /// <param name="row">The step's coefficients.</param>
    /// <param name="parameterization">How to read the model's output.</param>
    /// <param name="channels">C.</param>
    /// <param name="x">x_t.</param>
    /// <param name="modelOutput">The UNet's output.</param>
    /// <param name="mean">The mean.</param>
    /// <param name="logVariance">The logarithm of the variance.</param>
    /// <param name="predXstart">The prediction of x_0.</param>
    public static void PMeanVariance(
        StepRow row,
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> modelOutput,
        Span<float> mean,
        Span<float> logVariance,
        Span<float> predXstart)
    {
        Validate(parameterization, x, modelOutput, [], mean, predXstart);
        ArgumentOutOfRangeException.ThrowIfNotEqual(logVariance.Length, x.Length);
        PosteriorCoefficients posterior = new(row, parameterization);
        Span<float> predictions = stackalloc float[Block];
        Span<float> variances = stackalloc float[Block];
        for (int start = 0; start < x.Length; start += Block)
        {
            int count = Math.Min(Block, x.Length - start);
            ReadOnlySpan<float> prediction = Split(parameterization, channels, modelOutput, start, count, predictions, variances);
            for (int i = 0; i < count; i += Vector<float>.Count)
            {
                Vector<float> xt = Load(x, start + i);
                Vector<float> xStart = posterior.PredXstart(xt, Load(prediction, i));
                Store(posterior.Mean(xStart, xt), mean, start + i);
                Store(posterior.LogVariance(variances, i), logVariance, start + i);
                Store(xStart, predXstart, start + i);
            }
        }
    }

    /// <summary>
    /// Classifier-free guidance (Ho and Salimans 2022): predictions (1 + w) · conditional - w · unconditional with w of
    /// <see cref="StepColumn.CfgScale"/>, the conditional ones as they are where that is 0; variances are the conditional ones. The result may share memory with the conditional output.
    /// </summary>
    /// <param name="row">The step's coefficients.</param>
    /// <param name="parameterization">How to read the model's output.</param>
    /// <param name="channels">C.</param>
    /// <param name="conditional">The UNet's output for the label.</param>
    /// <param name="unconditional">The UNet's output for the null label.</param>
    /// <param name="guided">The combined output.</param>
    public static void ClassifierFreeGuidance(
        StepRow row,
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> conditional,
        ReadOnlySpan<float> unconditional,
        Span<float> guided)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(unconditional.Length, conditional.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(guided.Length, conditional.Length);
        float w = row[StepColumn.CfgScale];
        if (w == 0)
        {
            conditional.CopyTo(guided);
            return;
        }

        float onePlusW = 1 + w;
        int stride = channels * parameterization.OutputsPerChannel;
        for (int pixel = 0; pixel < conditional.Length; pixel += stride)
        {
            for (int i = pixel; i < pixel + channels; i++)
            {
                guided[i] = (onePlusW * conditional[i]) - (w * unconditional[i]);
            }

            conditional[(pixel + channels)..(pixel + stride)].CopyTo(guided[(pixel + channels)..]);
        }
    }

    private static void Validate(
        Parameterization parameterization,
        ReadOnlySpan<float> x,
        ReadOnlySpan<float> modelOutput,
        ReadOnlySpan<float> gradient,
        Span<float> result,
        Span<float> predXstart)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(modelOutput.Length, x.Length * parameterization.OutputsPerChannel);
        ArgumentOutOfRangeException.ThrowIfNotEqual(gradient.Length, gradient.IsEmpty ? 0 : x.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(result.Length, x.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(predXstart.Length, predXstart.IsEmpty ? 0 : x.Length);
    }

    // A row whose scale is 0 is the update without a classifier, to the last bit and whatever the gradient is.
    private static bool IsGuided(StepRow row, ReadOnlySpan<float> gradient) => !gradient.IsEmpty && row[StepColumn.ClassifierScale] != 0;

    private static bool RequireNoise(float scale, ReadOnlySpan<float> noise, int length)
    {
        if (scale == 0)
        {
            return false;
        }

        ArgumentOutOfRangeException.ThrowIfNotEqual(noise.Length, length);
        return true;
    }

    /// <summary>The predictions of a block contiguously; with learned variance, copied apart from the variances.</summary>
    private static ReadOnlySpan<float> Split(
        Parameterization parameterization,
        int channels,
        ReadOnlySpan<float> modelOutput,
        int start,
        int count,
        Span<float> predictions,
        Span<float> variances)
    {
        if (parameterization.OutputsPerChannel == 1)
        {
            return modelOutput.Slice(start, count);
        }

        int channel = start % channels;
        int source = (start / channels * 2 * channels) + channel;
        for (int i = 0; i < count; i++)
        {
            predictions[i] = modelOutput[source];
            if (!variances.IsEmpty)
            {
                variances[i] = modelOutput[source + channels];
            }

            source++;
            if (++channel == channels)
            {
                channel = 0;
                source += channels;
            }
        }

        return predictions[..count];
    }

    // Tails go through the same vector instructions, so that an element's value does not depend on its place in the run.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector<float> Load(ReadOnlySpan<float> source, int i) =>
        source.Length - i >= Vector<float>.Count ? new Vector<float>(source[i..]) : LoadTail(source[i..]);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector<float> LoadTail(ReadOnlySpan<float> source)
    {
        Span<float> padded = stackalloc float[Vector<float>.Count];
        padded.Clear();
        source.CopyTo(padded);
        return new Vector<float>(padded);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store(Vector<float> value, Span<float> destination, int i)
    {
        if (destination.Length - i >= Vector<float>.Count)
        {
            value.CopyTo(destination[i..]);
        }
        else if (!destination.IsEmpty)
        {
            StoreTail(value, destination[i..]);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void StoreTail(Vector<float> value, Span<float> destination)
    {
        Span<float> padded = stackalloc float[Vector<float>.Count];
        value.CopyTo(padded);
        padded[..destination.Length].CopyTo(destination);
    }

    /// <summary>A row's coefficients for p(x_{t-1} | x_t), one vector each, and the formulas over them.</summary>
    private readonly struct PosteriorCoefficients(StepRow row, Parameterization parameterization)
    {
        private readonly bool _predictsXstart = parameterization.MeanType == ModelMeanType.XStart;
        private readonly bool _learned = parameterization.VarType == ModelVarType.LearnedRange;
        private readonly bool _clip = parameterization.ClipDenoised;
        private readonly Vector<float> _recip = new(row[StepColumn.SqrtRecipAlphasCumprod]);
        private readonly Vector<float> _recipm1 = new(row[StepColumn.SqrtRecipm1AlphasCumprod]);
        private readonly Vector<float> _coef1 = new(row[StepColumn.XStartCoef]);
        private readonly Vector<float> _coef2 = new(row[StepColumn.XCoef]);
        private readonly Vector<float> _minLog = new(row[StepColumn.MinLogVariance]);
        private readonly Vector<float> _maxLog = new(row[StepColumn.MaxLogVariance]);
        private readonly Vector<float> _fixedVariance = new(row[StepColumn.FixedVariance]);

        /// <summary><c>_predict_xstart_from_eps</c>: sqrt(1 / ᾱ) x - sqrt(1 / ᾱ - 1) eps.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> XstartFromEps(Vector<float> x, Vector<float> eps) => (_recip * x) - (_recipm1 * eps);

        /// <summary><c>_predict_eps_from_xstart</c>: (sqrt(1 / ᾱ) x - x_0) / sqrt(1 / ᾱ - 1).</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> EpsFromXstart(Vector<float> x, Vector<float> xStart) => ((_recip * x) - xStart) / _recipm1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> PredXstart(Vector<float> x, Vector<float> prediction)
        {
            Vector<float> xStart = _predictsXstart ? prediction : XstartFromEps(x, prediction);
            if (!_clip)
            {
                return xStart;
            }

            // Comparisons rather than min and max: a NaN stays one, as in torch.clamp, and is seen.
            Vector<float> one = Vector<float>.One;
            xStart = Vector.ConditionalSelect(Vector.GreaterThan(xStart, one), one, xStart);
            return Vector.ConditionalSelect(Vector.LessThan(xStart, -one), -one, xStart);
        }

        /// <summary>Mean of q(x_{t-1} | x_t, x_0).</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> Mean(Vector<float> xStart, Vector<float> x) => (_coef1 * xStart) + (_coef2 * x);

        /// <summary>Learned: frac · log β + (1 - frac) · posterior_log_variance_clipped with frac = (v + 1) / 2.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> LogVariance(ReadOnlySpan<float> values, int i)
        {
            if (!_learned)
            {
                return _maxLog;
            }

            Vector<float> frac = (Load(values, i) + Vector<float>.One) * new Vector<float>(0.5f);
            return (frac * _maxLog) + ((Vector<float>.One - frac) * _minLog);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector<float> Variance(Vector<float> logVariance) => _learned ? Vector.Exp(logVariance) : _fixedVariance;
    }
}
