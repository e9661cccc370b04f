using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Kernels.Emulation.Execution;

namespace Kernels.Emulation.Tensor;

/// <summary>An operand type of <c>mma.sync</c>: how many elements a register packs, and their values.</summary>
internal interface IFragment
{
    static abstract int PerRegister { get; }

    /// <summary>Element <paramref name="index"/> of 16 lanes' registers, as binary32 or as a 32-bit integer.</summary>
    static abstract Vector512<uint> Element(Vector512<uint> registers, int index);
}

/// <summary>binary16 fragments.</summary>
internal struct HalfFragment : IFragment
{
    public static int PerRegister => 2;

    public static Vector512<uint> Element(Vector512<uint> registers, int index) => HalfFormat.Expand(index == 0 ? registers : registers >> 16);
}

/// <summary>bfloat16 fragments.</summary>
internal struct BrainFragment : IFragment
{
    public static int PerRegister => 2;

    public static Vector512<uint> Element(Vector512<uint> registers, int index) => index == 0 ? registers << 16 : registers & Vector512.Create(0xFFFF0000u);
}

/// <summary>tf32 fragments: the hardware reads the upper 19 bits.</summary>
internal struct Tf32Fragment : IFragment
{
    public static int PerRegister => 1;

    public static Vector512<uint> Element(Vector512<uint> registers, int index) => registers & Vector512.Create(0xFFFFE000u);
}

/// <summary>Signed bytes.</summary>
internal struct SignedByteFragment : IFragment
{
    public static int PerRegister => 4;

    public static Vector512<uint> Element(Vector512<uint> registers, int index) => Integers.SignExtend8(registers >> (8 * index));
}

/// <summary>Unsigned bytes.</summary>
internal struct ByteFragment : IFragment
{
    public static int PerRegister => 4;

    public static Vector512<uint> Element(Vector512<uint> registers, int index) => (registers >> (8 * index)) & Vector512.Create(0xFFu);
}

/// <summary>How products are summed.</summary>
internal interface IAccumulate
{
    /// <summary>What the sum begins with.</summary>
    static virtual Vector256<uint> Start(Vector256<uint> addend) => addend;

    /// <summary>What becomes of the sum of all products.</summary>
    static virtual Vector256<uint> Finish(Vector256<uint> sum, Vector256<uint> addend) => sum;

    static abstract Vector256<uint> MultiplyAdd(Vector256<uint> a, Vector256<uint> b, Vector256<uint> sum);
}

/// <summary>binary32 fused multiply-adds in order of k. Tensor cores sum in an order and a width of their own; results agree to a few units of the last place.</summary>
internal struct SingleAccumulate : IAccumulate
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> MultiplyAdd(Vector256<uint> a, Vector256<uint> b, Vector256<uint> sum) =>
        Vector256.FusedMultiplyAdd(a.AsSingle(), b.AsSingle(), sum.AsSingle()).AsUInt32();
}

/// <summary>32-bit integers that wrap.</summary>
internal struct IntegerAccumulate : IAccumulate
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> MultiplyAdd(Vector256<uint> a, Vector256<uint> b, Vector256<uint> sum) => a * b + sum;
}

/// <summary>32-bit integers that stay at the end of their range (<c>.satfinite</c>). The products of a row cannot overflow; adding C can.</summary>
internal struct SaturatingAccumulate : IAccumulate
{
    public static Vector256<uint> Start(Vector256<uint> addend) => Vector256<uint>.Zero;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> MultiplyAdd(Vector256<uint> a, Vector256<uint> b, Vector256<uint> sum) => a * b + sum;

    public static Vector256<uint> Finish(Vector256<uint> sum, Vector256<uint> addend) => Vector256.AddSaturate(sum.AsInt32(), addend.AsInt32()).AsUInt32();
}

