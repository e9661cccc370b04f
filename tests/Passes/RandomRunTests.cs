using Kernels.Passes;
using Kernels.Tests.Ops;
using Xunit;

namespace Kernels.Tests.Passes;

/// <summary>Random graphs on a backend.</summary>
public sealed class RandomRunTests
{
    public static TheoryData<string> Backends => [.. TestBackend.Names];

    [Theory]
    [MemberData(nameof(Backends))]
    public void Where_tensors_lie_changes_no_bit(string backend) => RandomGraphs.Check(program =>
    {
        Graph graph = Fusion.Apply(RandomGraphs.WithGradient(RandomGraphs.Build(program)), program[0] % 3 == 0 ? ["all"] : []).Graph;
        Dictionary<string, double[]> values = RandomGraphs.Values(graph);
        Dictionary<string, float[]> expected = GuardedRun.Run(TestBackend.Get(backend), graph, values, Layout.Spread, "spread");
        foreach (Layout layout in new[] { Layout.Planned, Layout.PlannedApart })
        {
            foreach ((string name, float[] output) in GuardedRun.Run(TestBackend.Get(backend), graph, values, layout, $"{layout}"))
            {
                Assert.True(expected[name].AsSpan().SequenceEqual(output), $"{name}, {layout}");
            }
        }
    });
}
