namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>factor times the sum of 2x2 blocks of x [n, h, w, c]; an odd last row or column is left out.</summary>
    public static double[] Pool(double[] x, int n, int h, int w, int c, double factor)
    {
        int outH = h / 2, outW = w / 2;
        double[] y = new double[n * outH * outW * c];
        for (int i = 0; i < y.Length; i++)
        {
            int channel = i % c, column = i / c % outW, row = i / c / outW % outH, image = i / c / outW / outH;
            for (int a = 0; a < 2; a++)
            {
                for (int b = 0; b < 2; b++)
                {
                    y[i] += factor * x[((((((image * h) + (2 * row) + a) * w) + (2 * column) + b) * c) + channel)];
                }
            }
        }

        return y;
    }

    /// <summary>factor times the pixel of x [n, h, w, c] that lies under each pixel of an outH x outW image of twice the resolution; zero beyond x.</summary>
    public static double[] UpsampleTo(double[] x, int n, int h, int w, int c, int outH, int outW, double factor)
    {
        double[] y = new double[n * outH * outW * c];
        for (int i = 0; i < y.Length; i++)
        {
            int channel = i % c, column = i / c % outW, row = i / c / outW % outH, image = i / c / outW / outH;
            y[i] = row / 2 < h && column / 2 < w ? factor * x[(((((image * h) + (row / 2)) * w) + (column / 2)) * c) + channel] : 0;
        }

        return y;
    }

    /// <summary>
    /// Bilinear interpolation of x [n, h, w, c] to outH x outW, pixel centres at half-integers, edges clamped; or, from dy, its adjoint.
    /// </summary>
    public static double[] Bilinear(double[] source, int n, int h, int w, int c, int outH, int outW, bool adjoint)
    {
        double[] result = new double[n * c * (adjoint ? h * w : outH * outW)];
        for (int i = 0; i < n * outH * outW * c; i++)
        {
            int channel = i % c, column = i / c % outW, row = i / c / outW % outH, image = i / c / outW / outH;
            foreach ((int y, double v) in Weights(row, h, outH))
            {
                foreach ((int x, double u) in Weights(column, w, outW))
                {
                    int at = (((((image * h) + y) * w) + x) * c) + channel;
                    result[adjoint ? at : i] += u * v * source[adjoint ? i : at];
                }
            }
        }

        return result;

        static (int Index, double Weight)[] Weights(int target, int extent, int outExtent)
        {
            double position = Math.Max(0, ((target + 0.5) * extent / outExtent) - 0.5);
            int low = (int)Math.Floor(position);
            return [(low, 1 - (position - low)), (Math.Min(low + 1, extent - 1), position - low)];
        }
    }
}
