namespace Kernels.Diffusion;

/// <summary>Predicts for a batch of noisy images what the UNet predicts at one step.</summary>
/// <param name="step">Row in the <see cref="StepTable"/>.</param>
/// <param name="x">x_t, images [H, W, C] one after another.</param>
/// <param name="modelOutput">Receives the output: C channels per pixel, 2 C with learned variance.</param>
public delegate void Denoiser(int step, ReadOnlySpan<float> x, Span<float> modelOutput);

/// <summary>Draws the noise of one step for a batch of images.</summary>
/// <param name="step">Row in the <see cref="StepTable"/>.</param>
/// <param name="noise">Receives standard normal values, images [H, W, C] one after another.</param>
public delegate void NoiseSource(int step, Span<float> noise);

/// <summary>
/// The variational bound of a batch of images in bits per dimension, and its terms. Matrices are [Images, Steps] row-major, steps in
/// the order of execution: the noisiest first.
/// </summary>
/// <param name="Images">Number of images.</param>
/// <param name="Steps">Number of steps.</param>
/// <param name="TotalBpd">Per image, the sum of its terms and its prior.</param>
/// <param name="PriorBpd">Per image, KL(q(x_T | x_0) || N(0, I)).</param>
/// <param name="Vb">KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), at t = 0 the negative log-likelihood of x_0.</param>
/// <param name="XstartMse">Mean of (pred_xstart - x_0)².</param>
/// <param name="Mse">Mean of (predicted noise - noise)².</param>
public sealed record BitsPerDimensionResult(
    int Images,
    int Steps,
    ReadOnlyMemory<float> TotalBpd,
    ReadOnlyMemory<float> PriorBpd,
    ReadOnlyMemory<float> Vb,
    ReadOnlyMemory<float> XstartMse,
    ReadOnlyMemory<float> Mse);

/// <summary>Bits per dimension of given images under a model (<c>calc_bpd_loop</c>; Nichol and Dhariwal 2021).</summary>
public static class BitsPerDimension
{
    /// <summary>Evaluates every term of the variational bound, one prediction per step.</summary>
    /// <param name="table">The process as <see cref="SamplerKind.Ddpm"/> rows.</param>
    /// <param name="clipDenoised">Whether pred_xstart is clamped to [-1, 1].</param>
    /// <param name="images">Number of images.</param>
    /// <param name="channels">C.</param>
    /// <param name="xStart">The images, 8-bit values scaled to [-1, 1], [H, W, C] one after another.</param>
    /// <param name="denoiser">The model.</param>
    /// <param name="noise">The noise that x_t is made with.</param>
    /// <param name="cancellationToken">Stops between steps.</param>
    /// <exception cref="ArgumentException">The table is of another sampler, or the values do not make whole images.</exception>
    /// <exception cref="OperationCanceledException">It was asked to stop.</exception>
    public static BitsPerDimensionResult CalcBpdLoop(
        StepTable table,
        bool clipDenoised,
        int images,
        int channels,
        ReadOnlySpan<float> xStart,
        Denoiser denoiser,
        NoiseSource noise,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(denoiser);
        ArgumentNullException.ThrowIfNull(noise);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(images);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(channels);
        if (table.Sampler != SamplerKind.Ddpm)
        {
            throw new ArgumentException("the variational bound is that of ancestral sampling: the rows must be DDPM's", nameof(table));
        }

        if (xStart.IsEmpty || xStart.Length % checked(images * channels) != 0)
        {
            throw new ArgumentException($"{xStart.Length} values are not {images} images of {channels} channels", nameof(xStart));
        }

        int steps = table.Count;
        int dimensions = xStart.Length / images;
        Parameterization parameterization = Parameterization.Of(table.Diffusion.Config, clipDenoised);
        float[] modelOutput = new float[xStart.Length * parameterization.OutputsPerChannel];
        Buffers buffers = new(xStart.Length);
        float[] prior = new float[images];
        float[] vb = new float[images * steps];
        float[] xStartMse = new float[images * steps];
        float[] mse = new float[images * steps];
        for (int step = 0; step < steps; step++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int t = table.Timesteps[step];
            noise(step, buffers.Noise);
            QSample(table.Diffusion, t, xStart, buffers.Noise, buffers.X);
            denoiser(step, buffers.X, modelOutput);
            SamplerMath.PMeanVariance(
                table[step],
                parameterization,
                channels,
                buffers.X,
                modelOutput,
                buffers.Mean,
                buffers.LogVariance,
                buffers.PredXstart);
            for (int image = 0; image < images; image++)
            {
                Range range = (image * dimensions)..((image + 1) * dimensions);
                int entry = (image * steps) + step;
                vb[entry] = VbTerm(table[step], t, xStart[range], buffers, range);
                (xStartMse[entry], mse[entry]) = Errors(table[step], xStart[range], buffers, range);
            }
        }

        float[] total = new float[images];
        for (int image = 0; image < images; image++)
        {
            prior[image] = PriorBpd(table.Diffusion, xStart.Slice(image * dimensions, dimensions));
            double sum = 0;
            foreach (float term in vb.AsSpan(image * steps, steps))
            {
                sum += term;
            }

            total[image] = (float)(sum + prior[image]);
        }

        return new BitsPerDimensionResult(images, steps, total, prior, vb, xStartMse, mse);
    }

