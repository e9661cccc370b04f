using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Kernels.Backends.Cpu;

/// <summary>Which vector width the kernels are built for.</summary>
internal static class Simd
{
    [ThreadStatic]
    private static int t_bits;

    /// <summary>The widest vectors that this machine runs at full speed, in bits: 512, 256 or 128.</summary>
    public static int Widest =>
        Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128;

    /// <summary>
    /// The width that kernels built on this thread from now on use. Tests set it to run every path on one machine: each width computes correctly anywhere.
    /// Weights and the kernels that use them must be built at the same width.
    /// </summary>
    public static int Bits
    {
        get => t_bits == 0 ? Widest : t_bits;
        set => t_bits = value is 128 or 256 or 512 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "128, 256 or 512");
    }

    /// <summary>Asks for a cache line that will be needed soon, where the machine has an instruction for it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe void Prefetch(float* address)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(address);
        }
    }

    /// <summary>
    /// Asks for a stretch of memory to come to the second-level cache: one long stream, where a matrix product about to start would ask for many short ones
    /// that the hardware does not foresee.
    /// </summary>
    public static unsafe void PrefetchStretch(float* start, nint count)
    {
        if (Sse.IsSupported)
        {
            for (nint i = 0; i < count; i += NativeBuffer.Alignment / sizeof(float))
            {
                Sse.Prefetch1(start + i);
            }
        }
    }

    /// <summary>Floats in a vector of <see cref="Bits"/>.</summary>
    public static int Count => Bits / 32;
}

/// <summary>
/// A vector of floats of some width. Kernels are written once over this and compiled for each width: the wrappers vanish in the JIT, so that a struct
/// of them lives in registers.
/// </summary>
/// <typeparam name="T">The vector itself.</typeparam>
internal unsafe interface ISimd<T>
    where T : unmanaged, ISimd<T>
{
    /// <summary>Floats in the vector.</summary>
    static abstract int Count { get; }

    /// <summary>Rows of a two-vectors-wide tile whose accumulators, two operands and one broadcast fit the registers.</summary>
    static abstract int TileRows { get; }

    /// <summary>Loads from any alignment.</summary>
    static abstract T Load(float* source);

    /// <summary>The same value in every lane.</summary>
    static abstract T Create(float value);

    /// <summary>Stores to any alignment.</summary>
    void Store(float* target);

    /// <summary>a * b + c, fused where the machine can.</summary>
    static abstract T MultiplyAdd(T a, T b, T c);

    /// <summary>The smaller; <paramref name="b"/> if either is NaN on x86, NaN on Arm: pass the value that may be NaN second.</summary>
    static abstract T Min(T a, T b);

    /// <summary>The larger, with NaN as in <see cref="Min"/>.</summary>
    static abstract T Max(T a, T b);

    /// <summary>Nearest integer, ties to even.</summary>
    static abstract T Round(T a);

    /// <summary>a * 2^n for integers n in [-252, 252], overflowing to infinity and underflowing to zero or a denormal.</summary>
    static abstract T Scale(T a, T n);

    /// <summary>Sum of the lanes, in a fixed order.</summary>
    static abstract float Sum(T a);

    /// <summary>Largest lane.</summary>
    static abstract float MaxLane(T a);

    static abstract T operator +(T a, T b);

    static abstract T operator -(T a, T b);

    static abstract T operator *(T a, T b);

    static abstract T operator /(T a, T b);
}
