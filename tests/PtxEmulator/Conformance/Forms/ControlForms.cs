using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Branches, calls, the end of a thread, and instructions that concern only the hardware's scheduling.</summary>
internal static class ControlForms
{
    internal static Dictionary<string, Reference> All { get; } = new(
    [
        .. References.For(Branch, "bra"), .. References.For(BranchTable, "brx"), .. References.For(Call, "call"), .. References.For(Return, "ret"), .. References.For(End, "exit"),
        .. References.For(Trap, "trap"), .. References.For(form => Unchanged(form, ""), "brkpt", "griddepcontrol"), .. References.For(form => Unchanged(form, " 100"), "nanosleep"),
        .. References.For(form => Unchanged(form, form.Has("mask") ? " 5" : " 3"), "pmevent"), .. References.For(form => Unchanged(form, " 64"), "setmaxnreg"),
    ]);

    private static ulong[][] Operands => [[.. Enumerable.Range(0, 192).Select(i => (ulong)(i * 7 % 12))]];

    private static void Check(Form form, string body, Func<ulong, ulong> expected) => form.Check(body, "b32", ["b32"], Operands, (a, _, _) => expected(a));

    private static void Unchanged(Form form, string operands) => Check(form, $"{{op}}{operands}; mov.b32 {{d}}, {{a}};", a => a);

    private static void Branch(Form form)
    {
        // A loop that each lane leaves after as many rounds as it has; .uni promises that all take the same way.
        if (!form.Has("uni"))
            Check(form, "mov.b32 %s0, 0; mov.b32 {d}, 0; LOOP: setp.ge.u32 %pe, %s0, {a}; @%pe {op} DONE; add.u32 %s0, %s0, 1; add.u32 {d}, {d}, %s0; {op} LOOP; DONE:", a => a * (a + 1) / 2);
        Check(form, "mov.b32 %s0, 0; mov.b32 {d}, 0; LOOP: add.u32 {d}, {d}, {a}; add.u32 %s0, %s0, 1; setp.lt.u32 %pe, %s0, 5; @%pe {op} LOOP; {op} DONE; mov.b32 {d}, 99; DONE:", a => 5 * a);
    }

    private static void BranchTable(Form form)
    {
        var selector = form.Has("uni") ? "mov.b32 %s0, 2;" : "rem.u32 %s0, {a}, 3;";
        Check(
            form, selector + " {op} %s0, TABLE; TABLE: .branchtargets L0, L1, L2; L0: mov.b32 {d}, 100; bra DONE; L1: mov.b32 {d}, 200; bra DONE; L2: mov.b32 {d}, 300; DONE:",
            a => 100 * ((form.Has("uni") ? 2 : a % 3) + 1));
    }

    private const string Factorial = ".func (.param .b32 r) factorial(.param .b32 n)\n{\n.reg .pred %p;\n.reg .b32 %n, %m;\nld.param.b32 %n, [n];\nmov.b32 %m, 1;\nsetp.lt.u32 %p, %n, 2;\n@%p bra END;\nsub.u32 %m, %n, 1;\n"
        + "{\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %m;\ncall (b), factorial, (a);\nld.param.b32 %m, [b];\n}\nmul.lo.u32 %m, %m, %n;\nEND:\nst.param.b32 [r], %m;\nret;\n}\n"
        + ".func (.param .b32 r) twice(.param .b32 n)\n{\n.reg .b32 %n;\nld.param.b32 %n, [n];\nadd.u32 %n, %n, %n;\nst.param.b32 [r], %n;\nret;\n}\n";

    private static ulong Product(ulong n) => n < 2 ? 1 : n * Product(n - 1);

    private static void Call(Form form)
    {
        const string Start = "{ .param .b32 q; .param .b32 v; st.param.b32 [q], {a}; ";
        Compare(form, Start + "{op} (v), factorial, (q); ld.param.b32 {d}, [v]; }", Product, Factorial);
        // Through a pointer; where the lanes may differ, to a function of the lane's own choice.
        var choice = form.Has("uni") ? "" : "and.b32 %s0, {a}, 1; setp.eq.u32 %pe, %s0, 0; @%pe mov.u64 %x, twice; ";
        Compare(
            form, Start + "mov.u64 %x, factorial; " + choice + "PROTOTYPE: .callprototype (.param .b32 _) _ (.param .b32 _); {op} (v), %x, (q), PROTOTYPE; ld.param.b32 {d}, [v]; }",
            a => !form.Has("uni") && a % 2 == 0 ? 2 * a : Product(a), Factorial);
    }

    private static void Return(Form form)
    {
        const string Early = ".func (.param .b32 r) early(.param .b32 n)\n{\n.reg .pred %p;\n.reg .b32 %n;\nld.param.b32 %n, [n];\nst.param.b32 [r], %n;\nsetp.lt.u32 %p, %n, LIMIT;\n@%p OP;\nst.param.b32 [r], 77;\nOP;\n}\n";
        var function = Early.Replace("OP", form.Text, StringComparison.Ordinal).Replace("LIMIT", form.Has("uni") ? "100" : "6", StringComparison.Ordinal);
        Compare(form, "{ .param .b32 q; .param .b32 v; st.param.b32 [q], {a}; call (v), early, (q); ld.param.b32 {d}, [v]; }", a => form.Has("uni") || a < 6 ? a : 77, function);
        if (!form.Has("uni"))
            End(form);
    }

    /// <summary>Threads that have ended store nothing.</summary>
    private static void End(Form form) => Check(form, "setp.lt.u32 %pe, {a}, 6; @%pe {op}; mov.b32 {d}, {a};", a => a < 6 ? 0 : a);

    private static void Compare(Form form, string body, Func<ulong, ulong> expected, string functions)
    {
        var actual = PtxCase.Run(body.Replace("{op}", form.Text, StringComparison.Ordinal), "b32", ["b32"], Operands, functions);
        for (var i = 0; i < actual.Length; i++)
            Assert.True((expected(Operands[0][i]) & uint.MaxValue) == actual[i], $"{form.Text} of {Operands[0][i]}: expected {expected(Operands[0][i])}, got {actual[i]}");
    }

    private static void Trap(Form form)
    {
        using var run = new KernelRun(System.Text.Encoding.UTF8.GetBytes(PtxCase.Kernel($"setp.eq.u32 %pe, %t2, 5; @%pe {form.Text}; mov.b32 {{d}}, 1;", "b32")), "trap.ptx");
        var arguments = new LaunchArguments().Add(run.Put(new ulong[32])).Add(0UL).Add(0UL).Add(0UL);
        var finding = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 32), arguments));
        Assert.Equal((FindingKind.Trap, 5), (finding.Kind, finding.Thread.X));
    }
}