    /// <summary>x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) noise (<c>q_sample</c>).</summary>
    /// <param name="diffusion">The process.</param>
    /// <param name="t">A respaced timestep.</param>
    /// <param name="xStart">x_0.</param>
    /// <param name="noise">Standard normal values.</param>
    /// <param name="x">x_t.</param>
    internal static void QSample(GaussianDiffusion diffusion, int t, ReadOnlySpan<float> xStart, ReadOnlySpan<float> noise, Span<float> x)
    {
        float signal = (float)diffusion.SqrtAlphasCumprod[t];
        float deviation = (float)diffusion.SqrtOneMinusAlphasCumprod[t];
        for (int i = 0; i < x.Length; i++)
        {
            x[i] = (signal * xStart[i]) + (deviation * noise[i]);
        }
    }

    /// <summary>KL(q(x_T | x_0) || N(0, I)) of one image in bits per dimension (<c>_prior_bpd</c>).</summary>
    /// <param name="diffusion">The process.</param>
    /// <param name="xStart">The image.</param>
    internal static float PriorBpd(GaussianDiffusion diffusion, ReadOnlySpan<float> xStart)
    {
        float signal = (float)diffusion.SqrtAlphasCumprod[^1];
        float logVariance = (float)diffusion.LogOneMinusAlphasCumprod[^1];
        double sum = 0;
        foreach (float x in xStart)
        {
            sum += Likelihood.NormalKl(signal * x, logVariance, 0, 0);
        }

        return Bits(sum, xStart.Length);
    }

    // _vb_terms_bpd of one image.
    private static float VbTerm(StepRow row, int t, ReadOnlySpan<float> xStart, Buffers buffers, Range range)
    {
        ReadOnlySpan<float> x = buffers.X.AsSpan(range);
        ReadOnlySpan<float> mean = buffers.Mean.AsSpan(range);
        ReadOnlySpan<float> logVariance = buffers.LogVariance.AsSpan(range);
        float coef1 = row[StepColumn.XStartCoef];
        float coef2 = row[StepColumn.XCoef];
        float trueLogVariance = row[StepColumn.MinLogVariance];
        double sum = 0;
        for (int i = 0; i < xStart.Length; i++)
        {
            sum += t == 0
                ? -Likelihood.DiscretizedGaussian(xStart[i], mean[i], 0.5f * logVariance[i])
                : Likelihood.NormalKl((coef1 * xStart[i]) + (coef2 * x[i]), trueLogVariance, mean[i], logVariance[i]);
        }

        return Bits(sum, xStart.Length);
    }

    private static (float XstartMse, float Mse) Errors(StepRow row, ReadOnlySpan<float> xStart, Buffers buffers, Range range)
    {
        ReadOnlySpan<float> x = buffers.X.AsSpan(range);
        ReadOnlySpan<float> noise = buffers.Noise.AsSpan(range);
        ReadOnlySpan<float> predXstart = buffers.PredXstart.AsSpan(range);
        float recip = row[StepColumn.SqrtRecipAlphasCumprod];
        float recipm1 = row[StepColumn.SqrtRecipm1AlphasCumprod];
        double xStartSum = 0;
        double noiseSum = 0;
        for (int i = 0; i < xStart.Length; i++)
        {
            float xStartError = predXstart[i] - xStart[i];
            float eps = ((recip * x[i]) - predXstart[i]) / recipm1;
            float noiseError = eps - noise[i];
            xStartSum += xStartError * xStartError;
            noiseSum += noiseError * noiseError;
        }

        return ((float)(xStartSum / xStart.Length), (float)(noiseSum / xStart.Length));
    }

    private static float Bits(double nats, int dimensions) => (float)(nats / dimensions / Math.Log(2));

    // Allocated once per call, used at every step.
    private sealed class Buffers(int length)
    {
        public float[] Noise { get; } = new float[length];

        public float[] X { get; } = new float[length];

        public float[] Mean { get; } = new float[length];

        public float[] LogVariance { get; } = new float[length];

        public float[] PredXstart { get; } = new float[length];
    }
}
