using System.Globalization;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Atomics: 32 lanes on one address, one after the other; every order and scope has an address of its own.</summary>
internal static class AtomicForms
{
    private const int Stride = 16;

    internal static Dictionary<string, Reference> All { get; } = new() { ["atom"] = Check, ["red"] = Check };

    private static string Space(Form form) => form.OneOf("global", "shared", "shared::cta", "shared::cluster");

    private static string Operation(Form form) => form.OneOf("add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas");

    private static int Elements(Form form) => form.OneOf("v2", "v4", "v8") is { Length: 2 } vector ? vector[1] - '0' : 1;

    private static IEnumerable<Form> Check(IReadOnlyList<Form> forms) =>
        forms.GroupBy(form => (Space(form), Operation(form), form.Type, Elements(form))).SelectMany(group => CheckGroup([.. group]));

    private static Form[] CheckGroup(Form[] forms)
    {
        var (first, elements) = (forms[0], Elements(forms[0]));
        var bytes = PtxCase.Bytes(first.Type);
        var bits = (8 * bytes).ToString(CultureInfo.InvariantCulture);
        var register = bytes switch { 8 => "%d", 4 => "%r", _ => "%h" };
        var (swaps, returns) = (Operation(first) == "cas", first.Name == "atom");
        string N(int value) => value.ToString(CultureInfo.InvariantCulture);
        var shared = Space(first).StartsWith("shared", StringComparison.Ordinal);
        var address = shared ? "%s" : "%pm";
        var text = new StringBuilder(".version 8.6\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pm, .param .u64 po)\n{\n")
            .Append(".reg .pred %q;\n.reg .b16 %h<16>;\n.reg .b32 %r<16>, %s, %t;\n.reg .b64 %d<16>, %pa, %pm, %po, %o;\n")
            .Append(CultureInfo.InvariantCulture, $".shared .align 16 .b8 s[{forms.Length * Stride}];\n")
            .Append("mov.u32 %t, %tid.x;\nmov.u32 %s, s;\nsetp.eq.u32 %q, %t, 0;\nld.param.u64 %pa, [pa];\nld.param.u64 %pm, [pm];\nld.param.u64 %po, [po];\n")
            .Append(CultureInfo.InvariantCulture, $"mul.wide.u32 %o, %t, {8 * (elements + 1)};\nadd.s64 %pa, %pa, %o;\nmul.wide.u32 %o, %t, 8;\nadd.s64 %po, %po, %o;\n");
        for (var e = 0; e <= elements; e++)
            text.Append(CultureInfo.InvariantCulture, $"ld.global.b{bits} {register}{e}, [%pa+{8 * e}];\n");
        if (shared)
        {
            for (var i = 0; i < forms.Length * Stride; i += 8)
                text.Append(CultureInfo.InvariantCulture, $"@%q ld.global.b64 %o, [%pm+{i}];\n@%q st.shared.b64 [%s+{i}], %o;\n");
        }
        text.Append("bar.sync 0;\n");
        var list = elements == 1 ? register + "0" : "{" + string.Join(", ", Enumerable.Range(0, elements).Select(e => register + N(e))) + "}";
        for (var i = 0; i < forms.Length; i++)
        {
            text.Append(CultureInfo.InvariantCulture, $"{forms[i].Text} {(returns ? $"{register}15, " : "")}[{address}+{i * Stride}], {list}{(swaps ? $", {register}1" : "")};\n");
            if (returns)
                text.Append(CultureInfo.InvariantCulture, $"st.global.b{bits} [%po+{256 * i}], {register}15;\n");
        }
        text.Append("bar.sync 0;\n");
        if (shared)
        {
            for (var i = 0; i < forms.Length * Stride; i += 8)
                text.Append(CultureInfo.InvariantCulture, $"@%q ld.shared.b64 %o, [%s+{i}];\n@%q st.global.b64 [%pm+{i}], %o;\n");
        }
        text.Append("ret;\n}\n");

        var mask = PtxCase.Mask(first.Type);
        var random = new Random(11);
        var start = Enumerable.Range(0, elements).Select(_ => Operand(first, random) & mask).ToArray();
        // Per lane the elements, then what is swapped in; most comparisons of a compare-and-swap succeed.
        var operands = new ulong[32 * (elements + 1)];
        var expected = (ulong[])start.Clone();
        var olds = new ulong[32];
        for (var lane = 0; lane < 32; lane++)
        {
            var mine = operands.AsSpan(lane * (elements + 1), elements + 1);
            for (var e = 0; e < elements; e++)
                mine[e] = swaps && random.Next(4) > 0 ? expected[e] : Operand(first, random) & mask;
            mine[elements] = Operand(first, random) & mask;
            olds[lane] = expected[0];
            for (var e = 0; e < elements; e++)
                expected[e] = Apply(first, expected[e], mine[e], mine[elements]) & mask;
        }

        using var run = new KernelRun(Encoding.UTF8.GetBytes(text.ToString()), "atomics.ptx", new EmulatorOptions { Workers = 1 });
        var memory = new byte[forms.Length * Stride];
        for (var i = 0; i < forms.Length; i++)
        {
            for (var e = 0; e < elements; e++)
                BitConverter.GetBytes(start[e]).AsSpan(0, bytes).CopyTo(memory.AsSpan(i * Stride + e * bytes));
        }
        var (target, output) = (run.Put(memory), run.Put(new ulong[32 * forms.Length]));
        run.Launch("k", 1, 32, new LaunchArguments().Add(run.Put(operands)).Add(target).Add(output));
        var (final, returned) = (run.Get<byte>(target, memory.Length), run.Get<ulong>(output, 32 * forms.Length));
        for (var i = 0; i < forms.Length; i++)
        {
            for (var e = 0; e < elements; e++)
            {
                var actual = (bytes switch { 8 => BitConverter.ToUInt64(final, i * Stride), 4 => BitConverter.ToUInt32(final, i * Stride + 4 * e), _ => BitConverter.ToUInt16(final, i * Stride + 2 * e) });
                Assert.True(expected[e] == actual, $"{forms[i].Text}: element {e}: expected 0x{expected[e]:x}, got 0x{actual:x}");
            }
            for (var lane = 0; returns && lane < 32; lane++)
                Assert.True(olds[lane] == (returned[32 * i + lane] & mask), $"{forms[i].Text}: lane {lane}: expected 0x{olds[lane]:x}, got 0x{returned[32 * i + lane]:x}");
        }
        return forms;
    }

