using Kernels.Emulation.Decoding;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>An instruction form of the decoder's list, taken apart.</summary>
internal sealed class Form
{
    internal Form(string text)
    {
        Text = text;
        var parts = text.Split('.');
        Name = parts[0];
        Modifiers = [.. parts.Skip(1).Where(part => !Opcode.IsType(part))];
        Types = [.. parts.Skip(1).Where(Opcode.IsType)];
    }

    internal string Text { get; }

    internal string Name { get; }

    internal string[] Modifiers { get; }

    /// <summary>Types as written: the result's first.</summary>
    internal string[] Types { get; }

    internal string Type => Types.Length > 0 ? Types[^1] : "";

    internal int Bits => 8 * PtxCase.Bytes(Type);

    internal bool Has(string modifier) => Modifiers.Contains(modifier);

    /// <summary>The one of these modifiers that the form has, or nothing.</summary>
    internal string OneOf(params string[] alternatives) => alternatives.FirstOrDefault(Has, "");

    /// <summary>The rounding that the form asks for; to nearest even where it says nothing.</summary>
    internal string Rounding => OneOf("rn", "rz", "rm", "rp", "rna") is { Length: > 0 } mode ? mode : "rn";

    /// <summary>
    /// Runs the form in place of <c>{op}</c> on all operands and compares; <paramref name="expected"/> takes a, b and c.
    /// </summary>
    internal void Check(string body, string to, string[] from, ulong[][] operands, Func<ulong, ulong, ulong, ulong> expected) =>
        Compare(body, to, from, operands, (a, b, c, actual) => (expected(a, b, c) & PtxCase.Mask(to)) is var want && want == actual ? null : $"0x{want:x}");

    /// <summary>Runs the form and judges each result: the judge says what was expected, or null where the result is right.</summary>
    internal void Compare(string body, string to, string[] from, ulong[][] operands, Func<ulong, ulong, ulong, ulong, string?> judge)
    {
        Assert.Contains("{op}", body, StringComparison.Ordinal);
        var actual = PtxCase.Run(body.Replace("{op}", Text, StringComparison.Ordinal), to, from, operands);
        for (var i = 0; i < actual.Length; i++)
        {
            ulong Operand(int column) => column < from.Length ? operands[column][i] & PtxCase.Mask(from[column]) : 0;
            if (judge(Operand(0), Operand(1), Operand(2), actual[i]) is { } wanted)
                Assert.Fail($"{Text}: a = 0x{Operand(0):x}, b = 0x{Operand(1):x}, c = 0x{Operand(2):x}: expected {wanted}, got 0x{actual[i]:x}");
        }
    }

    public override string ToString() => Text;
}

/// <summary>Runs the forms of one instruction and compares their results; yields the forms that passed, in any order.</summary>
internal delegate IEnumerable<Form> Reference(IReadOnlyList<Form> forms);

/// <summary>The references by instruction name.</summary>
internal static class References
{
    internal static Dictionary<string, Reference> All { get; } = new[]
    {
        IntegerForms.All, FloatForms.All, ComparisonForms.All, ConversionForms.All, MemoryForms.All, AtomicForms.All, WarpForms.All, BarrierForms.All, MatrixForms.All, AsyncForms.All,
        ControlForms.All,
    }.SelectMany(group => group).ToDictionary();

    /// <summary>A reference for instructions whose forms are checked one by one.</summary>
    internal static Reference Each(Action<Form> check) => forms => forms.Select(form =>
    {
        check(form);
        return form;
    });

    /// <summary>The same reference for several instructions.</summary>
    internal static Dictionary<string, Reference> For(Action<Form> check, params string[] names) => names.ToDictionary(name => name, _ => Each(check));
}
