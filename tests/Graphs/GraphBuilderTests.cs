using Kernels.Ops;
using Xunit;

namespace Kernels.Tests.Graphs;

public sealed class GraphBuilderTests
{
    [Fact]
    public void Scopes_nest_and_end()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]);
        using (builder.Scope("diffusion/"))
        {
            using (builder.Scope("out."))
            {
                Assert.Equal("diffusion/out.0.bias", builder.Weight("0.bias", [3]).Name);
            }

            Assert.Equal("diffusion/sum", builder.Add("sum", new Add(), x, x).Name);
        }

        Assert.Equal("sum", builder.Add("sum", new Add(), x, x).Name);
    }

    [Fact]
    public void A_taken_name_gets_a_number_and_further_outputs_a_suffix()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]);
        Assert.Equal("x~2", builder.Add("x", new Add(), x, x).Name);
        Assert.Equal("x~3", builder.Add("x", new Add(), x, x).Name);
        Node norm = builder.AddNode("norm", new GroupNorm(1), x, builder.Weight("gamma", [3]), builder.Weight("beta", [3]));
        Assert.Equal(["norm", "norm#1"], norm.Outputs.Select(t => t.Name));
        Assert.Equal(["gamma", "beta"], builder.Build().Weights.Select(t => t.Name));
    }

    [Fact]
    public void A_weight_is_declared_once_and_with_one_shape()
    {
        GraphBuilder builder = new();
        Assert.Same(builder.Weight("w", [3]), builder.Weight("w", [3]));
        Assert.Equal("weight 'w' is declared as [3] and as [4]", Assert.Throws<GraphException>(() => builder.Weight("w", [4])).Message);
    }

    [Fact]
    public void Outputs_have_names_of_their_own()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2]);
        builder.Output("y", x);
        Assert.Equal("two outputs are named 'y'", Assert.Throws<GraphException>(() => builder.Output("y", x)).Message);
    }

    [Fact]
    public void Two_inputs_of_one_name_are_refused()
    {
        GraphBuilder builder = new();
        builder.Input("x", [2]);
        builder.Input("x", [2]);
        Assert.Throws<GraphException>(builder.Build);
    }

    [Fact]
    public void A_finished_graph_can_be_continued()
    {
        GraphBuilder first = new();
        Tensor x = first.Input("x", [2, 3]), w = first.Weight("w", [3]), y = first.Add("y", new AddBias(), x, w);
        first.Output("y", y, updates: x);
        Graph graph = first.Build();

        GraphBuilder continued = GraphBuilder.From(graph);
        Assert.Same(w, continued.Weight("w", [3]));
        Assert.Equal("y~2", continued.Add("y", new Add(), y, y).Name);
        Graph longer = continued.Build();
        Assert.Equal(2, longer.Nodes.Count);
        Assert.Same(y, longer.Output("y"));
        Assert.Same(x, longer.Updates[y]);

        Graph bare = GraphBuilder.From(graph, withoutOutputs: true).Build();
        Assert.Empty(bare.Outputs);
        Assert.Empty(bare.Updates);
    }

    [Fact]
    public void A_view_of_a_weight_is_refused()
    {
        GraphBuilder builder = new();
        GraphException e = Assert.Throws<GraphException>(() => builder.Add("flat", new Reshape([6]), builder.Weight("w", [2, 3])));
        Assert.Equal("Reshape 'flat': weight w: f32[2, 3] keeps the shape that the checkpoint gives it", e.Message);
    }
}
