using Kernels.Emulation.Checking;

namespace Kernels.Emulation.Execution;

/// <content>The tree of divergent paths: splitting, reconvergence, waiting and exit.</content>
internal sealed unsafe partial class Warp
{
    private enum PathState
    {
        Free,
        Runnable,

        /// <summary>Waits for its children to arrive where it stands.</summary>
        Parent,

        /// <summary>At a block barrier.</summary>
        AtBarrier,

        /// <summary>At a warp operation that names lanes of other paths.</summary>
        AtWarpSync,

        /// <summary>At an <c>mbarrier</c>.</summary>
        AtMemoryBarrier,
    }

    private struct Path
    {
        internal int Pc;
        internal int Reconverge;
        internal uint Mask;
        internal int Parent;
        internal int Children;
        internal Frame Frame;
        internal PathState State;
        internal NamedBarrier? Barrier;
        internal MemoryBarrier? MemoryBarrier;
        internal int Phase;
        internal uint Named;
        internal bool Released;
    }

    private Path[] paths = new Path[8];
    private int pathCount;
    private int current = -1;

    /// <summary>A branch: lanes of <paramref name="taken"/> go to <paramref name="target"/>, the others on; they meet at <paramref name="meet"/>.</summary>
    internal void Branch(uint taken, int target, int meet)
    {
        var others = Active & ~taken;
        if (others == 0)
        {
            Pc = target;
            return;
        }
        if (taken == 0)
            return;
        var fallThrough = Pc;
        // The lanes that go straight to where this path ends wait there in its parent; the root of an activation has no parent to wait in.
        if (meet == Reconverge && top!.Owner != current && (target == meet || fallThrough == meet))
        {
            Active = paths[current].Mask = target == meet ? others : taken;
            Pc = target == meet ? fallThrough : target;
            return;
        }
        var parent = current;
        Save(PathState.Parent, meet);
        if (fallThrough != meet)
            AddChild(parent, others, fallThrough, meet);
        if (target != meet)
            AddChild(parent, taken, target, meet);
        Load(lastAdded);
    }

    /// <summary>Splits off the lanes of <paramref name="first"/>, which run from the same place before the others; both meet at the next instruction.</summary>
    internal void SplitHere(uint first, int pc)
    {
        var others = Active & ~first;
        var meet = Pc;
        var parent = current;
        Save(PathState.Parent, meet);
        AddChild(parent, others, pc, meet);
        AddChild(parent, first, pc, meet);
        Load(lastAdded);
    }

    private int lastAdded;

    private void AddChild(int parent, uint mask, int pc, int meet)
    {
        var slot = 0;
        while (slot < pathCount && paths[slot].State != PathState.Free)
            slot++;
        if (slot == paths.Length)
            Array.Resize(ref paths, paths.Length * 2);
        pathCount = Math.Max(pathCount, slot + 1);
        paths[slot] = new Path { Pc = pc, Reconverge = meet, Mask = mask, Parent = parent, Frame = top!, State = PathState.Runnable };
        paths[parent].Children++;
        lastAdded = slot;
    }

    private void Save(PathState state, int pc)
    {
        ref var path = ref paths[current];
        path.State = state;
        path.Pc = pc;
        path.Reconverge = Reconverge;
        path.Mask = Active;
        path.Frame = top!;
    }

    private void Load(int index)
    {
        ref var path = ref paths[index];
        current = index;
        path.State = PathState.Runnable;
        Active = path.Mask & Live;
        Resumed = path.Released;
        path.Released = false;
        Enter(path.Frame, path.Pc, path.Reconverge);
    }

    /// <summary>The running path has come to its end: a call returns, or the lanes wait in the parent.</summary>
    private void Arrive()
    {
        if (top!.Owner == current && Pc == top.Function.ExitPc)
        {
            if (top.Caller is null)
                Exit(Active);
            else
                Return();
            return;
        }
        End();
    }

    private void End()
    {
        ref var path = ref paths[current];
        path.State = PathState.Free;
        var parent = path.Parent;
        if (parent >= 0 && --paths[parent].Children == 0)
            paths[parent].State = PathState.Runnable;
        current = -1;
        Switching = true;
    }

    /// <summary>Lanes leave the kernel.</summary>
    internal void Exit(uint mask)
    {
        Live &= ~mask;
        Active &= Live;
        if (Active == 0)
        {
            ref var path = ref paths[current];
            // Activations that this path entered and will not return from.
            path.Mask = 0;
            End();
        }
    }

    /// <summary>Parks the running path before the instruction it executes, which is executed again when what it waits for has come.</summary>
    internal void ParkAtBarrier(NamedBarrier barrier)
    {
        Save(PathState.AtBarrier, Pc - 1);
        paths[current].Barrier = barrier;
        paths[current].Phase = barrier.Phase;
        current = -1;
        Switching = true;
    }

    /// <inheritdoc cref="ParkAtBarrier"/>
    internal void ParkAtMemoryBarrier(MemoryBarrier barrier, int parity)
    {
        Save(PathState.AtMemoryBarrier, Pc - 1);
        paths[current].MemoryBarrier = barrier;
        paths[current].Phase = parity;
        current = -1;
        Switching = true;
    }

