namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>
    /// Multi-head attention over qkv [n, t, 3 heads size]. newOrder: all queries, all keys, all values (QKVAttention); otherwise each head holds its own three
    /// (QKVAttentionLegacy). Returns out [n, t, heads size] and the log-sum-exp of the scaled scores [n, heads, t].
    /// </summary>
    public static (double[] Output, double[] LogSumExp) Attention(double[] qkv, int n, int t, int heads, int size, bool newOrder)
    {
        int c = heads * size;
        double[] output = new double[n * t * c], logSumExp = new double[n * heads * t];
        for (int image = 0; image < n; image++)
        {
            for (int head = 0; head < heads; head++)
            {
                for (int query = 0; query < t; query++)
                {
                    (double[] p, double lse) = AttentionRow(qkv, image, t, heads, size, newOrder, head, query);
                    logSumExp[(((image * heads) + head) * t) + query] = lse;
                    for (int d = 0; d < size; d++)
                    {
                        for (int key = 0; key < t; key++)
                        {
                            output[(((image * t) + query) * c) + (head * size) + d] += p[key] * qkv[QkvIndex(image, t, heads, size, newOrder, head, key, 2) + d];
                        }
                    }
                }
            }
        }

        return (output, logSumExp);
    }

    /// <summary>Gradient of <see cref="Attention"/> with respect to qkv.</summary>
    public static double[] AttentionBackward(double[] qkv, double[] dOutput, int n, int t, int heads, int size, bool newOrder)
    {
        int c = heads * size;
        double scale = 1 / Math.Sqrt(size);
        double[] dqkv = new double[qkv.Length];
        for (int image = 0; image < n; image++)
        {
            for (int head = 0; head < heads; head++)
            {
                int Index(int token, int which) => QkvIndex(image, t, heads, size, newOrder, head, token, which);

                for (int query = 0; query < t; query++)
                {
                    (double[] p, _) = AttentionRow(qkv, image, t, heads, size, newOrder, head, query);
                    int outputRow = (((image * t) + query) * c) + (head * size);
                    double[] dp = new double[t];
                    for (int key = 0; key < t; key++)
                    {
                        for (int d = 0; d < size; d++)
                        {
                            dp[key] += dOutput[outputRow + d] * qkv[Index(key, 2) + d];
                            dqkv[Index(key, 2) + d] += p[key] * dOutput[outputRow + d];
                        }
                    }

                    double mean = dp.Zip(p, (a, b) => a * b).Sum();
                    for (int key = 0; key < t; key++)
                    {
                        double ds = p[key] * (dp[key] - mean) * scale;
                        for (int d = 0; d < size; d++)
                        {
                            dqkv[Index(query, 0) + d] += ds * qkv[Index(key, 1) + d];
                            dqkv[Index(key, 1) + d] += ds * qkv[Index(query, 0) + d];
                        }
                    }
                }
            }
        }

        return dqkv;
    }

    // The softmax row of one query, and the log-sum-exp of its scores.
    private static (double[] P, double LogSumExp) AttentionRow(double[] qkv, int image, int t, int heads, int size, bool newOrder, int head, int query)
    {
        double[] scores = new double[t];
        int q = QkvIndex(image, t, heads, size, newOrder, head, query, 0);
        for (int key = 0; key < t; key++)
        {
            int k = QkvIndex(image, t, heads, size, newOrder, head, key, 1);
            for (int d = 0; d < size; d++)
            {
                scores[key] += qkv[q + d] * qkv[k + d];
            }

            scores[key] /= Math.Sqrt(size);
        }

        double maximum = scores.Max();
        double logSumExp = maximum + Math.Log(scores.Sum(s => Math.Exp(s - maximum)));
        return (Array.ConvertAll(scores, s => Math.Exp(s - logSumExp)), logSumExp);
    }

    // Where the query (which = 0), key (1) or value (2) of a head and token begins.
    private static int QkvIndex(int image, int t, int heads, int size, bool newOrder, int head, int token, int which)
    {
        int channel = newOrder ? (which * heads * size) + (head * size) : ((head * 3) + which) * size;
        return (((image * t) + token) * 3 * heads * size) + channel;
    }
}
