using System.Numerics;
using Kernels.Emulation.Checking;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Memory;

/// <summary>What an atomic does to memory.</summary>
internal enum AtomicKind
{
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    CompareExchange,
}

/// <summary>The type an atomic works in.</summary>
internal enum AtomicType
{
    U32,
    S32,
    U64,
    S64,
    F32,
    F64,
    F16,
    BF16,
    F16x2,
    BF16x2,
    B16,
}

/// <summary><c>atom</c>, and <c>red</c> where there is no destination. Lanes are served in order, by compare-and-swap, because other blocks run beside.</summary>
internal sealed unsafe class Atomic(
    StateSpace space, AddressSource address, AtomicKind kind, AtomicType type, ElementSlot to, ElementSlot[] b, ElementSlot c, int elements, bool acquires, bool releases) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        address.Compute(warp);
        var bytes = Bytes(type);
        var good = Access.Resolve(warp, this, space, (uint)(bytes * elements), AccessKind.Atomic, mask);
        Races.Release(warp, good, acquires || releases);
        for (var rest = good; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            for (var i = 0; i < elements; i++)
            {
                var host = (byte*)warp.HostAddresses[lane] + i * bytes;
                var old = Perform(host, Read(warp, b[i], lane), c.Slot >= 0 ? Read(warp, c, lane) : 0);
                if (to.Slot < 0)
                    continue;
                if (to.Wide)
                    ((ulong*)(warp.Frame + to.Slot))[lane] = old;
                else
                    ((uint*)(warp.Frame + to.Slot))[lane] = (uint)old;
            }
        }
        Races.Acquire(warp, good, acquires || releases);
    }

    internal static int Bytes(AtomicType type) => type switch
    {
        AtomicType.U64 or AtomicType.S64 or AtomicType.F64 => 8,
        AtomicType.F16 or AtomicType.BF16 or AtomicType.B16 => 2,
        _ => 4,
    };

    private static ulong Read(Warp warp, ElementSlot slot, int lane) =>
        slot.Wide ? ((ulong*)(warp.Frame + slot.Slot))[lane] : ((uint*)(warp.Frame + slot.Slot))[lane];

    private ulong Perform(byte* host, ulong operand, ulong swap)
    {
        while (true)
        {
            switch (Bytes(type))
            {
                case 8:
                    var old64 = Volatile.Read(ref *(ulong*)host);
                    if (Interlocked.CompareExchange(ref *(ulong*)host, Apply(old64, operand, swap), old64) == old64)
                        return old64;
                    break;
                case 2:
                    var old16 = Volatile.Read(ref *(ushort*)host);
                    if (Interlocked.CompareExchange(ref *(ushort*)host, (ushort)Apply(old16, operand & 0xFFFF, swap & 0xFFFF), old16) == old16)
                        return old16;
                    break;
                default:
                    var old32 = Volatile.Read(ref *(uint*)host);
                    if (Interlocked.CompareExchange(ref *(uint*)host, (uint)Apply(old32, operand, swap), old32) == old32)
                        return old32;
                    break;
            }
        }
    }

    private ulong Apply(ulong old, ulong operand, ulong swap) => kind switch
    {
        AtomicKind.Add => Add(old, operand),
        AtomicKind.Min => Less(operand, old) ? operand : old,
        AtomicKind.Max => Less(old, operand) ? operand : old,
        AtomicKind.Inc => (uint)old >= (uint)operand ? 0 : old + 1,
        AtomicKind.Dec => (uint)old == 0 || (uint)old > (uint)operand ? operand : old - 1,
        AtomicKind.And => old & operand,
        AtomicKind.Or => old | operand,
        AtomicKind.Xor => old ^ operand,
        AtomicKind.Exchange => operand,
        _ => old == operand ? swap : old,
    };

    private ulong Add(ulong a, ulong b) => type switch
    {
        AtomicType.F32 => BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle((uint)a) + BitConverter.UInt32BitsToSingle((uint)b)),
        AtomicType.F64 => BitConverter.DoubleToUInt64Bits(BitConverter.UInt64BitsToDouble(a) + BitConverter.UInt64BitsToDouble(b)),
        AtomicType.F16 => Half16((uint)a, (uint)b),
        AtomicType.BF16 => Brain((uint)a, (uint)b),
        AtomicType.F16x2 => Half16((uint)a, (uint)b) | Half16((uint)a >> 16, (uint)b >> 16) << 16,
        AtomicType.BF16x2 => Brain((uint)a, (uint)b) | Brain((uint)a >> 16, (uint)b >> 16) << 16,
        _ => a + b,
    };

    private static uint Half16(uint a, uint b) => Formats.ToHalf(Formats.FromHalf(a & 0xFFFF) + Formats.FromHalf(b & 0xFFFF), Rounding.Nearest);

    private static uint Brain(uint a, uint b) => Formats.ToBrain(
        (double)BitConverter.UInt32BitsToSingle(a << 16) + BitConverter.UInt32BitsToSingle(b << 16), Rounding.Nearest);

    private bool Less(ulong a, ulong b) => type switch
    {
        AtomicType.S32 => (int)a < (int)b,
        AtomicType.S64 => (long)a < (long)b,
        AtomicType.F32 => BitConverter.UInt32BitsToSingle((uint)a) < BitConverter.UInt32BitsToSingle((uint)b),
        AtomicType.F64 => BitConverter.UInt64BitsToDouble(a) < BitConverter.UInt64BitsToDouble(b),
        _ => a < b,
    };
}