    /// <summary>Parks the running path at a warp operation until every lane of <paramref name="named"/> is at one too.</summary>
    internal void ParkAtWarpSync(uint named)
    {
        Save(PathState.AtWarpSync, Pc - 1);
        paths[current].Named = named;
        current = -1;
        Switching = true;
    }

    /// <summary>After a path parked or ended: takes up another.</summary>
    /// <returns>Whether there is one.</returns>
    private bool Next()
    {
        Switching = false;
        if (Block.Launch.IsStopped || Live == 0)
            return false;
        if (current >= 0)
            return true;
        return Wake();
    }

    private bool Wake()
    {
        for (var i = pathCount - 1; i >= 0; i--)
        {
            ref var path = ref paths[i];
            var ready = path.State switch
            {
                PathState.Runnable => true,
                PathState.AtBarrier => path.Barrier!.Phase != path.Phase,
                PathState.AtMemoryBarrier => (path.MemoryBarrier!.Phase & 1) != path.Phase,
                _ => false,
            };
            if (!ready)
                continue;
            path.Released = path.State != PathState.Runnable || path.Released;
            if ((path.Mask & Live) == 0)
            {
                // Every lane exited while this path waited for them.
                current = i;
                top = path.Frame;
                End();
                Switching = false;
                return Live != 0 && Wake();
            }
            Load(i);
            return true;
        }
        return WakeWarpSync();
    }

    /// <summary>Releases paths that wait for each other at warp operations: all lanes named must be parked, at the same instruction if data is exchanged.</summary>
    private bool WakeWarpSync()
    {
        for (var i = 0; i < pathCount; i++)
        {
            if (paths[i].State != PathState.AtWarpSync)
                continue;
            var named = paths[i].Named & Live;
            var instruction = paths[i].Frame.Function.Code[paths[i].Pc];
            uint here = 0;
            for (var j = 0; j < pathCount; j++)
            {
                var meets = paths[j].State == PathState.AtWarpSync && paths[j].Named == paths[i].Named
                    && (instruction is WarpBarrier || (paths[j].Pc == paths[i].Pc && paths[j].Frame == paths[i].Frame));
                if (meets)
                    here |= paths[j].Mask & Live;
            }
            if ((named & ~here) != 0)
            {
                if (NoneElseCanRun())
                    Participation.ReportMissing(this, instruction, paths[i].Mask & Live, named & ~here, exited: false);
                else
                    continue;
            }
            Races.JoinWarp(this);
            var group = (Pc: paths[i].Pc, paths[i].Frame, paths[i].Named);
            for (var j = 0; j < pathCount; j++)
            {
                if (j == i || paths[j].State != PathState.AtWarpSync || paths[j].Named != group.Named)
                    continue;
                if (instruction is not WarpBarrier && (paths[j].Pc != group.Pc || paths[j].Frame != group.Frame))
                    continue;
                paths[j].State = PathState.Runnable;
                paths[j].Pc++;
            }
            var own = paths[i].Mask;
            Load(i);
            if (instruction is not WarpBarrier)
            {
                // The exchange is done once, for all lanes; they share the frame.
                Pc++;
                Resumed = true;
                instruction.Execute(this, here);
                Resumed = false;
                Active = paths[i].Mask = own;
            }
            else
            {
                Pc++;
                Resumed = false;
            }
            return true;
        }
        return false;
    }

    private bool NoneElseCanRun()
    {
        for (var i = 0; i < pathCount; i++)
        {
            if (paths[i].State is PathState.Runnable or PathState.AtBarrier or PathState.AtMemoryBarrier)
                return false;
        }
        return true;
    }

    /// <summary>Names what each waiting path waits for, when nothing in the block can run.</summary>
    internal void ReportDeadlock()
    {
        for (var i = 0; i < pathCount; i++)
        {
            ref var path = ref paths[i];
            if (path.State is not (PathState.AtBarrier or PathState.AtMemoryBarrier or PathState.AtWarpSync) || (path.Mask & Live) == 0)
                continue;
            var instruction = path.Frame.Function.Code[path.Pc];
            var message = path.State switch
            {
                PathState.AtBarrier => $"waits at a barrier that {path.Barrier!.Arrived} of the {Math.Max(path.Barrier.Expected, 0)} threads it expects have reached",
                PathState.AtMemoryBarrier => $"waits for phase {path.Phase} of an mbarrier that misses {path.MemoryBarrier!.Pending} arrivals and {path.MemoryBarrier.PendingBytes} bytes",
                _ => $"waits for lanes 0x{path.Named & Live & ~path.Mask:x8}",
            };
            if (path is { State: PathState.AtBarrier, Barrier.Expected: 0 })
                message = $"waits at a barrier that only {path.Barrier!.Arrived} threads of the block have reached";
            Block.Launch.Report(FindingKind.Deadlock, this, instruction, path.Mask & Live, message);
        }
    }
}
