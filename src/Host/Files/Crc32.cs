using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using ArmCrc32 = System.Runtime.Intrinsics.Arm.Crc32;

namespace Kernels.Files;

/// <summary>
/// The CRC-32 of ZIP and PNG: polynomial 0x04C11DB7, reflected, inverted before and after.
/// </summary>
/// <remarks>
/// It runs over every byte of a checkpoint, so it must keep up with the disk: x86 folds 64 bytes at a time by carry-less multiplication
/// (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009; constants of its
/// section on the reflected gzip polynomial), ARM has an instruction for this polynomial, and the rest takes eight bytes per step from tables.
/// </remarks>
internal static class Crc32
{
    private const uint Polynomial = 0xEDB88320;

    // Tables[256 * k + b]: the CRC of byte b followed by k zero bytes.
    private static readonly uint[] Tables = MakeTables();

    /// <summary>The checksum of <paramref name="bytes"/>.</summary>
    public static uint Compute(ReadOnlySpan<byte> bytes) => Append(0, bytes);

    /// <summary>The checksum of what <paramref name="crc"/> covers followed by <paramref name="bytes"/>.</summary>
    public static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        uint state = ~crc;
        if (Pclmulqdq.IsSupported && bytes.Length >= 64)
        {
            state = Fold(state, ref bytes);
        }
        else if (ArmCrc32.Arm64.IsSupported)
        {
            state = AppendArm(state, ref bytes);
        }

        return ~AppendTables(state, bytes);
    }

    /// <summary>The portable path: raw state in, raw state out.</summary>
    internal static uint AppendTables(uint state, ReadOnlySpan<byte> bytes)
    {
        uint[] t = Tables;
        for (; bytes.Length >= 8; bytes = bytes[8..])
        {
            uint low = state ^ BinaryPrimitives.ReadUInt32LittleEndian(bytes);
            uint high = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
            state = t[0x700 + (low & 0xFF)] ^ t[0x600 + ((low >> 8) & 0xFF)] ^ t[0x500 + ((low >> 16) & 0xFF)] ^ t[0x400 + (low >> 24)]
                ^ t[0x300 + (high & 0xFF)] ^ t[0x200 + ((high >> 8) & 0xFF)] ^ t[0x100 + ((high >> 16) & 0xFF)] ^ t[high >> 24];
        }

        foreach (byte b in bytes)
        {
            state = (state >> 8) ^ t[(state ^ b) & 0xFF];
        }

        return state;
    }

    private static uint Fold(uint state, ref ReadOnlySpan<byte> bytes)
    {
        // x^(512+64), x^512 and x^(128+64), x^128 modulo the polynomial, reflected: they carry 64 or 16 bytes past the next ones.
        Vector128<ulong> by64 = Vector128.Create(0x154442bd4UL, 0x1c6e41596UL);
        Vector128<ulong> by16 = Vector128.Create(0x1751997d0UL, 0x0ccaa009eUL);

        ReadOnlySpan<Vector128<ulong>> blocks = MemoryMarshal.Cast<byte, Vector128<ulong>>(bytes);
        Vector128<ulong> x0 = blocks[0] ^ Vector128.CreateScalar((ulong)state);
        Vector128<ulong> x1 = blocks[1];
        Vector128<ulong> x2 = blocks[2];
        Vector128<ulong> x3 = blocks[3];
        int next = 4;
        for (; next + 4 <= blocks.Length; next += 4)
        {
            x0 = Carry(x0, by64) ^ blocks[next];
            x1 = Carry(x1, by64) ^ blocks[next + 1];
            x2 = Carry(x2, by64) ^ blocks[next + 2];
            x3 = Carry(x3, by64) ^ blocks[next + 3];
        }

        x1 ^= Carry(x0, by16);
        x2 ^= Carry(x1, by16);
        x3 ^= Carry(x2, by16);
        for (; next < blocks.Length; next++)
        {
            x3 = Carry(x3, by16) ^ blocks[next];
        }

        // What is left is congruent to everything folded into it, so its own CRC from a zero state is the state sought.
        bytes = bytes[(next * 16)..];
        Span<byte> last = stackalloc byte[16];
        x3.AsByte().CopyTo(last);
        return AppendTables(0, last);
    }

    private static Vector128<ulong> Carry(Vector128<ulong> x, Vector128<ulong> constants) =>
        Pclmulqdq.CarrylessMultiply(x, constants, 0x00) ^ Pclmulqdq.CarrylessMultiply(x, constants, 0x11);

    private static uint AppendArm(uint state, ref ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (ulong word in words)
        {
            state = ArmCrc32.Arm64.ComputeCrc32(state, word);
        }

        bytes = bytes[(words.Length * sizeof(ulong))..];
        return state;
    }

    private static uint[] MakeTables()
    {
        uint[] tables = new uint[8 * 256];
        for (uint b = 0; b < 256; b++)
        {
            uint crc = b;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * Polynomial);
            }

            tables[b] = crc;
        }

        for (int i = 256; i < tables.Length; i++)
        {
            tables[i] = (tables[i - 256] >> 8) ^ tables[tables[i - 256] & 0xFF];
        }

        return tables;
    }
}
