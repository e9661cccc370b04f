using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Passes;

public sealed class ConcurrencyTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_models_of_a_guided_step_run_side_by_side(bool fused)
    {
        Graph graph = fused ? Fusion.Apply(DemoPair.GuidedStep(2)).Graph : DemoPair.GuidedStep(2);
        Concurrency found = Concurrency.Find(graph)!;
        Assert.All(found.Side, n => Assert.StartsWith("classifier/", n.Name, StringComparison.Ordinal));
        Assert.All(graph.Nodes.Where(n => n.Op.Name is "Convolution" or "GroupNorm" or "ConvolutionGradient" or "GroupNormGradient"), n =>
            Assert.Equal(n.Name.StartsWith("classifier/", StringComparison.Ordinal), found.Side.Contains(n)));
        Assert.Contains(found.Graph.Nodes.Skip(found.Join), n => n.Name == "sampler_update");
        Assert.True(found.Graph.Nodes.Count - found.Join <= 3);
        Assert.Equal(graph.Nodes.ToHashSet(), found.Graph.Nodes.ToHashSet());
        CheckInterleavings(found, 20);
    }

    [Fact]
    public void A_chain_has_no_parts()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [1, 4, 4, 8]);
        builder.Output("y", builder.Add("b", new Kernels.Ops.Activation(Kernels.Ops.ActivationKind.SiLU), builder.Add("a", new Kernels.Ops.Activation(Kernels.Ops.ActivationKind.ReLU), x)));
        Assert.Null(Concurrency.Find(builder.Build()));
    }

    [Fact]
    public void Parts_of_any_graph_share_no_bytes() => RandomGraphs.Check(program =>
    {
        Graph graph = RandomGraphs.WithGradient(RandomGraphs.Build(program));
        if (Concurrency.Find(graph) is Concurrency found)
        {
            CheckInterleavings(found, 5);
        }
    });

    // Whatever the order in which the device takes turns between the parts, every value is there when it is read.
    private static void CheckInterleavings(Concurrency found, int count)
    {
        MemoryPlan plan = Plan.Create(found).Memory;
        ArenaSimulation.Check(found.Graph, plan);
        IReadOnlyList<Node> nodes = found.Graph.Nodes;
        Node[] side = [.. nodes.Where(found.Side.Contains)];
        Node[] window = [.. nodes.Take(found.Join).Skip(found.Fork).Where(n => !found.Side.Contains(n))];
        Random random = new(5);
        for (int k = 0; k < count; k++)
        {
            List<Node> order = [.. nodes.Take(found.Fork)];
            int i = 0, j = 0;
            while (i < side.Length || j < window.Length)
            {
                // The first two go all the way with one part before the other.
                bool first = k switch { 0 => i < side.Length, 1 => j == window.Length, _ => j == window.Length || (i < side.Length && random.Next(2) == 0) };
                order.Add(first ? side[i++] : window[j++]);
            }

            order.AddRange(nodes.Skip(found.Join));
            ArenaSimulation.Check(new Graph(order, found.Graph.Inputs, found.Graph.Outputs, found.Graph.Updates), plan);
        }
    }
}
