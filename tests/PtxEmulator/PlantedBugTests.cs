using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>Every planted bug is found, named and placed on its line; its twin without the bug raises nothing.</summary>
public sealed class PlantedBugTests
{
    private const int Threads = 128;

    private static readonly EmulatorOptions Options = new() { InstructionBudget = 100_000, Output = TextWriter.Null };

    public static TheoryData<string, FindingKind> Bugs => new()
    {
        { "off_by_one", FindingKind.OutOfBounds },
        { "missing_barrier", FindingKind.SharedRace },
        { "missing_second_barrier", FindingKind.SharedRace },
        { "uninitialized_shared", FindingKind.Uninitialized },
        { "uninitialized_global", FindingKind.Uninitialized },
        { "divergent_barrier", FindingKind.BarrierDivergence },
        { "barrier_in_some_warps", FindingKind.Deadlock },
        { "block_race", FindingKind.GlobalRace },
        { "misaligned", FindingKind.Misaligned },
        { "use_after_free", FindingKind.UseAfterFree },
        { "infinite_loop", FindingKind.Runaway },
        { "partial_shuffle", FindingKind.Participation },
        { "shared_out_of_bounds", FindingKind.OutOfBounds },
        { "unwaited_copy", FindingKind.Uninitialized },
        { "last_block", FindingKind.GlobalRace },
        { "block_overwrites", FindingKind.GlobalRace },
        { "traps", FindingKind.Trap },
    };

    [Theory]
    [MemberData(nameof(Bugs))]
    public void The_bug_is_found_on_its_line(string name, FindingKind kind)
    {
        var findings = Run(name == "last_block" ? "last_block_bug" : name);
        var line = MarkedLine(name);
        Assert.Contains(findings, finding => finding.Kind == kind);
        // An infinite loop is caught somewhere in its body, which is two lines.
        if (kind == FindingKind.Runaway)
            Assert.All(findings, finding => Assert.InRange(finding.Source.Line, line, line + 1));
        else
            Assert.All(findings, finding => Assert.Contains(line, new[] { finding.Source.Line, finding.Other?.Line ?? 0 }));
        Assert.All(findings, finding => Assert.Equal("buggy.cu", finding.Source.File));
        Assert.All(findings, finding => Assert.Equal(name == "last_block" ? "last_block_bug" : name, finding.Kernel));
    }

    [Theory]
    [MemberData(nameof(Bugs))]
    public void The_correct_twin_raises_nothing(string name, FindingKind kind)
    {
        if (kind == FindingKind.Trap)
            return;
        Assert.Empty(Run(name + "_fixed"));
    }

    [Fact]
    public void A_finding_names_thread_address_and_allocation()
    {
        var finding = Assert.Single(Run("off_by_one"));
        // 128 elements, and thread 0 of block 1 writes the 129th.
        Assert.Equal((new Index3(1, 0, 0), new Index3(0, 0, 0)), (finding.Block, finding.Thread));
        Assert.Equal("'y' (512 bytes)", finding.Memory);
        Assert.Contains("write of 4 bytes", finding.Message, StringComparison.Ordinal);
        Assert.Contains("0 bytes past the end of 'y' (512 bytes)", finding.Message, StringComparison.Ordinal);
        Assert.NotNull(finding.Address);
    }

    [Fact]
    public void A_race_names_both_lines()
    {
        var read = MarkedLine("missing_barrier");
        var finding = Run("missing_barrier").Single(f => f.Kind == FindingKind.SharedRace && f.Source.Line == read);
        Assert.Equal(read - 1, finding.Other!.Value.Line);
    }

    [Fact]
    public void Without_checks_only_what_would_stop_a_GPU_is_reported()
    {
        var none = Options with { Checks = Checks.None };
        Assert.Empty(Run("missing_barrier", none));
        Assert.Empty(Run("uninitialized_shared", none));
        Assert.Empty(Run("block_race", none));
        Assert.Single(Run("off_by_one", none));
        Assert.Single(Run("use_after_free", none));
    }

    [Fact]
    public void The_last_to_draw_a_ticket_is_ordered_after_one_whose_host_thread_stands_still_behind_its_draw()
    {
        Kernels.Emulation.Checking.GlobalRaces races = new();
        races.Fence(0);
        races.Fence(1);
        // Both are about to draw; 0 draws and stands still, 1 draws the later number and goes on.
        races.Release(1);
        races.Release(0);
        races.Acquire(1);
        Assert.True(races.Ordered(0, 1));
        Assert.True(races.OrderedAfterAll(1, 2));
        Assert.False(races.Ordered(2, 1));
        Assert.False(races.OrderedAfterAll(1, 3));
    }

    private static int MarkedLine(string name)
    {
        var lines = File.ReadAllLines(Path.Combine(Cuda.Folder, "buggy.cu"));
        return Array.FindIndex(lines, line => line.EndsWith("// BUG " + name, StringComparison.Ordinal)) + 1;
    }

    private static IReadOnlyList<Finding> Run(string kernel, EmulatorOptions? options = null)
    {
        using var run = new KernelRun(Cuda.Compile("buggy.cu"), options ?? Options);
        var x = run.Put(Enumerable.Range(0, Threads + 4).Select(i => (float)i).ToArray(), "x");
        var y = kernel.StartsWith("uninit", StringComparison.Ordinal) ? run.Driver.Allocate(Threads * 4, "y") : run.Put(new float[Threads], "y");
        if (kernel == "use_after_free")
            run.Driver.Free(x);
        // Kernels about several blocks get two, the off-by-one one more thread than elements.
        var blocks = kernel.Contains("block", StringComparison.Ordinal) || kernel.StartsWith("off", StringComparison.Ordinal) ? 2 : 1;
        var shared = kernel.StartsWith("shared_out", StringComparison.Ordinal) ? Threads * 4 : 0;
        var n = shared > 0 ? 8 : Threads;
        try
        {
            run.Launch(kernel, LaunchGeometry.Linear(blocks, Threads, shared), new LaunchArguments().Add(x).Add(y).Add(n));
            return [];
        }
        catch (KernelCheckException exception)
        {
            return exception.Findings;
        }
    }
}
