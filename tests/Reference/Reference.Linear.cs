namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>y[m, n] = x[m, k] w[n, k]^T + bias[n].</summary>
    public static double[] Linear(double[] x, int m, int k, double[] weight, double[]? bias, int n)
    {
        double[] y = new double[m * n];
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double sum = bias?[j] ?? 0;
                for (int t = 0; t < k; t++)
                {
                    sum += x[(i * k) + t] * weight[(j * k) + t];
                }

                y[(i * n) + j] = sum;
            }
        }

        return y;
    }

    /// <summary>The transpose of a [rows, columns].</summary>
    public static double[] Transpose(double[] a, int rows, int columns)
    {
        double[] y = new double[a.Length];
        for (int i = 0; i < a.Length; i++)
        {
            y[(i % columns * rows) + (i / columns)] = a[i];
        }

        return y;
    }
}
