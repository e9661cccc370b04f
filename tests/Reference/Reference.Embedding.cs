namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>cos(t w_i), then sin(t w_i), with w_i = period^(-i / half); an odd dimension ends with a zero. t is [n], the result [n, dimension].</summary>
    public static double[] TimestepEmbedding(double[] t, int dimension, double period)
    {
        int half = dimension / 2;
        double[] y = new double[t.Length * dimension];
        for (int n = 0; n < t.Length; n++)
        {
            for (int i = 0; i < half; i++)
            {
                double angle = t[n] * Math.Pow(period, -(double)i / half);
                y[(n * dimension) + i] = Math.Cos(angle);
                y[(n * dimension) + half + i] = Math.Sin(angle);
            }
        }

        return y;
    }

    /// <summary>Gradient of <see cref="TimestepEmbedding"/> with respect to t.</summary>
    public static double[] TimestepEmbeddingBackward(double[] dy, double[] t, double period)
    {
        int dimension = dy.Length / t.Length, half = dimension / 2;
        double[] dt = new double[t.Length];
        for (int n = 0; n < t.Length; n++)
        {
            for (int i = 0; i < half; i++)
            {
                double frequency = Math.Pow(period, -(double)i / half);
                dt[n] += frequency * Math.Cos(t[n] * frequency) * dy[(n * dimension) + half + i];
                dt[n] -= frequency * Math.Sin(t[n] * frequency) * dy[(n * dimension) + i];
            }
        }

        return dt;
    }

    /// <summary>Rows of a table [k, width] chosen by labels.</summary>
    public static double[] Rows(double[] labels, double[] table, int width)
    {
        double[] y = new double[labels.Length * width];
        for (int i = 0; i < y.Length; i++)
        {
            y[i] = table[((int)labels[i / width] * width) + (i % width)];
        }

        return y;
    }

    /// <summary>x - log sum exp(x) over the rows of x [n, k].</summary>
    public static double[] LogSoftmax(double[] x, int k)
    {
        double[] y = new double[x.Length];
        for (int n = 0; n < x.Length; n += k)
        {
            double maximum = x[n..(n + k)].Max(), sum = 0;
            for (int i = n; i < n + k; i++)
            {
                sum += Math.Exp(x[i] - maximum);
            }

            for (int i = n; i < n + k; i++)
            {
                y[i] = x[i] - maximum - Math.Log(sum);
            }
        }

        return y;
    }

    /// <summary>Gradient of <see cref="LogSoftmax"/> with respect to x, from its output y.</summary>
    public static double[] LogSoftmaxBackward(double[] dy, double[] y, int k)
    {
        double[] dx = new double[y.Length];
        for (int i = 0; i < y.Length; i++)
        {
            int row = i / k * k;
            dx[i] = dy[i] - (Math.Exp(y[i]) * dy[row..(row + k)].Sum());
        }

        return dx;
    }

    /// <summary>x[n, label[n]] of x [n, k].</summary>
    public static double[] Select(double[] x, double[] labels, int k)
    {
        double[] y = new double[labels.Length];
        for (int n = 0; n < y.Length; n++)
        {
            y[n] = x[(n * k) + (int)labels[n]];
        }

        return y;
    }

    /// <summary>x[n] at [n, label[n]] of a [n, k] of zeros.</summary>
    public static double[] Scatter(double[] x, double[] labels, int k)
    {
        double[] y = new double[x.Length * k];
        for (int n = 0; n < x.Length; n++)
        {
            y[(n * k) + (int)labels[n]] = x[n];
        }

        return y;
    }
}
