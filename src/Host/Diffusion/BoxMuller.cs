using System.Numerics;

namespace Kernels.Diffusion;

/// <summary>
/// Box and Muller's transform of two random words into two standard normal values, in float32 operations that IEEE 754 defines exactly
/// and in a fixed order, so that scalar code, vector code of any width and a GPU produce the same bits. No library function is called:
/// those differ between machines.
/// <code>
/// u   = fma(float(a), 2^-32, 2^-33)          in (0, 1]; float(.) rounds to nearest even
/// -2 ln u:
///   i = bits(u) - bits(sqrt(1/2));  e = float(i >> 23)               arithmetic shift
///   f = from_bits((i &amp; 0x7fffff) + bits(sqrt(1/2))) - 1              u = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2))
///   z = f * f;  p = L7;  p = fma(p, f, Lk) for k = 6..0
///   y = f * z * p;  y = fma(-0.5, z, y);  y = f + y                   ln(1 + f)
///   y = fma(e, ln 2, y);  radius = sqrt(-2 * y)
/// sine and cosine of 2 π b / 2^32:
///   q = (b + 2^29) >> 30;  v = float(int(b - (q &lt;&lt; 30))) * 2^-30       quarter turns: q + v, |v| ≤ 1/2
///   z = v * v;  s = S3;  s = fma(s, z, Sk) for k = 2..0;  s = v * s
///               c = C3;  c = fma(c, z, Ck) for k = 2..0, then 1
///   odd q: swap s and c;  cosine: flip the sign if (q + 1) &amp; 2;  sine: flip the sign if q &amp; 2
/// first = radius * cosine;  second = radius * sine
/// </code>
/// Products without fma are rounded before use, left to right. The polynomials are minimax fits on these intervals, rounded to
/// float32: relative errors 0.1, 0.06 and 0.001 units of 2^-24. |values| stay below 6.77.
/// </summary>
internal static class BoxMuller
{
    private const int SqrtHalfBits = 0x3F3504F3;
    private const int MantissaMask = 0x007FFFFF;
    private const float Ln2 = 0.6931472f;
    private const float TwoToMinus32 = 1f / 4294967296f;
    private const float TwoToMinus33 = 1f / 8589934592f;
    private const float TwoToMinus30 = 1f / 1073741824f;

    private const float L0 = 3.333333e-01f;
    private const float L1 = -2.5000823e-01f;
    private const float L2 = 2.0001227e-01f;
    private const float L3 = -1.6623357e-01f;
    private const float L4 = 1.4201762e-01f;
    private const float L5 = -1.3160194e-01f;
    private const float L6 = 1.276155e-01f;
    private const float L7 = -7.63443e-02f;

    private const float S0 = 1.5707964e+00f;
    private const float S1 = -6.459635e-01f;
    private const float S2 = 7.968003e-02f;
    private const float S3 = -4.601658e-03f;

    private const float C0 = -1.2337005e+00f;
    private const float C1 = 2.5366923e-01f;
    private const float C2 = -2.0860288e-02f;
    private const float C3 = 9.040216e-04f;

    /// <summary>The transform of one pair: the specification that vector code and kernels repeat.</summary>
    /// <param name="a">The word that sets the radius.</param>
    /// <param name="b">The word that sets the angle.</param>
    public static (float First, float Second) Transform(uint a, uint b)
    {
        float u = MathF.FusedMultiplyAdd(a, TwoToMinus32, TwoToMinus33);
        int i = BitConverter.SingleToInt32Bits(u) - SqrtHalfBits;
        float e = i >> 23;
        float f = BitConverter.Int32BitsToSingle((i & MantissaMask) + SqrtHalfBits) - 1f;
        float z = f * f;
        float p = MathF.FusedMultiplyAdd(L7, f, L6);
        p = MathF.FusedMultiplyAdd(p, f, L5);
        p = MathF.FusedMultiplyAdd(p, f, L4);
        p = MathF.FusedMultiplyAdd(p, f, L3);
        p = MathF.FusedMultiplyAdd(p, f, L2);
        p = MathF.FusedMultiplyAdd(p, f, L1);
        p = MathF.FusedMultiplyAdd(p, f, L0);
        float y = f * z * p;
        y = f + MathF.FusedMultiplyAdd(-0.5f, z, y);
        y = MathF.FusedMultiplyAdd(e, Ln2, y);
        float radius = MathF.Sqrt(-2f * y);

        uint q = (b + 0x20000000u) >> 30;
        float v = (int)(b - (q << 30)) * TwoToMinus30;
        z = v * v;
        float s = MathF.FusedMultiplyAdd(S3, z, S2);
        s = MathF.FusedMultiplyAdd(s, z, S1);
        s = v * MathF.FusedMultiplyAdd(s, z, S0);
        float c = MathF.FusedMultiplyAdd(C3, z, C2);
        c = MathF.FusedMultiplyAdd(c, z, C1);
        c = MathF.FusedMultiplyAdd(c, z, C0);
        c = MathF.FusedMultiplyAdd(c, z, 1f);
        if ((q & 1) != 0)
        {
            (s, c) = (c, s);
        }

        c = ((q + 1) & 2) != 0 ? -c : c;
        s = (q & 2) != 0 ? -s : s;
        return (radius * c, radius * s);
    }

