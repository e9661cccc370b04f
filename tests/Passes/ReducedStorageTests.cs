using Kernels.Passes;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Passes;

public sealed class ReducedStorageTests
{
    [Fact]
    public void Activations_are_halved_and_what_must_be_exact_is_not()
    {
        Graph graph = Fusion.Apply(DemoPair.GuidedStep(2)).Graph;
        Graph half = ReducedStorage.Apply(graph, n => n.Name.StartsWith("classifier/", StringComparison.Ordinal) ? DType.BF16 : DType.F16);
        Assert.Equal(graph.Nodes.Select(n => (n.Name, n.Op)), half.Nodes.Select(n => (n.Name, n.Op)));
        Assert.All(half.Inputs.Concat(half.Outputs.Values), t => Assert.True(t.DType is DType.F32 or DType.I32, $"{t}"));
        foreach (Node node in half.Nodes)
        {
            DType reduced = node.Name.StartsWith("classifier/", StringComparison.Ordinal) ? DType.BF16 : DType.F16;
            Assert.All(node.Outputs.Skip(1), t => Assert.Equal(DType.F32, t.DType));
            Assert.True(node.Output.DType == reduced || node.Output.DType is DType.F32 or DType.I32, $"{node}");
            if (node.Op.IsExact)
            {
                Assert.All(node.Inputs.Concat(node.Outputs), t => Assert.True(t.DType is DType.F32 or DType.I32, $"{t} of {node.Op.Name}"));
            }

            if (node.Op.IsView)
            {
                Assert.Equal(node.Inputs[0].DType, node.Output.DType);
            }
        }

        Node[] activations = [.. half.Nodes.Where(n => n.Op.Name is "Convolution" or "GroupNorm" or "Attention" or "GroupNormGradient")];
        Assert.NotEmpty(activations);
        Assert.True(activations.Count(n => n.Output.DType != DType.F32) >= activations.Length - 2, "all but the last convolution and the gradient of the first are stored in 16 bits");
        Assert.True(MemoryPlanner.Plan(half).ArenaBytes < 0.6 * MemoryPlanner.Plan(graph).ArenaBytes);
    }

    [Fact]
    public void Binary32_is_the_graph_as_it_was()
    {
        Graph graph = DemoPair.GuidedStep(1);
        Assert.Equal(graph.ToText(), ReducedStorage.Apply(graph, _ => DType.F32).ToText());
    }
}
