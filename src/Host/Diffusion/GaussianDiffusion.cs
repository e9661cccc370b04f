namespace Kernels.Diffusion;

/// <summary>
/// The float64 tables of a diffusion process after respacing (<c>SpacedDiffusion</c> and <c>GaussianDiffusion</c> of guided-diffusion;
/// Ho et al. 2020). Index t counts respaced steps, 0 being the least noisy. With α_t = 1 - β_t, ᾱ_t = Π_{s≤t} α_s:
/// q(x_t | x_0) = N(sqrt(ᾱ_t) x_0, (1 - ᾱ_t) I).
/// </summary>
public sealed class GaussianDiffusion
{
    private readonly double[] _timestepMap;
    private readonly double[] _betas;
    private readonly double[] _alphasCumprod;
    private readonly double[] _alphasCumprodPrev;
    private readonly double[] _alphasCumprodNext;
    private readonly double[] _sqrtAlphasCumprod;
    private readonly double[] _sqrtOneMinusAlphasCumprod;
    private readonly double[] _logOneMinusAlphasCumprod;
    private readonly double[] _sqrtRecipAlphasCumprod;
    private readonly double[] _sqrtRecipm1AlphasCumprod;
    private readonly double[] _posteriorVariance;
    private readonly double[] _posteriorLogVarianceClipped;
    private readonly double[] _posteriorMeanCoef1;
    private readonly double[] _posteriorMeanCoef2;
    private readonly double[] _fixedVariance;
    private readonly double[] _fixedLogVariance;

    /// <summary>Computes the tables.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="spacing">How the steps lie between the least and the greatest timestep that <c>timestep_respacing</c> keeps; it says how many they are.</param>
    /// <exception cref="ConfigurationException">A schedule or a respacing that cannot be made, or one that leaves fewer than two
    /// steps.</exception>
    public GaussianDiffusion(DiffusionConfig config, StepSpacing spacing = StepSpacing.Linear)
    {
        ArgumentNullException.ThrowIfNull(config);
        Config = config;
        Spacing = spacing;
        double[] originalBetas = BetaSchedule.Create(config.NoiseSchedule, config.DiffusionSteps);
        int[] kept = Respacing.SpaceTimesteps(config.DiffusionSteps, config.TimestepRespacing);

        // posterior_log_variance_clipped borrows the second step's variance for the first, whose own is zero.
        if (kept.Length < 2)
        {
            throw new ConfigurationException(
                $"timestep_respacing '{config.TimestepRespacing}' of diffusion_steps {config.DiffusionSteps} leaves one step; take at least two");
        }

        int n = kept.Length;
        NoiseLevels levels = new(CumulativeProducts(originalBetas));
        _timestepMap = spacing == StepSpacing.Linear ? [.. kept] : levels.Space(spacing, kept[0], kept[^1], n);
        _betas = spacing == StepSpacing.Linear ? RespaceBetas(originalBetas, kept) : BetasBetween(levels, _timestepMap);
        _alphasCumprod = CumulativeProducts(_betas);
        _alphasCumprodPrev = [1, .. _alphasCumprod[..^1]];
        _alphasCumprodNext = [.. _alphasCumprod[1..], 0];
        _sqrtAlphasCumprod = Map(n, t => Math.Sqrt(_alphasCumprod[t]));
        _sqrtOneMinusAlphasCumprod = Map(n, t => Math.Sqrt(1 - _alphasCumprod[t]));
        _logOneMinusAlphasCumprod = Map(n, t => Math.Log(1 - _alphasCumprod[t]));
        _sqrtRecipAlphasCumprod = Map(n, t => Math.Sqrt(1 / _alphasCumprod[t]));
        _sqrtRecipm1AlphasCumprod = Map(n, t => Math.Sqrt((1 / _alphasCumprod[t]) - 1));
        _posteriorVariance = Map(n, t => _betas[t] * (1 - _alphasCumprodPrev[t]) / (1 - _alphasCumprod[t]));
        _posteriorLogVarianceClipped = Map(n, t => Math.Log(_posteriorVariance[Math.Max(t, 1)]));
        _posteriorMeanCoef1 = Map(n, t => _betas[t] * Math.Sqrt(_alphasCumprodPrev[t]) / (1 - _alphasCumprod[t]));
        _posteriorMeanCoef2 = Map(n, t => (1 - _alphasCumprodPrev[t]) * Math.Sqrt(1 - _betas[t]) / (1 - _alphasCumprod[t]));

        bool large = config.VarType == ModelVarType.FixedLarge;
        _fixedVariance = large ? [_posteriorVariance[1], .. _betas[1..]] : _posteriorVariance;
        _fixedLogVariance = large ? Map(n, t => Math.Log(_fixedVariance[t])) : _posteriorLogVarianceClipped;
    }

    /// <summary>The settings the tables were made from.</summary>
    public DiffusionConfig Config { get; }

    /// <summary>How the steps are spaced.</summary>
    public StepSpacing Spacing { get; }

    /// <summary>Number of steps after respacing.</summary>
    public int NumTimesteps => _betas.Length;

