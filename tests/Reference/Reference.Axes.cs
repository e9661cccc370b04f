namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>Tensors side by side along one axis: outer is the product of the extents before it, runs the lengths of each tensor's row behind it.</summary>
    public static double[] Concatenate(int outer, IReadOnlyList<double[]> parts)
    {
        double[] y = new double[parts.Sum(p => p.Length)];
        int at = 0;
        for (int row = 0; row < outer; row++)
        {
            foreach (double[] part in parts)
            {
                int run = part.Length / outer;
                Array.Copy(part, row * run, y, at, run);
                at += run;
            }
        }

        return y;
    }

    /// <summary>Indices start .. start + length of the middle axis of x [outer, extent, inner].</summary>
    public static double[] Slice(double[] x, int extent, int inner, int start, int length)
    {
        double[] y = new double[x.Length / extent * length];
        for (int i = 0; i < y.Length; i++)
        {
            int index = i / inner % length, row = i / inner / length;
            y[i] = x[(((row * extent) + start + index) * inner) + (i % inner)];
        }

        return y;
    }

    /// <summary>Zeros before and after the middle axis of x [outer, extent, inner].</summary>
    public static double[] Pad(double[] x, int extent, int inner, int before, int after)
    {
        int padded = before + extent + after;
        double[] y = new double[x.Length / extent * padded];
        for (int i = 0; i < y.Length; i++)
        {
            int index = (i / inner % padded) - before, row = i / inner / padded;
            y[i] = index >= 0 && index < extent ? x[(((row * extent) + index) * inner) + (i % inner)] : 0;
        }

        return y;
    }

    /// <summary>factor times the sum over the middle axis of x [n, rows, c].</summary>
    public static double[] SpatialSum(double[] x, int n, int c, double factor)
    {
        double[] y = new double[n * c];
        int rows = x.Length / (n * c);
        for (int i = 0; i < x.Length; i++)
        {
            y[(i / c / rows * c) + (i % c)] += factor * x[i];
        }

        return y;
    }

    /// <summary>factor times x [n, c] at each of so many rows of an image, plus a residual.</summary>
    public static double[] SpatialBroadcast(double[] x, int rows, int c, double factor, double[]? residual)
    {
        double[] y = new double[x.Length * rows];
        for (int i = 0; i < y.Length; i++)
        {
            y[i] = (factor * x[(i / c / rows * c) + (i % c)]) + (residual?[i] ?? 0);
        }

        return y;
    }
}
