using System.Reflection;
using Kernels.Ops;
using Xunit;

namespace Kernels.Tests.Ops;

/// <summary>What holds of all ops together.</summary>
public sealed class AllOpsTests
{
    private static readonly OpCase[] s_cases =
    [
        .. ConvolutionTests.Cases, .. LinearTests.Cases, .. GroupNormTests.Cases, .. AttentionTests.Cases, .. ElementwiseTests.Cases,
        .. AxisTests.Cases, .. ResampleTests.Cases, .. EmbeddingTests.Cases, .. StepTests.Cases,
    ];

    private static readonly Refusal[] s_refusals =
    [
        .. ConvolutionTests.Refusals, .. LinearTests.Refusals, .. GroupNormTests.Refusals, .. AttentionTests.Refusals, .. ElementwiseTests.Refusals,
        .. AxisTests.Refusals, .. ResampleTests.Refusals, .. EmbeddingTests.Refusals, .. StepTests.Refusals,
    ];

    public static TheoryData<string> Ops => [.. OpTypes.Select(t => t.Name)];

    public static TheoryData<string> GradientOps => [.. s_cases.Where(c => c.Op is GradientOp && FloatInput(c) is not null).Select(c => c.Op.Name).Distinct()];

    public static TheoryData<string> Constants => [.. s_cases.Where(c => c.Constants.Any()).Select(c => c.Op.Name).Distinct()];

    // What a backend makes for itself is tested with it.
    private static IEnumerable<Type> OpTypes => typeof(Op).Assembly.GetExportedTypes().Where(t => t.IsSubclassOf(typeof(Op)) && !t.IsAbstract);

    [Theory]
    [MemberData(nameof(Ops))]
    public void Every_op_has_cases_and_refusals(string op)
    {
        Assert.Contains(s_cases, c => c.Op.Name == op);
        Assert.Contains(s_refusals, r => r.Op.Name == op);
    }

    [Theory]
    [MemberData(nameof(Constants))]
    public void A_gradient_to_what_an_op_takes_as_a_constant_is_refused(string op)
    {
        OpCase c = s_cases.First(c => c.Op.Name == op && c.Constants.Any());
        foreach (int input in c.Constants)
        {
            GraphException e = Assert.Throws<GraphException>(() => OpHarness.GradientGraph(c, input));
            Assert.StartsWith($"{op} 'op': ", e.Message, StringComparison.Ordinal);
            Assert.Contains($"'{c.Operands[input].Name}', which must be constant", e.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(GradientOps))]
    public void An_op_without_a_rule_says_so(string op)
    {
        OpCase c = s_cases.First(c => c.Op.Name == op && FloatInput(c) is not null);
        GraphException e = Assert.Throws<GraphException>(() => OpHarness.GradientGraph(c, FloatInput(c)!.Value));
        Assert.StartsWith($"{op} 'op' has no gradient", e.Message, StringComparison.Ordinal);
    }

    private static int? FloatInput(OpCase c) => c.Operands.Index().Where(o => o.Item.DType == DType.F32).Select(o => (int?)o.Index).FirstOrDefault();
}
