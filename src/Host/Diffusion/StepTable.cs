using System.Globalization;
using System.Runtime.CompilerServices;

namespace Kernels.Diffusion;

/// <summary>
/// The columns of a <see cref="StepTable"/>, all float32: the one definition that every backend's sampler kernels follow. A row is 64 bytes and stands for one evaluation of the models.
/// DDPM's update is x' = B x_0 + A x + variance · gradient + S exp(log variance / 2) z, that of every other sampler, guided through eps, x' = B x_0 + E eps + S z + Σ H_k history_k.
/// Columns are rounded from float64; expressions marked "in float32" are evaluated in float32 on rounded tables, as the original evaluates them.
/// </summary>
public enum StepColumn
{
    /// <summary>The timestep that UNet and classifier see (<see cref="GaussianDiffusion.ModelTimestep"/>).</summary>
    ModelTimestep,

    /// <summary>sqrt(1 / ᾱ_t): weight of x_t in pred_xstart.</summary>
    SqrtRecipAlphasCumprod,

    /// <summary>sqrt(1 / ᾱ_t - 1): weight of eps in pred_xstart.</summary>
    SqrtRecipm1AlphasCumprod,

    /// <summary>sqrt(1 - ᾱ_t) in float32: weight of the classifier's gradient in condition_score.</summary>
    SqrtOneMinusAlphasCumprod,

    /// <summary>B, weight of pred_xstart. DDPM: β_t sqrt(ᾱ_{t-1}) / (1 - ᾱ_t). DDIM: sqrt(ᾱ_{t-1}), in an inversion sqrt(ᾱ_{t+1}), in float32. Others: <see cref="LinearSolvers"/>.</summary>
    XStartCoef,

    /// <summary>A, weight of x_t. DDPM: (1 - ᾱ_{t-1}) sqrt(α_t) / (1 - ᾱ_t). Others: 0, and not read.</summary>
    XCoef,

    /// <summary>E, weight of eps. DDPM: 0, and not read. DDIM: sqrt(1 - ᾱ_{t-1} - σ²), in an inversion sqrt(1 - ᾱ_{t+1}), in float32. Others: <see cref="LinearSolvers"/>.</summary>
    EpsCoef,

    /// <summary>
    /// S, weight of the noise; 0 where none is added. DDPM: 1, and 0 at t = 0. DDIM: σ = η sqrt((1 - ᾱ_{t-1}) / (1 - ᾱ_t)) sqrt(1 - ᾱ_t / ᾱ_{t-1}) in float32. Others:
    /// <see cref="LinearSolvers"/>.
    /// </summary>
    NoiseCoef,

    /// <summary>H_1, weight of what the last evaluation left (<see cref="SamplerKinds.History"/>).</summary>
    History1Coef,

    /// <summary>H_2, weight of what the last but one left.</summary>
    History2Coef,

    /// <summary>H_3, weight of what the one before that left.</summary>
    History3Coef,

    /// <summary>Variance where it is not learned (<see cref="GaussianDiffusion.FixedVariance"/>).</summary>
    FixedVariance,

    /// <summary>Learned log variance at model output -1: posterior_log_variance_clipped.</summary>
    MinLogVariance,

    /// <summary>Learned log variance at model output +1: log β_t. Where the variance is not learned, its logarithm (<see cref="GaussianDiffusion.FixedLogVariance"/>).</summary>
    MaxLogVariance,

    /// <summary>What multiplies ∇ₓ log p(y | x) before anything else uses it; 0 leaves the gradient out.</summary>
    ClassifierScale,

    /// <summary>w in eps = (1 + w) eps(y) - w eps(null); 0 leaves eps(null) out.</summary>
    CfgScale,
}

/// <summary>One row of a <see cref="StepTable"/>, wherever it lies in memory.</summary>
/// <param name="values">The row's <see cref="StepTable.Columns"/> values.</param>
public readonly ref struct StepRow(ReadOnlySpan<float> values)
{
    private readonly ReadOnlySpan<float> _values = values[..StepTable.Columns];

    /// <summary>The value in one column.</summary>
    /// <param name="column">The column.</param>
    public float this[StepColumn column]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => _values[(int)column];
    }
}

/// <summary>
/// Everything a sampler update reads, one row per evaluation of the models in the order of execution: from the noisiest step down to t = 0 for sampling, from t = 0 upwards for an
/// inversion. A step is one evaluation, but with <see cref="SamplerKind.Heun"/> two. It is written once per job and indexed by a counter on the device.
/// </summary>
public sealed class StepTable
{
    /// <summary>Values per row: the number of <see cref="StepColumn"/>s.</summary>
    public const int Columns = 16;

    private readonly float[] _values;
    private readonly float[] _modelTimesteps;
    private readonly int[] _timesteps;

