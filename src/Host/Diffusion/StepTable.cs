using System.Globalization;
using System.Runtime.CompilerServices;

namespace Kernels.Diffusion;

/// <summary>How one step follows from the last.</summary>
public enum SamplerKind
{
    /// <summary>Ancestral sampling, <c>p_sample</c>; Ho et al. 2020. Guided through <c>condition_mean</c>.</summary>
    Ddpm,

    /// <summary><c>ddim_sample</c>; Song et al. 2021, equation 12. Guided through <c>condition_score</c>.</summary>
    Ddim,

    /// <summary>DDIM inversion, <c>ddim_reverse_sample</c>: from the image towards noise, without noise of its own.</summary>
    DdimReverse,
}

/// <summary>
/// The columns of a <see cref="StepTable"/>, all float32: the one definition that every backend's sampler kernels follow. A row is 64
/// bytes. Tables are rounded from float64; expressions marked "in float32" are evaluated in float32 on rounded tables, as the original
/// evaluates them.
/// </summary>
public enum StepColumn
{
    /// <summary>The timestep that UNet and classifier see (<see cref="GaussianDiffusion.ModelTimestep"/>).</summary>
    ModelTimestep,

    /// <summary>sqrt(1 / ᾱ_t): weight of x_t in pred_xstart.</summary>
    SqrtRecipAlphasCumprod,

    /// <summary>sqrt(1 / ᾱ_t - 1): weight of eps in pred_xstart.</summary>
    SqrtRecipm1AlphasCumprod,

    /// <summary>β_t sqrt(ᾱ_{t-1}) / (1 - ᾱ_t): weight of pred_xstart in the mean.</summary>
    PosteriorMeanCoef1,

    /// <summary>(1 - ᾱ_{t-1}) sqrt(α_t) / (1 - ᾱ_t): weight of x_t in the mean.</summary>
    PosteriorMeanCoef2,

    /// <summary>Variance where it is not learned (<see cref="GaussianDiffusion.FixedVariance"/>).</summary>
    FixedVariance,

    /// <summary>Log variance where it is not learned (<see cref="GaussianDiffusion.FixedLogVariance"/>).</summary>
    FixedLogVariance,

    /// <summary>Learned log variance at model output -1: posterior_log_variance_clipped.</summary>
    MinLogVariance,

    /// <summary>Learned log variance at model output +1: log β_t.</summary>
    MaxLogVariance,

    /// <summary>1 where noise is added, 0 at t = 0 and throughout an inversion.</summary>
    NoiseMask,

    /// <summary>sqrt(1 - ᾱ_t) in float32: weight of the classifier's gradient in condition_score.</summary>
    SqrtOneMinusAlphasCumprod,

    /// <summary>DDIM: sqrt(ᾱ_{t-1}), in an inversion sqrt(ᾱ_{t+1}), in float32: weight of pred_xstart. DDPM: 0.</summary>
    DdimXStartCoef,

    /// <summary>DDIM: sqrt(1 - ᾱ_{t-1} - σ²), in an inversion sqrt(1 - ᾱ_{t+1}), in float32: weight of eps. DDPM: 0.</summary>
    DdimEpsCoef,

    /// <summary>DDIM: σ = η sqrt((1 - ᾱ_{t-1}) / (1 - ᾱ_t)) sqrt(1 - ᾱ_t / ᾱ_{t-1}) in float32, not masked. Otherwise 0.</summary>
    DdimSigma,

    /// <summary>What multiplies ∇ₓ log p(y | x) before anything else uses it.</summary>
    ClassifierScale,

    /// <summary>w in eps = (1 + w) eps(y) - w eps(null).</summary>
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
/// Everything a sampler update reads, one row per step in the order of execution: from the noisiest step down to t = 0 for sampling,
/// from t = 0 upwards for an inversion. It is written once per job and indexed by a step counter on the device.
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
    /// <exception cref="ConfigurationException">
    /// A setting that is not finite; a negative η, one so large that the noise exceeds the step's variance, or one for a sampler that
    /// has none.
    /// </exception>
    public StepTable(GaussianDiffusion diffusion, SamplerKind sampler, double eta = 0, double classifierScale = 0, double cfgScale = 0)
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
        int n = diffusion.NumTimesteps;
        _values = new float[n * Columns];
        _modelTimesteps = new float[n];
        _timesteps = new int[n];
        for (int step = 0; step < n; step++)
        {
            int t = sampler == SamplerKind.DdimReverse ? step : n - 1 - step;
            _timesteps[step] = t;
            _modelTimesteps[step] = diffusion.ModelTimestep(t);
            Fill(_values.AsSpan(step * Columns, Columns), t, (float)eta);
            this[step, StepColumn.ClassifierScale] = (float)classifierScale;
            this[step, StepColumn.CfgScale] = (float)cfgScale;
        }
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

