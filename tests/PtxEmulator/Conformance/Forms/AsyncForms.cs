using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary><c>cp.async</c> with its ways to wait, and <c>mbarrier</c>.</summary>
internal static class AsyncForms
{
    private const string Setup = ".shared .align 16 .b8 s[2048];\n.shared .align 8 .b8 m[8];\nmov.u32 %r1, m;\nmov.u32 %r2, s;\nmad.lo.s32 %r3, %r0, 16, %r2;\nmul.wide.u32 %o, %r0, 16;\nadd.s64 %pa, %pa, %o;\nadd.s64 %pb, %pb, %o;\n"
        + "cvt.u64.u32 %g, %r1;\ncvta.shared.u64 %g, %g;\nsetp.eq.u32 %q1, %r0, 0;\n";

    private const string Deliver = "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3];\nst.global.v4.b32 [%pb], {%r4, %r5, %r6, %r7};\n";

    internal static Dictionary<string, Reference> All { get; } = new([.. References.For(Copy, "cp"), .. References.For(Barrier, "mbarrier")]);

    private static KernelRun Load(string body) => new(
        Encoding.UTF8.GetBytes(
            ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb)\n{\n.reg .pred %q<4>;\n.reg .b32 %r<16>;\n.reg .b64 %d<8>, %pa, %pb, %o, %g;\n"
            + "mov.u32 %r0, %tid.x;\nld.param.u64 %pa, [pa];\nld.param.u64 %pb, [pb];\n" + body + "ret;\n}\n"),
        "async.ptx", new EmulatorOptions { Workers = 1, InstructionBudget = 100_000 });

    /// <summary>Runs 64 threads, each of which delivers 16 bytes; <paramref name="expected"/> maps the words of the source.</summary>
    private static void Run(Form form, string body, Func<int[], IEnumerable<int>> expected)
    {
        using var run = Load(Setup + body);
        var source = Enumerable.Range(1, 256).ToArray();
        var result = run.Put(new int[256]);
        run.Launch("k", 1, 64, new LaunchArguments().Add(run.Put(source)).Add(result));
        Assert.True(expected(source).SequenceEqual(run.Get<int>(result, 256)), $"{form.Text}: {string.Join(' ', run.Get<int>(result, 256))}");
    }

    private static void Copy(Form form)
    {
        if (form.Has("mbarrier"))
        {
            // Without .noinc the arrival is counted on top of what is expected: here each thread's own one completes the phase.
            var (address, extra) = (Address(form), form.Has("noinc") ? "" : "mbarrier.arrive.shared.b64 %d1, [%r1];\n");
            Run(
                form, "@%q1 mbarrier.init.shared.b64 [%r1], 64;\nbar.sync 0;\ncp.async.cg.shared.global [%r3], [%pa], 16;\n" + $"{form.Text} [{address}];\n{extra}"
                + "WAIT:\nmbarrier.try_wait.parity.shared.b64 %q3, [%r1], 0;\n@!%q3 bra WAIT;\n" + Deliver, source => source);
            return;
        }
        if (form.Has("commit_group") || form.Has("wait_group"))
        {
            // Of two groups the first has arrived once one may be under way; the second when none may.
            const string Two = "cp.async.ca.shared.global [%r3], [%pa], 8;\ncp.async.commit_group;\ncp.async.ca.shared.global [%r3+8], [%pa+8], 8;\ncp.async.commit_group;\ncp.async.wait_group 1;\n";
            Run(form, Two + "ld.shared.v2.b32 {%r4, %r5}, [%r3];\ncp.async.wait_group 0;\nld.shared.v2.b32 {%r6, %r7}, [%r3+8];\nst.global.v4.b32 [%pb], {%r4, %r5, %r6, %r7};\n", source => source);
            using var early = Load(Setup + Two + Deliver);
            Assert.Contains(
                early.Findings("k", LaunchGeometry.Linear(1, 64), new LaunchArguments().Add(early.Put(new int[256])).Add(early.Put(new int[256]))),
                finding => finding.Kind == FindingKind.Uninitialized && finding.Message.Contains("under way", StringComparison.Ordinal));
            return;
        }
        if (form.Has("wait_all"))
        {
            Run(form, $"cp.async.cg.shared.global [%r3], [%pa], 16;\n{form.Text};\n" + Deliver, source => source);
            return;
        }
        foreach (var bytes in form.Has("cg") ? new[] { 16 } : [4, 8, 16])
        {
            var copies = string.Concat(Enumerable.Range(0, 16 / bytes).Select(i => FormattableString.Invariant($"{form.Text} [%r3+{i * bytes}], [%pa+{i * bytes}], {bytes};\n")));
            Run(form, copies + "cp.async.wait_all;\n" + Deliver, source => source);
        }
        // A shorter source is filled up with zeros: 0, 4, 8 or 12 bytes of it are read.
        Run(
            form, $"and.b32 %r8, %r0, 3;\nshl.b32 %r8, %r8, 2;\n{form.Text} [%r3], [%pa], 16, %r8;\ncp.async.wait_all;\n" + Deliver,
            source => source.Select((value, i) => i % 4 < (i / 4 & 3) ? value : 0));
    }

