namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>
    /// Group normalisation of x [n, pixels, c] and what follows it: ((x - mean) rstd gamma + beta) (1 + scale) + shift, then SiLU if asked for.
    /// scaleShift is [n, 2 c], scales first, or null. Also returns mean and rstd, [n, groups, 2].
    /// </summary>
    public static (double[] Y, double[] Statistics) GroupNorm(
        double[] x, int n, int pixels, int c, int groups, double[] gamma, double[] beta, double[]? scaleShift, bool silu, double epsilon = 1e-5)
    {
        double[] statistics = GroupStatistics(x, n, pixels, c, groups, epsilon);
        double[] y = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            (double mean, double rstd) = StatisticsOf(statistics, i, pixels, c, groups);
            double u = Modulated((x[i] - mean) * rstd, i, pixels, c, gamma, beta, scaleShift);
            y[i] = silu ? SiLU(u) : u;
        }

        return (y, statistics);
    }

    /// <summary>Gradient of <see cref="GroupNorm"/> with respect to x.</summary>
    public static double[] GroupNormBackward(
        double[] x, double[] dy, int n, int pixels, int c, int groups, double[] gamma, double[] beta, double[]? scaleShift, bool silu, double epsilon = 1e-5)
    {
        double[] statistics = GroupStatistics(x, n, pixels, c, groups, epsilon);
        double[] dNormal = new double[x.Length];
        double[] sum = new double[n * groups], product = new double[n * groups];
        double count = (double)pixels * c / groups;
        for (int i = 0; i < x.Length; i++)
        {
            (double mean, double rstd) = StatisticsOf(statistics, i, pixels, c, groups);
            double normal = (x[i] - mean) * rstd;
            double du = silu ? dy[i] * SiLUDerivative(Modulated(normal, i, pixels, c, gamma, beta, scaleShift)) : dy[i];
            int image = i / c / pixels;
            dNormal[i] = du * gamma[i % c] * (scaleShift is null ? 1 : 1 + scaleShift[(image * 2 * c) + (i % c)]);
            int group = (image * groups) + (i % c / (c / groups));
            sum[group] += dNormal[i];
            product[group] += dNormal[i] * normal;
        }

        double[] dx = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            (double mean, double rstd) = StatisticsOf(statistics, i, pixels, c, groups);
            int group = (i / c / pixels * groups) + (i % c / (c / groups));
            dx[i] = rstd * (dNormal[i] - (sum[group] / count) - ((x[i] - mean) * rstd * product[group] / count));
        }

        return dx;
    }

    private static double[] GroupStatistics(double[] x, int n, int pixels, int c, int groups, double epsilon)
    {
        int size = c / groups;
        double count = (double)pixels * size;
        double[] statistics = new double[n * groups * 2];
        for (int image = 0; image < n; image++)
        {
            for (int group = 0; group < groups; group++)
            {
                double Sum(Func<double, double> term)
                {
                    double sum = 0;
                    for (int pixel = 0; pixel < pixels; pixel++)
                    {
                        for (int channel = group * size; channel < (group + 1) * size; channel++)
                        {
                            sum += term(x[(((image * pixels) + pixel) * c) + channel]);
                        }
                    }

                    return sum;
                }

                double mean = Sum(v => v) / count;
                double variance = Sum(v => (v - mean) * (v - mean)) / count;
                statistics[2 * ((image * groups) + group)] = mean;
                statistics[(2 * ((image * groups) + group)) + 1] = 1 / Math.Sqrt(variance + epsilon);
            }
        }

        return statistics;
    }

    private static (double Mean, double Rstd) StatisticsOf(double[] statistics, int i, int pixels, int c, int groups)
    {
        int at = 2 * ((i / c / pixels * groups) + (i % c / (c / groups)));
        return (statistics[at], statistics[at + 1]);
    }

    private static double Modulated(double normal, int i, int pixels, int c, double[] gamma, double[] beta, double[]? scaleShift)
    {
        int channel = i % c, image = i / c / pixels;
        double u = (normal * gamma[channel]) + beta[channel];
        return scaleShift is null ? u : (u * (1 + scaleShift[(image * 2 * c) + channel])) + scaleShift[(image * 2 * c) + c + channel];
    }
}