    /// <summary>Fills the table.</summary>
    /// <param name="diffusion">The process.</param>
    /// <param name="sampler">The sampler.</param>
    /// <param name="eta">η of DDIM: 0 is deterministic, 1 has the noise of DDPM. 0 for the other samplers.</param>
    /// <param name="classifierScale">Scale of classifier guidance.</param>
    /// <param name="cfgScale">w of classifier-free guidance.</param>
    /// <param name="guidance">The noise levels at which both guide; null for all.</param>
    /// <exception cref="ConfigurationException">
    /// A setting that is not finite; a negative η, one so large that the noise exceeds the step's variance, or one for a sampler that
    /// has none.
    /// </exception>
    public StepTable(
        GaussianDiffusion diffusion, SamplerKind sampler, double eta = 0, double classifierScale = 0, double cfgScale = 0, GuidanceInterval? guidance = null)
    {
        ArgumentNullException.ThrowIfNull(diffusion);
        RequireFinite("classifier_scale", classifierScale);
        RequireFinite("cfg_scale", cfgScale);
        if (!(eta >= 0) || !float.IsFinite((float)eta))
        {
            throw new ConfigurationException(
                string.Create(CultureInfo.InvariantCulture, $"eta is {eta}; it must be 0 or a finite positive number"));
        }

        if (eta != 0 && sampler != SamplerKind.Ddim)
        {
            throw new ConfigurationException(
                string.Create(CultureInfo.InvariantCulture, $"eta is {eta}, but only DDIM sampling has one; leave it at 0"));
        }

        if (!Enum.IsDefined(sampler))
        {
            throw new ArgumentOutOfRangeException(nameof(sampler), sampler, "unknown sampler");
        }

        Diffusion = diffusion;
        Sampler = sampler;
        LinearStep[] steps = [.. Evaluations(sampler, diffusion, (float)eta)];
        _values = new float[steps.Length * Columns];
        _modelTimesteps = Array.ConvertAll(steps, s => diffusion.ModelTimestep(s.Timestep));
        _timesteps = Array.ConvertAll(steps, s => s.Timestep);
        for (int row = 0; row < steps.Length; row++)
        {
            Fill(_values.AsSpan(row * Columns, Columns), steps[row]);
            if (guidance?.Contains(Sigma(row)) ?? true)
            {
                this[row, StepColumn.ClassifierScale] = (float)classifierScale;
                this[row, StepColumn.CfgScale] = (float)cfgScale;
            }
        }
    }

    /// <summary>The table that settings ask for.</summary>
    /// <param name="process">Schedule and number of steps.</param>
    /// <param name="settings">Sampler, spacing and guidance.</param>
    /// <exception cref="ConfigurationException">As for the constructor.</exception>
    public static StepTable Create(DiffusionConfig process, SamplerSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return new StepTable(
            new GaussianDiffusion(process, settings.Spacing ?? settings.Sampler.OwnSpacing()), settings.Sampler, settings.Eta, settings.ClassifierScale, settings.CfgScale,
            new GuidanceInterval(settings.GuidanceStart, settings.GuidanceStop));
    }

    private StepTable(StepTable table, ReadOnlySpan<int> timesteps)
    {
        Diffusion = table.Diffusion;
        Sampler = table.Sampler;
        _timesteps = timesteps.ToArray();
        _values = new float[timesteps.Length * Columns];
        _modelTimesteps = new float[timesteps.Length];
        for (int step = 0; step < timesteps.Length; step++)
        {
            int row = table.Timesteps.IndexOf(timesteps[step]);
            table.Values.Slice(row * Columns, Columns).CopyTo(_values.AsSpan(step * Columns));
            _modelTimesteps[step] = table.ModelTimesteps[row];
        }
    }

    /// <summary>The process.</summary>
    public GaussianDiffusion Diffusion { get; }

    /// <summary>The sampler.</summary>
    public SamplerKind Sampler { get; }

    /// <summary>Number of rows: evaluations of the models.</summary>
    public int Count => _timesteps.Length;

    /// <summary>The table, <c>[Count, Columns]</c> row-major.</summary>
    public ReadOnlySpan<float> Values => _values;

    /// <summary>Respaced timestep t of each row.</summary>
    public ReadOnlySpan<int> Timesteps => _timesteps;

    /// <summary>The column <see cref="StepColumn.ModelTimestep"/>: what the timestep embedding of all steps is made from before the
    /// loop.</summary>
    public ReadOnlySpan<float> ModelTimesteps => _modelTimesteps;

    /// <summary>One row.</summary>
    /// <param name="step">Rows executed before it.</param>
    public StepRow this[int step] => new(_values.AsSpan(step * Columns, Columns));

