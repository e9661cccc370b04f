using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Kernels.Backends.Cpu;

/// <summary>Four by four floats in four registers.</summary>
internal static unsafe class Block4
{
    /// <summary>target[i, j] = scale * source[j, i] for i and j below 4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose(float* source, nint sourceRow, float scale, float* target, nint targetRow)
    {
        Vector128<float> factor = Vector128.Create(scale);
        Vector128<float> r0 = Vector128.Load(source) * factor, r1 = Vector128.Load(source + sourceRow) * factor;
        Vector128<float> r2 = Vector128.Load(source + (2 * sourceRow)) * factor, r3 = Vector128.Load(source + (3 * sourceRow)) * factor;

        // Rows 0 and 2, then 1 and 3, interleaved; the same once more sorts them.
        Vector128<float> a = Low(r0, r2), b = High(r0, r2), c = Low(r1, r3), d = High(r1, r3);
        Low(a, c).Store(target);
        High(a, c).Store(target + targetRow);
        Low(b, d).Store(target + (2 * targetRow));
        High(b, d).Store(target + (3 * targetRow));
    }

    // x0 y0 x1 y1
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Low(Vector128<float> x, Vector128<float> y) =>
        Sse.IsSupported ? Sse.UnpackLow(x, y)
        : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipLow(x, y)
        : Vector128.Create(x[0], y[0], x[1], y[1]);

    // x2 y2 x3 y3
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> High(Vector128<float> x, Vector128<float> y) =>
        Sse.IsSupported ? Sse.UnpackHigh(x, y)
        : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipHigh(x, y)
        : Vector128.Create(x[2], y[2], x[3], y[3]);
}
