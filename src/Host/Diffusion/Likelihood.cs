namespace Kernels.Diffusion;

/// <summary>
/// The likelihood terms of the variational bound (<c>losses.py</c> of guided-diffusion), in nats. In float32 and in the original's
/// order of operations on purpose: differences of distribution functions vanish in the tails, and the clamp then decides the value.
/// </summary>
internal static class Likelihood
{
    private const float Smallest = 1e-12f;
    private static readonly float SqrtTwoOverPi = (float)Math.Sqrt(2 / Math.PI);

    /// <summary>
    /// KL divergence of N(mean1, exp(logVariance1)) from N(mean2, exp(logVariance2)) (<c>normal_kl</c>):
    /// ½ (-1 + lv2 - lv1 + exp(lv1 - lv2) + (mean1 - mean2)² exp(-lv2)).
    /// </summary>
    public static float NormalKl(float mean1, float logVariance1, float mean2, float logVariance2)
    {
        float difference = mean1 - mean2;
        float distance = difference * difference * MathF.Exp(-logVariance2);
        return 0.5f * (-1f + logVariance2 - logVariance1 + MathF.Exp(logVariance1 - logVariance2) + distance);
    }

    /// <summary>Approximation of the standard normal distribution function (<c>approx_standard_normal_cdf</c>): ½ (1 + tanh(sqrt(2/π)
    /// (x + 0.044715 x³))).</summary>
    public static float ApproxStandardNormalCdf(float x) => 0.5f * (1f + MathF.Tanh(SqrtTwoOverPi * (x + (0.044715f * (x * x * x)))));

    /// <summary>
    /// Log probability of a pixel value among the 256 of an 8-bit image scaled to [-1, 1], for a Gaussian integrated over the value's bin
    /// (<c>discretized_gaussian_log_likelihood</c>). The outermost bins reach to infinity.
    /// </summary>
    /// <param name="x">The value.</param>
    /// <param name="mean">The Gaussian's mean.</param>
    /// <param name="logScale">The logarithm of its standard deviation.</param>
    public static float DiscretizedGaussian(float x, float mean, float logScale)
    {
        float centred = x - mean;
        float inverse = MathF.Exp(-logScale);
        float above = ApproxStandardNormalCdf(inverse * (centred + (float)(1.0 / 255.0)));
        float below = ApproxStandardNormalCdf(inverse * (centred - (float)(1.0 / 255.0)));
        float probability = x < -0.999f ? above : x > 0.999f ? 1f - below : above - below;
        return MathF.Log(MathF.Max(probability, Smallest));
    }
}