    /// <summary>The same for as many pairs as a vector holds.</summary>
    /// <param name="a">The words that set the radii.</param>
    /// <param name="b">The words that set the angles.</param>
    public static (Vector<float> First, Vector<float> Second) Transform(Vector<uint> a, Vector<uint> b)
    {
        // The halves convert exactly and the fma rounds once: conversion of 32 unsigned bits without an instruction for it.
        Vector<float> high = Vector.ConvertToSingle(Vector.AsVectorInt32(a >>> 16));
        Vector<float> low = Vector.ConvertToSingle(Vector.AsVectorInt32(a & new Vector<uint>(0xFFFF)));
        Vector<float> word = Vector.FusedMultiplyAdd(high, new Vector<float>(65536f), low);
        Vector<float> u = Vector.FusedMultiplyAdd(word, new Vector<float>(TwoToMinus32), new Vector<float>(TwoToMinus33));
        Vector<int> i = Vector.AsVectorInt32(u) - new Vector<int>(SqrtHalfBits);
        Vector<float> e = Vector.ConvertToSingle(i >> 23);
        Vector<float> f = Vector.AsVectorSingle((i & new Vector<int>(MantissaMask)) + new Vector<int>(SqrtHalfBits)) - Vector<float>.One;
        Vector<float> z = f * f;
        Vector<float> p = Fma(new Vector<float>(L7), f, L6);
        p = Fma(p, f, L5);
        p = Fma(p, f, L4);
        p = Fma(p, f, L3);
        p = Fma(p, f, L2);
        p = Fma(p, f, L1);
        p = Fma(p, f, L0);
        Vector<float> y = f * z * p;
        y = f + Vector.FusedMultiplyAdd(new Vector<float>(-0.5f), z, y);
        y = Vector.FusedMultiplyAdd(e, new Vector<float>(Ln2), y);
        Vector<float> radius = Vector.SquareRoot(new Vector<float>(-2f) * y);

        Vector<uint> q = (b + new Vector<uint>(0x20000000u)) >>> 30;
        Vector<float> v = Vector.ConvertToSingle(Vector.AsVectorInt32(b - (q << 30))) * new Vector<float>(TwoToMinus30);
        z = v * v;
        Vector<float> s = Fma(new Vector<float>(S3), z, S2);
        s = Fma(s, z, S1);
        s = v * Fma(s, z, S0);
        Vector<float> c = Fma(new Vector<float>(C3), z, C2);
        c = Fma(c, z, C1);
        c = Fma(c, z, C0);
        c = Fma(c, z, 1f);
        Vector<int> odd = Vector.Equals(Vector.AsVectorInt32(q & Vector<uint>.One), Vector<int>.One);
        Vector<uint> cosine = Vector.AsVectorUInt32(Vector.ConditionalSelect(odd, s, c));
        Vector<uint> sine = Vector.AsVectorUInt32(Vector.ConditionalSelect(odd, c, s));

        // Bit 1 of q (or q + 1), moved to the place of the sign.
        Vector<uint> two = new(2);
        cosine ^= ((q + Vector<uint>.One) & two) << 30;
        sine ^= (q & two) << 30;
        return (radius * Vector.AsVectorSingle(cosine), radius * Vector.AsVectorSingle(sine));
    }

    private static Vector<float> Fma(Vector<float> a, Vector<float> b, float c) => Vector.FusedMultiplyAdd(a, b, new Vector<float>(c));
}