    /// <summary>Any integer, small ones for the counters; floats between 1 and 4, so that most sums are inexact, of either sign.</summary>
    private static ulong Operand(Form form, Random random)
    {
        if (Operation(form) is "inc" or "dec")
            return (ulong)random.Next(3, 9);
        if (!FloatForms.IsFloat(form))
            return (ulong)random.NextInt64(long.MinValue, long.MaxValue);
        var format = FloatForms.Format(form.Type);
        ulong One() => FloatForms.One(format) + (ulong)random.NextInt64(2L << format.FractionBits) | (random.Next(2) == 0 ? format.SignBit : 0);
        return form.Type.EndsWith("x2", StringComparison.Ordinal) ? One() | One() << 16 : One();
    }

    private static ulong Apply(Form form, ulong old, ulong b, ulong c)
    {
        ulong Add(ulong x, ulong y)
        {
            var format = FloatForms.Format(form.Type);
            return ExactFloat.MultiplyAdd(x, FloatForms.One(format), y, format, "rn")!.Value;
        }

        bool Less(ulong x, ulong y) => IntegerForms.Value(x, form.Type) < IntegerForms.Value(y, form.Type);
        return Operation(form) switch
        {
            "add" when form.Type.EndsWith("x2", StringComparison.Ordinal) => Add(old & 0xFFFF, b & 0xFFFF) | Add(old >> 16, b >> 16) << 16,
            "add" when FloatForms.IsFloat(form) => Add(old, b),
            "add" => old + b,
            "min" => Less(b, old) ? b : old,
            "max" => Less(old, b) ? b : old,
            "inc" => old >= b ? 0 : old + 1,
            "dec" => old == 0 || old > b ? b : old - 1,
            "and" => old & b,
            "or" => old | b,
            "xor" => old ^ b,
            "cas" => old == b ? c : old,
            _ => b,
        };
    }
}
