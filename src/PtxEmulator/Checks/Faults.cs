using System.Globalization;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation.Checking;

/// <summary>Words for accesses that cannot be made.</summary>
internal static class Faults
{
    internal static void Global(Warp warp, Instruction instruction, ulong address, uint bytes, AccessKind kind, int lane)
    {
        var memory = warp.Block.Launch.Memory;
        var verb = Verb(kind);
        if (memory.FindFreed(address) is { } freed)
        {
            warp.Block.Launch.Report(
                FindingKind.UseAfterFree, warp, instruction, 1u << lane,
                $"{verb} of {bytes} bytes at 0x{address:x}, {address - freed.Address} bytes into {freed}, which was freed", address, freed.ToString());
            return;
        }
        var allocation = memory.Find(address) ?? memory.Nearest(address);
        var place = allocation is null
            ? "there is no allocation"
            : address >= allocation.End ? $"{address - allocation.End} bytes past the end of {allocation}"
            : address < allocation.Address ? $"{allocation.Address - address} bytes before {allocation}"
            : $"across the end of {allocation}, at byte {address - allocation.Address}";
        warp.Block.Launch.Report(
            FindingKind.OutOfBounds, warp, instruction, 1u << lane, $"{verb} of {bytes} bytes at 0x{address:x}, {place}", address, allocation?.ToString() ?? "");
    }

    internal static void Misaligned(Warp warp, Instruction instruction, ulong address, uint bytes, int lane, string memory) =>
        warp.Block.Launch.Report(
            FindingKind.Misaligned, warp, instruction, 1u << lane,
            $"access of {bytes} bytes at 0x{address:x} in {memory}, which is not a multiple of {bytes}", address, memory);

    internal static void Window(Warp warp, Instruction instruction, ulong address, uint bytes, int lane, string memory, ulong size, AccessKind kind)
    {
        if (address + bytes <= size && address + bytes >= bytes)
        {
            Misaligned(warp, instruction, address, bytes, lane, memory);
            return;
        }
        var signed = ((long)address).ToString(CultureInfo.InvariantCulture);
        warp.Block.Launch.Report(
            FindingKind.OutOfBounds, warp, instruction, 1u << lane, $"{Verb(kind)} of {bytes} bytes at {signed} in {memory}", address, memory);
    }

    private static string Verb(AccessKind kind) => kind switch { AccessKind.Write => "write", AccessKind.Atomic => "atomic access", _ => "read" };
}
