using System.Numerics;
using Kernels.Emulation.Checking;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Memory;

/// <summary><c>isspacep</c>: whether a generic address is in a space's window.</summary>
internal sealed unsafe class IsInSpace(StateSpace space, int p, int a) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        uint inside = 0;
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var window = ((ulong*)(warp.Frame + a))[lane] >> 56 << 56;
            var holds = space switch
            {
                StateSpace.Shared => window == Access.SharedWindow,
                StateSpace.Local => window == Access.LocalWindow,
                StateSpace.Param => window == Access.ParamWindow,
                _ => window == 0,
            };
            inside |= holds ? 1u << lane : 0;
        }
        SetPredicate.Store(warp.Frame + p, inside, mask);
    }
}

/// <summary><c>ld.acquire</c> and <c>st.release</c>: an access that also orders others.</summary>
internal sealed class OrderedAccess : Instruction
{
    private readonly Instruction access;
    private readonly bool acquires;
    private readonly bool releases;

    internal OrderedAccess(Instruction access, bool acquires, bool releases)
    {
        this.access = access;
        this.acquires = acquires;
        this.releases = releases;
    }

    internal override void Execute(Warp warp, uint mask)
    {
        // The access reports in the name of this instruction.
        (access.Written, access.Source, access.Id, access.Function) = (Written, Source, Id, Function);
        if (releases)
            Races.Release(warp, mask, fences: true);
        access.Execute(warp, mask);
        if (acquires)
            Races.Acquire(warp, mask, fences: true);
    }
}
