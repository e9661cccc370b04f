using System.Numerics;
using System.Runtime.InteropServices;

namespace Kernels.Emulation.Execution;

/// <summary>
/// 32 threads in step. Divergent code is a tree of paths: a branch whose lanes part makes a path for each side and leaves the parent waiting at the
/// branch's immediate post-dominator, where the lanes come together again. A path that waits for lanes of another (a barrier, a
/// <c>shfl</c> that names them) is parked and the other runs, so that code written for independent thread scheduling makes progress.
/// </summary>
internal sealed unsafe partial class Warp : IDisposable
{
    private readonly Dictionary<FunctionCode, Stack<Frame>> frames = [];
    private readonly List<Frame> everyFrame = [];
    private Instruction[] code = [];
    private Frame? top;
    private long executed;

    internal Warp(Block block, int number)
    {
        Block = block;
        Number = number;
        var threads = Math.Min(32, block.Launch.ThreadsPerBlock - number * 32);
        FullMask = threads == 32 ? uint.MaxValue : (1u << threads) - 1;
        Addresses = (ulong*)NativeMemory.AlignedAlloc(32 * 8 * 2, 64);
        HostAddresses = Addresses + 32;
        LocalCapacity = 0;
    }

    internal Block Block { get; }

    internal int Number { get; }

    /// <summary>Lanes that are threads at all: the last warp of a block may be partly empty.</summary>
    internal uint FullMask { get; }

    /// <summary>Registers of the running function.</summary>
    internal byte* Frame;

    internal int Pc;

    /// <summary>Where the running path ends and its lanes wait for the others.</summary>
    internal int Reconverge;

    /// <summary>Lanes of the running path.</summary>
    internal uint Active;

    /// <summary>Lanes that have not exited.</summary>
    internal uint Live;

    /// <summary>Set by an instruction that parked the path or ended it.</summary>
    internal bool Switching;

    /// <summary>Whether the running instruction is executed for the second time, after what it waited for has come.</summary>
    internal bool Resumed;

    internal ulong Carry;

    /// <summary>Scratch of the memory instructions: addresses as the kernel computed them, and as the host reads them.</summary>
    internal ulong* Addresses { get; }

    internal ulong* HostAddresses { get; }

    internal byte* Local { get; private set; }

    internal int LocalCapacity { get; private set; }

    internal Frame Top => top!;

    internal AsyncCopies Copies { get; } = new();

    internal int LiveCount => BitOperations.PopCount(Live);

    internal bool IsDone => Live == 0;

    internal long Executed => executed;

    /// <summary>Puts the warp at the kernel's first instruction.</summary>
    internal void Start()
    {
        Live = Active = FullMask;
        Resumed = Switching = false;
        executed = 0;
        Copies.Clear();
        localTop = 0;
        // Activations that lanes exited out of were never returned from.
        foreach (var pool in frames.Values)
            pool.Clear();
        foreach (var frame in everyFrame)
            frames[frame.Function].Push(frame);
        top = null;
        current = 0;
        PushFrame(Block.Launch.Function, null, 0);
        top!.Owner = 0;
        pathCount = 1;
        paths[0] = new Path { Mask = Active, Parent = -1, Frame = top, State = PathState.Runnable, Reconverge = Reconverge };
        current = 0;
    }

    /// <summary>Runs until the warp waits, ends, or has executed <paramref name="slice"/> instructions.</summary>
    /// <returns>Whether it did anything.</returns>
    internal bool Run(long slice)
    {
        if (current < 0 && !Wake())
            return false;
        var counters = Block.Counters;
        for (; slice > 0; slice--)
        {
            while (Pc == Reconverge)
            {
                Arrive();
                if (Switching && !Next())
                    return true;
            }
            var instruction = code[Pc++];
            var mask = Active;
            if (instruction.Guard >= 0)
            {
                var guard = *(uint*)(Frame + instruction.Guard);
                mask &= instruction.GuardNegated ? ~guard : guard;
            }
            executed++;
            counters?.Count(instruction, mask);
            if (mask == 0)
                continue;
            instruction.Execute(this, mask);
            if (Switching && !Next())
                return true;
        }
        CheckBudget();
        return true;
    }

    private void CheckBudget()
    {
        if (executed <= Block.Launch.Budget)
            return;
        var at = code[Math.Min(Pc, code.Length - 1)];
        Block.Launch.Report(
            FindingKind.Runaway, this, at, Active, $"the warp executed more than {Block.Launch.Budget} instructions; a loop does not end, or raise the budget");
        Block.Launch.Stop();
    }

    private void PushFrame(FunctionCode function, CallInstruction? call, int returnPc)
    {
        if (!frames.TryGetValue(function, out var pool))
            frames[function] = pool = new Stack<Frame>();
        if (!pool.TryPop(out var frame))
        {
            frame = new Frame(function);
            everyFrame.Add(frame);
        }
        frame.SetSpecials(this);
        frame.Caller = top;
        frame.Call = call;
        frame.ReturnPc = returnPc;
        frame.Owner = current;
        frame.SavedReconverge = Reconverge;
        frame.LocalBase = localTop;
        localTop += function.LocalBytes;
        EnsureLocal(localTop);
        top = frame;
        Enter(frame, 0, function.ExitPc);
    }

    private void Enter(Frame frame, int pc, int reconverge)
    {
        top = frame;
        code = frame.Function.Code;
        Frame = frame.Base;
        Pc = pc;
        Reconverge = reconverge;
    }

    /// <summary>Calls a function for the running path.</summary>
    internal void Call(FunctionCode function, CallInstruction call)
    {
        var caller = top!;
        if (localTop + function.LocalBytes > Launch.MaximumLocalBytes || everyFrame.Count > Launch.MaximumDepth)
        {
            Block.Launch.Report(FindingKind.OutOfBounds, this, call, Active, $"the stack overflows calling '{function.Name}'");
            Block.Launch.Stop();
            Switching = true;
            return;
        }
        PushFrame(function, call, Pc);
        call.CopyArguments(caller, top!);
    }

    private void Return()
    {
        var callee = top!;
        var caller = callee.Caller!;
        callee.Call!.CopyResults(callee, caller, Active);
        // Another path may have put its frame above this one; then the space is kept until the block ends.
        if (localTop == callee.LocalBase + callee.Function.LocalBytes)
            localTop = callee.LocalBase;
        frames[callee.Function].Push(callee);
        Enter(caller, callee.ReturnPc, callee.SavedReconverge);
    }

    private int localTop;

    private void EnsureLocal(int bytes)
    {
        if (bytes <= LocalCapacity)
            return;
        var capacity = (Math.Max(bytes, 2 * LocalCapacity) + 63) & ~63;
        var grown = (byte*)NativeMemory.AlignedAlloc((nuint)capacity * 32, 64);
        new Span<byte>(grown, capacity * 32).Fill(0xFF);
        for (var lane = 0; lane < 32 && LocalCapacity > 0; lane++)
            new Span<byte>(Local + (long)lane * LocalCapacity, LocalCapacity).CopyTo(new Span<byte>(grown + (long)lane * capacity, capacity));
        NativeMemory.AlignedFree(Local);
        Local = grown;
        LocalCapacity = capacity;
    }

    internal Index3 ThreadOf(int lane)
    {
        var thread = Number * 32 + lane;
        var block = Block.Launch.Block;
        return new Index3(thread % block.X, thread / block.X % block.Y, thread / (block.X * block.Y));
    }

    public void Dispose()
    {
        foreach (var frame in everyFrame)
            frame.Dispose();
        NativeMemory.AlignedFree(Addresses);
        NativeMemory.AlignedFree(Local);
    }
}
