namespace Kernels.Tests;

internal static partial class Reference
{
    /// <summary>x / (1 + e^-x).</summary>
    public static double SiLU(double x) => x / (1 + Math.Exp(-x));

    /// <summary>Derivative of <see cref="SiLU(double)"/>.</summary>
    public static double SiLUDerivative(double x)
    {
        double s = 1 / (1 + Math.Exp(-x));
        return s * (1 + (x * (1 - s)));
    }

    /// <summary>SiLU of every element.</summary>
    public static double[] SiLU(double[] x) => Array.ConvertAll(x, SiLU);

    /// <summary>Element by element.</summary>
    public static double[] Add(double[] a, double[] b) => [.. a.Zip(b, (x, y) => x + y)];
}
