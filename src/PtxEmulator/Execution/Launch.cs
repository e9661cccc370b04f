using System.Numerics;
using System.Runtime.InteropServices;
using Kernels.Emulation.Checking;
using Kernels.Emulation.Counting;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Execution;

/// <summary>One launch: geometry, arguments, what to check, and what was found.</summary>
internal sealed unsafe class Launch : IDisposable
{
    internal const int MaximumLocalBytes = 512 << 10;
    internal const int MaximumDepth = 4096;
    private const int MaximumFindings = 64;

    private static int epochs;

    private readonly Dictionary<(FindingKind Kind, Instruction Instruction), (Finding Finding, long Order)> findings = [];
    private readonly Lock gate = new();
    private int nextBlock;
    private volatile bool stopped;

    internal Launch(EntryProgram program, DeviceMemory memory, Index3 grid, Index3 block, int dynamicSharedBytes, ReadOnlySpan<byte> arguments)
    {
        Program = program;
        Function = program.Entry;
        Memory = memory;
        Grid = grid;
        Block = block;
        DynamicSharedBytes = dynamicSharedBytes;
        SharedBytes = Function.SharedBytes + dynamicSharedBytes;
        Arguments = (byte*)NativeMemory.AllocZeroed((nuint)Math.Max(Function.ArgumentBytes, arguments.Length) + 16);
        arguments.CopyTo(new Span<byte>(Arguments, arguments.Length));
        Epoch = (ulong)(uint)Interlocked.Increment(ref epochs);
    }

    internal EntryProgram Program { get; }

    internal FunctionCode Function { get; }

    internal DeviceMemory Memory { get; }

    internal Index3 Grid { get; }

    internal Index3 Block { get; }

    internal int ThreadsPerBlock => Block.X * Block.Y * Block.Z;

    internal int Blocks => Grid.X * Grid.Y * Grid.Z;

    internal int DynamicSharedBytes { get; }

    internal int SharedBytes { get; }

    internal byte* Arguments { get; }

    internal Checks Checks { get; init; }

    internal bool Counting { get; init; }

    /// <summary>Instructions a warp may execute.</summary>
    internal long Budget { get; init; } = long.MaxValue;

    internal int Workers { get; init; } = 1;

    /// <summary>Distinguishes what this launch remembers in the shadow of global memory from what earlier ones left there.</summary>
    internal ulong Epoch { get; }

    internal TextWriter Output { get; init; } = TextWriter.Null;

    internal GlobalRaces GlobalRaces { get; } = new();

    internal bool IsStopped => stopped;

    internal void Stop() => stopped = true;

    /// <summary>Runs all blocks, spread over the cores.</summary>
    /// <returns>The counters, if they were asked for.</returns>
    internal WorkerCounters? Run()
    {
        if (Counting)
            WorkerCounters.ClearTouched(Memory);
        var total = Counting ? new WorkerCounters(this) : null;
        void Work()
        {
            using var block = new Block(this);
            while (!stopped)
            {
                var number = Interlocked.Increment(ref nextBlock) - 1;
                if (number >= Blocks)
                    break;
                block.Run(number);
            }
            lock (gate)
                total?.Add(block.Counters!);
        }

        var workers = Math.Min(Workers, Blocks);
        if (workers <= 1)
        {
            Work();
        }
        else
        {
            var tasks = new Task[workers];
            for (var i = 0; i < workers; i++)
                tasks[i] = Task.Factory.StartNew(Work, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            Task.WaitAll(tasks);
        }
        return total;
    }

    /// <summary>What was found, by the first thread at fault, then by instruction.</summary>
    internal IReadOnlyList<Finding> Findings =>
        [.. findings.OrderBy(f => f.Value.Order).ThenBy(f => f.Key.Instruction.Id).ThenBy(f => f.Key.Kind).Select(f => f.Value.Finding)];

    /// <summary>Records a finding, or counts it to the one already recorded for the same instruction.</summary>
    internal void Report(
        FindingKind kind, Warp warp, Instruction instruction, uint lanes, string message, ulong? address = null, string memory = "", SourceLine? other = null)
    {
        lock (gate)
        {
            var count = Math.Max(1, BitOperations.PopCount(lanes));
            var order = ((long)warp.Block.Number << 10) + warp.Number * 32 + (lanes == 0 ? 0 : BitOperations.TrailingZeroCount(lanes));
            if (findings.TryGetValue((kind, instruction), out var known))
            {
                known.Finding.Count += count;
                // Blocks run in any order; the one reported is the first of those at fault, not the first that ran.
                if (order >= known.Order)
                    return;
                count = (int)Math.Min(int.MaxValue, known.Finding.Count);
            }
            else if (findings.Count == MaximumFindings)
            {
                return;
            }
            var finding = new Finding
            {
                Kind = kind,
                Kernel = Function.Name,
                Source = instruction.Source,
                Instruction = $"{PtxText.Format(instruction.Written)} (line {instruction.Written.PtxLine} of the PTX)",
                Block = warp.Block.Index,
                Thread = warp.ThreadOf(lanes == 0 ? 0 : BitOperations.TrailingZeroCount(lanes)),
                Address = address,
                Memory = memory,
                Message = message,
                Other = other,
                Count = count,
            };
            findings[(kind, instruction)] = (finding, order);
        }
    }

    public void Dispose() => NativeMemory.Free(Arguments);
}
