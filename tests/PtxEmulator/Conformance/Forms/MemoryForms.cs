using System.Globalization;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Loads and stores of every space, width, order and cache operator; addresses; fences and cache hints.</summary>
internal static class MemoryForms
{
    private static readonly string[] Spaces = ["global", "shared", "shared::cta", "shared::cluster", "local", "const", "param", "param::entry", "param::func"];

    internal static Dictionary<string, Reference> All { get; } = new(
    [
        .. new[] { "ld", "ldu", "st" }.ToDictionary(name => name, _ => (Reference)Transfers),
        .. References.For(ConvertAddress, "cvta"), .. References.For(Windows, "isspacep"),
        .. References.For(WithoutEffect("{op};"), "membar", "fence"),
        .. References.For(WithoutEffect("{op} [%da];"), "prefetch", "prefetchu"), .. References.For(WithoutEffect("{op} [%da], 128;"), "discard", "applypriority"),
        .. References.For(WithoutEffect("{op} %q0, 0f3F800000;"), "createpolicy"),
    ]);

    private static string Space(Form form) => form.OneOf(Spaces);

    private static int Elements(Form form) => form.OneOf("v2", "v4", "v8") is { Length: 2 } vector ? vector[1] - '0' : 1;

    private static IEnumerable<Form> Transfers(IReadOnlyList<Form> forms) =>
        forms.GroupBy(form => (Space(form), Elements(form), form.Type)).SelectMany(group => Transfer([.. group]));

    private static string N(int value) => value.ToString(CultureInfo.InvariantCulture);

    /// <summary>32 threads move data of their own through each form and out again; every byte must arrive where it belongs.</summary>
    private static Form[] Transfer(Form[] forms)
    {
        var (first, elements) = (forms[0], Elements(forms[0]));
        var (space, bytes) = (Space(first), PtxCase.Bytes(first.Type));
        var (size, stores) = (elements * bytes, first.Name == "st");
        var all = size * forms.Length;
        var bits = N(8 * bytes);
        var prefix = bytes switch { 8 => "%d", 4 => "%r", _ => "%h" };
        var list = elements == 1 ? prefix + "0" : "{" + string.Join(", ", Enumerable.Range(0, elements).Select(e => prefix + N(e))) + "}";
        var plain = elements == 1 ? $"b{bits}" : $"v{N(elements)}.b{bits}";

        // A kernel's parameters are the same for every thread; everything else has the thread's number in it.
        var data = Enumerable.Range(0, 32 * all).Select(i => (byte)(i * 37 + i / 251 + 5)).ToArray();
        var uniform = space is "param" or "param::entry" && !stores;
        var text = new StringBuilder(".version 8.7\n.target sm_100\n.address_size 64\n");
        if (space == "const")
            text.Append(CultureInfo.InvariantCulture, $".const .align 32 .b8 c[{data.Length}] = {{{string.Join(", ", data)}}};\n");
        if (space == "param::func" || space == "param" && stores)
        {
            // Through a function that returns its argument.
            text.Append(".func (.param .align 32 .b8 result[32]) through(.param .align 32 .b8 argument[32])\n{\n.reg .b16 %h<8>;\n.reg .b32 %r<8>;\n.reg .b64 %d<4>;\n")
                .Append(CultureInfo.InvariantCulture, $"ld.param.{plain} {list}, [argument];\nst.param.{plain} [result], {list};\nret;\n}}\n");
        }
        text.Append(".visible .entry k(.param .align 32 .b8 pd[32], .param .u64 pi, .param .u64 po)\n{\n.reg .b16 %h<8>;\n.reg .b32 %r<8>, %t, %s;\n.reg .b64 %d<4>, %in, %out, %at, %o;\n")
            .Append(CultureInfo.InvariantCulture, $".shared .align 32 .b8 s[{data.Length}];\n.local .align 32 .b8 l[{all}];\n")
            .Append("mov.u32 %t, %tid.x;\nld.param.u64 %in, [pi];\nld.param.u64 %out, [po];\n")
            .Append(CultureInfo.InvariantCulture, $"mul.wide.u32 %o, %t, {all};\nadd.s64 %in, %in, %o;\nadd.s64 %out, %out, %o;\n");
        var (address, access) = space switch
        {
            "shared" or "shared::cta" or "shared::cluster" => ("%s", ".shared"),
            "local" => ("%at", ".local"),
            "const" => ("%at", ".const"),
            _ => (stores ? "%out" : "%in", ".global"),
        };
        text.Append(access switch
        {
            ".shared" => $"mov.u32 %s, s;\nmad.lo.s32 %s, %t, {N(all)}, %s;\n",
            ".local" => "mov.u64 %at, l;\n",
            ".const" => "mov.u64 %at, c;\nadd.s64 %at, %at, %o;\n",
            _ => "",
        });
        var staged = access is ".shared" or ".local";
        if (staged && !stores)
            Copy(text, "%in", ".global", address, access, all);
        for (var i = 0; i < forms.Length; i++)
        {
            var at = N(i * size);
            if (space == "param::func" || space == "param" && stores)
            {
                var (load, store) = stores ? ($"ld.param.{plain}", forms[i].Text) : (forms[i].Text, $"st.param.{plain}");
                text.Append(CultureInfo.InvariantCulture, $"ld.global.{plain} {list}, [%in+{at}];\n{{\n.param .align 32 .b8 q[32];\n.param .align 32 .b8 a[32];\n{store} [q], {list};\n")
                    .Append(CultureInfo.InvariantCulture, $"call.uni (a), through, (q);\n{load} {list}, [a];\n}}\nst.global.{plain} [%out+{at}], {list};\n");
            }
            else if (stores)
                text.Append(CultureInfo.InvariantCulture, $"ld.global.{plain} {list}, [%in+{at}];\n{forms[i].Text} [{address}+{at}], {list};\n");
            else
                text.Append(CultureInfo.InvariantCulture, $"{forms[i].Text} {list}, [{(uniform ? "pd" : $"{address}+{at}")}];\nst.global.{plain} [%out+{at}], {list};\n");
        }
        if (staged && stores)
            Copy(text, address, access, "%out", ".global", all);
        text.Append("ret;\n}\n");

        using var run = new KernelRun(Encoding.UTF8.GetBytes(text.ToString()), "memory.ptx", new EmulatorOptions { Workers = 1 });
        var result = run.Put(new byte[data.Length]);
        var arguments = new LaunchArguments();
        for (var i = 0; i < 4; i++)
            arguments.Add(BitConverter.ToUInt64(data.Concat(new byte[32]).ToArray(), 8 * i));
        run.Launch("k", 1, 32, arguments.Add(run.Put(data)).Add(result));
        var actual = run.Get<byte>(result, data.Length);
        for (var i = 0; i < actual.Length; i++)
        {
            var wanted = data.Concat(new byte[32]).ElementAt(uniform ? i % size : i);
            Assert.True(wanted == actual[i], $"{forms[i % all / size].Text}: thread {i / all}, byte {i % size}: expected {wanted}, got {actual[i]}");
            if (uniform && i >= all)
                break;
        }
        return forms;
    }

