namespace Kernels.Ops;

/// <summary>The frequencies of <see cref="TimestepEmbedding"/>, rounded as the original rounds them: exp(−log(period) · i / h) in float32. Every backend takes them from here.</summary>
internal static class TimestepFrequencies
{
    /// <summary>The h = ⌊D/2⌋ frequencies.</summary>
    /// <param name="dimension">Width D of the embedding.</param>
    /// <param name="maxPeriod">Period of the slowest wave.</param>
    public static float[] Create(int dimension, float maxPeriod)
    {
        int half = dimension / 2;
        float[] frequencies = new float[half];
        float logPeriod = (float)-Math.Log(maxPeriod);
        for (int i = 0; i < half; i++)
        {
            frequencies[i] = MathF.Exp(logPeriod * i / half);
        }

        return frequencies;
    }
}
