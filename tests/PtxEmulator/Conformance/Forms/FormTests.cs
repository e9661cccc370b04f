using Kernels.Emulation;
using Kernels.Emulation.Decoding;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>
/// Every instruction form that the decoder accepts is executed, on random and edge operands, and compared with what C# computes by other means. The forms come from the decoder's own list, so a
/// form without a reference fails here.
/// </summary>
public sealed class FormTests
{
    private static readonly ILookup<string, Form> Forms = InstructionForms.All.Select(text => new Form(text)).ToLookup(form => form.Name);

    public static TheoryData<string> Names => [.. Forms.Select(group => group.Key)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_form_agrees_with_its_reference(string name)
    {
        Assert.True(References.All.TryGetValue(name, out var reference), $"no reference for '{name}'");
        KernelRun.Launched = [];
        var passed = reference([.. Forms[name]]).Select(form => form.Text).ToHashSet();
        // Compared, and part of a kernel that the emulator has run.
        Assert.Superset(Forms[name].Select(form => form.Text).ToHashSet(), passed.Intersect(KernelRun.Launched).ToHashSet());
        KernelRun.Launched = null;
    }

    [Fact]
    public void Every_instruction_has_a_reference_and_every_reference_an_instruction() => Assert.Equal(Names.Select(row => row.Data).Order(), References.All.Keys.Order());

    [Theory]
    [InlineData("ld.global.nc.L1::evict_last.L2::cache_hint.L2::128B.b32 {d}, [%da], %q0;"), InlineData("ld.global.L1::no_allocate.L2::256B.b32 {d}, [%da];"), InlineData("ld.global.L1::evict_unchanged.L2::evict_last.L2::64B.b32 {d}, [%da];")]
    [InlineData("ld.global.L1::evict_first.L2::evict_first.b32 {d}, [%da];"), InlineData("ld.global.L1::evict_normal.L2::evict_normal.b32 {d}, [%da];"), InlineData("prefetch.global.L2::evict_last [%da]; ld.global.b32 {d}, [%da];")]
    [InlineData("createpolicy.fractional.L2::evict_first.L2::evict_unchanged.b64 %q0, 0f3F800000; ld.global.L2::cache_hint.b32 {d}, [%da], %q0;"), InlineData("applypriority.global.L2::evict_normal [%da], 128; ld.global.b32 {d}, [%da];")]
    public void Advice_to_the_caches_changes_nothing(string body) => PtxCase.Check(
        "mov.b64 %q0, 0; ld.param.u64 %da, [p0]; add.s64 %da, %da, %o; st.global.L1::no_allocate.b32 [%da], {a}; " + body, "b32", ["b32"], [[.. PtxCase.Integers(1)[0].Take(96)]], (a, _, _) => a);

    [Theory]
    [InlineData("add.sat.u32 {d}, {a}, {a};"), InlineData("add.rna.f32 {d}, {a}, {a};"), InlineData("add.rn.s32 {d}, {a}, {a};"), InlineData("shl.u32 {d}, {a}, {a};")]
    [InlineData("setp.lt.b32 %pd, {a}, {a};"), InlineData("setp.num.s32 %pd, {a}, {a};"), InlineData("mul.lo.f32 {d}, {a}, {a};"), InlineData("sin.f32 {d}, {a};"), InlineData("bar.sync.b32 0;")]
    [InlineData("ld.global.L1::no_such_hint.b32 {d}, [%da];"), InlineData("st.acquire.gpu.global.b32 [%da], {a};"), InlineData("vadd4.u32.u32.u32 {d}, {a}, {a}, {a};"), InlineData("mul {d}, {a}, {a};")]
    [InlineData("mma.sync.aligned.m16n8k8.col.row.f32.f16.f16.f32 {{d}, {d}, {d}, {d}}, {{a}, {a}}, {{a}}, {{d}, {d}, {d}, {d}};"), InlineData("cp.async.cg.shared.global [%s0], [%da], 8;")]
    public void A_form_that_PTX_does_not_have_is_refused_with_its_line(string body)
    {
        var error = Assert.Throws<PtxException>(() => new KernelRun(System.Text.Encoding.UTF8.GetBytes(PtxCase.Kernel(body, "b32", "b32")), "refused.ptx"));
        Assert.Contains(body.Split(' ')[0], error.Message, StringComparison.Ordinal);
        Assert.Matches("refused.ptx: line [0-9]+ of the PTX", error.Message);
    }
}
