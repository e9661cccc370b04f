using System.Globalization;
using System.Text;
using Kernels.Backends.Gpu;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance.Forms;

/// <summary>Matrix fragments against plain matrix products: where each element lies is written here from the figures of PTX's documentation, apart from the emulator's own code.</summary>
internal static class MatrixForms
{
    internal static Dictionary<string, Reference> All { get; } = new([.. References.For(Multiply, "mma"), .. References.For(Transfer, "ldmatrix", "stmatrix")]);

    internal const string Header = ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)\n{\n"
        + ".reg .b32 %a<4>, %b<2>, %c<4>, %d<4>, %i, %s;\n.reg .b64 %p, %o;\nmov.u32 %i, %tid.x;\n";

    /// <summary>Row and column of element <paramref name="e"/> of a lane's A fragment.</summary>
    private static (int Row, int K) PlaceA(string type, int lane, int e) => type switch
    {
        "tf32" => (lane / 4 + (e % 2 == 1 ? 8 : 0), lane % 4 + (e >= 2 ? 4 : 0)),
        "s8" or "u8" => (lane / 4 + (e / 4 % 2 == 1 ? 8 : 0), lane % 4 * 4 + e % 4 + (e >= 8 ? 16 : 0)),
        _ => (lane / 4 + (e / 2 % 2 == 1 ? 8 : 0), lane % 4 * 2 + e % 2 + (e >= 4 ? 8 : 0)),
    };

    private static (int K, int Column) PlaceB(string type, int lane, int e) => type switch
    {
        "tf32" => (lane % 4 + 4 * e, lane / 4),
        "s8" or "u8" => (lane % 4 * 4 + e % 4 + (e >= 4 ? 16 : 0), lane / 4),
        _ => (lane % 4 * 2 + e % 2 + (e >= 2 ? 8 : 0), lane / 4),
    };

    internal static (int Row, int Column) PlaceC(int lane, int e) => (lane / 4 + (e >= 2 ? 8 : 0), lane % 4 * 2 + e % 2);

    private static uint Encode(string type, double value) => type switch
    {
        "f16" => BitConverter.HalfToUInt16Bits((Half)value),
        "bf16" => BitConverter.SingleToUInt32Bits((float)value) >> 16,
        "f32" or "tf32" => BitConverter.SingleToUInt32Bits((float)value),
        "s32" => (uint)(long)value,
        _ => (byte)(int)value,
    };

    private static void Multiply(Form form)
    {
        // D, A, B, C.
        var (sum, left, right, addend) = (form.Types[0], form.Types[1], form.Types[2], form.Types[3]);
        var shape = form.Modifiers.Single(modifier => modifier.StartsWith("m16n8k", StringComparison.Ordinal));
        var depth = int.Parse(shape.AsSpan(6), CultureInfo.InvariantCulture);
        var random = new Random(depth);
        // Small integers, so that every product and sum is exact in every type and the comparison is too.
        double[,] a = new double[16, depth], b = new double[depth, 8], c = new double[16, 8];
        Fill(a, random, left[0] == 'u' ? 0 : -5, 6);
        Fill(b, random, right[0] == 'u' ? 0 : -5, 6);
        Fill(c, random, -9, 10);
        if (sum == "s32")
        {
            // Sums beyond 32 bits wrap, or stay at the end of the range.
            for (var column = 0; column < 8; column++)
                (c[2, column], c[11, column]) = (int.MaxValue - column, int.MinValue + column);
        }
        var perA = left is "tf32" ? 1 : left is "s8" or "u8" ? 4 : 2;
        var (elementsA, elementsB) = (16 * depth / 32, 8 * depth / 32);
        var (perC, perD) = (addend == "f16" ? 2 : 1, sum == "f16" ? 2 : 1);
        var (registersA, registersB, registersC, registersD) = (elementsA / perA, elementsB / perA, 4 / perC, 4 / perD);
        var (fa, fb, fc) = (new uint[32 * registersA], new uint[32 * registersB], new uint[32 * registersC]);
        for (var lane = 0; lane < 32; lane++)
        {
            for (var e = 0; e < elementsA; e++)
            {
                var (row, k) = PlaceA(left, lane, e);
                fa[lane * registersA + e / perA] |= Encode(left, a[row, k]) << (32 / perA * (e % perA) % 32);
            }
            for (var e = 0; e < elementsB; e++)
            {
                var (k, column) = PlaceB(right, lane, e);
                fb[lane * registersB + e / perA] |= Encode(right, b[k, column]) << (32 / perA * (e % perA) % 32);
            }
            for (var e = 0; e < 4; e++)
            {
                var (row, column) = PlaceC(lane, e);
                fc[lane * registersC + e / perC] |= Encode(addend, c[row, column]) << (16 * (e % perC));
            }
        }

        var text = new StringBuilder(Header);
        foreach (var (name, count) in new[] { ("a", registersA), ("b", registersB), ("c", registersC) })
        {
            text.Append(CultureInfo.InvariantCulture, $"ld.param.u64 %p, [p{name}];\nmul.wide.u32 %o, %i, {4 * count};\nadd.s64 %p, %p, %o;\n");
            for (var i = 0; i < count; i++)
                text.Append(CultureInfo.InvariantCulture, $"ld.global.b32 %{name}{i}, [%p+{4 * i}];\n");
        }
        string List(string name, int count) => "{" + string.Join(", ", Enumerable.Range(0, count).Select(i => $"%{name}{i.ToString(CultureInfo.InvariantCulture)}")) + "}";
        text.Append(CultureInfo.InvariantCulture, $"{form.Text} {List("d", registersD)}, {List("a", registersA)}, {List("b", registersB)}, {List("c", registersC)};\n");
        text.Append(CultureInfo.InvariantCulture, $"ld.param.u64 %p, [pd];\nmul.wide.u32 %o, %i, {4 * registersD};\nadd.s64 %p, %p, %o;\n");
        for (var i = 0; i < registersD; i++)
            text.Append(CultureInfo.InvariantCulture, $"st.global.b32 [%p+{4 * i}], %d{i};\n");
        text.Append("ret;\n}\n");

        using var run = new KernelRun(Encoding.UTF8.GetBytes(text.ToString()), "mma");
        var result = run.Driver.Allocate(32 * registersD * 4);
        run.Launch("k", 1, 32, new LaunchArguments().Add(run.Put(fa)).Add(run.Put(fb)).Add(run.Put(fc)).Add(result));
        var fd = run.Get<uint>(result, 32 * registersD);
        for (var lane = 0; lane < 32; lane++)
        {
            for (var e = 0; e < 4; e++)
            {
                var (row, column) = PlaceC(lane, e);
                var expected = c[row, column] + Enumerable.Range(0, depth).Sum(k => a[row, k] * b[k, column]);
                if (form.Has("satfinite"))
                    expected = Math.Clamp(expected, int.MinValue, int.MaxValue);
                var bits = fd[lane * registersD + e / perD] >> (16 * (e % perD));
                Assert.True(Encode(sum, expected) == (perD == 2 ? bits & 0xFFFF : bits), $"{form.Text}: row {row}, column {column}: expected {expected}, got 0x{bits:x}");
            }
        }
        Assert.Equal(2 * 16 * 8 * depth, run.Counters.TensorFlops);
    }

    /// <summary>ldmatrix hands out fragments, and stmatrix of the same kind puts them back elsewhere: either is the form, and both are checked.</summary>
    private static void Transfer(Form form)
    {
        var (count, transposed) = (form.OneOf("x1", "x2", "x4")[1] - '0', form.Has("trans"));
        string Text(string name) => name + form.Text[form.Text.IndexOf('.', StringComparison.Ordinal)..];
        var matrices = Enumerable.Range(0, count * 64).Select(i => (ushort)(i * 257 + 3)).ToArray();
        var registers = "{" + string.Join(", ", Enumerable.Range(0, count).Select(i => $"%d{i}")) + "}";
        // Lanes 0 to 8 count - 1 fill a row each. Forms without a space take generic addresses.
        var (address, generic) = form.OneOf("shared", "shared::cta").Length > 0 ? ("%s", "") : ("%g", "cvt.u64.u32 %g, %s;\ncvta.shared.u64 %g, %g;\n");
        var text = Header + $".reg .pred %q;\n.reg .b64 %g;\n.shared .align 16 .b8 s[512], t[512];\nld.param.u64 %p, [pa];\nmul.wide.u32 %o, %i, 16;\nadd.s64 %p, %p, %o;\nmov.u32 %s, s;\nshl.b32 %i, %i, 4;\nadd.s32 %s, %s, %i;\n"
            + $"setp.lt.u32 %q, %i, {(count * 128).ToString(CultureInfo.InvariantCulture)};\n@%q ld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%p];\n@%q st.shared.v4.b32 [%s], {{%a0, %a1, %a2, %a3}};\nbar.warp.sync 0xffffffff;\n"
            + $"{generic}{Text("ldmatrix")} {registers}, [{address}];\nld.param.u64 %p, [pb];\nadd.s64 %p, %p, %o;\n"
            + string.Concat(Enumerable.Range(0, count).Select(i => $"st.global.b32 [%p+{(4 * i).ToString(CultureInfo.InvariantCulture)}], %d{i.ToString(CultureInfo.InvariantCulture)};\n"))
            + $"mov.u32 %s, t;\nadd.s32 %s, %s, %i;\n{generic}{Text("stmatrix")} [{address}], {registers};\nbar.warp.sync 0xffffffff;\n"
            + "@%q ld.shared.v4.b32 {%a0, %a1, %a2, %a3}, [%s];\nld.param.u64 %p, [pc];\nadd.s64 %p, %p, %o;\n@%q st.global.v4.b32 [%p], {%a0, %a1, %a2, %a3};\nret;\n}\n";
        using var run = new KernelRun(Encoding.UTF8.GetBytes(text), "ldmatrix");
        var (fragments, back) = (run.Put(new uint[128]), run.Put(new ushort[count * 64]));
        run.Launch("k", 1, 32, new LaunchArguments().Add(run.Put(matrices)).Add(fragments).Add(back).Add(0UL));
        var loaded = run.Get<uint>(fragments, 128);
        for (var lane = 0; lane < 32; lane++)
        {
            for (var m = 0; m < count; m++)
            {
                int row = lane / 4, column = lane % 4 * 2;
                var (first, second) = transposed
                    ? (matrices[m * 64 + column * 8 + row], matrices[m * 64 + (column + 1) * 8 + row])
                    : (matrices[m * 64 + row * 8 + column], matrices[m * 64 + row * 8 + column + 1]);
                Assert.Equal(first | (uint)second << 16, loaded[lane * 4 + m]);
            }
        }
        Assert.Equal(matrices, run.Get<ushort>(back, matrices.Length));
    }

    private static void Fill(double[,] matrix, Random random, int low, int high)
    {
        for (var i = 0; i < matrix.GetLength(0); i++)
        {
            for (var j = 0; j < matrix.GetLength(1); j++)
                matrix[i, j] = random.Next(low, high);
        }
    }
}
