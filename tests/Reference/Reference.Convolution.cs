namespace Kernels.Tests;

/// <summary>Plain float64 loops: what the kernels are measured against. Images are NHWC, weights as checkpoints hold them, everything row-major.</summary>
internal static partial class Reference
{
    /// <summary>Convolution of x [n, h, w, cin] with weight [cout, cin, kh, kw], zero padding; bias [cout] or null.</summary>
    public static double[] Convolution(
        double[] x, int n, int h, int w, int cin, double[] weight, double[]? bias, int cout, int kh, int kw, int stride, int pad)
    {
        int outH = ((h + (2 * pad) - kh) / stride) + 1, outW = ((w + (2 * pad) - kw) / stride) + 1;
        double[] y = new double[n * outH * outW * cout];
        for (int i = 0; i < y.Length; i++)
        {
            int o = i % cout, column = i / cout % outW, row = i / cout / outW % outH, image = i / cout / outW / outH;
            double sum = bias?[o] ?? 0;
            for (int a = 0; a < kh; a++)
            {
                for (int b = 0; b < kw; b++)
                {
                    int inRow = (row * stride) + a - pad, inColumn = (column * stride) + b - pad;
                    if (inRow < 0 || inRow >= h || inColumn < 0 || inColumn >= w)
                    {
                        continue;
                    }

                    int pixel = ((((image * h) + inRow) * w) + inColumn) * cin;
                    for (int c = 0; c < cin; c++)
                    {
                        sum += x[pixel + c] * weight[(((((o * cin) + c) * kh) + a) * kw) + b];
                    }
                }
            }

            y[i] = sum;
        }

        return y;
    }

    /// <summary>Gradient of <see cref="Convolution"/> with respect to x, for dy [n, outH, outW, cout]: every product of the forward direction, backwards.</summary>
    public static double[] ConvolutionDataGradient(
        double[] dy, int n, int h, int w, int cin, double[] weight, int cout, int kh, int kw, int stride, int pad)
    {
        int outH = ((h + (2 * pad) - kh) / stride) + 1, outW = ((w + (2 * pad) - kw) / stride) + 1;
        double[] dx = new double[n * h * w * cin];
        for (int i = 0; i < dy.Length; i++)
        {
            int o = i % cout, column = i / cout % outW, row = i / cout / outW % outH, image = i / cout / outW / outH;
            for (int a = 0; a < kh; a++)
            {
                for (int b = 0; b < kw; b++)
                {
                    int inRow = (row * stride) + a - pad, inColumn = (column * stride) + b - pad;
                    if (inRow < 0 || inRow >= h || inColumn < 0 || inColumn >= w)
                    {
                        continue;
                    }

                    int pixel = ((((image * h) + inRow) * w) + inColumn) * cin;
                    for (int c = 0; c < cin; c++)
                    {
                        dx[pixel + c] += dy[i] * weight[(((((o * cin) + c) * kh) + a) * kw) + b];
                    }
                }
            }
        }

        return dx;
    }

    /// <summary>Nearest-neighbour up-sampling of x [n, h, w, c] by two in both directions.</summary>
    public static double[] Upsample(double[] x, int n, int h, int w, int c)
    {
        double[] y = new double[4 * x.Length];
        for (int i = 0; i < y.Length; i++)
        {
            int channel = i % c, column = i / c % (2 * w), row = i / c / (2 * w) % (2 * h), image = i / c / (2 * w) / (2 * h);
            y[i] = x[((((((image * h) + (row / 2)) * w) + (column / 2)) * c) + channel)];
        }

        return y;
    }

    /// <summary>The channels of a [rows, ca] and b [rows, cb] side by side.</summary>
    public static double[] Concatenate(double[] a, int ca, double[] b, int cb)
    {
        int rows = a.Length / ca;
        double[] y = new double[rows * (ca + cb)];
        for (int row = 0; row < rows; row++)
        {
            Array.Copy(a, row * ca, y, row * (ca + cb), ca);
            Array.Copy(b, row * cb, y, (row * (ca + cb)) + ca, cb);
        }

        return y;
    }
}