    /// <summary>Number of steps.</summary>
    public int Count => _timesteps.Length;

    /// <summary>The table, <c>[Count, Columns]</c> row-major.</summary>
    public ReadOnlySpan<float> Values => _values;

    /// <summary>Respaced timestep t of each row.</summary>
    public ReadOnlySpan<int> Timesteps => _timesteps;

    /// <summary>The column <see cref="StepColumn.ModelTimestep"/>: what the timestep embedding of all steps is made from before the
    /// loop.</summary>
    public ReadOnlySpan<float> ModelTimesteps => _modelTimesteps;

    /// <summary>One row.</summary>
    /// <param name="step">Steps executed before it.</param>
    public StepRow this[int step] => new(_values.AsSpan(step * Columns, Columns));

    /// <summary>The same steps in another order, some of them repeated or left out.</summary>
    /// <param name="timesteps">Respaced timestep of each row.</param>
    public StepTable InOrder(ReadOnlySpan<int> timesteps) => new(this, timesteps);

    private float this[int step, StepColumn column]
    {
        set => _values[(step * Columns) + (int)column] = value;
    }

    private void Fill(Span<float> row, int t, float eta)
    {
        GaussianDiffusion d = Diffusion;
        row[(int)StepColumn.ModelTimestep] = d.ModelTimestep(t);
        row[(int)StepColumn.SqrtRecipAlphasCumprod] = (float)d.SqrtRecipAlphasCumprod[t];
        row[(int)StepColumn.SqrtRecipm1AlphasCumprod] = (float)d.SqrtRecipm1AlphasCumprod[t];
        row[(int)StepColumn.PosteriorMeanCoef1] = (float)d.PosteriorMeanCoef1[t];
        row[(int)StepColumn.PosteriorMeanCoef2] = (float)d.PosteriorMeanCoef2[t];
        row[(int)StepColumn.FixedVariance] = (float)d.FixedVariance[t];
        row[(int)StepColumn.FixedLogVariance] = (float)d.FixedLogVariance[t];
        row[(int)StepColumn.MinLogVariance] = (float)d.PosteriorLogVarianceClipped[t];
        row[(int)StepColumn.MaxLogVariance] = (float)Math.Log(d.Betas[t]);
        row[(int)StepColumn.NoiseMask] = t == 0 || Sampler == SamplerKind.DdimReverse ? 0 : 1;

        float alphaBar = (float)d.AlphasCumprod[t];
        row[(int)StepColumn.SqrtOneMinusAlphasCumprod] = MathF.Sqrt(1 - alphaBar);
        switch (Sampler)
        {
            case SamplerKind.Ddim:
                float alphaBarPrev = (float)d.AlphasCumprodPrev[t];
                float sigma = eta * MathF.Sqrt((1 - alphaBarPrev) / (1 - alphaBar)) * MathF.Sqrt(1 - (alphaBar / alphaBarPrev));
                float direction = 1 - alphaBarPrev - (sigma * sigma);
                if (direction < 0)
                {
                    throw new ConfigurationException(string.Create(
                        CultureInfo.InvariantCulture,
                        $"eta {eta} asks for more noise at timestep {d.TimestepMap[t]} than the process has there; 1 has the noise of DDPM, take no more"));
                }

                row[(int)StepColumn.DdimXStartCoef] = MathF.Sqrt(alphaBarPrev);
                row[(int)StepColumn.DdimEpsCoef] = MathF.Sqrt(direction);
                row[(int)StepColumn.DdimSigma] = sigma;
                break;
            case SamplerKind.DdimReverse:
                float alphaBarNext = (float)d.AlphasCumprodNext[t];
                row[(int)StepColumn.DdimXStartCoef] = MathF.Sqrt(alphaBarNext);
                row[(int)StepColumn.DdimEpsCoef] = MathF.Sqrt(1 - alphaBarNext);
                break;
            default:
                break;
        }
    }

    private static void RequireFinite(string name, double value)
    {
        if (!float.IsFinite((float)value))
        {
            throw new ConfigurationException(string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; it must be a finite number"));
        }
    }
}
