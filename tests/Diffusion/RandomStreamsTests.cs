using System.Numerics;
using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class RandomStreamsTests
{
    // kat_vectors of the Random123 distribution, "philox4x32 10": counter, key, result.
    [Theory]
    [InlineData(0u, 0u, 0u, 0u, 0u, 0u, 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u)]
    [InlineData(~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu)]
    [InlineData(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u, 0xa4093822u, 0x299f31d0u, 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u)]
    public void Philox_gives_the_published_answers(uint c0, uint c1, uint c2, uint c3, uint k0, uint k1, uint r0, uint r1, uint r2, uint r3) =>
        Assert.Equal((r0, r1, r2, r3), Philox.Words(c0, c1, c2, c3, k0 | ((ulong)k1 << 32)));

    // The documented operations, worked out in exact rational arithmetic with one rounding each; the words are those of the published
    // answers, then extremes.
    [Theory]
    [InlineData(0x6627e8d5u, 0xe169c58du, 0x3f7dbb31u, 0xbf6cb6b0u)]
    [InlineData(0xbc57ac4cu, 0x9b00dbd8u, 0xbf1e1b9fu, 0xbef6d1b2u)]
    [InlineData(0x408f276du, 0x41c83b0eu, 0xbd94a53cu, 0x3fd442ceu)]
    [InlineData(0xa20bc7c6u, 0x6d5451fdu, 0xbf5b90c8u, 0x3ed89bc9u)]
    [InlineData(0xd16cfe09u, 0x94fdccebu, 0xbf0d2d00u, 0xbe9fdf1eu)]
    [InlineData(0x5001e420u, 0x24126ea1u, 0x3f7728dcu, 0x3f972050u)]
    [InlineData(0xfffffe00u, 0x30000000u, 0x3943ef16u, 0x39ec835eu)]
    [InlineData(0x00000001u, 0xffffffffu, 0x40d32d4cu, 0xb225dba5u)]
    public void Transform_has_the_bits_of_the_documented_operations(uint a, uint b, uint first, uint second)
    {
        (float x, float y) = BoxMuller.Transform(a, b);
        Assert.Equal((first, second), (BitConverter.SingleToUInt32Bits(x), BitConverter.SingleToUInt32Bits(y)));
    }

    [Fact]
    public void Vector_and_scalar_transforms_have_the_same_bits()
    {
        (uint A, uint B)[] words = [.. InterestingWords()];
        int width = Vector<uint>.Count;
        uint[] a = new uint[width];
        uint[] b = new uint[width];
        for (int start = 0; start < words.Length; start++)
        {
            for (int k = 0; k < width; k++)
            {
                (a[k], b[k]) = words[(start + k) % words.Length];
            }

            (Vector<float> first, Vector<float> second) = BoxMuller.Transform(new Vector<uint>(a), new Vector<uint>(b));
            (float x, float y) = BoxMuller.Transform(a[0], b[0]);
            Assert.Equal(BitConverter.SingleToInt32Bits(x), BitConverter.SingleToInt32Bits(first[0]));
            Assert.Equal(BitConverter.SingleToInt32Bits(y), BitConverter.SingleToInt32Bits(second[0]));
        }
    }

    [Fact]
    public void Transform_is_accurate_to_float32()
    {
        foreach ((uint a, uint b) in InterestingWords())
        {
            (float x, float y) = BoxMuller.Transform(a, b);

            // The uniform is rounded to float32 on purpose; what follows it is measured.
            double u = MathF.FusedMultiplyAdd(a, 1f / 4294967296f, 1f / 8589934592f);
            double radius = Math.Sqrt(-2 * Math.Log(u));
            double angle = 2 * Math.PI * (b / 4294967296.0);
            double tolerance = radius * 4 * Math.Pow(2, -24);
            Assert.Equal(radius * Math.Cos(angle), x, tolerance);
            Assert.Equal(radius * Math.Sin(angle), y, tolerance);
        }
    }

    [Fact]
    public void Extreme_words_stay_finite()
    {
        (float largest, _) = BoxMuller.Transform(0, 0);
        Assert.Equal(Math.Sqrt(66 * Math.Log(2)), largest, 1e-6);
        (float none, float nothing) = BoxMuller.Transform(uint.MaxValue, 0x12345678);
        Assert.Equal(0, none);
        Assert.Equal(0, nothing);
    }

    [Fact]
    public void The_layout_of_the_counter_is_fixed()
    {
        // Element 4k + 2 of image 2^32 + 5, draw 7: what a kernel must reproduce.
        float[] values = new float[4];
        RandomStreams.Normals(0x0123456789ABCDEF, (1UL << 32) + 5, 7, 40, values);
        (uint a, uint b, uint c, uint d) = Philox.Words(10, 7, 5, 1, 0x0123456789ABCDEF);
        (float x, float y) = BoxMuller.Transform(a, b);
        (float z, float w) = BoxMuller.Transform(c, d);
        Assert.Equal([x, y, z, w], values);
    }

    [Fact]
    public void Any_run_of_elements_is_a_part_of_the_whole()
    {
        float[] whole = new float[3000];
        RandomStreams.Normals(42, 3, RandomStreams.StepNoise(9), 0, whole);
        Random random = new(1);
        for (int i = 0; i < 200; i++)
        {
            int start = random.Next(whole.Length);
            float[] part = new float[random.Next(whole.Length - start + 1)];
            RandomStreams.Normals(42, 3, RandomStreams.StepNoise(9), start, part);
            Assert.Equal(whole.AsSpan(start, part.Length).ToArray(), part);
        }
    }

    [Fact]
    public void Streams_of_seeds_images_and_draws_are_uncorrelated()
    {
        const int N = 20_000;
        float[] reference = Draw(1, 0, 0, N);
        foreach (float[] other in new[] { Draw(2, 0, 0, N), Draw(1UL << 32, 0, 0, N), Draw(1, 1, 0, N), Draw(1, 1UL << 32, 0, N), Draw(1, 0, 1, N) })
        {
            double correlation = reference.Zip(other).Sum(p => (double)p.First * p.Second) / N;
            Assert.InRange(correlation, -5 / Math.Sqrt(N), 5 / Math.Sqrt(N));
        }

        double neighbours = reference.Zip(reference.Skip(1)).Sum(p => (double)p.First * p.Second) / N;
        Assert.InRange(neighbours, -5 / Math.Sqrt(N), 5 / Math.Sqrt(N));
    }

    [Fact]
    public void Values_are_distributed_normally()
    {
        const int N = 400_000;
        float[] sorted = Draw(2024, 17, 3, N);
        double[] moments = new double[5];
        foreach (float value in sorted)
        {
            for (int k = 1; k <= 4; k++)
            {
                moments[k] += Math.Pow(value, k) / N;
            }
        }

        // Five standard errors each: Var(x^k) = E[x^2k] - E[x^k]².
        Assert.InRange(moments[1], -5 * Math.Sqrt(1.0 / N), 5 * Math.Sqrt(1.0 / N));
        Assert.Equal(1, moments[2], 5 * Math.Sqrt(2.0 / N));
        Assert.Equal(0, moments[3], 5 * Math.Sqrt(15.0 / N));
        Assert.Equal(3, moments[4], 5 * Math.Sqrt(96.0 / N));

        // Kolmogorov and Smirnov: beyond 1.95 / sqrt(N) with probability 1e-3, and the seed is fixed.
        Array.Sort(sorted);
        double distance = 0;
        for (int i = 0; i < N; i++)
        {
            double cdf = NormalCdf(sorted[i]);
            distance = Math.Max(distance, Math.Max(cdf - ((double)i / N), ((i + 1.0) / N) - cdf));
        }

        Assert.InRange(distance, 0, 1.95 / Math.Sqrt(N));

        // The tail beyond 4 deviations has 6.33e-5 of the mass: 25 values expected.
        Assert.InRange(sorted.Count(v => Math.Abs(v) > 4), 5, 50);
    }

    [Fact]
    public void Labels_are_even_and_differ_between_images()
    {
        const int N = 20_000;
        int[] counts = new int[10];
        for (ulong image = 0; image < N; image++)
        {
            counts[RandomStreams.Label(5, image, 10)]++;
        }

        // Chi-squared with 9 degrees of freedom exceeds 27.9 with probability 1e-3.
        Assert.InRange(counts.Sum(c => Math.Pow(c - (N / 10.0), 2) / (N / 10.0)), 0, 27.9);
        Assert.Equal(0, RandomStreams.Label(5, 3, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => RandomStreams.Label(5, 3, 0));
    }

    private static float[] Draw(ulong seed, ulong image, uint draw, int n)
    {
        float[] values = new float[n];
        RandomStreams.Normals(seed, image, draw, 0, values);
        return values;
    }

    private static IEnumerable<(uint A, uint B)> InterestingWords()
    {
        uint[] edges =
        [
            0, 1, 2, 0x00FFFFFF, 0x01000001, 0x1FFFFFFF, 0x20000000, 0x20000001, 0x3FFFFFFF, 0x40000000, 0x5FFFFFFF, 0x60000000, 0x7FFFFFFF, 0x80000000, 0x9FFFFFFF,
            0xA0000000, 0xB504F333, 0xB504F334, 0xBFFFFFFF, 0xC0000000, 0xDFFFFFFF, 0xE0000000, 0xFFFFFF7F, 0xFFFFFF80, 0xFFFFFFFE, 0xFFFFFFFF,
        ];
        foreach (uint a in edges)
        {
            foreach (uint b in edges)
            {
                yield return (a, b);
            }
        }

        for (uint i = 0; i < 20_000; i++)
        {
            (uint a, uint b, _, _) = Philox.Words(i, 0, 0, 0, 99);
            yield return (a, b);
        }
    }

    // Phi(x): the power series near 0, the continued fraction of the tail beyond.
    private static double NormalCdf(double x)
    {
        double z = Math.Abs(x);
        double upper;
        if (z < 2.5)
        {
            double term = z;
            double sum = z;
            for (int k = 1; k < 60; k++)
            {
                term *= -z * z / (2 * k);
                sum += term / ((2 * k) + 1);
            }

            upper = 0.5 - (sum / Math.Sqrt(2 * Math.PI));
        }
        else
        {
            double fraction = z;
            for (int k = 60; k >= 1; k--)
            {
                fraction = z + (k / fraction);
            }

            upper = Math.Exp(-z * z / 2) / Math.Sqrt(2 * Math.PI) / fraction;
        }

        return x < 0 ? upper : 1 - upper;
    }
}
