using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Kernels.Emulation.Execution;

/// <summary>Masks of 32 lanes, and what is done under them.</summary>
internal static unsafe class Lanes
{
    internal const uint All = uint.MaxValue;

    /// <summary>All-ones lanes where the low 16 bits of the mask are set.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> Expand(uint mask)
    {
        var bits = Vector512.Create(1u, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
        return Vector512.Equals(Vector512.Create(mask) & bits, bits);
    }

    /// <summary>All-ones lanes where the low 8 bits of the mask are set.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<ulong> Expand64(uint mask)
    {
        var bits = Vector512.Create(1ul, 2, 4, 8, 16, 32, 64, 128);
        return Vector512.Equals(Vector512.Create((ulong)mask) & bits, bits);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store(uint* to, Vector512<uint> low, Vector512<uint> high, uint mask)
    {
        if (mask != All)
        {
            low = Vector512.ConditionalSelect(Expand(mask), low, Vector512.Load(to));
            high = Vector512.ConditionalSelect(Expand(mask >> 16), high, Vector512.Load(to + 16));
        }
        low.Store(to);
        high.Store(to + 16);
    }

    /// <summary>Stores quarter <paramref name="quarter"/> (8 lanes) of a 64-bit register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store(ulong* to, int quarter, Vector512<ulong> value, uint mask)
    {
        to += quarter * 8;
        if (mask != All)
            value = Vector512.ConditionalSelect(Expand64(mask >> (quarter * 8)), value, Vector512.Load(to));
        value.Store(to);
    }

    /// <summary>Mask of the lanes that are all ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static uint Compress(Vector512<uint> low, Vector512<uint> high) =>
        (uint)low.ExtractMostSignificantBits() | (uint)high.ExtractMostSignificantBits() << 16;

    /// <summary>The value of the first lane of a mask, and the lanes of the mask that have the same.</summary>
    internal static (T Value, uint Same) AgreeingWithFirst<T>(T* values, uint mask)
        where T : unmanaged, IBinaryInteger<T>
    {
        var first = values[BitOperations.TrailingZeroCount(mask)];
        uint same = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            if (values[lane] == first)
                same |= 1u << lane;
        }
        return (first, same);
    }
}
