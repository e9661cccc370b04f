using System.Runtime.InteropServices;
using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

/// <summary>A float array in native memory between guards that no kernel may touch; filled with NaN until something writes it.</summary>
internal sealed unsafe class GuardedArray : IDisposable
{
    private const int Guard = 64;
    private const float GuardValue = 1.2345e30f;
    private readonly float* _memory;

    public GuardedArray(int length)
    {
        Length = length;
        _memory = (float*)NativeMemory.AlignedAlloc((nuint)(length + (2 * Guard)) * sizeof(float), 64);
        new Span<float>(_memory, length + (2 * Guard)).Fill(GuardValue);
        Span.Fill(float.NaN);
    }

    public static implicit operator float*(GuardedArray? array) => array is null ? null : array._memory + Guard;

    public int Length { get; }

    public Span<float> Span => new(_memory + Guard, Length);

    /// <summary>Standard normal values, rounded to float, times a scale plus an offset.</summary>
    public static GuardedArray Random(int length, int seed, double scale = 1, double offset = 0)
    {
        var random = new Random(seed);
        var array = new GuardedArray(length);
        foreach (ref float value in array.Span)
        {
            value = (float)((scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble())) + offset);
        }

        return array;
    }

    public double[] ToDoubles() => Array.ConvertAll(Span.ToArray(), v => (double)v);

    public void CheckGuards()
    {
        Assert.True(new Span<float>(_memory, Guard).IndexOfAnyExcept(GuardValue) < 0, "written before the start");
        Assert.True(new Span<float>(_memory + Guard + Length, Guard).IndexOfAnyExcept(GuardValue) < 0, "written past the end");
    }

    public void Dispose() => NativeMemory.AlignedFree(_memory);
}

/// <summary>How kernels are run and compared.</summary>
internal static class KernelTest
{
    /// <summary>The vector widths every kernel is tested at: all of them compute correctly on any machine.</summary>
    public static readonly int[] Widths = [512, 256, 128];

    /// <summary>Builds a kernel at a vector width, with scratch memory for so many workers, and runs it.</summary>
    public static void Run(int bits, int workers, Func<WorkerScratch, CpuKernel> build)
    {
        int before = Simd.Bits;
        Simd.Bits = bits;
        try
        {
            using var scratch = new WorkerScratch(workers);
            using var pool = new WorkerPool(workers);
            pool.Run(build(scratch));
        }
        finally
        {
            Simd.Bits = before;
        }
    }

    /// <summary>||actual - expected|| / ||expected||.</summary>
    public static double RelativeError(ReadOnlySpan<float> actual, double[] expected)
    {
        double error = 0, norm = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
            norm += expected[i] * expected[i];
        }

        return Math.Sqrt(error) / Math.Max(Math.Sqrt(norm), 1e-30);
    }

    /// <summary>Asserts that every element was written, the guards survived and the relative L2 error is within the tolerance.</summary>
    public static void Matches(double[] expected, GuardedArray actual, double tolerance, string what)
    {
        actual.CheckGuards();
        Assert.Equal(expected.Length, actual.Length);
        int missing = actual.Span.IndexOf(float.NaN);
        Assert.True(missing < 0, $"{what}: element {missing} is NaN or was not written");
        double error = RelativeError(actual.Span, expected);
        Assert.True(error <= tolerance, $"{what}: relative error {error:e2} exceeds {tolerance:e1}");
    }
}
