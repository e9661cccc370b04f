using System.Numerics;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Execution;

/// <summary><c>bra</c>. Reads its own guard, because the lanes that do not branch matter as much as those that do.</summary>
internal sealed unsafe class BranchInstruction(int predicate, bool negated, int target) : Instruction
{
    /// <summary>Where the two sides meet: the immediate post-dominator.</summary>
    internal int Meet { get; set; }

    internal int Target => target;

    internal bool IsConditional => predicate >= 0;

    internal override void Execute(Warp warp, uint mask)
    {
        var taken = mask;
        if (predicate >= 0)
        {
            var value = *(uint*)(warp.Frame + predicate);
            taken &= negated ? ~value : value;
        }
        warp.Block.Counters?.Branch(IsConditional, taken != 0 && taken != mask);
        warp.Branch(taken, target, Meet);
    }
}

/// <summary><c>brx.idx</c>: a jump through a table.</summary>
internal sealed unsafe class BranchTable(int index, int[] targets) : Instruction
{
    internal int Meet { get; set; }

    internal int[] Targets => targets;

    internal override void Execute(Warp warp, uint mask)
    {
        var values = (uint*)(warp.Frame + index);
        var (first, same) = Lanes.AgreeingWithFirst(values, mask);
        warp.Block.Counters?.Branch(true, same != mask);
        if (first >= targets.Length)
        {
            warp.Block.Launch.Report(FindingKind.Trap, warp, this, same, $"branch index {first} of a table of {targets.Length}");
            warp.Exit(same);
            return;
        }
        if (same == mask)
        {
            warp.Pc = targets[first];
            return;
        }
        // The other lanes come back to this instruction.
        warp.Pc--;
        warp.Branch(same, targets[first], Meet);
    }
}

/// <summary>End of the kernel for a thread: <c>exit</c>, or <c>ret</c> in a kernel.</summary>
internal sealed class ExitInstruction : Instruction
{
    internal override void Execute(Warp warp, uint mask) => warp.Exit(mask);
}

/// <summary><c>trap</c>, or a call of <c>__assertfail</c>.</summary>
internal sealed class TrapInstruction : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        warp.Block.Launch.Report(FindingKind.Trap, warp, this, mask, "the kernel executed trap");
        warp.Block.Launch.Stop();
        warp.Switching = true;
    }
}

/// <summary><c>call</c> of a function of the module, directly or through a register.</summary>
internal sealed unsafe class CallInstruction(EntryProgram program, FunctionCode? target, ElementSlot64 pointer, PtxVariable[] arguments, PtxVariable[] results) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        if (mask != warp.Active)
        {
            warp.SplitHere(mask, warp.Pc - 1);
            return;
        }
        if (target is not null)
        {
            warp.Call(target, this);
            return;
        }
        var values = (ulong*)(warp.Frame + pointer.Slot);
        var (first, same) = Lanes.AgreeingWithFirst(values, mask);
        if (program.FunctionAt(first) is not { } function)
        {
            warp.Block.Launch.Report(FindingKind.Trap, warp, this, same, $"call of 0x{first:x}, where no function is");
            warp.Exit(same);
            return;
        }
        if (same == mask)
            warp.Call(function, this);
        else
            warp.SplitHere(same, warp.Pc - 1);
    }

    /// <summary>The caller's argument areas become the callee's parameters.</summary>
    internal void CopyArguments(Frame caller, Frame callee)
    {
        var parameters = callee.Function.Written.Parameters;
        for (var i = 0; i < Math.Min(parameters.Count, arguments.Length); i++)
            Copy(caller, arguments[i], callee, parameters[i], Lanes.All);
    }

    /// <summary>The callee's return areas become the caller's results, for the lanes that made the call.</summary>
    internal void CopyResults(Frame callee, Frame caller, uint mask)
    {
        var returns = callee.Function.Written.Returns;
        for (var i = 0; i < Math.Min(returns.Count, results.Length); i++)
            Copy(callee, returns[i], caller, results[i], mask);
    }

    private static void Copy(Frame from, PtxVariable source, Frame to, PtxVariable target, uint mask)
    {
        var bytes = (int)Math.Min(source.Bytes, target.Bytes);
        var read = from.Base + from.Function.ParameterAreas[source];
        var write = to.Base + to.Function.ParameterAreas[target];
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            new ReadOnlySpan<byte>(read + lane * source.Bytes, bytes).CopyTo(new Span<byte>(write + lane * target.Bytes, bytes));
        }
    }
}

/// <summary>A 64-bit register's slot.</summary>
internal readonly record struct ElementSlot64(int Slot);

/// <summary>The address of the running activation's local variables.</summary>
internal sealed unsafe class LocalAddress(int to, bool wide, long offset, bool generic) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        var address = (ulong)(warp.Top.LocalBase + offset) + (generic ? Memory.Access.LocalWindow : 0);
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            if (wide)
                ((ulong*)(warp.Frame + to))[lane] = address;
            else
                ((uint*)(warp.Frame + to))[lane] = (uint)address;
        }
    }
}
