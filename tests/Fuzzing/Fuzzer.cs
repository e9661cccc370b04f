using System.Globalization;
using Xunit;

namespace Kernels.Tests.Fuzzing;

/// <summary>
/// Runs a reader over many damaged files. Each must be read or refused with an <see cref="InvalidFileException"/>, without allocating more
/// than its size explains and without hanging.
/// </summary>
/// <remarks>
/// Mutant number n of a run is made by a generator that is seeded with the run's seed and n, so a failure names all that it takes to see it again.
/// The environment variable <c>KERNELS_FUZZ_FACTOR</c> multiplies the number of mutants (100 runs for minutes), and <c>KERNELS_FUZZ_SEED</c>
/// makes them others.
/// </remarks>
internal static class Fuzzer
{
    // What one mutant may take before it counts as hanging: a thousand times what the slowest takes on a slow machine.
    private const int HangMilliseconds = 60_000;

    private static readonly int Seed = Setting("KERNELS_FUZZ_SEED") ?? 20240229;

    /// <param name="mutants">How many mutants to make, times what the environment says.</param>
    /// <param name="seeds">The files to damage.</param>
    /// <param name="mutate">Damages one, given another as a source of parts.</param>
    /// <param name="open">Reads the structure of a file; returns what reads the rest.</param>
    public static void Run(int mutants, IReadOnlyList<byte[]> seeds, Func<Mutator, byte[], byte[], byte[]> mutate, Func<byte[], Action> open)
    {
        mutants *= Setting("KERNELS_FUZZ_FACTOR") ?? 1;
        HashSet<string> reasons = [];
        int accepted = 0;
        long current = 0;
        long started = Environment.TickCount64;
        Exception? failure = null;
        Thread worker = new(() =>
        {
            for (; current < mutants && failure is null; Interlocked.Increment(ref current))
            {
                Volatile.Write(ref started, Environment.TickCount64);
                Mutator mutator = new(new Random(unchecked((Seed * 1_000_003) + (int)current)));
                byte[] mutant = mutate(mutator, seeds[mutator.Random.Next(seeds.Count)], seeds[mutator.Random.Next(seeds.Count)]);
                failure = Check(mutant, open, reasons, ref accepted);
            }
        })
        {
            IsBackground = true,
        };
        worker.Start();
        while (!worker.Join(1000))
        {
            Assert.True(Environment.TickCount64 - Volatile.Read(ref started) < HangMilliseconds, $"mutant {Volatile.Read(ref current)} of seed {Seed} hangs");
        }

        Assert.True(failure is null, $"mutant {current - 1} of seed {Seed}: {failure}");

        // A fuzzer whose mutants all die at the same check, or none, shows nothing. (Few survive where a CRC covers all but the padding.)
        Assert.True(mutants < 500 || (accepted > 0 && accepted < mutants * 9 / 10), $"{accepted} of {mutants} mutants were accepted");
        Assert.True(mutants < 500 || reasons.Count >= 8, $"only {reasons.Count} reasons: {string.Join("; ", reasons)}");
    }

    private static Exception? Check(byte[] mutant, Func<byte[], Action> open, HashSet<string> reasons, ref int accepted)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            Action read = open(mutant);
            long opened = GC.GetAllocatedBytesForCurrentThread() - before;
            if (opened > (1 << 20) + (64L * mutant.Length))
            {
                return new InvalidOperationException($"opening {mutant.Length} bytes allocated {opened}");
            }

            read();
            accepted++;
        }
        catch (InvalidFileException e)
        {
            // The words without the numbers and the names.
            reasons.Add(new string([.. e.Reason.Where(c => char.IsAsciiLetter(c) || c == ' ')])[..Math.Min(24, e.Reason.Count(c => char.IsAsciiLetter(c) || c == ' '))]);
        }
        catch (Exception e)
        {
            return e;
        }

        // Deflated entries and shared storages may unfold 64 MiB for nothing and 200 times their size beyond; reading converts each element
        // to four bytes and keeps a copy.
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        return allocated > 8 * ((64L << 20) + (200L * mutant.Length)) ? new InvalidOperationException($"{mutant.Length} bytes allocated {allocated}") : null;
    }

    private static int? Setting(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out int value) ? value : null;
}
