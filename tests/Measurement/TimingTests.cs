using Kernels.Measurement;
using Kernels.Ops;
using Xunit;

namespace Kernels.Tests.Measurement;

public sealed class TimingTests
{
    [Fact]
    public void Quartiles_lie_between_neighbours()
    {
        Timing timing = Timing.Of([4, 1, 3, 2, 10]);
        Assert.Equal(new Timing(5, 3, 2, 4, 1), timing);
        Assert.Equal(1.0 / 3, timing.Spread, 1e-15);
        Assert.Equal(timing.Spread, Statistics.Spread([4, 1, 3, 2, 10]));

        // Positions 0.75, 1.5 and 2.25 of four.
        Assert.Equal(new Timing(4, 2.5, 1.75, 3.25, 1), Timing.Of([1, 2, 3, 4]));
        Assert.Throws<ArgumentOutOfRangeException>(() => Timing.Of([]));
    }

    [Fact]
    public void Repeats_end_when_the_spread_is_small_or_the_time_is_up()
    {
        RepeatRule rule = new(TimeSpan.FromHours(1), Spread: 0.01, LeastRepeats: 5, MostRepeats: 40, WarmUps: 3);
        int calls = 0;
        Timing even = rule.Measure(() => ++calls <= 3 ? 1000 : 2);
        Assert.Equal((8, 5, 2.0, 2.0), (calls, even.Repeats, even.MedianMs, even.UpperQuartileMs));

        calls = 0;
        Assert.Equal(40, rule.Measure(() => ++calls % 2 == 0 ? 1 : 2).Repeats);

        // No time at all still makes the least repeats.
        calls = 0;
        Assert.Equal(5, (rule with { TimeLimit = TimeSpan.Zero }).Measure(() => ++calls % 2 == 0 ? 1 : 2).Repeats);
        Assert.Throws<OperationCanceledException>(() => rule.Measure(() => 1, new CancellationToken(canceled: true)));
    }

    [Fact]
    public void Warming_up_lasts_a_while()
    {
        int calls = 0;
        Timing timing = new RepeatRule(TimeSpan.FromHours(1), WarmUps: 1, WarmUpMs: 1e6).Measure(() => ++calls <= 3 ? 4e5 : 2);
        Assert.Equal((8, 5), (calls, timing.Repeats));
    }

    [Fact]
    public void Two_things_are_measured_in_turns()
    {
        RepeatRule rule = new(TimeSpan.FromHours(1), LeastRepeats: 5, WarmUps: 2);
        List<int> order = [];
        (Timing first, Timing second) = rule.MeasureInTurns(() => Run(1, order.Count), () => Run(2, order.Count));
        Assert.Equal(Enumerable.Repeat(new[] { 2, 1 }, 7).SelectMany(pair => pair), order);
        Assert.Equal((5, 5, 1.0, 2.0), (first.Repeats, second.Repeats, first.MedianMs, second.UpperQuartileMs));

        // The two warm-ups of each count for nothing.
        double Run(int which, int before)
        {
            order.Add(which);
            return before < 4 ? 1000 : which;
        }
    }

    [Theory]
    [InlineData(false, "Linear")]
    [InlineData(true, "Linear { Bias = True }")]
    public void Attributes_at_rest_are_left_out_of_an_ops_name(bool bias, string expected) => Assert.Equal(expected, OpUse.TextOf(new Linear(bias)));

    [Fact]
    public void Different_ops_have_different_names()
    {
        Assert.Equal("Convolution { Stride = 1, Padding = 1, Residual = True, ResidualResampling = Down }", OpUse.TextOf(new Convolution(1, 1, Residual: true, ResidualResampling: Resampling.Down)));
        Assert.Equal("LogSoftmax", OpUse.TextOf(new LogSoftmax()));
        foreach (string name in new[] { "shapes32", "adm64" })
        {
            using ModelPair pair = ModelPair.OfPreset(name);
            IReadOnlyList<OpUse> uses = OpCatalog.Of(pair, 1);
            Assert.Equal(uses.Count, uses.Select(u => $"{u.Op} {u.Shapes}").Distinct().Count());
            Assert.Equal(Kernels.Diffusion.Rewrites.Apply(GuidedWorkload.BuildGraph(pair, 1)).Step.Nodes.Count(n => !n.Op.IsView), uses.Sum(u => u.Uses));
        }
    }

    [Fact]
    public void The_roofline_is_the_slower_of_memory_and_arithmetic()
    {
        // 100 GB/s and 2 TFLOP/s meet at 20 FLOP per byte.
        Roofline roofline = new("fp32", 100, "", 2, "");
        Assert.Equal(20, roofline.Ridge, 1e-12);
        Cost copy = new(1_000_000, 1_000_000, 100), product = new(600_000, 400_000, 40_000_000);
        Assert.Equal((0.02, "memory"), (roofline.LimitMs(copy), roofline.Bound(copy)));
        Assert.Equal((0.02, "arithmetic"), (roofline.LimitMs(product), roofline.Bound(product)));
    }

    [Fact]
    public void A_verdict_is_a_relative_error()
    {
        Verdict verdict = Verdict.Of("five", [3, 4], [3, 4.5f], 0.1);
        Assert.Equal(0.1, verdict.RelativeL2!.Value, 1e-12);
        Assert.True(verdict.Passed);
        Assert.False((verdict with { Tolerance = 0.0999 }).Passed);
        Assert.True(Verdict.Of("", [1, float.NaN, float.PositiveInfinity], [1, float.NaN, float.PositiveInfinity], 0).Passed);
        Assert.Null(Verdict.Of("", [1, 2], [1, float.NaN], 1e9).RelativeL2);
        Assert.False(Verdict.Of("", [1, float.NaN], [1, 2], 1e9).Passed);
        Assert.False(Verdict.Of("", [1], [1, 2], 1e9).Passed);
    }
}