    private static string Address(Form form) => form.OneOf("shared", "shared::cta").Length > 0 ? "%r1" : "%g";

    /// <summary>64 threads store, arrive, wait for the phase and read what the thread 32 places on has stored.</summary>
    private static void Barrier(Form form)
    {
        var address = Address(form);
        string Or(string action, string otherwise) => form.Has(action) ? form.Text : otherwise;
        var wait = form.OneOf("test_wait", "try_wait");
        var token = wait.Length > 0 && !form.Has("parity");
        string expected = "64", bytes = "", arrive = "mbarrier.arrive.shared.b64 %d1, [%r1];\n";
        if (form.Has("expect_tx") && form.Has("arrive"))
            arrive = $"{form.Text} %d1, [{address}], 0;\n";
        else if (form.Has("expect_tx"))
            bytes = $"{form.Text} [{address}], 0;\n";
        else if (form.Has("noComplete"))
            (expected, arrive) = ("128", $"{form.Text} %d1, [{address}], 1;\nmbarrier.arrive.shared.b64 %d1, [%r1];\n");
        else if (form.Has("arrive"))
            arrive = $"{form.Text} %d1, [{address}];\n";
        var waiting = wait.Length > 0 ? $"{form.Text} %q3, [{address}], {(token ? "%d1" : "0")};\n" : "mbarrier.test_wait.parity.shared.b64 %q3, [%r1], 0;\n";
        Run(
            form, $"@%q1 {Or("init", "mbarrier.init.shared.b64")} [{(form.Has("init") ? address : "%r1")}], {expected};\nbar.sync 0;\nld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%pa];\nst.shared.v4.b32 [%r3], {{%r4, %r5, %r6, %r7}};\n{bytes}{arrive}"
            + $"WAIT:\n{waiting}@!%q3 bra WAIT;\nxor.b32 %r8, %r0, 32;\nmad.lo.s32 %r3, %r8, 16, %r2;\n" + Deliver,
            source => source.Skip(128).Concat(source.Take(128)));
        if (form.Has("arrive") && !form.Has("noComplete") && !form.Has("expect_tx"))
        {
            // Several arrivals at once.
            Run(
                form, $"@%q1 mbarrier.init.shared.b64 [%r1], 192;\nbar.sync 0;\n{form.Text} %d1, [{address}], 3;\nWAIT:\nmbarrier.try_wait.shared.b64 %q3, [%r1], %d1;\n@!%q3 bra WAIT;\n"
                + "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%pa];\nst.global.v4.b32 [%pb], {%r4, %r5, %r6, %r7};\n", source => source);
        }
        if (form.Has("expect_tx"))
        {
            // Bytes that never arrive keep the phase from ending.
            using var starved = Load(Setup + $"@%q1 mbarrier.init.shared.b64 [%r1], 64;\nbar.sync 0;\n{bytes.Replace("], 0", "], 16", StringComparison.Ordinal)}{arrive.Replace("], 0", "], 16", StringComparison.Ordinal)}"
                + "WAIT:\nmbarrier.try_wait.parity.shared.b64 %q3, [%r1], 0;\n@!%q3 bra WAIT;\n");
            Assert.Contains(starved.Findings("k", LaunchGeometry.Linear(1, 64), new LaunchArguments().Add(0UL).Add(0UL)), finding => finding.Kind == FindingKind.Deadlock);
        }
        if (form.Has("inval"))
        {
            // What was a barrier is memory again, and an arrival at it is found.
            using var gone = Load(Setup + $"@%q1 mbarrier.init.shared.b64 [%r1], 64;\nbar.sync 0;\n@%q1 {form.Text} [{address}];\nbar.sync 0;\nmbarrier.arrive.shared.b64 %d1, [%r1];\n");
            Assert.Contains(gone.Findings("k", LaunchGeometry.Linear(1, 64), new LaunchArguments().Add(0UL).Add(0UL)), finding => finding.Kind == FindingKind.Uninitialized);
        }
    }
}
