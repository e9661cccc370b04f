using System.Globalization;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Matrix fragments against plain matrix products: where each element lies is written here from the PTX documentation's figures, apart from the emulator's own code.</summary>
public sealed class MatrixTests
{
    private const string Header = ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)\n{\n"
        + ".reg .b32 %a<4>, %b<2>, %c<4>, %d<4>, %i, %s;\n.reg .b64 %p, %o;\nmov.u32 %i, %tid.x;\n";

    public static TheoryData<string, string, string, string, int> Shapes => new()
    {
        // D and C, A, B, shape, k.
        { "f32", "f16", "f16", "m16n8k8", 8 },
        { "f32", "f16", "f16", "m16n8k16", 16 },
        { "f16", "f16", "f16", "m16n8k8", 8 },
        { "f16", "f16", "f16", "m16n8k16", 16 },
        { "f32", "bf16", "bf16", "m16n8k8", 8 },
        { "f32", "bf16", "bf16", "m16n8k16", 16 },
        { "f32", "tf32", "tf32", "m16n8k4", 4 },
        { "f32", "tf32", "tf32", "m16n8k8", 8 },
        { "s32", "s8", "s8", "m16n8k16", 16 },
        { "s32", "s8", "s8", "m16n8k32", 32 },
        { "s32", "u8", "s8", "m16n8k32", 32 },
        { "s32", "s8", "u8", "m16n8k32", 32 },
        { "s32", "u8", "u8", "m16n8k16", 16 },
    };

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

    private static (int Row, int Column) PlaceC(int lane, int e) => (lane / 4 + (e >= 2 ? 8 : 0), lane % 4 * 2 + e % 2);

    private static uint Encode(string type, double value) => type switch
    {
        "f16" => BitConverter.HalfToUInt16Bits((Half)value),
        "bf16" => BitConverter.SingleToUInt32Bits((float)value) >> 16,
        "f32" or "tf32" => BitConverter.SingleToUInt32Bits((float)value),
        "s32" => (uint)(int)value,
        _ => (byte)(int)value,
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Multiply_accumulate_equals_a_plain_product(string sum, string left, string right, string shape, int depth)
    {
        var random = new Random(depth);
        // Small integers, so that every product and sum is exact in every type and the comparison is too.
        double[,] a = new double[16, depth], b = new double[depth, 8], c = new double[16, 8];
        Fill(a, random, left[0] == 'u' ? 0 : -5, 6);
        Fill(b, random, right[0] == 'u' ? 0 : -5, 6);
        Fill(c, random, -9, 10);
        var perA = left is "tf32" ? 1 : left is "s8" or "u8" ? 4 : 2;
        var (elementsA, elementsB) = (16 * depth / 32, 8 * depth / 32);
        var perC = sum == "f16" ? 2 : 1;
        var (registersA, registersB, registersC) = (elementsA / perA, elementsB / perA, 4 / perC);
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
                fc[lane * registersC + e / perC] |= Encode(sum, c[row, column]) << (16 * (e % perC));
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
        text.Append(CultureInfo.InvariantCulture, $"mma.sync.aligned.{shape}.row.col.{sum}.{left}.{right}.{sum} {List("d", registersC)}, {List("a", registersA)}, {List("b", registersB)}, {List("c", registersC)};\n");
        text.Append(CultureInfo.InvariantCulture, $"ld.param.u64 %p, [pd];\nmul.wide.u32 %o, %i, {4 * registersC};\nadd.s64 %p, %p, %o;\n");
        for (var i = 0; i < registersC; i++)
            text.Append(CultureInfo.InvariantCulture, $"st.global.b32 [%p+{4 * i}], %d{i};\n");
        text.Append("ret;\n}\n");

        using var run = new KernelRun(Encoding.UTF8.GetBytes(text.ToString()), "mma");
        var result = run.Driver.Allocate(fc.Length * 4);
        run.Launch("k", 1, 32, new LaunchArguments().Add(run.Put(fa)).Add(run.Put(fb)).Add(run.Put(fc)).Add(result));
        var fd = run.Get<uint>(result, fc.Length);
        for (var lane = 0; lane < 32; lane++)
        {
            for (var e = 0; e < 4; e++)
            {
                var (row, column) = PlaceC(lane, e);
                var expected = c[row, column] + Enumerable.Range(0, depth).Sum(k => a[row, k] * b[k, column]);
                var bits = fd[lane * registersC + e / perC] >> (16 * (e % perC));
                Assert.Equal(Encode(sum, expected), perC == 2 ? bits & 0xFFFF : bits);
            }
        }
        Assert.Equal(2 * 16 * 8 * depth, run.Counters.TensorFlops);
    }

    [Fact]
    public void Products_of_real_numbers_agree_to_the_accumulators_precision()
    {
        // 0.1 is inexact in half precision; the sum of 16 products in binary32 errs by less than 16 units of 2^-24.
        var random = new Random(5);
        var h = Enumerable.Range(0, 32 * 6).Select(_ => (Half)(random.NextDouble() - 0.5)).Select(BitConverter.HalfToUInt16Bits).ToArray();
        var one = new uint[32 * 4];
        for (var i = 0; i < one.Length; i++)
            one[i] = (uint)h[i] | (uint)h[(i + 7) % h.Length] << 16;
        var text = Header + "ld.param.u64 %p, [pa];\nmul.wide.u32 %o, %i, 16;\nadd.s64 %p, %p, %o;\nld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%p];\n"
            + "mov.b32 %c0, 0;\nmma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, {%a0, %a2}, {%c0, %c0, %c0, %c0};\n"
            + "ld.param.u64 %p, [pd];\nadd.s64 %p, %p, %o;\nst.global.v4.b32 [%p], {%d0, %d1, %d2, %d3};\nret;\n}\n";
        using var run = new KernelRun(Encoding.UTF8.GetBytes(text), "mma");
        var result = run.Driver.Allocate(32 * 16);
        run.Launch("k", 1, 32, new LaunchArguments().Add(run.Put(one)).Add(0UL).Add(0UL).Add(result));
        var d = run.Get<float>(result, 128);
        double Value(int lane, int register, int half) => (double)BitConverter.UInt16BitsToHalf((ushort)(one[lane * 4 + register] >> (16 * half)));
        for (var lane = 0; lane < 32; lane++)
        {
            for (var e = 0; e < 4; e++)
            {
                var (row, column) = PlaceC(lane, e);
                var exact = 0.0;
                for (var k = 0; k < 16; k++)
                {
                    var inA = Value(row % 8 * 4 + k % 8 / 2, (row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0), k % 2);
                    var inB = Value(column * 4 + k % 8 / 2, k >= 8 ? 2 : 0, k % 2);
                    exact += inA * inB;
                }
                Assert.Equal(exact, d[lane * 4 + e], 16 * Math.Pow(2, -24));
            }
        }
    }

    [Theory]
    [InlineData(1, false), InlineData(2, false), InlineData(4, false), InlineData(1, true), InlineData(2, true), InlineData(4, true)]
    public void Matrices_go_to_and_from_shared_memory(int count, bool transposed)
    {
        var matrices = Enumerable.Range(0, count * 64).Select(i => (ushort)(i * 257 + 3)).ToArray();
        var trans = transposed ? ".trans" : "";
        var n = count.ToString(CultureInfo.InvariantCulture);
        var registers = "{" + string.Join(", ", Enumerable.Range(0, count).Select(i => $"%d{i}")) + "}";
        // Lanes 0 to 8 count - 1 fill a row each; ldmatrix hands out fragments, stmatrix of the same kind puts them back elsewhere.
        var text = Header + $".reg .pred %q;\n.shared .align 16 .b8 s[512], t[512];\nld.param.u64 %p, [pa];\nmul.wide.u32 %o, %i, 16;\nadd.s64 %p, %p, %o;\nmov.u32 %s, s;\nshl.b32 %i, %i, 4;\nadd.s32 %s, %s, %i;\n"
            + $"setp.lt.u32 %q, %i, {(count * 128).ToString(CultureInfo.InvariantCulture)};\n@%q ld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%p];\n@%q st.shared.v4.b32 [%s], {{%a0, %a1, %a2, %a3}};\nbar.warp.sync 0xffffffff;\n"
            + $"ldmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 {registers}, [%s];\nld.param.u64 %p, [pb];\nadd.s64 %p, %p, %o;\n"
            + string.Concat(Enumerable.Range(0, count).Select(i => $"st.global.b32 [%p+{(4 * i).ToString(CultureInfo.InvariantCulture)}], %d{i.ToString(CultureInfo.InvariantCulture)};\n"))
            + $"mov.u32 %s, t;\nadd.s32 %s, %s, %i;\nstmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 [%s], {registers};\nbar.warp.sync 0xffffffff;\n"
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

    [Fact]
    public void A_matrix_operation_that_not_all_lanes_execute_is_reported()
    {
        var text = Header + ".reg .pred %q;\nsetp.lt.u32 %q, %i, 16;\nmov.b32 %c0, 0;\n"
            + "@%q mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%d0, %d1, %d2, %d3}, {%c0, %c0}, {%c0}, {%c0, %c0, %c0, %c0};\nret;\n}\n";
        using var run = new KernelRun(Encoding.UTF8.GetBytes(text), "mma");
        var finding = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(0UL).Add(0UL).Add(0UL).Add(0UL)));
        Assert.Equal(FindingKind.Participation, finding.Kind);
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
