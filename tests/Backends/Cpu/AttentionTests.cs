using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

public sealed unsafe class AttentionTests
{
    private const double Tolerance = 2e-6;

    public static TheoryData<int, int, int, int, bool, int> ShapesAndWidths()
    {
        var data = new TheoryData<int, int, int, int, bool, int>();
        (int N, int Tokens, int Heads, int Size)[] shapes =
            [(1, 256, 3, 64), (2, 64, 4, 64), (1, 300, 1, 16), (1, 1, 1, 8), (3, 5, 2, 17), (1, 33, 3, 128), (2, 17, 1, 1), (1, 65, 2, 33)];
        foreach ((int n, int tokens, int heads, int size) in shapes)
        {
            foreach (bool newOrder in new[] { false, true })
            {
                foreach (int bits in KernelTest.Widths)
                {
                    data.Add(n, tokens, heads, size, newOrder, bits);
                }
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(ShapesAndWidths))]
    public void Forward_and_backward_equal_float64(int n, int tokens, int heads, int size, bool newOrder, int bits)
    {
        var shape = new AttentionShape(n, tokens, heads, size, newOrder);
        using GuardedArray qkv = GuardedArray.Random(n * tokens * 3 * shape.C, 1, scale: 1.5), dOutput = GuardedArray.Random(n * tokens * shape.C, 2);
        using GuardedArray output = new(n * tokens * shape.C), logSumExp = new(n * heads * tokens), dqkv = new(qkv.Length);
        (double[] expected, double[] expectedLogSumExp) = Reference.Attention(qkv.ToDoubles(), n, tokens, heads, size, newOrder);
        KernelTest.Run(bits, 2, scratch => Attention.Forward(shape, qkv, output, logSumExp, scratch));
        KernelTest.Matches(expected, output, Tolerance, $"{shape} output");
        KernelTest.Matches(expectedLogSumExp, logSumExp, Tolerance, $"{shape} log-sum-exp");

        using var again = new GuardedArray(output.Length);
        KernelTest.Run(bits, 1, scratch => Attention.Forward(shape, qkv, again, null, scratch));
        Assert.True(again.Span.SequenceEqual(output.Span));

        double[] gradient = Reference.AttentionBackward(qkv.ToDoubles(), dOutput.ToDoubles(), n, tokens, heads, size, newOrder);
        KernelTest.Run(bits, 2, scratch => Attention.Backward(shape, qkv, output, logSumExp, dOutput, dqkv, scratch));
        KernelTest.Matches(gradient, dqkv, Tolerance, $"{shape} gradient");
    }

    [Fact]
    public void Scores_far_apart_neither_overflow_nor_vanish()
    {
        var shape = new AttentionShape(1, 40, 1, 16, NewOrder: false);
        using GuardedArray qkv = GuardedArray.Random(40 * 48, 1, scale: 30), output = new(40 * 16), logSumExp = new(40);
        (double[] expected, double[] expectedLogSumExp) = Reference.Attention(qkv.ToDoubles(), 1, 40, 1, 16, false);
        KernelTest.Run(Simd.Widest, 1, scratch => Attention.Forward(shape, qkv, output, logSumExp, scratch));

        // Scores of some thousands are known to a few 1e-4 in float32, and so are their exponentials.
        KernelTest.Matches(expected, output, 1e-3, "output");
        KernelTest.Matches(expectedLogSumExp, logSumExp, Tolerance, "log-sum-exp");
    }

    [Fact]
    public void An_image_depends_neither_on_its_batch_nor_on_the_number_of_workers()
    {
        AttentionShape one = new(1, 150, 2, 40, NewOrder: true), four = one with { N = 4 };
        int tokens = 150 * one.C;
        using GuardedArray qkv = GuardedArray.Random(4 * 3 * tokens, 1), dOutput = GuardedArray.Random(4 * tokens, 2);
        using GuardedArray output4 = new(4 * tokens), logSumExp4 = new(4 * 300), dqkv4 = new(qkv.Length);
        using GuardedArray output1 = new(4 * tokens), logSumExp1 = new(4 * 300), dqkv1 = new(qkv.Length);
        KernelTest.Run(Simd.Widest, 2, scratch => Attention.Forward(four, qkv, output4, logSumExp4, scratch));
        KernelTest.Run(Simd.Widest, 2, scratch => Attention.Backward(four, qkv, output4, logSumExp4, dOutput, dqkv4, scratch));
        for (int image = 0; image < 4; image++)
        {
            float* q = (float*)qkv + (image * 3 * tokens);
            float* output = (float*)output1 + (image * tokens);
            float* logSumExp = (float*)logSumExp1 + (image * 300);
            float* gradient = (float*)dOutput + (image * tokens);
            float* dqkv = (float*)dqkv1 + (image * 3 * tokens);
            KernelTest.Run(Simd.Widest, 1, scratch => Attention.Forward(one, q, output, logSumExp, scratch));
            KernelTest.Run(Simd.Widest, 1, scratch => Attention.Backward(one, q, output, logSumExp, gradient, dqkv, scratch));
        }

        Assert.True(output4.Span.SequenceEqual(output1.Span));
        Assert.True(logSumExp4.Span.SequenceEqual(logSumExp1.Span));
        Assert.True(dqkv4.Span.SequenceEqual(dqkv1.Span));
    }
}
