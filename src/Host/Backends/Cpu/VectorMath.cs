using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>Elementary functions on vectors of any width, to about one unit in the last place.</summary>
internal static class VectorMath
{
    /// <summary>
    /// e^x: x = n ln 2 + r with |r| at most half of ln 2, a polynomial for e^r, then 2^n. Beyond the range of floats the result is 0 or infinity; NaN stays NaN.
    /// </summary>
    /// <remarks>Reduction constants and polynomial coefficients are those of <c>expf</c> in Moshier's Cephes library.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Exp<T>(T x)
        where T : unmanaged, ISimd<T>
    {
        x = T.Max(T.Create(-104f), T.Min(T.Create(89f), x));
        T n = T.Round(x * T.Create(1.44269504088896341f));
        T r = T.MultiplyAdd(n, T.Create(-0.693359375f), x);
        r = T.MultiplyAdd(n, T.Create(2.12194440e-4f), r);
        T p = T.MultiplyAdd(T.Create(1.9875691500e-4f), r, T.Create(1.3981999507e-3f));
        p = T.MultiplyAdd(p, r, T.Create(8.3334519073e-3f));
        p = T.MultiplyAdd(p, r, T.Create(4.1665795894e-2f));
        p = T.MultiplyAdd(p, r, T.Create(1.6666665459e-1f));
        p = T.MultiplyAdd(p, r, T.Create(5.0000001201e-1f));
        p = T.MultiplyAdd(p, r * r, r) + T.Create(1f);
        return T.Scale(p, n);
    }

    /// <summary>The logistic function 1 / (1 + e^-x).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Sigmoid<T>(T x)
        where T : unmanaged, ISimd<T> => T.Create(1f) / (T.Create(1f) + Exp(T.Create(0f) - x));

    /// <summary>SiLU, x / (1 + e^-x) (Hendrycks and Gimpel 2016).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T SiLU<T>(T x)
        where T : unmanaged, ISimd<T> => x / (T.Create(1f) + Exp(T.Create(0f) - x));

    /// <summary>Derivative of SiLU: s (1 + x (1 - s)) with s = 1 / (1 + e^-x).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T SiLUDerivative<T>(T x)
        where T : unmanaged, ISimd<T>
    {
        T s = Sigmoid(x);
        return s * T.MultiplyAdd(x, T.Create(1f) - s, T.Create(1f));
    }

    /// <summary>Whole arrays: y = SiLU(x), in place if they are the same.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static unsafe void SiLU<T>(float* x, float* y, nint count)
        where T : unmanaged, ISimd<T>
    {
        nint i = 0;
        for (; i <= count - T.Count; i += T.Count)
        {
            SiLU(T.Load(x + i)).Store(y + i);
        }

        for (; i < count; i++)
        {
            SiLU(Simd1.Load(x + i)).Store(y + i);
        }
    }
}