    /// <summary>The original timestep of each respaced one, ascending: whole numbers where the steps are spaced linearly.</summary>
    public ReadOnlySpan<double> TimestepMap => _timestepMap;

    /// <summary>β_t, such that ᾱ of the kept steps is that of the original process.</summary>
    public ReadOnlySpan<double> Betas => _betas;

    /// <summary>ᾱ_t.</summary>
    public ReadOnlySpan<double> AlphasCumprod => _alphasCumprod;

    /// <summary>ᾱ_{t-1}, 1 for the first step.</summary>
    public ReadOnlySpan<double> AlphasCumprodPrev => _alphasCumprodPrev;

    /// <summary>ᾱ_{t+1}, 0 for the last step.</summary>
    public ReadOnlySpan<double> AlphasCumprodNext => _alphasCumprodNext;

    /// <summary>sqrt(ᾱ_t).</summary>
    public ReadOnlySpan<double> SqrtAlphasCumprod => _sqrtAlphasCumprod;

    /// <summary>sqrt(1 - ᾱ_t).</summary>
    public ReadOnlySpan<double> SqrtOneMinusAlphasCumprod => _sqrtOneMinusAlphasCumprod;

    /// <summary>log(1 - ᾱ_t).</summary>
    public ReadOnlySpan<double> LogOneMinusAlphasCumprod => _logOneMinusAlphasCumprod;

    /// <summary>sqrt(1 / ᾱ_t).</summary>
    public ReadOnlySpan<double> SqrtRecipAlphasCumprod => _sqrtRecipAlphasCumprod;

    /// <summary>sqrt(1 / ᾱ_t - 1).</summary>
    public ReadOnlySpan<double> SqrtRecipm1AlphasCumprod => _sqrtRecipm1AlphasCumprod;

    /// <summary>Variance of q(x_{t-1} | x_t, x_0): β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t); zero for the first step.</summary>
    public ReadOnlySpan<double> PosteriorVariance => _posteriorVariance;

    /// <summary>Its logarithm, the first step taking that of the second.</summary>
    public ReadOnlySpan<double> PosteriorLogVarianceClipped => _posteriorLogVarianceClipped;

    /// <summary>Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0): β_t sqrt(ᾱ_{t-1}) / (1 - ᾱ_t).</summary>
    public ReadOnlySpan<double> PosteriorMeanCoef1 => _posteriorMeanCoef1;

    /// <summary>Weight of x_t in the mean of q(x_{t-1} | x_t, x_0): (1 - ᾱ_{t-1}) sqrt(α_t) / (1 - ᾱ_t).</summary>
    public ReadOnlySpan<double> PosteriorMeanCoef2 => _posteriorMeanCoef2;

    /// <summary>
    /// Variance of p(x_{t-1} | x_t) when it is not learned: (posterior_variance[1], β_1, β_2, ...) for
    /// <see cref="ModelVarType.FixedLarge"/>, else the posterior variance.
    /// </summary>
    public ReadOnlySpan<double> FixedVariance => _fixedVariance;

    /// <summary>Its logarithm, clipped as <see cref="PosteriorLogVarianceClipped"/> for <see cref="ModelVarType.FixedSmall"/>.</summary>
    public ReadOnlySpan<double> FixedLogVariance => _fixedLogVariance;

    /// <summary>
    /// What UNet and classifier see as the timestep of respaced step t: the original timestep, and with <c>rescale_timesteps</c> that times
    /// 1000 / diffusion_steps in float32 (<c>_WrappedModel</c>; guided-diffusion wraps the classifier in it too).
    /// </summary>
    /// <param name="t">A respaced step.</param>
    public float ModelTimestep(int t) =>
        Config.RescaleTimesteps ? (float)_timestepMap[t] * (float)(1000.0 / Config.DiffusionSteps) : (float)_timestepMap[t];

    // The betas whose cumulative products are those of the original process at the kept steps.
    private static double[] RespaceBetas(double[] original, int[] kept)
    {
        double[] betas = new double[kept.Length];
        double cumprod = 1;
        double last = 1;
        int next = 0;
        for (int t = 0; t < original.Length && next < kept.Length; t++)
        {
            cumprod *= 1 - original[t];
            if (t == kept[next])
            {
                betas[next] = 1 - (cumprod / last);
                last = cumprod;
                next++;
            }
        }

        return betas;
    }

    // The same for steps at real timesteps: ᾱ = 1 / (1 + σ²).
    private static double[] BetasBetween(NoiseLevels levels, double[] timesteps)
    {
        double last = 1;
        return Map(timesteps.Length, t =>
        {
            double sigma = levels.Sigma(timesteps[t]), cumprod = 1 / (1 + (sigma * sigma));
            (double beta, last) = (1 - (cumprod / last), cumprod);
            return beta;
        });
    }

    private static double[] CumulativeProducts(double[] betas)
    {
        double cumprod = 1;
        return Map(betas.Length, t => cumprod *= 1 - betas[t]);
    }

    private static double[] Map(int n, Func<int, double> value)
    {
        double[] table = new double[n];
        for (int t = 0; t < n; t++)
        {
            table[t] = value(t);
        }

        return table;
    }
}