/// <summary>
/// <c>mma.sync.m16n8k*</c>: D = A B + C with A 16 x k by rows, B k x 8 by columns. With g = lane / 4, t = lane % 4 and E elements to a register, register j of A holds
/// row g + 8 (j % 2), columns 4 E (j / 2) + E t + 0…E-1; register j of B holds rows 4 E j + E t + 0…E-1 of column g; C holds rows g and g + 8, columns 2t and 2t + 1.
/// </summary>
internal sealed unsafe class MatrixMultiply<TA, TB, TSum>(int[] d, int[] a, int[] b, int[] c, bool halfIn, bool halfOut) : WarpOperation(-1)
    where TA : struct, IFragment
    where TB : struct, IFragment
    where TSum : struct, IAccumulate
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        var frame = warp.Frame;
        var slices = TA.PerRegister * b.Length;
        // One slice is an element index of a register: 32 lanes of A values for both row halves, and per t a row of 8 B values.
        var upper = stackalloc uint[8 * 32];
        var lower = stackalloc uint[8 * 32];
        var columns = stackalloc uint[8 * 32];
        for (var j = 0; j < b.Length; j++)
        {
            for (var e = 0; e < TA.PerRegister; e++)
            {
                var s = j * TA.PerRegister + e;
                for (var half = 0; half < 32; half += 16)
                {
                    TA.Element(Vector512.Load((uint*)(frame + a[2 * j]) + half), e).Store(upper + s * 32 + half);
                    TA.Element(Vector512.Load((uint*)(frame + a[2 * j + 1]) + half), e).Store(lower + s * 32 + half);
                    var values = TB.Element(Vector512.Load((uint*)(frame + b[j]) + half), e);
                    // Lane 4 g + t holds column g: transposing 8 x 4 makes rows of 8.
                    var p = (uint*)&values;
                    var to = columns + s * 32 + half / 4;
                    for (var g = 0; g < 4; g++)
                    {
                        to[g] = p[4 * g];
                        to[8 + g] = p[4 * g + 1];
                        to[16 + g] = p[4 * g + 2];
                        to[24 + g] = p[4 * g + 3];
                    }
                }
            }
        }
        for (var g = 0; g < 8; g++)
        {
            var (upperAddend, lowerAddend) = (LoadRow(frame, g, 0), LoadRow(frame, g, 1));
            var (first, second) = (TSum.Start(upperAddend), TSum.Start(lowerAddend));
            for (var s = 0; s < slices; s++)
            {
                for (var t = 0; t < 4; t++)
                {
                    var column = Vector256.Load(columns + s * 32 + t * 8);
                    first = TSum.MultiplyAdd(Vector256.Create(upper[s * 32 + 4 * g + t]), column, first);
                    second = TSum.MultiplyAdd(Vector256.Create(lower[s * 32 + 4 * g + t]), column, second);
                }
            }
            StoreRow(frame, g, 0, TSum.Finish(first, upperAddend));
            StoreRow(frame, g, 1, TSum.Finish(second, lowerAddend));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Vector256<uint> LoadRow(byte* frame, int g, int half)
    {
        if (halfIn)
        {
            var packed = Vector128.Load((uint*)(frame + c[half]) + 4 * g);
            var both = Vector512.Create(Vector256.Create(packed & Vector128.Create(0xFFFFu), packed >> 16), Vector256<uint>.Zero);
            var wide = HalfFormat.Expand(both).GetLower();
            return Interleave(wide.GetLower(), wide.GetUpper());
        }
        return Interleave(Vector128.Load((uint*)(frame + c[2 * half]) + 4 * g), Vector128.Load((uint*)(frame + c[2 * half + 1]) + 4 * g));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void StoreRow(byte* frame, int g, int half, Vector256<uint> row)
    {
        var sorted = Vector256.Shuffle(row, Vector256.Create(0u, 2, 4, 6, 1, 3, 5, 7));
        if (halfOut)
        {
            var packed = Formats.SingleToHalf(Vector512.Create(sorted, Vector256<uint>.Zero)).GetLower();
            (packed.GetLower() | packed.GetUpper() << 16).Store((uint*)(frame + d[half]) + 4 * g);
            return;
        }
        sorted.GetLower().Store((uint*)(frame + d[2 * half]) + 4 * g);
        sorted.GetUpper().Store((uint*)(frame + d[2 * half + 1]) + 4 * g);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Interleave(Vector128<uint> even, Vector128<uint> odd) =>
        Vector256.Shuffle(Vector256.Create(even, odd), Vector256.Create(0u, 4, 1, 5, 2, 6, 3, 7));
}
