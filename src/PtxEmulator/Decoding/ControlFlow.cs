using Kernels.Emulation.Execution;

namespace Kernels.Emulation.Decoding;

/// <summary>Finds where the sides of each branch meet: the immediate post-dominator, by the method of Cooper, Harvey and Kennedy (2001) on the reversed graph.</summary>
internal static class ControlFlow
{
    internal static void SetMeetingPoints(FunctionCode function)
    {
        var code = function.Code;
        var exit = code.Length;
        var leaders = new SortedSet<int> { 0 };
        for (var i = 0; i < code.Length; i++)
        {
            foreach (var target in Targets(code[i]))
                leaders.Add(target);
            if (EndsBlock(code[i]))
                leaders.Add(i + 1);
        }
        leaders.Add(exit);
        var starts = leaders.ToArray();
        var blockOf = new Dictionary<int, int>();
        for (var b = 0; b < starts.Length; b++)
            blockOf[starts[b]] = b;
        var last = starts.Length - 1;
        var successors = new List<int>[starts.Length];
        for (var b = 0; b < last; b++)
            successors[b] = [.. Successors(code, starts[b + 1] - 1, exit).Select(target => blockOf[target]).Distinct()];
        successors[last] = [];
        var dominators = PostDominators(successors, last);
        for (var b = 0; b < last; b++)
        {
            var meet = dominators[b] < 0 ? exit : starts[dominators[b]];
            switch (code[starts[b + 1] - 1])
            {
                case BranchInstruction branch:
                    branch.Meet = meet;
                    break;
                case BranchTable table:
                    table.Meet = meet;
                    break;
            }
        }
    }

    private static bool EndsBlock(Instruction instruction) => instruction is BranchInstruction or BranchTable or ExitInstruction;

    private static int[] Targets(Instruction instruction) => instruction switch
    {
        BranchInstruction branch => [branch.Target],
        BranchTable table => table.Targets,
        _ => [],
    };

    private static IEnumerable<int> Successors(Instruction[] code, int index, int exit)
    {
        var instruction = code[index];
        foreach (var target in Targets(instruction))
            yield return target;
        if (instruction is ExitInstruction)
            yield return exit;
        var fallsThrough = instruction switch
        {
            BranchInstruction branch => branch.IsConditional,
            BranchTable => false,
            ExitInstruction => instruction.Guard >= 0,
            _ => true,
        };
        if (fallsThrough)
            yield return index + 1;
    }

    private static int[] PostDominators(List<int>[] successors, int exit)
    {
        var count = successors.Length;
        var predecessors = new List<int>[count];
        for (var b = 0; b < count; b++)
            predecessors[b] = [];
        for (var b = 0; b < count; b++)
        {
            foreach (var s in successors[b])
                predecessors[s].Add(b);
        }
        // Post-order of a walk against the edges, from the exit.
        var order = new int[count];
        Array.Fill(order, -1);
        var sequence = new List<int>();
        var stack = new Stack<(int Block, int Next)>();
        var seen = new bool[count];
        seen[exit] = true;
        stack.Push((exit, 0));
        while (stack.TryPop(out var top))
        {
            if (top.Next < predecessors[top.Block].Count)
            {
                stack.Push((top.Block, top.Next + 1));
                var p = predecessors[top.Block][top.Next];
                if (!seen[p])
                {
                    seen[p] = true;
                    stack.Push((p, 0));
                }
                continue;
            }
            order[top.Block] = sequence.Count;
            sequence.Add(top.Block);
        }
        var dominator = new int[count];
        Array.Fill(dominator, -1);
        dominator[exit] = exit;
        for (var changed = true; changed;)
        {
            changed = false;
            for (var i = sequence.Count - 2; i >= 0; i--)
            {
                var b = sequence[i];
                var meet = -1;
                foreach (var s in successors[b])
                {
                    if (order[s] < 0 || dominator[s] < 0)
                        continue;
                    meet = meet < 0 ? s : Intersect(meet, s);
                }
                if (meet >= 0 && dominator[b] != meet)
                {
                    dominator[b] = meet;
                    changed = true;
                }
            }
        }
        return dominator;

        int Intersect(int a, int b)
        {
            while (a != b)
            {
                while (order[a] < order[b])
                    a = dominator[a];
                while (order[b] < order[a])
                    b = dominator[b];
            }
            return a;
        }
    }
}
