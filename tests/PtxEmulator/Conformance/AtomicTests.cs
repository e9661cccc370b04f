using System.Globalization;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator.Conformance;

/// <summary>Atomics of every width on one address, lane after lane, and the clocks.</summary>
public sealed class AtomicTests
{
    private static ulong[] Run(string body, params ulong[][] operands)
    {
        var text = ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb)\n{\n.reg .pred %q<4>;\n.reg .b16 %h<8>;\n.reg .b32 %r<16>;\n.reg .b64 %d<8>, %pa, %pb, %o;\n"
            + "mov.u32 %r0, %tid.x;\nld.param.u64 %pa, [pa];\nld.param.u64 %pb, [pb];\nmul.wide.u32 %o, %r0, 8;\nadd.s64 %pa, %pa, %o;\n" + body + "\nret;\n}\n";
        using var run = new KernelRun(Encoding.UTF8.GetBytes(text), "atomics.ptx", new EmulatorOptions { Workers = 1 });
        var a = run.Put(operands.SelectMany(column => column).Concat(new ulong[64]).Take(64).ToArray());
        var b = run.Put([operands.Length > 2 ? operands[2][0] : 0]);
        run.Launch("k", 1, 32, new LaunchArguments().Add(a).Add(b));
        return [.. run.Get<ulong>(a, 32), run.Get<ulong>(b, 1)[0]];
    }

    private static void Check(string operation, int bytes, ulong[] operands, ulong[] swaps, ulong start, Func<ulong, ulong, ulong, ulong> apply)
    {
        var bits = (8 * bytes).ToString(CultureInfo.InvariantCulture);
        var register = bytes switch { 2 => "%h", 8 => "%d", _ => "%r" };
        var third = operation.StartsWith("cas", StringComparison.Ordinal) ? $", {register}2" : "";
        var mask = ulong.MaxValue >> (64 - 8 * bytes);
        var actual = Run(
            $"ld.global.b{bits} {register}1, [%pa];\nld.global.b{bits} {register}2, [%pa+256];\natom.global.{operation} {register}3, [%pb], {register}1{third};\nst.global.b{bits} [%pa], {register}3;",
            operands, swaps, [start]);
        var value = start;
        for (var lane = 0; lane < 32; lane++)
        {
            Assert.True(value == (actual[lane] & mask), $"{operation}, lane {lane}: expected 0x{value:x}, got 0x{actual[lane] & mask:x}");
            value = apply(value, operands[lane] & mask, swaps[lane] & mask) & mask;
        }
        Assert.Equal(value, actual[32] & mask);
    }

    [Theory]
    [InlineData("b16", 2), InlineData("b32", 4), InlineData("b64", 8)]
    public void Compare_and_swap_succeeds_only_where_the_value_is_as_expected(string type, int bytes)
    {
        // Distinct in the uppermost byte too, so that a comparison of fewer bits is found out. Three lanes expect something else; the next one expects what they left.
        var mask = ulong.MaxValue >> (64 - 8 * bytes);
        ulong Value(int i) => 0x0101010101010101UL * (ulong)(i + 1) & mask;
        var expected = new ulong[32];
        var swaps = new ulong[32];
        var holds = 0;
        for (var lane = 0; lane < 32; lane++)
        {
            var fails = lane is 3 or 4 or 20;
            expected[lane] = fails ? Value(holds) ^ (1UL << (8 * bytes - 1)) : Value(holds);
            swaps[lane] = Value(lane + 40);
            holds = fails ? holds : lane + 40;
        }
        Check($"cas.{type}", bytes, expected, swaps, Value(0), (old, compare, swap) => old == compare ? swap : old);
        Assert.Equal(71, holds);
    }

    [Theory]
    [InlineData("and.b64"), InlineData("or.b64"), InlineData("xor.b64"), InlineData("exch.b64"), InlineData("min.u64"), InlineData("max.s64")]
    public void Wide_atomics(string operation)
    {
        var random = new Random(5);
        var operands = Enumerable.Range(0, 32).Select(_ => (ulong)random.NextInt64(long.MinValue, long.MaxValue)).ToArray();
        Check(operation, 8, operands, new ulong[32], 0x7FF0F0F0F0F0F0F0, (old, b, _) => operation switch
        {
            "and.b64" => old & b,
            "or.b64" => old | b,
            "xor.b64" => old ^ b,
            "min.u64" => Math.Min(old, b),
            "max.s64" => (ulong)Math.Max((long)old, (long)b),
            _ => b,
        });
    }

    [Theory]
    [InlineData("f16"), InlineData("bf16"), InlineData("f16x2"), InlineData("bf16x2")]
    public void Sums_of_sixteen_bit_floats_are_rounded_after_every_addition(string type)
    {
        var format = type.StartsWith('b') ? FloatFormat.Brain : FloatFormat.Half;
        var one = (ulong)format.Bias << format.FractionBits;
        var random = new Random(6);
        // Between 1 and 4, so that most sums are inexact.
        ulong Operand() => one + (ulong)random.Next(2 << format.FractionBits);
        ulong Sum(ulong a, ulong b) => ExactFloat.MultiplyAdd(a & 0xFFFF, one, b & 0xFFFF, format, "rn")!.Value;
        var packed = type.EndsWith("x2", StringComparison.Ordinal);
        var operands = Enumerable.Range(0, 32).Select(_ => packed ? Operand() | Operand() << 16 : Operand()).ToArray();
        Check($"add.noftz.{type}", packed ? 4 : 2, operands, new ulong[32], operands[31], (old, b, _) => packed ? Sum(old, b) | Sum(old >> 16, b >> 16) << 16 : Sum(old, b));
    }

    [Theory]
    [InlineData("%clock", "u32"), InlineData("%clock64", "u64"), InlineData("%globaltimer", "u64")]
    public void Clocks_do_not_run_backwards(string clock, string type)
    {
        var register = type == "u64" ? "%d" : "%r";
        var differences = Run(
            $"mov.{type} {register}1, {clock};\nmov.u32 %r4, 0;\nLOOP:\nadd.u32 %r4, %r4, 1;\nsetp.lt.u32 %q1, %r4, 100;\n@%q1 bra LOOP;\nmov.{type} {register}2, {clock};\n"
            + $"sub.{type} {register}3, {register}2, {register}1;\nst.global.{type} [%pa], {register}3;");
        // The cycle counters count a warp's instructions: the loop takes 300 of them. The timer tells nanoseconds of a coarse clock.
        foreach (var difference in differences.Take(32))
            Assert.InRange(difference, clock == "%globaltimer" ? 0UL : 300UL, clock == "%globaltimer" ? 60_000_000_000UL : 310UL);
    }
}