    /// <summary>The same steps in another order, some of them repeated or left out.</summary>
    /// <param name="timesteps">Respaced timestep of each row.</param>
    public StepTable InOrder(ReadOnlySpan<int> timesteps) => new(this, timesteps);

    /// <summary>The noise level σ = sqrt((1 - ᾱ) / ᾱ) of x in a row.</summary>
    /// <param name="step">Rows executed before it.</param>
    public double Sigma(int step) => Diffusion.SqrtRecipm1AlphasCumprod[_timesteps[step]];

    /// <summary>Whether a row is guided, by the classifier or free of one.</summary>
    /// <param name="step">Rows executed before it.</param>
    public bool IsGuided(int step) => this[step][StepColumn.ClassifierScale] != 0 || this[step][StepColumn.CfgScale] != 0;

    private float this[int step, StepColumn column]
    {
        set => _values[(step * Columns) + (int)column] = value;
    }

    private static IEnumerable<LinearStep> Evaluations(SamplerKind sampler, GaussianDiffusion diffusion, float eta)
    {
        int n = diffusion.NumTimesteps;
        return sampler switch
        {
            SamplerKind.Ddpm => Enumerable.Range(0, n).Select(i => n - 1 - i).Select(t => new LinearStep(t, diffusion.PosteriorMeanCoef1[t], 0, t == 0 ? 0 : 1)),
            SamplerKind.Ddim => Enumerable.Range(0, n).Select(i => Ddim(diffusion, n - 1 - i, eta)),
            SamplerKind.DdimReverse => Enumerable.Range(0, n).Select(t => DdimReverse(diffusion, t)),
            _ => LinearSolvers.Steps(sampler, diffusion),
        };
    }

    // In float32, as the original computes them.
    private static LinearStep Ddim(GaussianDiffusion diffusion, int t, float eta)
    {
        float alphaBar = (float)diffusion.AlphasCumprod[t], alphaBarPrev = (float)diffusion.AlphasCumprodPrev[t];
        float sigma = eta * MathF.Sqrt((1 - alphaBarPrev) / (1 - alphaBar)) * MathF.Sqrt(1 - (alphaBar / alphaBarPrev));
        float direction = 1 - alphaBarPrev - (sigma * sigma);
        return direction >= 0
            ? new LinearStep(t, MathF.Sqrt(alphaBarPrev), MathF.Sqrt(direction), t == 0 ? 0 : sigma)
            : throw new ConfigurationException(string.Create(
                CultureInfo.InvariantCulture,
                $"eta {eta} asks for more noise at timestep {diffusion.TimestepMap[t]} than the process has there; 1 has the noise of DDPM, take no more"));
    }

    private static LinearStep DdimReverse(GaussianDiffusion diffusion, int t)
    {
        float alphaBarNext = (float)diffusion.AlphasCumprodNext[t];
        return new LinearStep(t, MathF.Sqrt(alphaBarNext), MathF.Sqrt(1 - alphaBarNext));
    }

    private void Fill(Span<float> row, LinearStep step)
    {
        GaussianDiffusion d = Diffusion;
        int t = step.Timestep;
        row[(int)StepColumn.ModelTimestep] = d.ModelTimestep(t);
        row[(int)StepColumn.SqrtRecipAlphasCumprod] = (float)d.SqrtRecipAlphasCumprod[t];
        row[(int)StepColumn.SqrtRecipm1AlphasCumprod] = (float)d.SqrtRecipm1AlphasCumprod[t];
        row[(int)StepColumn.SqrtOneMinusAlphasCumprod] = MathF.Sqrt(1 - (float)d.AlphasCumprod[t]);
        row[(int)StepColumn.XStartCoef] = (float)step.XStart;
        row[(int)StepColumn.XCoef] = Sampler == SamplerKind.Ddpm ? (float)d.PosteriorMeanCoef2[t] : 0;
        row[(int)StepColumn.EpsCoef] = (float)step.Eps;
        row[(int)StepColumn.NoiseCoef] = (float)step.Noise;
        row[(int)StepColumn.History1Coef] = (float)step.History1;
        row[(int)StepColumn.History2Coef] = (float)step.History2;
        row[(int)StepColumn.History3Coef] = (float)step.History3;
        row[(int)StepColumn.FixedVariance] = (float)d.FixedVariance[t];
        row[(int)StepColumn.MinLogVariance] = (float)d.PosteriorLogVarianceClipped[t];
        row[(int)StepColumn.MaxLogVariance] = d.Config.VarType == ModelVarType.LearnedRange ? (float)Math.Log(d.Betas[t]) : (float)d.FixedLogVariance[t];
    }

    private static void RequireFinite(string name, double value)
    {
        if (!float.IsFinite((float)value))
        {
            throw new ConfigurationException(string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; it must be a finite number"));
        }
    }
}