    private static void Copy(StringBuilder text, string from, string fromSpace, string to, string toSpace, int bytes)
    {
        var (step, register) = bytes % 4 == 0 ? (4, "%r7") : (1, "%h7");
        for (var at = 0; at < bytes; at += step)
            text.Append(CultureInfo.InvariantCulture, $"ld{fromSpace}.b{8 * step} {register}, [{from}+{at}];\nst{toSpace}.b{8 * step} [{to}+{at}], {register};\n");
    }

    /// <summary>Addresses go to generic ones and back: what is stored through one is read through the other.</summary>
    private static void ConvertAddress(Form form)
    {
        var space = form.OneOf(Spaces);
        var kind = space.Split("::")[0];
        var (declare, address) = kind switch
        {
            "shared" => (".shared .align 4 .b8 s[384]; mov.u32 %wc, %tid.x; mul.wide.u32 %q0, %wc, 4; mov.u64 %x, s; add.s64 %x, %x, %q0; ", "%x"),
            "local" => (".local .align 4 .b8 s[4]; mov.u64 %x, s; ", "%x"),
            "const" => ("", "numbers"),
            "param" => ("mov.b64 %x, p0; ", "%x"),
            // The output's own address.
            _ => ("ld.param.u64 %x, [p0]; add.s64 %x, %x, %o; ", "%x"),
        };
        var whole = kind is "const" or "param";
        if (whole)
        {
            // Read only: the generic address of the parameter that holds the output's address, or of a constant.
            var back = form.Has("to") ? $"cvta.{kind}.u64 %q0, {address}; {{op}} %q0, %q0; ld.{kind}.u64 {{d}}, [%q0];" : $"{{op}} %q0, {address}; ld.u64 {{d}}, [%q0];";
            var results = PtxCase.Run((declare + back).Replace("{op}", form.Text, StringComparison.Ordinal), "b64", ["b32"], [new ulong[96]], kind == "const" ? ".const .u64 numbers = 81985529216486895;\n" : "");
            Assert.All(results, value => Assert.True(kind == "const" ? value == 81985529216486895 : value == results[0] && value != 0, form.Text));
            return;
        }
        form.Check(
            declare + (form.Has("to")
                ? $"st.{kind}.b32 [%x], {{a}}; cvta.{kind}.u64 %q0, %x; {{op}} %q0, %q0; ld.{kind}.b32 {{d}}, [%q0]; not.b32 {{d}}, {{d}}; st.{kind}.b32 [%q0], {{d}}; ld.{kind}.b32 {{d}}, [%x];"
                : $"{{op}} %q0, %x; st.b32 [%q0], {{a}}; ld.{kind}.b32 {{d}}, [%x]; not.b32 {{d}}, {{d}};"),
            "b32", ["b32"], [[.. PtxCase.Integers(1)[0].Take(96)]], (a, _, _) => ~a);
    }

    private static void Windows(Form form)
    {
        var kind = form.OneOf(Spaces).Split("::")[0];
        // A generic address of each space: 1, 2 and 4 stand for those that are inside.
        form.Check(
            ".shared .align 4 .b8 s[4]; .local .align 4 .b8 l[4]; ld.param.u64 %x, [p0]; mov.b32 {d}, 0; {op} %pe, %x; @%pe or.b32 {d}, {d}, 1; "
            + "mov.u64 %x, s; cvta.shared.u64 %x, %x; {op} %pe, %x; @%pe or.b32 {d}, {d}, 2; mov.u64 %x, l; cvta.local.u64 %x, %x; {op} %pe, %x; @%pe or.b32 {d}, {d}, 4;",
            "b32", ["b32"], [new ulong[96]], (_, _, _) => kind switch { "global" => 1, "shared" => 2, _ => 4 });
    }

    /// <summary>Instructions that order or advise: a value stored before them is read after them unchanged.</summary>
    private static Action<Form> WithoutEffect(string instruction) => form => form.Check(
        $"ld.param.u64 %da, [p0]; add.s64 %da, %da, %o; st.global.b32 [%da], {{a}}; {instruction} ld.global.b32 {{d}}, [%da];",
        "b32", ["b32"], [[.. PtxCase.Integers(1)[0].Take(96)]], (a, _, _) => a);
}
