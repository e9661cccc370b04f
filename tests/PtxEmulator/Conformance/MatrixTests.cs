using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Tests.PtxEmulator.Conformance.Forms;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Matrix products of real numbers, and the lanes that take part.</summary>
public sealed class MatrixTests
{
    [Fact]
    public void Products_of_real_numbers_agree_to_the_accumulators_precision()
    {
        // 0.1 is inexact in half precision; the sum of 16 products in binary32 errs by less than 16 units of 2^-24.
        var random = new Random(5);
        var h = Enumerable.Range(0, 32 * 6).Select(_ => (Half)(random.NextDouble() - 0.5)).Select(BitConverter.HalfToUInt16Bits).ToArray();
        var one = new uint[32 * 4];
        for (var i = 0; i < one.Length; i++)
            one[i] = (uint)h[i] | (uint)h[(i + 7) % h.Length] << 16;
        var text = MatrixForms.Header + "ld.param.u64 %p, [pa];\nmul.wide.u32 %o, %i, 16;\nadd.s64 %p, %p, %o;\nld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%p];\n"
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
                var (row, column) = MatrixForms.PlaceC(lane, e);
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

    [Fact]
    public void A_matrix_operation_that_not_all_lanes_execute_is_reported()
    {
        var text = MatrixForms.Header + ".reg .pred %q;\nsetp.lt.u32 %q, %i, 16;\nmov.b32 %c0, 0;\n"
            + "@%q mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%d0, %d1, %d2, %d3}, {%c0, %c0}, {%c0}, {%c0, %c0, %c0, %c0};\nret;\n}\n";
        using var run = new KernelRun(Encoding.UTF8.GetBytes(text), "mma");
        var finding = Assert.Single(run.Findings("k", LaunchGeometry.Linear(1, 32), new LaunchArguments().Add(0UL).Add(0UL).Add(0UL).Add(0UL)));
        Assert.Equal(FindingKind.Participation, finding.Kind);
    }
}
