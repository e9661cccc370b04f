using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Runs one instruction on arrays of operands, in a kernel written around it, and compares with what C# computes.</summary>
internal static class PtxCase
{
    /// <summary>Edge values of integers of any width, then random ones.</summary>
    internal static readonly ulong[] IntegerEdges =
    [
        0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE,
        0x100000000, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xDEADBEEFCAFEBABE,
    ];

    internal static int Bytes(string type) => type switch
    {
        "pred" => 4,
        _ when type.Contains("x2", StringComparison.Ordinal) => 4,
        _ when type.Contains("64", StringComparison.Ordinal) => 8,
        _ when type.Contains("16", StringComparison.Ordinal) => 2,
        _ when type.EndsWith('8') => 1,
        _ => 4,
    };

    private static string Register(string type, string name) => type == "pred" ? $"%p{name}" : Bytes(type) switch { 8 => $"%d{name}", 2 => $"%h{name}", _ => $"%w{name}" };

    /// <summary>The text of a kernel that applies <paramref name="body"/>, where <c>d</c>, <c>a</c>, <c>b</c> and <c>c</c> in braces stand for the operands.</summary>
    internal static string Kernel(string body, string to, params string[] from) => Kernel("", body, to, from);

    private static string Kernel(string declarations, string body, string to, string[] from)
    {
        var text = new StringBuilder(".version 8.6\n.target sm_90\n.address_size 64\n").Append(declarations).Append(".visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3)\n{\n");
        text.Append(".reg .pred %pd, %pe, %pf;\n.reg .b16 %hd, %ha, %hb, %hc;\n.reg .b32 %wd, %wa, %wb, %wc, %t0, %t1, %t2, %s0, %s1;\n.reg .b64 %dd, %da, %db, %dc, %x, %o, %q0;\n");
        text.Append("mov.u32 %t0, %ctaid.x;\nmov.u32 %t1, %ntid.x;\nmov.u32 %t2, %tid.x;\nmad.lo.s32 %t0, %t0, %t1, %t2;\nmul.wide.u32 %o, %t0, 8;\n");
        for (var i = 0; i < from.Length; i++)
        {
            var name = "abc"[i].ToString();
            text.Append(CultureInfo.InvariantCulture, $"ld.param.u64 %x, [p{i + 1}];\nadd.s64 %x, %x, %o;\nld.global.b{8 * Bytes(from[i])} {Register(from[i], name)}, [%x];\n");
            body = body.Replace("{" + name + "}", Register(from[i], name), StringComparison.Ordinal);
        }
        text.Append(body.Replace("{d}", Register(to, "d"), StringComparison.Ordinal)).Append('\n');
        if (to == "pred")
            text.Append("selp.b32 %wd, 1, 0, %pd;\n");
        text.Append(CultureInfo.InvariantCulture, $"ld.param.u64 %x, [p0];\nadd.s64 %x, %x, %o;\nst.global.b{8 * Bytes(to)} [%x], {(to == "pred" ? "%wd" : Register(to, "d"))};\nret;\n}}\n");
        return text.ToString();
    }

    /// <summary>Checks an instruction on every combination of edge operands and on random ones.</summary>
    internal static void Check(string body, string to, string[] from, ulong[][] operands, Func<ulong, ulong, ulong, ulong> expected)
    {
        var count = operands[0].Length;
        var actual = Run(body, to, from, operands);
        for (var i = 0; i < count; i++)
        {
            var (a, b, c) = (operands[0][i], from.Length > 1 ? operands[1][i] : 0, from.Length > 2 ? operands[2][i] : 0);
            var want = expected(a, b, c) & Mask(to);
            Assert.True(
                want == actual[i],
                $"{body}: a = 0x{a:x}, b = 0x{b:x}, c = 0x{c:x}: expected 0x{want:x}, got 0x{actual[i]:x}");
        }
    }

    internal static ulong Mask(string type) => ulong.MaxValue >> (64 - 8 * Bytes(type));

    /// <summary>Runs a body on rows of operands; <paramref name="declarations"/> are functions and variables of the module.</summary>
    internal static ulong[] Run(string body, string to, string[] from, ulong[][] operands, string declarations = "")
    {
        using var run = new KernelRun(Encoding.UTF8.GetBytes(Kernel(declarations, body, to, from)), "conformance", new EmulatorOptions { Workers = 1 });
        var count = operands[0].Length;
        var arguments = new LaunchArguments();
        // The last block is partly empty: operations under a partial mask are checked along the way.
        var result = run.Put(new ulong[(count + 95) / 96 * 96]);
        arguments.Add(result);
        for (var i = 0; i < 3; i++)
        {
            var padded = new ulong[(count + 95) / 96 * 96];
            if (i < from.Length)
                operands[i].CopyTo(padded, 0);
            arguments.Add(run.Put(padded));
        }
        run.Launch("k", (count + 95) / 96, 96, arguments);
        var values = run.Get<ulong>(result, count);
        return [.. values.Select(v => v & Mask(to))];
    }

    /// <summary>Operand columns: all pairs (or for three operands many triples) of edges, and as many random values.</summary>
    internal static ulong[][] Operands(int operands, ulong[] edges, Func<Random, ulong> random, int seed = 1)
    {
        var generator = new Random(seed);
        var rows = new List<ulong[]>();
        if (operands == 1)
            rows.AddRange(edges.Select(e => new[] { e }));
        else if (operands == 2)
            rows.AddRange(edges.SelectMany(a => edges.Select(b => new[] { a, b })));
        else
            rows.AddRange(Enumerable.Range(0, 1500).Select(_ => Enumerable.Range(0, 3).Select(_ => edges[generator.Next(edges.Length)]).ToArray()));
        for (var i = 0; i < 400; i++)
            rows.Add([.. Enumerable.Range(0, operands).Select(_ => random(generator))]);
        return [.. Enumerable.Range(0, operands).Select(column => rows.Select(row => row[column]).ToArray())];
    }

    internal static ulong[][] Integers(int operands) => Operands(operands, IntegerEdges, random => (ulong)random.NextInt64(long.MinValue, long.MaxValue));
}
