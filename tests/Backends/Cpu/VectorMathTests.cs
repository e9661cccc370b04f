using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

public sealed unsafe class VectorMathTests
{
    [Fact]
    public void Exp_errs_by_at_most_two_units_in_the_last_place()
    {
        Check<Simd512>();
        Check<Simd256>();
        Check<Simd128>();
        Check<Simd1>();

        static void Check<T>()
            where T : unmanaged, ISimd<T>
        {
            double worst = 0;
            float* lanes = stackalloc float[T.Count];
            for (float x = -87f; x < 88.7f; x += 0.0137f)
            {
                VectorMath.Exp(T.Create(x)).Store(lanes);
                double exact = Math.Exp(x), unit = MathF.BitIncrement((float)exact) - (float)exact;
                worst = Math.Max(worst, Math.Abs(lanes[T.Count - 1] - exact) / unit);
            }

            Assert.InRange(worst, 0, 2);
        }
    }

    [Fact]
    public void Exp_keeps_to_the_ends_of_the_range_and_to_NaN()
    {
        Check<Simd512>();
        Check<Simd256>();
        Check<Simd128>();
        Check<Simd1>();

        static void Check<T>()
            where T : unmanaged, ISimd<T>
        {
            float* lanes = stackalloc float[T.Count];
            foreach ((float x, float y) in new[] { (0f, 1f), (float.NegativeInfinity, 0f), (-110f, 0f), (float.PositiveInfinity, float.PositiveInfinity), (89f, float.PositiveInfinity), (float.NaN, float.NaN) })
            {
                VectorMath.Exp(T.Create(x)).Store(lanes);
                Assert.Equal(y, lanes[0]);
            }

            // Denormal results lose digits, not their size.
            VectorMath.Exp(T.Create(-95f)).Store(lanes);
            Assert.Equal(Math.Exp(-95), lanes[0], 2e-45);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(37)]
    public void SiLU_of_an_array_equals_float64(int count)
    {
        using GuardedArray x = GuardedArray.Random(count, 1, scale: 5), y = new(count);
        double[] expected = Reference.SiLU(x.ToDoubles());
        VectorMath.SiLU<Simd512>(x, y, count);
        KernelTest.Matches(expected, y, 2e-7, "512");
        VectorMath.SiLU<Simd128>(x, x, count);
        KernelTest.Matches(expected, x, 2e-7, "128, in place");
    }

    [Fact]
    public void SiLU_of_large_arguments_is_zero_or_the_argument()
    {
        float* lanes = stackalloc float[16];
        foreach (float x in new[] { -200f, -1000f, 200f, 1e30f })
        {
            VectorMath.SiLU(Simd512.Create(x)).Store(lanes);
            Assert.Equal(Math.Max(x, 0f), lanes[0], 1e-30f);
            VectorMath.SiLUDerivative(Simd512.Create(x)).Store(lanes);
            Assert.Equal(x > 0 ? 1f : 0f, lanes[0], 1e-30f);
        }
    }
}
