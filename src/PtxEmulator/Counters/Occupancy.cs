using System.Globalization;
using Kernels.Backends.Gpu;

namespace Kernels.Emulation;

/// <summary>How many blocks of a kernel fit on one multiprocessor at a time, and what limits them.</summary>
/// <param name="BlocksPerMultiprocessor">Blocks that fit.</param>
/// <param name="WarpsPerMultiprocessor">Their warps.</param>
/// <param name="MaximumWarps">Warps that the multiprocessor could hold.</param>
/// <param name="Limit">What limits them: <c>registers</c>, <c>shared memory</c>, <c>threads</c> or <c>blocks</c>.</param>
public sealed record Occupancy(int BlocksPerMultiprocessor, int WarpsPerMultiprocessor, int MaximumWarps, string Limit)
{
    /// <summary>Share of the warps that the multiprocessor could hold.</summary>
    public double Fraction => (double)WarpsPerMultiprocessor / MaximumWarps;

    /// <summary>Computes the occupancy from what the assembler reports.</summary>
    /// <param name="resources">Registers and static shared memory.</param>
    /// <param name="geometry">Threads per block and dynamic shared memory.</param>
    /// <param name="architecture">The architecture, for instance <c>sm_90</c>.</param>
    /// <returns>Null for an architecture whose limits are not known here.</returns>
    public static Occupancy? Of(KernelResources resources, in LaunchGeometry geometry, string architecture)
    {
        ArgumentNullException.ThrowIfNull(resources);
        ArgumentNullException.ThrowIfNull(architecture);
        // Shared memory in KiB, threads, blocks per multiprocessor, and shared memory the system keeps per block: CUDA C++ programming guide, technical specifications.
        var digits = new string([.. architecture.Where(char.IsAsciiDigit)]);
        (int SharedKiB, int Threads, int Blocks, int Reserved)? limits = int.TryParse(digits, CultureInfo.InvariantCulture, out var capability) ? capability switch
        {
            70 or 72 => (96, 2048, 32, 0),
            75 => (64, 1024, 16, 0),
            80 => (164, 2048, 32, 1024),
            86 => (100, 1536, 16, 1024),
            87 => (164, 1536, 16, 1024),
            89 => (100, 1536, 24, 1024),
            90 or 100 or 103 => (228, 2048, 32, 1024),
            120 or 121 => (100, 1536, 24, 1024),
            _ => null,
        } : null;
        if (limits is not { } most)
            return null;
        var warps = (geometry.ThreadsPerBlock + 31) / 32;
        // Registers are handed to warps in units of 256, of 65536.
        var perWarp = (resources.Registers * 32 + 255) / 256 * 256;
        var byRegisters = perWarp == 0 ? int.MaxValue : 65536 / perWarp / warps;
        var shared = resources.SharedBytes + geometry.SharedBytes + most.Reserved;
        var byShared = shared == 0 ? int.MaxValue : most.SharedKiB * 1024 / ((shared + 127) / 128 * 128);
        var byThreads = most.Threads / 32 / warps;
        var blocks = Math.Min(Math.Min(byRegisters, byShared), Math.Min(byThreads, most.Blocks));
        var limit = blocks == byThreads ? "threads" : blocks == most.Blocks ? "blocks" : blocks == byRegisters ? "registers" : "shared memory";
        return new Occupancy(blocks, blocks * warps, most.Threads / 32, limit);
    }
}
