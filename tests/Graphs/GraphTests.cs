using Kernels.Ops;
using Xunit;

namespace Kernels.Tests.Graphs;

public sealed class GraphTests
{
    private static readonly TensorType s_row = new([2, 3]);
    private readonly Tensor _x = new("x", s_row, TensorKind.Input);
    private readonly Tensor _w = new("w", new TensorType([3]), TensorKind.Weight);

    [Fact]
    public void Reading_what_nothing_has_written_is_refused()
    {
        Node first = Node.Create("first", new Add(), _x, _x), second = Node.Create("second", new Add(), first.Output, _x);
        Refused("Add 'second' reads 'first' before anything has written it", [second, first], [_x], []);
        Refused("Add 'first' reads 'x' before anything has written it", [first], [], []);
    }

    [Fact]
    public void Writing_twice_is_refused()
    {
        Node node = Node.Create("sum", new Add(), _x, _x), again = new("again", new Multiply(), [_x, _x], node.Outputs);
        Refused("'sum' is written twice, the second time by 'again'", [node, again], [_x], []);
        Refused("Add 'sum' stands in the graph twice", [node, node], [_x], []);
        Refused("'x' is written twice, the second time by 'onto x'", [new Node("onto x", new Add(), [_x, _x], [_x])], [_x], []);
    }

    [Fact]
    public void Names_are_unique()
    {
        Tensor other = new("x", s_row, TensorKind.Input);
        Refused("two tensors are named 'x'", [], [_x, other], []);
        Refused("two tensors are named 'x'", [Node.Create("x", new Add(), _x, _x)], [_x], []);
        Node biased = Node.Create("a", new AddBias(), _x, _w), twin = Node.Create("b", new AddBias(), _x, new Tensor("w", new TensorType([3]), TensorKind.Weight));
        Refused("two tensors are named 'w'", [biased, twin], [_x], []);
    }

    [Fact]
    public void Outputs_are_those_that_the_op_infers()
    {
        Refused("Add 'sum' writes", [new Node("sum", new Add(), [_x, _x], [new Tensor("sum", new TensorType([3, 2]), TensorKind.Value)])], [_x], []);
        Refused("Add 'sum' has 0 outputs, the op has 1", [new Node("sum", new Add(), [_x, _x], [])], [_x], []);
        Refused("LogSoftmax 'l': logits [N, K] must have 2 axes", [new Node("l", new LogSoftmax(), [_w], [_w])], [_x], []);
    }

    [Fact]
    public void Inputs_and_outputs_are_of_their_kind()
    {
        Tensor value = new("v", s_row, TensorKind.Value);
        Refused("input 'v' is of kind Value", [], [value], []);
        Refused("nothing writes output 'y'", [], [_x], new() { ["y"] = value });
        Refused("nothing writes output 'y'", [Node.Create("a", new AddBias(), _x, _w)], [_x], new() { ["y"] = _w });
    }

    [Fact]
    public void An_update_joins_an_output_and_an_input_of_one_type()
    {
        Node sum = Node.Create("sum", new Add(), _x, _x), mean = Node.Create("mean", new Reshape([6]), _x), other = Node.Create("other", new Add(), _x, _x);
        Dictionary<string, Tensor> outputs = new() { ["sum"] = sum.Output, ["mean"] = mean.Output };
        Updated("update 'other' -> 'x' must join an output and an input", other.Output, _x);
        Updated("update 'sum' -> 'mean' must join an output and an input", sum.Output, mean.Output);
        Updated("update mean: f32[6] does not fit x: f32[2, 3]", mean.Output, _x);
        GraphException twice = Assert.Throws<GraphException>(() => new Graph(
            [sum, other], [_x], new Dictionary<string, Tensor> { ["a"] = sum.Output, ["b"] = other.Output }, new Dictionary<Tensor, Tensor> { [sum.Output] = _x, [other.Output] = _x }));
        Assert.Contains("'x' is updated twice, the second time by 'other'", twice.Message, StringComparison.Ordinal);

        void Updated(string message, Tensor output, Tensor input)
        {
            GraphException e = Assert.Throws<GraphException>(() => new Graph([sum, mean, other], [_x], outputs, new Dictionary<Tensor, Tensor> { [output] = input }));
            Assert.Contains(message, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_tensor_without_elements_is_refused()
    {
        GraphException e = Assert.Throws<GraphException>(() => new GraphBuilder().Input("x", [2, 0, 3]));
        Assert.Equal("'x' has no elements: its shape is [2, 0, 3]", e.Message);
    }

    [Fact]
    public void Inputs_and_outputs_are_found_by_name_or_listed()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]), y = builder.Input("y", [2, 3]), sum = builder.Add("sum", new Add(), x, y);
        builder.Output("total", sum);
        Graph graph = builder.Build();
        Assert.Same(y, graph.Input("y"));
        Assert.Same(sum, graph.Output("total"));
        Assert.Equal("the graph has no input 'z'; it has x, y", Assert.Throws<GraphException>(() => graph.Input("z")).Message);
        Assert.Equal("the graph has no output 'sum'; it has total", Assert.Throws<GraphException>(() => graph.Output("sum")).Message);
    }

    [Fact]
    public void Producers_consumers_and_positions_are_known()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]);
        Node twice = builder.AddNode("twice", new Add(), x, x), product = builder.AddNode("product", new Multiply(), twice.Output, x);
        Graph graph = builder.Build();
        Assert.Null(graph.Producer(x));
        Assert.Same(twice, graph.Producer(twice.Output));
        Assert.Equal([twice, product], graph.Consumers(x));
        Assert.Empty(graph.Consumers(product.Output));
        Assert.Equal(1, graph.IndexOf(product));
    }

    [Fact]
    public void Pruning_keeps_what_an_output_needs_and_every_input()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2, 3]), unused = builder.Input("unused", [1]);
        Tensor sum = builder.Add("sum", new Add(), x, x);
        builder.Add("dead.bias", new AddBias(), builder.Add("dead", new Multiply(), sum, x), builder.Weight("bias", [3]));
        builder.Output("y", builder.Add("view", new Reshape([6]), sum));
        Graph graph = builder.Build(), pruned = graph.Pruned();
        Assert.Equal(["sum", "view"], pruned.Nodes.Select(n => n.Name));
        Assert.Equal([x, unused], pruned.Inputs);
        Assert.Empty(pruned.Weights);
        Assert.Equal((3, 1), (graph.Launches, pruned.Launches));
    }

    private static void Refused(string message, Node[] nodes, Tensor[] inputs, Dictionary<string, Tensor> outputs)
    {
        GraphException e = Assert.Throws<GraphException>(() => new Graph(nodes, inputs, outputs));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }
}
